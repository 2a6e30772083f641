"""Does a node write its log in order, and sleep while a flush goes on beside it?"""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from aegis_replication.errors import DiskFailed
from aegis_replication.log import LogWrite
from aegis_replication.node.log_work import LogWork
from aegis_replication.storage.base import Identity
from aegis_replication.storage.flush import Done, Flusher
from aegis_replication.storage.memory import MemoryStorage


class SlowDisk:
    """Flushes go aside and end when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting: list[Done] = []
        monkeypatch.setattr(Flusher, "inline", property(lambda flusher: False))
        monkeypatch.setattr(Flusher, "start", lambda flusher, loop, done: self.waiting.append(done))

    def end_flush(self, error: DiskFailed | None = None) -> None:
        self.waiting.pop(0)(error)


def log_work(flushed: list[Sequence[LogWrite]], failed: list[BaseException]) -> LogWork:
    storage = MemoryStorage(Identity("tests", "n1", 1))
    loop = asyncio.get_running_loop()
    return LogWork(
        storage,
        loop,
        quiet_ms=0.0,
        stall_ms=150.0,
        on_flushed=flushed.append,
        on_failed=failed.append,
        on_room=lambda event: None,
    )


async def test_nothing_is_due_while_a_flush_goes_on_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer would find nothing to do and be set for the past again: the loop would spin until the flush ends."""
    disk = SlowDisk(monkeypatch)
    work = log_work([], [])

    work.write([LogWrite(1, 1)])
    during = work.mark_due
    disk.end_flush()
    after = work.mark_due

    assert during == float("inf")
    assert after < float("inf")


async def test_what_was_written_during_a_flush_is_flushed_next_and_told_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk, flushed = SlowDisk(monkeypatch), list[Any]()
    work = log_work(flushed, [])
    first, second, third = (LogWrite(1, number) for number in (1, 2, 3))

    for write in (first, second, third):
        assert work.write([write]) is False
    disk.end_flush()
    told = [*flushed]
    disk.end_flush()

    assert told == [[first]]
    assert flushed == [[first], [second, third]]


async def test_a_flush_that_fails_is_told_once_and_as_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, flushed, failed = SlowDisk(monkeypatch), list[Any](), list[BaseException]()
    work = log_work(flushed, failed)

    work.write([LogWrite(1, 1)])
    disk.end_flush(DiskFailed("no"))

    assert flushed == []
    assert [type(error) for error in failed] == [DiskFailed]
