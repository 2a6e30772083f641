"""Runs `aegis` with test-only changes, named in AEGIS_TEST_NODE: the production code has no switch for them.

power-cut           what was written reaches the file only when it is flushed, so a killed process loses the rest, as a
                    machine without power does; kill -9 alone proves nothing, since the system keeps what was written
aside               flushes go to the helper process from the start
failing-disk        every write fails once a file "fail-n1" lies beside the data directory n1
full-disk           no write finds room while a file "full-n1" lies beside the data directory n1
reply-before-flush  a mistake: writes count as flushed when they aren't
"""

import errno
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from aegis_replication.cli.main import main
from aegis_replication.storage import directory, flush, flush_policy
from aegis_replication.storage.files import Mode, RealFiles


class PowerCutFiles(RealFiles):
    """The disk of a machine whose writes stay in memory until they are flushed."""

    current: "PowerCutFiles"

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()  # a snapshot's last flush comes from a thread
        self._path_of: dict[int, str] = {}
        self._durable: set[int] = set()
        # By path: what was written and not flushed, in order.
        self._held: dict[str, list[tuple[int, bytes]]] = {}
        PowerCutFiles.current = self

    def open(self, path: str, mode: Mode, *, dsync: bool = False) -> int:
        with self._lock:
            handle = super().open(path, mode, dsync=dsync)
            self._path_of[handle] = path
            if dsync:
                self._durable.add(handle)
            return handle

    def close(self, handle: int) -> None:
        with self._lock:
            self._path_of.pop(handle, None)
            self._durable.discard(handle)
            super().close(handle)

    def size(self, handle: int) -> int:
        with self._lock:
            held = self._held.get(self._path_of[handle], [])
            return max([super().size(handle), *(offset + len(data) for offset, data in held)])

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        with self._lock:
            held = self._held.get(self._path_of[handle])
            data = super().pread(handle, size, offset)
            if not held:
                return data
            whole = bytearray(data.ljust(min(size, max(0, self.size(handle) - offset)), b"\0"))
            for start, piece in held:
                first, after = max(start, offset), min(start + len(piece), offset + len(whole))
                if first < after:
                    whole[first - offset : after - offset] = piece[first - start : after - start]
            return bytes(whole)

    def pwritev(self, handle: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        with self._lock:
            if handle in self._durable:
                super().pwritev(handle, buffers, offset)
            else:
                self._held.setdefault(self._path_of[handle], []).append((offset, b"".join(buffers)))

    def sync(self, handle: int) -> None:
        with self._lock:
            self.release(handle)
            super().sync(handle)

    def release(self, handle: int) -> None:
        """What was held of this file reaches it."""
        for offset, data in self._held.pop(self._path_of[handle], []):
            super().pwritev(handle, [data], offset)

    def rename(self, source: str, target: str) -> None:
        with self._lock:
            super().rename(source, target)
            self._path_of = {handle: target if path == source else path for handle, path in self._path_of.items()}
            if source in self._held:
                self._held[target] = self._held.pop(source)

    def unlink(self, path: str) -> None:
        with self._lock:
            super().unlink(path)
            self._held.pop(path, None)


def cut_power() -> None:
    directory.RealFiles = PowerCutFiles
    request = flush.HelperProcess.request

    def release_and_request(helper: flush.HelperProcess, descriptors: Sequence[int]) -> int:
        for descriptor in descriptors:
            PowerCutFiles.current.release(descriptor)
        return request(helper, descriptors)

    flush.HelperProcess.request = release_and_request


def flush_aside() -> None:
    init = flush_policy.FlushPolicy.__init__

    def begin_aside(policy: flush_policy.FlushPolicy, **arguments: object) -> None:
        init(policy, **arguments)
        policy.mode = "aside"

    flush_policy.FlushPolicy.__init__ = begin_aside


def fail_on_demand() -> None:
    class FailingFiles(RealFiles):
        def open(self, path: str, mode: Mode, *, dsync: bool = False) -> int:
            data = Path(sys.argv[sys.argv.index("--data") + 1])
            self.flag = data.with_name(f"fail-{data.name}")
            return super().open(path, mode, dsync=dsync)

        def pwritev(self, handle: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
            self._maybe_fail()
            super().pwritev(handle, buffers, offset)

        def sync(self, handle: int) -> None:
            self._maybe_fail()
            super().sync(handle)

        def _maybe_fail(self) -> None:
            if self.flag.exists():
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    directory.RealFiles = FailingFiles


def fill_on_demand() -> None:
    class FullFiles(RealFiles):
        def open(self, path: str, mode: Mode, *, dsync: bool = False) -> int:
            if mode == "create":
                self._maybe_refuse()
            return super().open(path, mode, dsync=dsync)

        def pwritev(self, handle: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
            self._maybe_refuse()
            super().pwritev(handle, buffers, offset)

        def allocate(self, handle: int, size: int) -> None:
            self._maybe_refuse()
            super().allocate(handle, size)

        def _maybe_refuse(self) -> None:
            data = Path(sys.argv[sys.argv.index("--data") + 1])
            if data.with_name(f"full-{data.name}").exists():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    directory.RealFiles = FullFiles


def reply_before_flush() -> None:
    write = directory.DirectoryStorage.write

    def write_only(storage: directory.DirectoryStorage, writes: Sequence[object], *, durable: bool) -> None:
        write(storage, writes, durable=False)

    directory.DirectoryStorage.write = write_only


CHANGES = {
    "power-cut": cut_power,
    "aside": flush_aside,
    "failing-disk": fail_on_demand,
    "full-disk": fill_on_demand,
    "reply-before-flush": reply_before_flush,
}

if __name__ == "__main__":
    for change in filter(None, os.environ.get("AEGIS_TEST_NODE", "").split(",")):
        CHANGES[change]()
    sys.exit(main())
