"""Is a snapshot that was saved, or couldn't be, told of and counted once?"""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from aegis_replication.engine.effects import SaveSnapshot
from aegis_replication.engine.events import Event, SnapshotFailed, SnapshotSaved
from aegis_replication.ids import DATA_GROUP
from aegis_replication.log import SnapshotMeta
from aegis_replication.node.news import News
from aegis_replication.node.snapshot_work import SnapshotWork
from aegis_replication.storage.base import Identity
from aegis_replication.storage.memory import MemoryStorage

META = SnapshotMeta(3, 40, 0, b"", 0)


async def save(pieces: Iterator[bytes]) -> tuple[News, Event]:
    """Have a snapshot of `pieces` saved; what was counted, and the answer."""
    news, answered = News("n1"), asyncio.get_running_loop().create_future()
    storage = MemoryStorage(Identity("tests", "n1", 1))
    work = SnapshotWork("n1", storage, asyncio.get_running_loop(), answer=answered.set_result, news=news)

    work.carry_out(SaveSnapshot(DATA_GROUP, META, pieces))
    async with asyncio.timeout(60):
        answer = await answered
    await work.stop()
    return news, answer


async def test_a_saved_snapshot_is_one_line_and_one_observation(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    news, answer = await save(iter([b"x" * 100, b"y"]))

    assert type(answer) is SnapshotSaved
    assert (news.snapshot_durations.count, news.snapshot_failures) == (1, 0)
    [line] = [record.getMessage() for record in caplog.records]
    assert line == f"group=1 node=n1 term=3 index=40 size_bytes={answer.size_bytes}: saved a snapshot"


async def test_a_snapshot_that_could_not_be_saved_is_one_line_and_one_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    def pieces() -> Iterator[bytes]:
        yield b"x"
        raise OSError("no room")

    news, answer = await save(pieces())

    assert answer == SnapshotFailed(DATA_GROUP)
    assert (news.snapshot_durations.count, news.snapshot_failures) == (0, 1)
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().endswith("no room")
