"""Does a node that has failed stay out of it, wherever the failure was met?"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from aegis_replication.consensus.config import RaftConfig
from aegis_replication.ids import DATA_GROUP
from aegis_replication.log import LogWrite
from aegis_replication.node import Node, NodeOptions
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine
from aegis_replication.storage.base import Identity
from aegis_replication.storage.memory import MemoryStorage
from aegis_replication.transport.memory import MemoryNetwork
from aegis_replication.wire import Hello


async def started_node() -> tuple[Node, MemoryStorage]:
    """A single voter that has begun its first turn."""
    storage = MemoryStorage(Identity("tests", "n1", 1))
    node = Node(
        NodeOptions(config=RaftConfig("n1"), cluster="tests"),
        storage=storage,
        peers=MemoryNetwork().transport(Hello("peer", 1, 1, cluster="tests", node="n1"), []),
        doors=[],
        machines={DATA_GROUP: SessionMachine(KeyValueMachine())},
        random=Random(1),
    )
    await node.start()
    return node, storage


def broken(*_: Any) -> None:
    raise AssertionError("an invariant of ours")


async def test_no_turn_follows_the_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its write may be lost between engine and disk: the next one's Persisted would speak for it as well."""
    node, _ = await started_node()
    await asyncio.sleep(0)
    monkeypatch.setattr(node, "_carry_out", broken)
    turns: list[int] = []
    take_turn = node._take_turn
    monkeypatch.setattr(node, "_take_turn", lambda: (turns.append(1), take_turn()))

    node._wake()
    node._turn()
    node._turn()
    error = await node.wait_failed()

    assert str(error) == "an invariant of ours"
    assert len(turns) == 1


@pytest.mark.parametrize(
    "answer",
    [
        lambda node: node._on_flushed([LogWrite(DATA_GROUP, 1)]),
        lambda node: node._on_event(object()),
    ],
    ids=["a flush aside", "a snapshot"],
)
async def test_an_invariant_broken_by_an_answer_of_the_disk_ends_the_node(
    answer: Callable[[Node], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, _ = await started_node()
    await asyncio.sleep(0)
    monkeypatch.setattr(type(node.engine), "handle", broken)

    answer(node)
    async with asyncio.timeout(60):
        error = await node.wait_failed()

    assert str(error) == "an invariant of ours"


async def test_whatever_goes_wrong_with_a_mark_ends_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left to the loop's own handler, it would end the node's timer, and a leader without peers would lead for ever."""
    node, _ = await started_node()
    monkeypatch.setattr(node._log_work, "mark_when_quiet", broken)

    node._on_timer()
    error = await node.wait_failed()

    assert str(error) == "an invariant of ours"


async def test_who_stops_a_node_that_stops_by_itself_waits_until_its_disk_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node, storage = await started_node()
    held = asyncio.Event()
    closed: list[int] = []
    monkeypatch.setattr(node._snapshot_work, "stop", held.wait)
    monkeypatch.setattr(storage, "close", lambda: closed.append(1))

    node._fail(RuntimeError("by itself"))
    await asyncio.sleep(0)
    stopping = asyncio.create_task(node.stop())
    for _ in range(5):
        await asyncio.sleep(0)
    returned_early = stopping.done()
    held.set()
    async with asyncio.timeout(60):
        await stopping
        await node.stop()

    assert not returned_early
    assert closed == [1]


async def test_a_stop_that_is_cancelled_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    node, storage = await started_node()
    held = asyncio.Event()
    closed: list[int] = []
    monkeypatch.setattr(node._snapshot_work, "stop", held.wait)
    monkeypatch.setattr(storage, "close", lambda: closed.append(1))
    stopping = asyncio.create_task(node.stop())
    await asyncio.sleep(0)

    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    held.set()
    async with asyncio.timeout(60):
        await node.stop()

    assert closed == [1]
