"""Who flushes, when does that change, and what if the helper process fails or dies?"""

import asyncio
import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_replication.errors import DiskFailed
from aegis_replication.log import Kind, LogWrite, make_entry
from aegis_replication.storage import flush_helper
from aegis_replication.storage.base import Identity
from aegis_replication.storage.directory import DirectoryStorage
from aegis_replication.storage.flush import Flusher, HelperProcess, can_flush_aside
from aegis_replication.storage.flush_policy import FlushPolicy

aside_only = pytest.mark.skipif(not can_flush_aside(), reason="descriptors can't be passed here")


# --- the policy -----------------------------------------------------------------------------------------------------


def test_fast_flushes_stay_inline() -> None:
    policy = FlushPolicy()

    changes = [policy.record(0.2 if count % 150 else 30.0) for count in range(1, 3000)]

    assert not any(changes)
    assert policy.mode == "inline"


def test_more_than_one_slow_flush_in_a_hundred_goes_aside() -> None:
    policy = FlushPolicy()

    changes = [change for count in range(1, 1500) if (change := policy.record(3.0 if count % 40 == 0 else 0.2))]

    assert policy.mode == "aside"
    assert changes == ["flushing aside from now on, inline until now: p99 of 1000 flushes is above 2 ms"]


def test_one_stall_goes_aside_at_once() -> None:
    policy = FlushPolicy(stall_ms=150.0)

    assert policy.record(149.0) is None
    change = policy.record(151.0)

    assert policy.mode == "aside"
    assert change == "flushing aside from now on, inline until now: a flush took 151 ms (limit 150 ms)"


def test_it_returns_inline_after_a_long_calm_and_later_each_time() -> None:
    policy = FlushPolicy()
    waits = []
    for _ in range(4):
        policy.record(1000.0)
        assert policy.mode == "aside"
        count = 0
        while policy.mode == "aside":
            policy.record(0.3)
            count += 1
        waits.append(count)

    assert waits == [1024, 2048, 4096, 8192]


def test_slow_flushes_keep_it_aside() -> None:
    policy = FlushPolicy()
    policy.record(1000.0)

    for count in range(5000):
        policy.record(5.0 if count % 50 == 0 else 0.3)

    assert policy.mode == "aside"


