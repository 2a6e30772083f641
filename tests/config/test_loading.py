"""Where does each value of a configuration come from, and what is said about one that is no good?"""

from pathlib import Path
from typing import Any

import pytest

from aegis_replication.config import NodeConfig, Peer, load_config
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.errors import ConfigError

README = """
[replication]
replication_factor = 3
consistency_level = "quorum"  # one, quorum, all

[raft]
election_timeout_min = 150  # ms
election_timeout_max = 300  # ms
heartbeat_interval = 50     # ms

[sharding]
strategy = "hash"  # hash, range
shard_count = 16
auto_rebalance = true

[cluster]
node_id = 1
name = "production"
peers = [
    { id = 2, address = "127.0.0.1:7002" },
    { id = 3, address = "127.0.0.1:7003" },
]
"""


def load(
    tmp_path: Path, text: str = "", flags: dict[str, Any] | None = None, environment: dict[str, str] | None = None
) -> NodeConfig:
    path = tmp_path / "aegis.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, flags=flags, environment=environment or {})


def test_the_readmes_whole_file_loads(tmp_path: Path) -> None:
    config = load(tmp_path, README)

    assert config.node_id == "1"
    assert config.cluster.name == "production"
    assert config.peers == {"2": "127.0.0.1:7002", "3": "127.0.0.1:7003"}
    assert config.raft_config() == RaftConfig(
        1, config.peers, election_timeout=(150, 300), heartbeat_interval=50, snapshot_threshold=1_000_000
    )
    assert config.sharding.shard_count == 16


def test_what_has_no_effect_yet_is_said_in_one_line(tmp_path: Path) -> None:
    notes = load(tmp_path, README).notes()

    assert len(notes) == 1
    assert notes[0].startswith("no effect yet: replication.replication_factor, sharding.auto_rebalance, ")
    assert load_config(environment={}).notes() == []


def test_without_a_file_everything_is_a_default_that_works() -> None:
    config = load_config(environment={})

    assert config.node_id == "n1"
    assert config.peers == {}
    assert config.raft_config() == RaftConfig("n1", snapshot_threshold=1_000_000)
    assert {row.origin for row in config.rows()} == {"default"}


def test_the_spelling_with_units_is_read_too(tmp_path: Path) -> None:
    text = "[raft]\nelection_timeout_min_ms = 200\nelection_timeout_max_ms = 400\nheartbeat_interval_ms = 20\n"

    raft = load(tmp_path, text).raft

    assert (raft.election_timeout_min, raft.election_timeout_max, raft.heartbeat_interval) == (200, 400, 20)


def test_flags_go_before_environment_before_file_before_defaults(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "[raft]\nheartbeat_interval = 10\nelection_timeout_min = 160\nelection_timeout_max = 310\n",
        environment={"AEGIS_RAFT__HEARTBEAT_INTERVAL": "20", "AEGIS_RAFT__ELECTION_TIMEOUT_MIN": "170"},
        flags={"raft.heartbeat_interval": 30, "raft.election_timeout_min": None},
    )

    origins = {row.key: (row.value, row.origin) for row in config.rows() if row.key.startswith("raft.")}

    assert origins["raft.heartbeat_interval"] == (30, "flag")
    assert origins["raft.election_timeout_min"] == (170, "environment AEGIS_RAFT__ELECTION_TIMEOUT_MIN")
    assert origins["raft.election_timeout_max"] == (310, f"file {tmp_path / 'aegis.toml'}")
    assert origins["raft.snapshot_threshold"] == (1_000_000, "default")


def test_text_becomes_numbers_switches_and_peers() -> None:
    environment = {
        "AEGIS_CLUSTER__NODE_ID": "n1",
        "AEGIS_CLUSTER__PEERS": "n1=127.0.0.1:1, n2=127.0.0.1:2",
        "AEGIS_NODE__INSECURE": "true",
        "AEGIS_LIMITS__VALUE_BYTES": "2097152",
        "AEGIS_ENDPOINTS": "not a setting",
        "HOME": "neither",
    }

    config = load_config(environment=environment)

    assert config.cluster.peers == (Peer("n1", "127.0.0.1:1"), Peer("n2", "127.0.0.1:2"))
    assert config.node.insecure
    assert config.limits.value_bytes == 2097152


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_NODE__DATA", "elsewhere")

    assert load_config().node.data == "elsewhere"


