"""How does a node get a bad disk or clock without privileges? This runs `aegis` with both, set by a file meanwhile.

Production code has no switch for it: the calls are replaced here, in a process of its own. The file named by
AEGIS_VERIFY_TROUBLE holds a Trouble as JSON; without the file all is well.
"""

import errno
import os
import runpy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from aegis_replication.storage import directory, flush_helper
from aegis_replication.storage.files import Mode, RealFiles

ENVIRONMENT: Final = "AEGIS_VERIFY_TROUBLE"


class Trouble(msgspec.Struct, frozen=True):
    """What is wrong with a node's disk and wall clock."""

    flush_seconds: float = 0.0  # so much longer takes each flush
    full: Literal["", "growing", "writing"] = ""  # no file grows and none is made; or, as where every write takes new
    # blocks, nothing can be written at all
    clock_seconds: float = 0.0  # the wall clock is so far off
    clock_rate: float = 1.0  # and goes so fast, from the moment that it is looked at first


def load(path: Path) -> Trouble:
    """The trouble that a file holds."""
    return msgspec.json.decode(path.read_bytes(), type=Trouble)


class Now:
    """The trouble that the file names now."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = -1
        self._trouble = Trouble()

    def read(self) -> Trouble:
        """Looked up anew whenever the file has changed."""
        try:
            changed = os.stat(self._path).st_mtime_ns
        except FileNotFoundError:
            changed = -1
        if changed != self._seen:
            self._seen = changed
            self._trouble = Trouble() if changed < 0 else load(Path(self._path))
        return self._trouble


class TroubledFiles(RealFiles):
    """The disk of a node in trouble."""

    now: Now

    def __init__(self) -> None:
        super().__init__()
        self._durable: set[int] = set()

    def open(self, path: str, mode: Mode, *, dsync: bool = False) -> int:
        if mode == "create" and self.now.read().full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        handle = super().open(path, mode, dsync=dsync)
        if dsync:
            self._durable.add(handle)
        return handle

    def close(self, handle: int) -> None:
        self._durable.discard(handle)
        super().close(handle)

    def pwritev(self, handle: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        trouble = self.now.read()
        if trouble.full == "writing" or (
            trouble.full == "growing" and offset + sum(map(len, buffers)) > self.size(handle)
        ):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if trouble.flush_seconds and handle in self._durable:
            time.sleep(trouble.flush_seconds)
        super().pwritev(handle, buffers, offset)

    def allocate(self, handle: int, size: int) -> None:
        if self.now.read().full and size > self.size(handle):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().allocate(handle, size)

    def sync(self, handle: int) -> None:
        if seconds := self.now.read().flush_seconds:
            time.sleep(seconds)
        super().sync(handle)


def trouble_clock(now: Now) -> None:
    """The wall clock is off, and too fast or too slow; the monotonic clock stays as it is."""
    real_ns = time.time_ns
    began_ns = real_ns()

    def time_ns() -> int:
        trouble = now.read()
        here = real_ns()
        return int(here + (here - began_ns) * (trouble.clock_rate - 1.0) + trouble.clock_seconds * 1e9)

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9


def trouble_disk(now: Now) -> None:
    """Every file call of the node goes by TroubledFiles, and the flush helper is slow as well."""
    TroubledFiles.now = now
    vars(directory)["RealFiles"] = TroubledFiles
    flush_helper.__file__ = str(Path(__file__).with_name("slow_flush_helper.py"))


if __name__ == "__main__":
    trouble_now = Now(os.environ[ENVIRONMENT])
    trouble_disk(trouble_now)
    trouble_clock(trouble_now)
    runpy.run_module("aegis_replication.cli.main", run_name="__main__")
