"""What does a power cut leave behind? A disk of 512-byte sectors that keeps only what it must (see storage.files).

One object is one node's disk. It outlives the processes that use it: `cut_power` and `kill` end whatever is open.
"""

import errno
from collections import Counter, deque
from collections.abc import Sequence
from random import Random
from typing import Final, Literal, NamedTuple, TypeAlias

from aegis_replication.simulation.sectors import SectorFile
from aegis_replication.storage.files import Mode

ROOT: Final = "disk"
"""The one directory that is there from the beginning."""

Losing: TypeAlias = Literal["nothing", "unsynced", "some", "beginning"]
"""What a crash takes: nothing (only the process dies), all that wasn't synced, some sectors, or the first few."""


class PowerCut(BaseException):
    """The machine stops in the middle of a call. Not an Exception: no code of the node can catch and survive it."""


class DiskSpeed:
    """How long a flush takes: mostly about `usual_ms`, now and then far longer."""

    __slots__ = ("slow", "slow_max_ms", "usual_ms")

    def __init__(self, usual_ms: float = 0.5, slow: float = 0.0, slow_max_ms: float = 0.0) -> None:
        self.usual_ms = usual_ms
        self.slow = slow  # part of the flushes that are slow
        self.slow_max_ms = slow_max_ms

    def flush_ms(self, random: Random) -> float:
        if self.slow and random.random() < self.slow:
            return self.slow_max_ms * random.random()
        return self.usual_ms * (0.5 + random.random())


class DurableWrite(NamedTuple):
    """Bytes that reached the disk, and in which call they were written and made durable."""

    path: str
    offset: int
    length: int
    written: int
    durable: int


