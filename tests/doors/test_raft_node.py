"""Does RaftNode do what the README shows? Three of them in one program, and over TCP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from free_ports import addresses

from aegis_replication import RaftConfig, RaftNode, StateMachine, command, query
from aegis_replication.errors import (
    CommandFailed,
    InvalidArgument,
    InvalidCommand,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
    WrongIdentity,
)
from aegis_replication.state_machine.commands import Get, Increment, Item, Put
from aegis_replication.state_machine.compat import Command, CommandResult
from aegis_replication.storage.base import Identity
from aegis_replication.storage.memory import MemoryStorage


class Counter(StateMachine):
    total: int = 0

    @command
    def add(self, count: int) -> int:
        if count < 0:
            raise ValueError("only up")
        self.total += count
        return self.total

    @query
    def current(self) -> int:
        return self.total


@asynccontextmanager
async def three(cluster: str, **options: Any) -> AsyncIterator[list[RaftNode]]:
    """Nodes that a stall of the machine doesn't unseat: RaftNode proposes once, so that a lost office ends a test."""
    calm = {"election_timeout": (1000, 1500), "heartbeat_interval": 20}
    nodes = [
        RaftNode(RaftConfig(node_id=each, peers=[1, 2, 3], **calm), "memory", cluster=cluster, **options)
        for each in (1, 2, 3)
    ]
    for node in nodes:
        await node.start()
    try:
        yield nodes
    finally:
        for node in nodes:
            await node.stop()


async def led(nodes: list[RaftNode]) -> tuple[RaftNode, list[RaftNode]]:
    """The leader, once all know it, and the others."""
    while True:
        known = {await node.wait_leader(timeout=60) for node in nodes}
        leading = [node for node in nodes if {node.id} == known and node.is_leader]
        if leading:
            return leading[0], [node for node in nodes if node is not leading[0]]
        await asyncio.sleep(0.001)


async def test_the_readmes_form_works() -> None:
    """RaftConfig(node_id=1, peers=[2, 3], election_timeout=150..300 ms, heartbeat_interval=50 ms)"""
    nodes = [
        RaftNode(
            RaftConfig(
                node_id=each,
                peers=[other for other in (1, 2, 3) if other != each],
                election_timeout=(150, 300),
                heartbeat_interval=50,
            ),
            "memory",
            cluster="readme",
        )
        for each in (1, 2, 3)
    ]
    for node in nodes:
        await node.start()

    while True:  # with timeouts this short, a busy machine may cost a leader its office
        leader, _ = await led(nodes)
        try:
            version = await leader.propose(Put(b"key", b"value"))
            found = await leader.read(Get(b"key"))
            break
        except (NotLeader, OutcomeUnknown, Unavailable):
            pass

    assert found == Item(b"value", version)
    assert leader.term >= 1
    assert leader.id in ("1", "2", "3")
    for node in nodes:
        await node.stop()


async def test_a_follower_refuses_and_names_the_leader() -> None:
    async with three("refusal") as nodes:
        leader, followers = await led(nodes)

        for follower in followers:
            with pytest.raises(NotLeader, match=f"led by {leader.id}") as caught:
                await follower.propose(Put(b"k", b"v"))
            assert caught.value.leader == leader.id
            with pytest.raises(NotLeader):
                await follower.read(Get(b"k"))


async def test_methods_of_a_users_machine_are_proposed_with_their_arguments() -> None:
    async with three("own machine", state_machine=Counter) as nodes:
        leader, _ = await led(nodes)

        assert await leader.propose(Counter.add, 2) == 2
        assert await leader.propose(Counter.add, count=3) == 5
        assert await leader.read(Counter.current) == 5
        with pytest.raises(CommandFailed, match="ValueError: only up"):
            await leader.propose(Counter.add, -1)


async def test_many_proposals_are_on_their_way_at_once() -> None:
    async with three("many") as nodes:
        leader, _ = await led(nodes)

        totals = await asyncio.gather(*(leader.propose(Increment(b"n")) for _ in range(2000)))

        assert sorted(totals) == [*range(1, 2001)]


async def test_another_node_leads_when_the_leader_stops() -> None:
    async with three("failover") as nodes:
        leader, followers = await led(nodes)
        await leader.propose(Put(b"k", b"v"))

        await leader.stop()
        successor = None
        while successor is None:
            await asyncio.sleep(0.001)
            successor = next((node for node in followers if node.is_leader), None)

        assert await successor.read(Get(b"k"), timeout=60) == Item(b"v", 1)
        assert not leader.is_leader
        assert leader.leader is None


