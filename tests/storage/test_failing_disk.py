"""What happens when the disk refuses? The node's storage is dead from then on, says why, and never tries again."""

import errno
from collections.abc import Callable
from typing import Any

import pytest
from storage_lab import Lab

from aegis_replication.errors import DiskFailed, InvalidArgument, LimitExceeded
from aegis_replication.storage.files import Files


class Refusing:
    """Files of which one call fails with an errno once it is told to; it counts the flushes asked for afterwards."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.failing: tuple[str, int] | None = None
        self.flushes_after = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._files, name)
        if name not in ("pwritev", "sync", "rename", "sync_directory", "open"):
            return call

        def checked(*arguments: Any, **options: Any) -> Any:
            if self.failing is not None and name == "sync":
                self.flushes_after += 1
            if self.failing is not None and self.failing[0] == name:
                raise OSError(self.failing[1], "refused")
            return call(*arguments, **options)

        return checked


def refusing_lab() -> tuple[Lab, Refusing]:
    wrapped: list[Refusing] = []

    def wrap(files: Files) -> Files:
        wrapped.append(Refusing(files))
        return wrapped[0]

    lab = Lab(wrap=wrap)
    lab.start()
    lab.write(lab.append(1, 3))
    return lab, wrapped[0]


CALLS: dict[str, Callable[[Lab], object]] = {
    "write": lambda lab: lab.write(lab.append(3, 4)),
    "write later": lambda lab: lab.write(lab.append(3, 4), durable=False),
    "flush": lambda lab: lab.storage.flush(),
    "mark": lambda lab: lab.storage.mark(),
    "maintain": lambda lab: lab.storage.maintain(),
    "unflushed": lambda lab: lab.storage.unflushed(),
}


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS])
def test_a_refused_write_is_final(number: int) -> None:
    lab, files = refusing_lab()

    files.failing = ("pwritev", number)
    with pytest.raises(DiskFailed, match="refused"):
        lab.write(lab.append(3, 4))

    files.failing = ("none", 0)
    for call in CALLS.values():
        with pytest.raises(DiskFailed, match="refused"):
            call(lab)
    lab.storage.close()
    assert files.flushes_after == 0
    assert lab.start()[1].entries == list(lab.entries(1, 3))


def test_a_refused_flush_is_final_and_never_tried_again() -> None:
    lab, files = refusing_lab()
    lab.write(lab.append(3, 4), durable=False)

    files.failing = ("sync", errno.EIO)
    with pytest.raises(DiskFailed, match="refused to flush the log"):
        lab.storage.flush()

    for call in CALLS.values():
        with pytest.raises(DiskFailed):
            call(lab)
    lab.storage.close()
    assert files.flushes_after == 1


def test_a_flush_that_fails_elsewhere_is_final(lab: Lab) -> None:
    lab.start()
    lab.write(lab.append(1, 3), durable=False)

    lab.storage.unflushed()
    error = lab.storage.fail("Input/output error")

    assert str(error) == "disk/data: Input/output error"
    for call in CALLS.values():
        with pytest.raises(DiskFailed):
            call(lab)


def test_what_a_failed_flush_left_in_memory_is_not_believed_after_a_restart(lab: Lab) -> None:
    """The system may keep the pages, marked clean, although they never reached the disk."""
    lab.start()
    lab.write(lab.append(1, 3))
    lab.write(lab.append(3, 9), durable=False)
    lab.disk.failing = True
    with pytest.raises(DiskFailed):
        lab.storage.flush()
    lab.disk.kill()

    promised = lab.start()[1].entries
    assert promised[:2] == list(lab.entries(1, 3))
    lab.storage.mark()
    lab.lose_power("unsynced")

    assert lab.start()[1].entries == promised


@pytest.mark.parametrize("call", ["pwritev", "sync", "rename", "sync_directory", "open"])
def test_housekeeping_that_is_refused_is_final_too(call: str) -> None:
    lab, files = refusing_lab()

    files.failing = (call, errno.EIO)
    with pytest.raises(DiskFailed):
        lab.maintain()

    files.failing = None
    with pytest.raises(DiskFailed):
        lab.write(lab.append(3, 4))


def test_a_frame_that_no_segment_holds_is_refused_and_nothing_is_written(lab: Lab) -> None:
    lab.start()
    too_large = lab.append(3, 4, size=lab.segment_bytes)

    lab.write(lab.append(1, 2))
    with pytest.raises(LimitExceeded, match="entry 3 of group 1 has"):
        lab.write(lab.append(2, 3), too_large)
    lab.write(lab.append(2, 3))

    assert lab.restart()[1].entries == list(lab.entries(1, 3))


def test_the_largest_frame_fits_a_segment(lab: Lab) -> None:
    lab.start()
    largest = lab.segment_bytes - 4096 - 48 - 40 - 44

    lab.write(lab.append(1, 4, size=largest))
    with pytest.raises(LimitExceeded):
        lab.write(lab.append(4, 5, size=largest + 1))

    assert lab.restart()[1].entries == list(lab.entries(1, 4, size=largest))


@pytest.mark.parametrize("size", [0, 4096, 65_536 + 1, 2 * 1024**3])
def test_a_bad_segment_size_is_refused(size: int) -> None:
    with pytest.raises(InvalidArgument, match="segment_bytes"):
        Lab(segment_bytes=size).open()


def test_a_snapshot_on_a_full_disk_leaves_the_log_alive() -> None:
    lab, files = refusing_lab()
    writer = lab.storage.snapshots.create(1, lab.meta(2))

    files.failing = ("pwritev", errno.ENOSPC)
    with pytest.raises(DiskFailed, match=r"1-1-2\.tmp.*disk is full"):
        writer.write(b"state")
    files.failing = None
    writer.abort()

    lab.write(lab.append(3, 4))
    assert lab.disk.list(f"{lab.path}/snapshots") == []
