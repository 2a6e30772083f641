"""Does a node with a machine on SQLite go on where both were, whatever became of either?"""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from aegis_replication import RaftConfig, RaftNode, StorageError
from aegis_replication.state_machine.durable_sessions import DurableSessionMachine

spec = spec_from_file_location("accounts", Path(__file__).parents[2] / "examples" / "sqlite_machine.py")
assert spec is not None
assert spec.loader is not None
example = module_from_spec(spec)
spec.loader.exec_module(example)


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The entries that machines were given, in order."""
    seen: list[int] = []
    apply = DurableSessionMachine.apply

    def note(machine: DurableSessionMachine, entry: Any) -> Any:
        seen.append(entry.index)
        return apply(machine, entry)

    monkeypatch.setattr(DurableSessionMachine, "apply", note)
    return seen


def node_in(directory: Path, number: int = 1, peers: tuple[int, ...] = (), **config: Any) -> RaftNode:
    return RaftNode(
        RaftConfig(number, peers, **config),
        directory / f"log-{number}",
        state_machine=lambda: example.Accounts(directory / f"state-{number}.db"),
        cluster=str(directory),
    )


async def deposit(node: RaftNode, count: int) -> int:
    await node.wait_leader(timeout=60)
    for _ in range(count):
        total = await node.propose(example.Deposit("ada", 1), timeout=60)
    return int(total)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0.01)


async def test_a_restart_takes_from_the_log_what_the_machine_lacks_and_nothing_else(
    tmp_path: Path, applied: list[int]
) -> None:
    async with node_in(tmp_path) as node:
        assert await deposit(node, 10) == 10
    shutil.copy(tmp_path / "state-1.db", tmp_path / "old.db")
    at_copy = len(applied)
    async with node_in(tmp_path) as node:
        assert await deposit(node, 5) == 15
    assert len(applied) == len(set(applied)), "an entry came twice"

    shutil.copy(tmp_path / "old.db", tmp_path / "state-1.db")  # as if the last transactions had not been flushed
    at_restart = len(applied)
    async with node_in(tmp_path) as node:
        assert await deposit(node, 1) == 16

    assert applied[at_restart:-1] == applied[at_copy:at_restart]


async def test_a_state_that_is_ahead_of_its_log_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    async with node_in(tmp_path) as node:
        await deposit(node, 3)
    shutil.rmtree(tmp_path / "log-1")

    with pytest.raises(StorageError, match=r"own state stands at entry .*, and the log ends at"):
        await node_in(tmp_path).start()

    with sqlite3.connect(tmp_path / "state-1.db") as db:
        assert db.execute("select amount from accounts").fetchall() == [(3,)]


async def test_a_state_that_is_lost_comes_back_from_the_snapshot_and_the_log(tmp_path: Path) -> None:
    async with node_in(tmp_path, snapshot_threshold=20, trailing_entries=0) as node:
        await deposit(node, 50)
        await until(lambda: node.node.replica().snapshots.newest is not None)
    (tmp_path / "state-1.db").unlink()

    async with node_in(tmp_path, snapshot_threshold=20, trailing_entries=0) as node:
        assert await deposit(node, 1) == 51


async def test_a_node_far_behind_gets_a_copy_of_the_database_and_keeps_it(tmp_path: Path) -> None:
    nodes = [node_in(tmp_path, each, (1, 2, 3), snapshot_threshold=20, trailing_entries=0) for each in (1, 2, 3)]
    for node in nodes:
        await node.start()
    leader = await example.leader_of(nodes)
    behind = next(node for node in nodes if node is not leader)
    await behind.stop()

    await deposit(leader, 60)
    await until(lambda: leader.node.replica().snapshots.newest is not None)
    await behind.start()
    await until(lambda: behind.node.replica().applied >= leader.node.replica().applied)
    for node in nodes:
        await node.stop()

    with sqlite3.connect(tmp_path / f"state-{behind.id}.db") as db:
        assert db.execute("select amount from accounts").fetchall() == [(60,)]
        _, index = db.execute("select term, log_index from position").fetchone()
    assert index > 60
