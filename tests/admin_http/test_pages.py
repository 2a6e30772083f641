"""Does a node say of itself what is true: alive, ready, its status, its versions?"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from aegis_replication import __version__
from aegis_replication.admin_http.answer import Answer
from aegis_replication.admin_http.pages import pages
from aegis_replication.assembly import make_http_door
from aegis_replication.config import load_config
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.errors import ConfigError, DiskFailed
from aegis_replication.ids import DATA_GROUP
from aegis_replication.node.health import FLUSH_SECONDS, TURN_SECONDS, Readiness, why_not_alive
from aegis_replication.node.node import Node, NodeOptions
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine
from aegis_replication.storage.base import Identity
from aegis_replication.storage.memory import MemoryStorage
from aegis_replication.transport.memory import MemoryNetwork
from aegis_replication.wire import Hello


def make_node() -> Node:
    """A single voter, not started."""
    return Node(
        NodeOptions(config=RaftConfig("n1"), cluster="tests", client_address="10.0.0.1:7480"),
        storage=MemoryStorage(Identity("tests", "n1", 1)),
        peers=MemoryNetwork().transport(Hello("peer", 1, 1, cluster="tests", node="n1"), []),
        doors=[],
        machines={DATA_GROUP: SessionMachine(KeyValueMachine())},
        random=Random(1),
    )


@pytest_asyncio.fixture
async def node() -> AsyncIterator[Node]:
    """One that leads and has applied its first entry."""
    made = make_node()
    await made.start()
    for _ in range(60_000):
        if not made.why_not_ready():
            break
        await asyncio.sleep(0.001)
    yield made
    await made.stop()


def as_page(accept: str) -> Answer:
    return Answer(200, b"{}")


def ask(node: Node, path: str) -> tuple[int, Any]:
    answer = pages(node, as_page)[path]("")
    return answer.status, json.loads(answer.body)


async def test_before_its_start_a_node_is_alive_and_not_ready() -> None:
    node = make_node()

    assert ask(node, "/livez") == (200, {"node": "n1", "alive": True, "reasons": {}})
    assert ask(node, "/v1/status") == (503, {"error": "n1 has not started yet: ask again in a moment"})
    assert ask(node, "/readyz") == (
        503,
        {"node": "n1", "ready": False, "reasons": {"running": "has not started yet"}},
    )


async def test_a_node_that_leads_is_ready_until_it_drains_and_says_why(node: Node) -> None:
    before = ask(node, "/readyz")
    draining = asyncio.ensure_future(node.drain(timeout=0.0))
    await asyncio.sleep(0)
    during = ask(node, "/readyz")
    await draining
    await node.stop()
    after = ask(node, "/readyz")

    assert before == (200, {"node": "n1", "ready": True, "reasons": {}})
    assert (during[0], during[1]["reasons"]) == (503, {"draining": "is draining: it stops soon"})
    assert (after[0], after[1]["reasons"]) == (503, {"running": "has stopped"})


async def test_a_node_that_stopped_by_itself_is_not_alive_and_says_why(node: Node) -> None:
    node._fail(DiskFailed("n1.log: the disk refused a write"))

    assert ask(node, "/livez") == (
        503,
        {
            "node": "n1",
            "alive": False,
            "reasons": {"failed": "stopped by itself: n1.log: the disk refused a write"},
        },
    )
    assert ask(node, "/readyz")[0] == 503


async def test_the_status_is_that_of_the_node_and_names_nothing_secret(node: Node) -> None:
    status, said = ask(node, "/v1/status")

    [row] = said["nodes"]
    assert (status, said["leader"], said["healthy"], said["troubles"]) == (200, "n1", True, [])
    assert (row["node"], row["role"], row["address"]) == ("n1", "leader", "10.0.0.1:7480")
    assert row["applied_index"] == node.replica().applied >= 1


async def test_versions_are_those_of_the_version_command(node: Node) -> None:
    _, said = ask(node, "/version")

    assert said["aegis"] == __version__
    assert {"python", "protocol_lowest", "protocol_highest", "frame_format"} <= said.keys()


@pytest.mark.parametrize(
    ("overdue", "flush", "checks"),
    [(0.0, 0.0, []), (TURN_SECONDS, FLUSH_SECONDS, []), (11.0, 0.0, ["turn"]), (11.0, 31.0, ["turn", "disk"])],
)
def test_a_process_is_dead_when_what_it_waits_for_does_not_come(
    overdue: float, flush: float, checks: list[str]
) -> None:
    assert [*why_not_alive(overdue_seconds=overdue, flush_seconds=flush)] == checks


class FollowersLog:
    """As much of a replica as readiness looks at."""

    def __init__(self) -> None:
        self.group, self.applied = 1, 0
        self.terms = {0: 0, **dict.fromkeys(range(1, 11), 1), **dict.fromkeys(range(11, 21), 2)}
        self.raft = SimpleNamespace(
            node="n1",
            role="follower",
            term=2,
            leader="n2",
            configuration=SimpleNamespace(members=frozenset(("n1", "n2"))),
            log=SimpleNamespace(committed=0, term_at=self.terms.get),
        )


def test_a_follower_is_ready_once_it_has_applied_what_its_leader_had_committed() -> None:
    """Until an entry of the leader's own term is known to be committed, nobody knows what else was (Raft §5.4.2)."""
    replica, readiness, seen = FollowersLog(), Readiness(), []

    for committed, applied in ((0, 0), (10, 10), (15, 10), (18, 14), (18, 15), (20, 15)):
        replica.raft.log.committed, replica.applied = committed, applied
        seen.append(readiness.why_not(replica).get("applied", "ready"))
    replica.raft.leader = None

    assert [each.partition(" of ")[0] for each in seen] == [
        *["does not know yet up to where group 1 is committed"] * 2,
        *["has applied 10", "has applied 14"],
        *["ready"] * 2,
    ]
    assert [*readiness.why_not(replica)] == ["leader"]
    replica.raft.configuration.members = frozenset(("n2",))
    assert [*readiness.why_not(replica)] == ["member"]


@pytest.mark.parametrize("missing", ["h11"])
def test_without_the_extra_one_error_names_it(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("aegis_replication.admin_http")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    config = load_config(flags={"node.http": "127.0.0.1:7482"}, environment={})

    with pytest.raises(ConfigError, match=rf"{missing} is not installed: .*'aegis-replication\[http\]'"):
        make_http_door(config, make_node())
