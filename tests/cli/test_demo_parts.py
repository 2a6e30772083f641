"""Can the proof fail? Its parts, given what must not happen."""

import asyncio
import json
import os
import stat
import unicodedata

import msgspec
import pytest

from aegis_replication.cli.demo import _failures
from aegis_replication.demo.check import Proof, _count_lost
from aegis_replication.demo.cluster import demo_cluster
from aegis_replication.demo.control import Control, ask_running, read_state, runtime_directory, with_other_demo_nodes
from aegis_replication.demo.progress import PlainProgress
from aegis_replication.demo.records import unicode_records
from aegis_replication.demo.watch import Watch
from aegis_replication.errors import AegisError, ConfigError, InvalidArgument, Unavailable
from aegis_replication.local import LocalCluster

GOOD = Proof(records=2, acknowledged=2, replicas_equal=True)


def test_every_named_character_is_a_record():
    records = dict(unicode_records())

    assert len(records) == sum(unicodedata.name(chr(point), None) is not None for point in range(0x110000))
    assert json.loads(records[b"U+00BD"]) == {
        "name": "VULGAR FRACTION ONE HALF",
        "category": "No",
        "numeric": 0.5,
        "decomposition": "<fraction> 0031 2044 0032",
    }
    assert json.loads(records[b"U+1F600"])["numeric"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"records": 0, "acknowledged": 0},
        {"acknowledged": 1},
        {"lost": 1},
        {"lost_after_restart": 1},
        {"replicas_equal": False},
    ],
    ids=str,
)
def test_a_proof_with_any_fault_does_not_hold(change):
    bad = msgspec.structs.replace(GOOD, **change)

    assert GOOD.holds
    assert not bad.holds
    assert list(_failures(bad)) or not bad.records


async def test_missing_and_changed_records_are_counted_and_only_acknowledged_ones():
    records = [(b"a", b"1"), (b"b", b"2"), (b"c", b"3"), (b"d", b"4")]
    progress = PlainProgress(write=lambda line: None)
    async with LocalCluster(1) as cluster:
        database = cluster.client()
        await database.put(b"a", b"1")
        await database.put(b"b", b"another")

        lost = await _count_lost(database, records, {b"a", b"b", b"c"}, progress, "reading")

    assert lost == 2


class FakeProcess:
    def __init__(self, pid: int) -> None:
        self.pid = pid


class FakeNode:
    def __init__(self, pid: int) -> None:
        self.process = FakeProcess(pid)


class FakeCluster:
    def __init__(self) -> None:
        self.nodes = {"n1": FakeNode(1), "n2": FakeNode(2)}
        self.answers = {}

    def status(self):
        return self.answers


def answer(role: str, term: int, flushes: int = 0) -> dict[str, object]:
    return {"groups": {"1": {"role": role, "term": term}}, "disk": {"flushes": flushes}}


def test_leaders_are_listed_once_a_term_with_the_silence_before_them():
    cluster, now, seen = FakeCluster(), [100.0], []
    watch = Watch(cluster, seen.append, clock=lambda: now[0])

    for at, answers in [
        (100.5, {"n1": answer("leader", 2), "n2": answer("follower", 2)}),
        (100.6, {"n1": answer("leader", 2), "n2": answer("follower", 2)}),
        (100.9, {"n1": None, "n2": answer("candidate", 3)}),
        (101.0, {"n1": None, "n2": answer("leader", 3)}),
        (101.1, {"n1": answer("leader", 2), "n2": None}),  # a deposed leader that doesn't know it yet
    ]:
        now[0], cluster.answers = at, answers
        watch.look()

    assert [(each.node, each.term, round(each.at_s, 3)) for each in seen] == [("n1", 2, 0.5), ("n2", 3, 1.0)]
    assert seen[0].silent_ms is None
    assert seen[1].silent_ms == pytest.approx(400.0)