class SimulatedDisk:
    """The Files of one node. Every call counts as a step at which the power may fail."""

    __slots__ = (
        "calls",
        "cut_at",
        "durable_writes",
        "failing",
        "faults",
        "full",
        "full_in_place",
        "is_awaited",
        "random",
        "speed",
        "spent_ms",
        "_dead",
        "_directories",
        "_durable_directories",
        "_durable_names",
        "_flips",
        "_handles",
        "_locks",
        "_names",
        "_next_handle",
        "_pending",
        "_promised",
    )

    def __init__(self, random: Random, faults: Counter[str] | None = None, speed: DiskSpeed | None = None) -> None:
        self.random = random
        self.faults: Counter[str] = Counter() if faults is None else faults
        self.speed = speed or DiskSpeed()
        # Changing calls so far, and the count at which the power fails in the middle of one (0: never).
        self.calls = 0
        self.cut_at = 0
        # The next flush answers EIO; no space is left for a file to grow, nor, where each write takes new blocks, for
        # any other write. Only these last longer than a process.
        self.failing = False
        self.full = self.full_in_place = False
        # A process stands still until the flush is over: should the power fail before `end_wait`, it never was.
        self.is_awaited = False
        self._promised: list[tuple[SectorFile, str, int, int]] = []
        # Time that flushes took since the host last looked, in ms.
        self.spent_ms = 0.0
        # Where the last durable bytes went, newest last.
        self.durable_writes: deque[DurableWrite] = deque(maxlen=512)
        self._dead = False
        # Bits that were turned and not written over since: (file, offset) -> the byte as it was.
        self._flips: dict[tuple[int, int], tuple[SectorFile, int]] = {}
        self._names: dict[str, SectorFile] = {}
        self._directories: set[str] = {ROOT}
        self._durable_names: dict[str, SectorFile] = {}
        self._durable_directories: set[str] = {ROOT}
        # Changes of names since the last sync of their directory: (directory, kind, name, other name or file).
        self._pending: list[tuple[str, str, str, str | SectorFile | None]] = []
        self._handles: dict[int, tuple[SectorFile, str, Mode, bool]] = {}
        self._locks: dict[str, set[int]] = {}
        self._next_handle = 3

    # --- the calls of Files ---

    def make_directory(self, path: str) -> None:
        self._count()
        if path in self._directories:
            return
        self._need_directory(_parent(path))
        self._directories.add(path)
        self._pending.append((_parent(path), "make", path, None))

    def list(self, path: str) -> list[str]:
        self._alive()
        self._need_directory(path)
        names = [name for name in self._names if _parent(name) == path]
        names += [name for name in self._directories if name != ROOT and _parent(name) == path]
        return sorted(name.rpartition("/")[2] for name in names)

    def open(self, path: str, mode: Mode, *, dsync: bool = False) -> int:
        self._alive()
        inode = self._names.get(path)
        if mode == "create":
            self._count()
            if inode is not None:
                raise FileExistsError(errno.EEXIST, "file exists", path)
            self._need_directory(_parent(path))
            self._need_space(path)
            inode = self._names[path] = SectorFile()
            self._pending.append((_parent(path), "link", path, inode))
        elif inode is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return self._handle(inode, path, mode, dsync)

    def _handle(self, inode: SectorFile, path: str, mode: Mode, dsync: bool) -> int:
        self._next_handle += 1
        self._handles[self._next_handle] = (inode, path, mode, dsync)
        return self._next_handle

    def close(self, handle: int) -> None:
        entry = self._handles.pop(handle, None)
        if entry is not None:
            self._locks.get(entry[1], set()).discard(handle)

    def size(self, handle: int) -> int:
        return len(self._open_file(handle)[0].content)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        return bytes(self._open_file(handle)[0].content[offset : offset + size])

    def pwritev(self, handle: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        inode, path, mode, dsync = self._open_file(handle)
        if mode == "read":
            raise OSError(errno.EBADF, "not open for writing", path)
        data = b"".join(buffers)
        after = offset + len(data)
        if self._flips:
            self._put_back(inode, offset, after)
        if after > len(inode.content):
            self._need_space(path)
        if self.full_in_place:
            part = data[: self.random.randrange(len(data) + 1)]  # as much as found room
            inode.write(offset, part, self.calls + 1)
            self._count()
            self._refuse_space(path)
        inode.write(offset, data, self.calls + 1)
        self._count()
        if not dsync:
            return
        self._flush(inode, path)
        self._promise(inode, path, inode.written - 1, inode.written)

    def allocate(self, handle: int, size: int) -> None:
        inode, path, _, _ = self._open_file(handle)
        before = len(inode.content)
        if size > before:
            self._need_space(path)
            inode.write(before, bytes(size - before), self.calls + 1)
        self._count()

    def sync(self, handle: int) -> None:
        self.end_sync(self.begin_sync(handle))

    def begin_sync(self, handle: int) -> tuple[int, int]:
        """A sync beside other calls begins: it covers what was written until now. Give the result to `end_sync`."""
        inode, _, _, _ = self._open_file(handle)
        return handle, inode.written

    def end_sync(self, begun: tuple[int, int]) -> None:
        """That sync is over."""
        inode, path, _, _ = self._open_file(begun[0])
        self._count()
        self._flush(inode, path)
        self._promise(inode, path, 0, begun[1])

    def _promise(self, inode: SectorFile, path: str, first: int, after: int) -> None:
        """Writes [first, after) of a file are durable: now, or while a process waits for the flush, when that ends."""
        self._promised.append((inode, path, first, after))
        if not self.is_awaited:
            self.end_wait()

    def end_wait(self) -> None:
        """The flush that was waited for is over: what it covers is durable."""
        self.is_awaited = False
        promised, self._promised = self._promised, []
        for inode, path, first, after in promised:
            for offset, length, call in inode.make_durable(first, after):
                self.durable_writes.append(DurableWrite(path, offset, length, call, self.calls))

    def forget_cached(self, handle: int) -> None:
        inode, _, _, _ = self._open_file(handle)
        if inode.lost and not inode.unsynced:
            inode.tear(self.random, self.random.choice((0.0, 0.5)))

    def rename(self, source: str, target: str) -> None:
        self._count()
        inode = self._names.pop(source, None)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", source)
        self._names[target] = inode
        self._pending.append((_parent(target), "rename", source, target))

    def unlink(self, path: str) -> None:
        self._count()
        if self._names.pop(path, None) is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        self._pending.append((_parent(path), "unlink", path, None))

    def sync_directory(self, path: str) -> None:
        self._count()
        self._need_directory(path)
        self._spend()
        kept = []
        for change in self._pending:
            if change[0] == path:
                self._settle(change)
            else:
                kept.append(change)
        self._pending = kept

    def lock(self, path: str, owner: bytes | None) -> int:
        self._alive()
        if self._locks.get(path):
            raise BlockingIOError(errno.EAGAIN, "locked", path)
        if path not in self._names:
            if owner is None:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            self.close(self.open(path, "create"))
        inode = self._names[path]
        handle = self._handle(inode, path, "write", False)
        self._locks.setdefault(path, set()).add(handle)
        if owner is not None:
            inode.content[:] = owner
        return handle

    def filesystem(self, path: str) -> str:
        return "simulated"

    # --- what can be done to it ---

    def cut_power(self, losing: Losing = "some") -> None:
        """All processes end; of what wasn't durable, `losing` says what goes."""
        self._stop()
        if losing == "nothing":
            return
        is_beginning = losing == "beginning"
        keep = 0.0 if losing == "unsynced" else 1.0 if is_beginning else self.random.choice((0.2, 0.5, 0.8))
        lost = False
        for inode in {id(inode): inode for inode in [*self._names.values(), *self._durable_names.values()]}.values():
            lost = inode.tear(self.random, keep, from_beginning=is_beginning) or lost
        for change in self._pending:
            if self.random.random() < keep:
                self._settle(change)
            else:
                lost = True
        self._pending.clear()
        self._names = {name: inode for name, inode in self._durable_names.items() if self._reachable(name)}
        self._directories = {name for name in self._durable_directories if self._reachable(name)}
        self._durable_names, self._durable_directories = dict(self._names), set(self._directories)
        if lost:
            self.faults["unsynced_lost"] += 1

    def kill(self) -> None:
        """All processes end; the system lives on, and with it every byte written (but none is durable for that)."""
        self._stop()

    def _stop(self) -> None:
        self._dead, self.cut_at, self.failing = False, 0, False
        self._promised.clear()
        self.is_awaited = False
        self._handles.clear()
        self._locks.clear()
        self.spent_ms = 0.0

    def flip(self, path: str, offset: int, bit: int = 0) -> bool:
        """One bit of a file turns over until it is written anew or put back; False if there is no such byte."""
        inode = self._names.get(path)
        if inode is None or offset >= len(inode.content):
            return False
        self._flips.setdefault((id(inode), offset), (inode, inode.content[offset]))
        inode.content[offset] ^= 1 << bit
        return True

    @property
    def is_damaged(self) -> bool:
        """Are there bits turned that were not written over since?"""
        return bool(self._flips)

    def put_back(self) -> None:
        """Every bit that was turned and not written over since is as it was."""
        for (_, offset), (inode, byte) in self._flips.items():
            if offset < len(inode.content):
                inode.content[offset] = byte
        self._flips.clear()

    def _put_back(self, inode: SectorFile, first: int, after: int) -> None:
        for key in [key for key in self._flips if key[0] == id(inode) and first <= key[1] < after]:
            inode.content[key[1]] = self._flips.pop(key)[1]

    def unsynced_bytes(self, directory: str) -> int:
        """How much written to files of `directory` isn't durable yet."""
        inodes = [inode for name, inode in self._names.items() if inode.unsynced and name.startswith(directory)]
        return sum(len(old) for inode in inodes for _, old, _ in inode.unsynced if not isinstance(old, int))

    def old_places(self, directory: str) -> Sequence["DurableWrite"]:
        """What was durable in files of `directory` before something else was written there that is durable too."""
        writes = [
            write for write in self.durable_writes if write.path.startswith(directory) and self._holds_data(write)
        ]
        last_written = max((write.written for write in writes), default=0)
        return [write for write in writes if write.durable < last_written]

    def _holds_data(self, write: "DurableWrite") -> bool:
        """Is there more than zero bytes, as when a file is filled ahead?"""
        inode = self._names.get(write.path)
        return inode is not None and any(inode.content[write.offset : write.offset + write.length])

    # --- inside ---

    def _flush(self, inode: SectorFile, path: str) -> None:
        self._spend()
        if self.failing:
            self.failing = False
            self.faults["flush_failed"] += 1
            inode.fail_sync()
            raise OSError(errno.EIO, "input/output error", path)

    def _spend(self) -> None:
        flush_ms = self.speed.flush_ms(self.random)
        if flush_ms > 20 * self.speed.usual_ms:
            self.faults["flush_slow"] += 1
        self.spent_ms += flush_ms

    def _settle(self, change: tuple[str, str, str, str | SectorFile | None]) -> None:
        """Make one change of names durable, as far as it still can be."""
        _, kind, name, other = change
        names = self._durable_names
        if kind == "make":
            self._durable_directories.add(name)
        elif kind == "unlink":
            names.pop(name, None)
        elif isinstance(other, SectorFile):
            names[name] = other
        elif isinstance(other, str) and name in names:
            names[other] = names.pop(name)

    def _reachable(self, name: str) -> bool:
        while name != ROOT:
            name = _parent(name)
            if name not in self._durable_directories:
                return False
        return True

    def _open_file(self, handle: int) -> tuple[SectorFile, str, Mode, bool]:
        self._alive()
        entry = self._handles.get(handle)
        if entry is None:
            raise OSError(errno.EBADF, f"handle {handle} is not open")
        return entry

    def _alive(self) -> None:
        if self._dead:
            raise PowerCut

    def _count(self) -> None:
        """One more call that changes something: does the power fail in it?"""
        self._alive()
        if self._promised:
            self.end_wait()
        self.calls += 1
        if self.calls == self.cut_at:
            self._dead = True
            raise PowerCut

    def _need_directory(self, path: str) -> None:
        if path not in self._directories:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)

    def _need_space(self, path: str) -> None:
        if self.full:
            self._refuse_space(path)

    def _refuse_space(self, path: str) -> None:
        self.faults["disk_full"] += 1
        raise OSError(errno.ENOSPC, "no space left on device", path)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