def test_a_nodes_own_line_among_its_peers_is_where_it_listens() -> None:
    flags = {"cluster.node_id": "n1", "cluster.peers": "n1=127.0.0.1:7,n2=127.0.0.1:8"}

    assert load_config(flags=flags, environment={}).peer_listen == "127.0.0.1:7"
    assert load_config(flags=flags, environment={}).peers == {"n2": "127.0.0.1:8"}
    assert load_config(flags={**flags, "node.peer_listen": "127.0.0.1:9"}, environment={}).peer_listen == "127.0.0.1:9"


def test_where_the_others_connect_is_told_as_they_can_use_it() -> None:
    flags = {"cluster.node_id": "n1", "cluster.peers": "n1=127.0.0.1:7,n2=127.0.0.1:8"}

    assert load_config(flags=flags, environment={}).peer_advertise == "127.0.0.1:7"
    assert load_config(flags={**flags, "node.peer_advertise": "127.0.0.1:9"}, environment={}).peer_advertise == (
        "127.0.0.1:9"
    )
    assert load_config(flags={"node.peer_listen": "127.0.0.1:0"}, environment={}).peer_advertise == ""


def test_a_cluster_to_join_is_a_list_of_addresses() -> None:
    flags = {"cluster.node_id": "n4", "cluster.join": "127.0.0.1:7480, 127.0.0.1:7490"}

    assert load_config(flags=flags, environment={}).cluster.join == ("127.0.0.1:7480", "127.0.0.1:7490")


