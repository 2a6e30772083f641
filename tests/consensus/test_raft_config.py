"""Does RaftConfig take what people write, and say what is wrong with the rest?"""

from datetime import timedelta
from typing import Any

import pytest

from aegis_replication.consensus.config import RaftConfig
from aegis_replication.errors import ConfigError


def test_defaults_are_the_ones_promised() -> None:
    config = RaftConfig(node_id=1, peers=[2, 3])

    assert (config.election_timeout_min_ms, config.election_timeout_max_ms) == (150, 300)
    assert config.heartbeat_interval_ms == 50
    assert (config.max_entries_per_request, config.snapshot_threshold) == (100, 10_000)
    assert config.snapshot_log_bytes == 64 * 1024 * 1024
    assert config.pre_vote
    assert config.check_quorum


def test_ids_may_be_numbers_or_names() -> None:
    assert RaftConfig(1, [2, "n3"]).voters == ("1", "2", "n3")


@pytest.mark.parametrize("peers", [[2, 3], [1, 2, 3], (3, 2), {2, 3}, ["3", "2", "1"], {2: "h:2", 3: "h:3"}])
def test_peers_may_or_may_not_name_the_node_itself(peers: Any) -> None:
    config = RaftConfig(1, peers)

    assert (config.peers, config.voters) == (("2", "3"), ("1", "2", "3"))


def test_addresses_go_into_the_first_configuration() -> None:
    config = RaftConfig("a", {"a": "h:1", "b": "h:2"})

    assert config.configuration().voters == ("a", "b")
    assert config.configuration().addresses == {"a": "h:1", "b": "h:2"}


@pytest.mark.parametrize(
    ("arguments", "bounds"),
    [
        ({"election_timeout": (200, 400)}, (200, 400)),
        ({"election_timeout": [200, 400]}, (200, 400)),
        ({"election_timeout": 1000}, (1000, 2000)),
        ({"election_timeout": timedelta(seconds=1)}, (1000, 2000)),
        ({"election_timeout": (timedelta(seconds=1), timedelta(seconds=3))}, (1000, 3000)),
        ({"election_timeout_min": 100}, (100, 200)),
        ({"election_timeout_max": 500}, (150, 500)),
        ({"election_timeout_min": 100, "election_timeout_max": 500}, (100, 500)),
        ({"election_timeout": (200, 400), "election_timeout_max": 900}, (200, 900)),
        ({"election_timeout": 200.5}, (200.5, 401)),
    ],
)
def test_election_timeouts_may_be_told_in_several_ways(arguments: Any, bounds: tuple[float, float]) -> None:
    config = RaftConfig(**arguments)

    assert (config.election_timeout_min_ms, config.election_timeout_max_ms) == bounds


def test_changed_copies_leave_the_original_alone() -> None:
    config = RaftConfig("a", {"b": "h:2", "c": ""}, pre_vote=False)

    copy = config.with_election_timeout(500, 900).with_heartbeat_interval(timedelta(milliseconds=20))

    assert (copy.election_timeout_min_ms, copy.election_timeout_max_ms, copy.heartbeat_interval_ms) == (500, 900, 20)
    assert (copy.node_id, copy.peers, copy.addresses, copy.pre_vote) == ("a", ("b", "c"), {"b": "h:2"}, False)
    assert config.election_timeout_min_ms == 150
    assert config.with_election_timeout((500, 900)) == config.with_election_timeout(500, 900)
    assert config.with_election_timeout(500) == config.with_election_timeout(500, 1000)
    assert config.replace() == config
    assert config != copy


def test_a_config_does_not_change() -> None:
    config = RaftConfig()

    with pytest.raises(AttributeError, match=r"replace\(pre_vote=...\)"):
        config.pre_vote = False


def test_a_config_shows_what_would_make_it_again() -> None:
    config = RaftConfig("a", ["b"], election_timeout=(200, 400))

    assert eval_like(repr(config)) == config


def eval_like(text: str) -> RaftConfig:
    """Read `RaftConfig(name=value, ...)` back without running it."""
    import ast

    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call)
    return RaftConfig(**{keyword.arg or "": ast.literal_eval(keyword.value) for keyword in call.keywords})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"election_timeout_min": 40},
            r"election_timeout_min = 40 ms: must exceed heartbeat_interval \(50 ms\); try 150",
        ),
        (
            {"election_timeout": (300, 150)},
            r"election_timeout_max = 150 ms: must be at least election_timeout_min \(300",
        ),
        ({"election_timeout": (1, 2, 3)}, r"election_timeout = \(1, 2, 3\): must be one duration or \(min, max\)"),
        ({"election_timeout": "fast"}, r"election_timeout = 'fast': must be a number of milliseconds .*; try 150"),
        ({"election_timeout": float("nan")}, "more than 0"),
        ({"heartbeat_interval": 0}, r"heartbeat_interval = 0 ms: must be more than 0 .*; try 50"),
        ({"heartbeat_interval": True}, "heartbeat_interval = True: must be a number"),
        ({"heartbeat_interval": timedelta(days=2)}, "at most a day"),
        ({"max_entries_per_request": 0}, "max_entries_per_request = 0 commands: must be at least 1; try 100"),
        ({"snapshot_threshold": 2.5}, "snapshot_threshold = 2.5: must be a whole number of commands; try 10000"),
        ({"append_bytes_max": -1}, "append_bytes_max = -1 bytes: must be at least 1; try 1048576"),
        ({"trailing_entries": -1}, "trailing_entries = -1 entries: must be at least 0"),
        ({"pre_vote": "yes"}, "pre_vote = 'yes': must be true or false"),
        ({"node_id": "no spaces"}, "node_id = 'no spaces': node id"),
        ({"peers": "b,c"}, r"peers = 'b,c': must be a list of ids .*; try \[2, 3\]"),
        ({"peers": 3}, "peers = 3: must be a list"),
        ({"peers": [""]}, "peers = ''"),
        ({"peers": {2: 7101}}, r"peers\[2\] = 7101: must be an address; try '127.0.0.1:7101'"),
    ],
)
def test_a_value_that_cannot_work_is_named_with_a_good_one(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RaftConfig(**arguments)