async def test_a_node_that_was_stopped_starts_again_on_its_directory(tmp_path: Path) -> None:
    node = RaftNode(RaftConfig(node_id="solo"), tmp_path, cluster="solo")
    async with node:
        await node.wait_leader()
        await node.propose(Put(b"k", b"v"))

    async with node:
        await node.wait_leader()
        assert await node.read(Get(b"k")) == Item(b"v", 1)
    with pytest.raises(WrongIdentity):
        await RaftNode(RaftConfig(node_id="other"), tmp_path, cluster="solo").start()


async def test_a_storage_object_is_taken_as_it_is() -> None:
    storage = MemoryStorage(Identity("storage", "1", 7))

    async with RaftNode(RaftConfig(node_id=1), storage, cluster="storage") as node:
        await node.wait_leader()
        await node.propose(Put(b"k", b"v"))

    assert node.node.storage is storage


async def test_three_nodes_reach_each_other_over_tcp(tmp_path: Path) -> None:
    peers = dict(zip((1, 2, 3), addresses(3)))
    calm = {"election_timeout": (1000, 1500), "heartbeat_interval": 20}
    nodes = [RaftNode(RaftConfig(each, peers, **calm), tmp_path / str(each), cluster="tcp") for each in (1, 2, 3)]
    for node in nodes:
        await node.start()
    leader, _ = await led(nodes)

    assert await leader.propose(Put(b"k", b"v"), timeout=60) == 1

    for node in nodes:
        await node.stop()


async def test_without_a_majority_the_outcome_is_unknown() -> None:
    async with three("minority") as nodes:
        leader, followers = await led(nodes)
        await leader.propose(Put(b"k", b"v"))
        for follower in followers:
            await follower.stop()

        with pytest.raises(OutcomeUnknown, match="put b'k'"):
            await leader.propose(Put(b"k", b"w"), timeout=60)


async def test_who_waits_when_the_node_stops_is_told() -> None:
    async with three("stopping") as nodes:
        leader, followers = await led(nodes)
        for follower in followers:
            await follower.stop()
        waiting = asyncio.ensure_future(leader.propose(Put(b"k", b"v"), timeout=3600))
        await asyncio.sleep(0)

        await leader.stop()

        with pytest.raises(OutcomeUnknown):
            await waiting
        with pytest.raises(Unavailable, match=r"await start\(\) first"):
            await leader.propose(Put(b"k", b"v"))
        with pytest.raises(Unavailable, match="isn't running"):
            await leader.wait_leader()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((Put(b"k", b"v"), 1), InvalidArgument, "they belong into it"),
        ((5,), InvalidArgument, "is no method"),
        ((Counter.current,), InvalidArgument, "is a @query"),
        ((Counter.add,), InvalidArgument, "missing a required argument"),
        ((Counter.add, 1), InvalidCommand, "not a command"),
        ((Get(b"k"),), InvalidCommand, "not a command"),
    ],
)
async def test_what_is_no_command_is_refused(arguments: Any, error: type[Exception], text: str) -> None:
    async with RaftNode(RaftConfig(1), None, cluster="bad input") as node:
        await node.wait_leader()

        with pytest.raises(error, match=text):
            await node.propose(*arguments)


async def test_a_node_that_was_not_started_says_so() -> None:
    node = RaftNode(RaftConfig(1), None)

    assert not node.is_leader
    assert node.leader is None
    with pytest.raises(Unavailable, match=r"await start\(\) first"):
        await node.propose(Put(b"k", b"v"))


async def test_who_waits_for_a_leader_is_told_when_the_node_stops() -> None:
    async with RaftNode(RaftConfig(1, [2, 3]), None, cluster="alone") as node:
        waiting = asyncio.ensure_future(node.wait_leader(timeout=3600))
        await asyncio.sleep(0)

        await node.stop()

        with pytest.raises(Unavailable, match="isn't running"):
            await waiting


async def test_too_many_proposals_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aegis_replication.raft.CALLS_MAX", 10)
    async with RaftNode(RaftConfig(1), None, cluster="limit") as node:
        await node.wait_leader()

        results = await asyncio.gather(*(node.propose(Increment(b"n")) for _ in range(12)), return_exceptions=True)

        assert [type(each) for each in results].count(Overloaded) == 2


async def test_commands_in_the_crates_form_get_results_in_its_form() -> None:
    async with RaftNode(RaftConfig(1), None, cluster="compat") as node:
        await node.wait_leader()

        assert await node.propose(Command.set("k", b"1")) == CommandResult(True)
        assert await node.propose(Command.get("k")) == CommandResult(True, b"1")
        assert await node.propose(Command.compare_and_swap("k", "0", b"2")) == CommandResult(True, b"false")
        assert await node.propose(Command.increment("k")) == CommandResult(True, b"2")
        assert await node.propose(Command.set("word", b"x")) == CommandResult(True)
        refused = await node.propose(Command.increment("word"))
        assert not refused.success
        assert refused.error
        assert await node.propose(Command.delete("k")) == CommandResult(True, b"2")