def test_packets_grow_with_the_largest_value() -> None:
    usual = load_config(environment={}).wire_limits()
    large = load_config(flags={"limits.value_bytes": 8 * 1024 * 1024}, environment={}).wire_limits()

    assert usual.value_bytes == 1024 * 1024
    assert large.value_bytes < large.request_bytes < large.frame_bytes < large.packet_bytes


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"raft.heartbeat_interval": 0}, "raft.heartbeat_interval = 0 ms: Expected `int` >= 1 .*; try 50"),
        ({"raft.heartbeat_interval": "soon"}, "raft.heartbeat_interval = 'soon' ms: .*; try 50"),
        ({"raft.heartbeat_interval": 12.5}, "raft.heartbeat_interval = 12.5 ms: "),
        ({"raft.election_timeout_min": 40}, r"= 40: must exceed heartbeat_interval \(50 ms\), by far; try 150"),
        ({"raft.election_timeout_max": 100}, r"= 100: must exceed election_timeout_min \(150 ms\).*; try 300"),
        ({"raft.election_timout_min": 1}, "unknown; did you mean raft.election_timeout_min?"),
        ({"bogus": 1}, "bogus: unknown; "),
        ({"replication.consistency_level": "one"}, 'not supported yet; what works is "quorum"'),
        ({"replication.consistency_level": "most"}, "must be one of 'one', 'quorum', 'all'"),
        ({"sharding.strategy": "list"}, "must be one of 'hash', 'range'"),
        ({"cluster.node_id": "a b"}, "cluster.node_id: node id 'a b' is not a name"),
        ({"cluster.peers": "n2=127.0.0.1:1"}, "cluster.node_id is missing beside cluster.peers"),
        ({"cluster.node_id": "a", "cluster.peers": "b=1"}, "address of b = '1': must be host:port"),
        ({"cluster.node_id": "a", "cluster.peers": "b=h:1,b=h:2"}, "names 'b' twice"),
        ({"cluster.node_id": "a", "cluster.peers": "b c"}, "node id 'b c' is not a name"),
        ({"cluster.peers": 5}, r"cluster.peers = 5: .* try \[\{id = 'n2'"),
        ({"node.listen": "7480"}, "node.listen = '7480': must be host:port"),
        ({"node.listen": "0.0.0.0:7480"}, "--insecure"),
        ({"node.advertise": "10.0.0.1:7480"}, "node.advertise = '10.0.0.1:7480': other machines can connect"),
        ({"cluster.node_id": "a", "cluster.peers": "b=10.0.0.1:1"}, "cluster.peers = '10.0.0.1:1'"),
        ({"cluster.node_id": "a", "cluster.join": "nowhere"}, "cluster.join = 'nowhere': must be host:port"),
        ({"cluster.join": "127.0.0.1:1"}, "cluster.node_id is missing beside cluster.join"),
        (
            {"cluster.node_id": "a", "cluster.join": "127.0.0.1:1", "cluster.peers": "a=127.0.0.1:2"},
            "cluster.join beside cluster.peers: .* leave one of them out",
        ),
        (
            {"cluster.node_id": "a", "cluster.join": "127.0.0.1:1", "node.peer_listen": "0.0.0.0:7481"},
            "the others can't connect to that: .* --peer-advertise",
        ),
        ({"raft.priority": -1}, "raft.priority = -1 points: .*; try 1"),
        ({"limits.value_bytes": 9 * 1024 * 1024}, "<= 8388608"),
        ({"node.data": ""}, "node.data = ''"),
        ({"node.http": "7482"}, "node.http = '7482': must be host:port"),
        ({"node.http": "0.0.0.0:7482"}, "node.http = '0.0.0.0:7482': other machines can connect there.*--insecure"),
        ({"node.log_format": "xml"}, "must be one of 'text', 'json'"),
        ({"node.insecure": "perhaps"}, "node.insecure = 'perhaps'"),
    ],
)
def test_a_bad_value_is_named_with_a_good_one(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(flags=flags, environment={})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[raft]\nheartbeat_interval = 0\n", r"aegis.toml: raft.heartbeat_interval = 0 ms"),
        ("[raft]\nheartbeat = 50\n", "aegis.toml: raft.heartbeat: unknown; did you mean raft.heartbeat_interval"),
        ("[rraft]\nx = 1\n", r"aegis.toml: rraft: unknown; did you mean raft\?"),
        ("raft = 5\n", r"aegis.toml: raft = 5: must be a table, written as \[raft\]"),
        ("[raft\n", "aegis.toml: not TOML: .* line 1"),
        ('[cluster]\nnode_id = "n1"\npeers = [{id = "n2"}]\n', "aegis.toml: cluster.peers = .*missing required field"),
        ('[cluster]\nnode_id = "n1"\npeers = [{id = 2, address = 5}]\n', "aegis.toml: cluster.peers = "),
    ],
)
def test_a_bad_file_is_named_with_the_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: cannot read the configuration \(No such file"):
        load_config(tmp_path / "nothing.toml", environment={})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(tmp_path / "binary.toml", environment={})


def test_a_bad_variable_is_named() -> None:
    with pytest.raises(ConfigError, match=r"AEGIS_RAFT__HEARTBEAT_INTERVAL: raft.heartbeat_interval = 'x' ms"):
        load_config(environment={"AEGIS_RAFT__HEARTBEAT_INTERVAL": "x"})
    with pytest.raises(ConfigError, match=r"AEGIS_RAFT__HEARTBEAT: raft.heartbeat: unknown; did you mean raft\.heart"):
        load_config(environment={"AEGIS_RAFT__HEARTBEAT": "1"})


def test_open_addresses_are_allowed_when_asked_for_and_warned_about() -> None:
    config = load_config(flags={"node.listen": "0.0.0.0:7480", "node.insecure": True}, environment={})

    assert len(config.notes()) == 1
    assert config.notes()[0].startswith("insecure: node.listen = 0.0.0.0:7480: anybody who can connect")


def test_a_door_for_probes_that_others_can_reach_is_warned_about_in_its_own_words() -> None:
    config = load_config(flags={"node.http": "0.0.0.0:7482", "node.insecure": True}, environment={})

    assert len(config.notes()) == 1
    assert config.notes()[0].startswith("insecure: node.http = 0.0.0.0:7482: anybody who can connect there can see")


def test_every_setting_says_what_it_is() -> None:
    rows = load_config(environment={}).rows()

    assert all(row.about for row in rows)
    assert len({row.key for row in rows}) == len(rows) > 15
    assert {row.key: row.unit for row in rows}["raft.snapshot_log_bytes"] == "bytes"