def test_without_a_helper_it_stays_inline() -> None:
    policy = FlushPolicy(can_change=False)

    assert policy.record(10_000.0) is None
    assert policy.mode == "inline"


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=1500))
def test_percentiles_and_slow_counts_agree_with_a_sorted_list(elapsed: list[float]) -> None:
    policy = FlushPolicy(can_change=False)
    for value in elapsed:
        policy.record(value)
    last = sorted(elapsed[-1024:])

    assert policy.percentiles_ms() == (last[len(last) // 2], last[min(len(last) * 99 // 100, len(last) - 1)])
    assert policy._over == sum(value > 2.0 for value in last)


# --- the helper process ---------------------------------------------------------------------------------------------


@pytest.fixture
def helper() -> Iterator[HelperProcess]:
    process = HelperProcess()
    yield process
    process.close()


def wait_readable(helper: HelperProcess) -> None:
    readable, _, _ = select.select([helper], [], [], 60.0)
    assert readable, "the flush helper hangs"


@aside_only
def test_a_helper_flushes_several_files_and_answers_in_order(helper: HelperProcess, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((tmp_path / f"f{count}").open("wb")) for count in range(3)]
        for file in files:
            file.write(b"bytes")
            file.flush()
        numbers = [helper.request([file.fileno() for file in files[: count + 1]]) for count in range(3)]

        answers: list[tuple[int, int]] = []
        while len(answers) < 3:
            wait_readable(helper)
            answers += helper.finished()

    assert answers == [(number, 0) for number in numbers]
    assert numbers == [1, 2, 3]


@aside_only
def test_a_helper_reports_what_the_system_refuses(helper: HelperProcess) -> None:
    reading, writing = os.pipe()  # a pipe can't be flushed

    number = helper.request([writing])
    wait_readable(helper)
    answers = helper.finished()

    assert [answer[0] for answer in answers] == [number]
    assert answers[0][1] != 0
    for descriptor in (reading, writing):
        os.close(descriptor)


@aside_only
def test_a_helper_keeps_no_descriptor(helper: HelperProcess, tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        for _ in range(100):
            helper.request([file.fileno()])
            wait_readable(helper)
            helper.finished()
    if sys.platform == "linux":
        assert len(os.listdir(f"/proc/{helper.pid}/fd")) < 8


@aside_only
def test_a_helper_that_dies_under_a_flush_is_a_failed_disk(helper: HelperProcess, tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        os.kill(helper.pid, signal.SIGKILL)
        with contextlib.suppress(DiskFailed):  # it may be dead already
            helper.request([file.fileno()])
        wait_readable(helper)
        with pytest.raises(DiskFailed, match=f"process {helper.pid}. died: what it flushed is not known"):
            take_until_it_fails(helper)


def take_until_it_fails(helper: HelperProcess) -> None:
    while True:
        wait_readable(helper)
        helper.finished()


@aside_only
def test_a_helper_does_not_heed_signals_meant_for_its_node(helper: HelperProcess, tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        helper.request([file.fileno()])
        wait_readable(helper)
        helper.finished()  # it has started, so its handlers are in place

        os.kill(helper.pid, signal.SIGINT)
        os.kill(helper.pid, signal.SIGTERM)
        number = helper.request([file.fileno()])
        wait_readable(helper)

        assert helper.finished() == [(number, 0)]


@aside_only
def test_a_helper_ends_with_its_socket(helper: HelperProcess) -> None:
    helper.close()
    if helper._reaper is not None:
        helper._reaper.join(60)

    assert helper._process.returncode == 0


@aside_only
def test_nobody_waits_for_a_helper_that_hangs(helper: HelperProcess) -> None:
    os.kill(helper.pid, signal.SIGSTOP)  # as in a flush that doesn't return: it can't see that its socket has ended

    helper.close()

    assert helper._process.returncode is None
    assert helper._reaper is not None
    helper._reaper.join(60)
    assert helper._process.returncode == -signal.SIGKILL


def test_the_helper_imports_nothing_of_the_package() -> None:
    source = Path(flush_helper.__file__).read_text(encoding="utf-8")

    assert "aegis_replication" not in source


# --- the flusher ----------------------------------------------------------------------------------------------------


def entry_write(index: int) -> LogWrite:
    return LogWrite(1, index, entries=(make_entry(1, 1, index, Kind.COMMANDS, b"x" * 3000, count=1),))


@aside_only
async def test_a_flush_aside_makes_durable_what_was_written_before_it(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    storage = DirectoryStorage.open(tmp_path / "data", Identity("c", "n1", 1), segment_bytes=128 * 1024)
    storage.recover()
    flusher = Flusher(storage, stall_ms=150.0)
    assert flusher.inline
    assert flusher.measured(200.0) == 200.0
    assert not flusher.inline

    for first in range(1, 400, 20):
        ended: asyncio.Future[DiskFailed | None] = loop.create_future()
        storage.write([entry_write(index) for index in range(first, first + 10)], durable=False)
        _, position = storage.unflushed()
        flusher.start(loop, ended.set_result)
        storage.write([entry_write(index) for index in range(first + 10, first + 20)], durable=False)
        assert await ended is None
        assert position <= storage._wal.flushed_to < storage._wal.end
    storage.mark()
    nothing: asyncio.Future[DiskFailed | None] = loop.create_future()
    flusher.start(loop, nothing.set_result)
    assert await nothing is None

    flusher.close()
    assert storage.stats().flush_mode == "aside"
    storage.close()


@aside_only
async def test_a_flush_aside_that_fails_ends_the_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    storage = DirectoryStorage.open(tmp_path / "data", Identity("c", "n1", 1), segment_bytes=128 * 1024)
    storage.recover()
    flusher = Flusher(storage, stall_ms=150.0)
    ended: asyncio.Future[DiskFailed | None] = loop.create_future()
    reading, writing = os.pipe()
    monkeypatch.setattr(storage, "unflushed", lambda: ([writing], 1))

    flusher.start(loop, ended.set_result)
    error = await ended

    assert isinstance(error, DiskFailed)
    with pytest.raises(DiskFailed, match="the disk refused to flush the log"):
        storage.write([entry_write(1)], durable=True)
    flusher.close()
    storage.close()
    for descriptor in (reading, writing):
        os.close(descriptor)


@aside_only
async def test_where_no_helper_can_be_started_flushes_stay_inline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    storage = DirectoryStorage.open(tmp_path / "data", Identity("c", "n1", 1), segment_bytes=128 * 1024)
    storage.recover()
    flusher = Flusher(storage, stall_ms=150.0)
    flusher.measured(1000.0)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    storage.write([entry_write(1)], durable=False)
    ended: asyncio.Future[DiskFailed | None] = loop.create_future()

    flusher.start(loop, ended.set_result)

    assert await ended is None
    assert storage._wal.flushed_to == storage._wal.end
    flusher.measured(1000.0)
    assert flusher.inline
    flusher.close()
    storage.close()


@aside_only
async def test_a_helper_that_dies_idle_is_replaced_and_one_that_dies_at_work_is_not(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    storage = DirectoryStorage.open(tmp_path / "data", Identity("c", "n1", 1), segment_bytes=128 * 1024)
    storage.recover()
    flusher = Flusher(storage, stall_ms=150.0)

    async def flush(index: int) -> DiskFailed | None:
        ended: asyncio.Future[DiskFailed | None] = loop.create_future()
        storage.write([entry_write(index)], durable=False)
        flusher.start(loop, ended.set_result)
        return await ended

    assert await flush(1) is None
    first = flusher._helper
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    forgotten = asyncio.Event()
    forget_helper = flusher._on_readable
    loop.add_reader(first.fileno(), lambda: (forget_helper(), forgotten.set()))
    await forgotten.wait()
    assert await flush(2) is None

    assert flusher._helper is not None
    os.kill(flusher._helper.pid, signal.SIGSTOP)
    ended: asyncio.Future[DiskFailed | None] = loop.create_future()
    storage.write([entry_write(3)], durable=False)
    flusher.start(loop, ended.set_result)
    os.kill(flusher._helper.pid, signal.SIGKILL)
    error = await ended

    assert error is not None
    assert "died" in str(error)
    flusher.close()
    storage.close()