def test_flushes_of_killed_processes_are_counted_too():
    cluster = FakeCluster()
    watch = Watch(cluster)

    cluster.answers = {"n1": answer("leader", 2, flushes=10), "n2": answer("follower", 2, flushes=7)}
    watch.look()
    cluster.nodes["n1"] = FakeNode(3)
    cluster.answers = {"n1": answer("follower", 3, flushes=2), "n2": answer("leader", 3, flushes=9)}
    watch.look()

    assert watch.flushes == 10 + 2 + 9


def test_plain_progress_says_tenths_but_not_too_often():
    said, now = [], [0.0]
    progress = PlainProgress(write=said.append, clock=lambda: now[0])

    progress.begin("loading", 1000)
    for at, done in [(0.1, 100), (0.6, 200), (0.7, 300), (1.3, 400), (1.4, 1000)]:
        now[0] = at
        progress.update(done)
    progress.end()

    assert said == [
        "loading: 200 of 1,000 (20 %), 333/s",
        "loading: 400 of 1,000 (40 %), 308/s",
        "loading: 1,000 in 1.4 s, 714/s",
    ]


def test_a_demo_remembers_its_ports_and_refuses_other_directories(tmp_path):
    first = demo_cluster(tmp_path / "demo", nodes=3)
    again = demo_cluster(tmp_path / "demo", nodes=3)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()

    assert again.endpoints == first.endpoints
    assert len(set(first.endpoints.split(","))) == 3
    with pytest.raises(ConfigError, match="holds a demo of 3 nodes"):
        demo_cluster(tmp_path / "demo", nodes=5)
    with pytest.raises(ConfigError, match="not a demo's"):
        demo_cluster(tmp_path / "other", nodes=3)
    with pytest.raises(InvalidArgument, match="--nodes 2"):
        demo_cluster(tmp_path / "new", nodes=2)


def test_a_demos_doors_for_probes_are_beside_the_others(tmp_path):
    without = demo_cluster(tmp_path / "demo", nodes=3)
    with_doors = demo_cluster(tmp_path / "demo", nodes=3, http=True)

    for name, node in with_doors.nodes.items():
        host, _, port = node.client_address.rpartition(":")
        assert node.http_address == f"{host}:{int(port) + 2}"
        assert node.command()[node.command().index("--http") + 1] == node.http_address
        assert "--http" not in without.nodes[name].command()


# --- how a second terminal finds it ---------------------------------------------------------------------------------


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return runtime_directory()


def test_the_runtime_directory_is_the_users_alone(runtime):
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
    runtime.chmod(0o777)
    with pytest.raises(ConfigError, match="can be written by others"):
        runtime_directory()


async def test_a_running_demo_answers_and_a_second_one_is_refused(runtime):
    async def handler(request):
        if request.get("node") == "n9":
            raise ConfigError("no node 'n9' here")
        return {"said": f"{request['do']} {request['node']}"}

    control, second = Control(runtime, handler), Control(runtime, handler)
    await control.open({"nodes": {"n1": "127.0.0.1:7480", "n2": "127.0.0.1:7490"}})
    try:
        answer = await asyncio.to_thread(ask_running, {"do": "kill", "node": "n1"})
        with pytest.raises(AegisError, match="no node 'n9' here"):
            await asyncio.to_thread(ask_running, {"do": "kill", "node": "n9"})
        with pytest.raises(ConfigError, match=f"process {os.getpid()}"):
            await second.open({})
        await second.close()
        state = read_state(runtime)
        found, other = with_other_demo_nodes("127.0.0.1:7480"), with_other_demo_nodes("127.0.0.1:9")
    finally:
        await control.close()

    assert answer == {"said": "kill n1"}
    assert state["pid"] == os.getpid()
    assert found == ["127.0.0.1:7480", "127.0.0.1:7490"]
    assert other == ["127.0.0.1:9"]
    assert with_other_demo_nodes("127.0.0.1:7480") == ["127.0.0.1:7480"]
    assert read_state(runtime) == {}
    with pytest.raises(Unavailable, match="no demo is running"):
        ask_running({"do": "kill", "node": "n1"})
