"""Which calls of the operating system does storage make? All of them, without any policy, and what each makes durable.

`RealFiles` is the disk; the simulator has a second implementation that loses, tears and flips what isn't durable yet.

What survives a power cut:

* the bytes of a `pwritev` on a handle opened with `dsync=True`, and the file size they need: when the call returned;
* the bytes of any other `pwritev`, and the file size they need: when a `sync` of that file (through any handle of it)
  that began after the write has returned; before that, any subset of their 512-byte sectors in any order;
* a name that was made, renamed or removed: when a `sync_directory` of its directory, begun afterwards, has returned;
  before that the old or the new state of each name, independently. `rename` onto an existing name is atomic;
* the order of anything that isn't durable yet: nothing.

Every call raises OSError when the system refuses; after a refused write or sync nothing is known of the bytes.
"""

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

Mode: TypeAlias = Literal["read", "write", "create"]

_BUFFERS_MAX = 1000  # below IOV_MAX of every system (1,024)
_ZEROS_BYTES = 1024 * 1024
_OWNER_BYTES = 20
_CANT_ALLOCATE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)  # this system or file system knows no such call


class Files(Protocol):
    """The calls themselves. A handle is a small int, valid until closed; paths are strings, parts joined with '/'."""

    def make_directory(self, path: str) -> None:
        """Make one directory (0700) unless it is there; its parent must be."""

    def list(self, path: str) -> list[str]:
        """The names in a directory, sorted; FileNotFoundError when there is no such directory."""

    def open(self, path: str, mode: Mode, *, dsync: bool = False) -> int:
        """A handle to read ("read"), to read and write ("write": must exist) or of a new empty file ("create", 0600).

        FileNotFoundError and FileExistsError say what stands against it. With `dsync` each write is durable on return.
        The same file may be open several times.
        """

    def close(self, handle: int) -> None:
        """Give the handle back; makes nothing durable."""

    def size(self, handle: int) -> int:
        """The file's length in bytes."""

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        """Exactly `size` bytes at `offset`, fewer only where the file ends."""

    def forget_cached(self, handle: int) -> None:
        """Later reads of clean pages come from the disk itself: after a failed flush a kernel may keep in memory, as if
        written, what never reached it."""

    def pwritev(self, handle: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        """Write all buffers one after another at `offset`; the file grows when they reach past its end."""

    def allocate(self, handle: int, size: int) -> None:
        """The file has `size` bytes from now on, new ones zero, and room for them: to write there needs no other.

        That holds on file systems that write in place; where each write takes new blocks, it may still be refused.
        """

    def sync(self, handle: int) -> None:
        """All bytes written to this file so far, through whichever handle, are durable on return."""

    def rename(self, source: str, target: str) -> None:
        """Give a file another name in the same directory; what had that name is gone."""

    def unlink(self, path: str) -> None:
        """Remove a name; FileNotFoundError when there is none."""

    def sync_directory(self, path: str) -> None:
        """All names made, renamed or removed in this directory so far are durable on return."""

    def lock(self, path: str, owner: bytes | None) -> int:
        """A handle that holds the file's lock until closed or its process ends; BlockingIOError when another does.

        The file is made if missing and then holds `owner`. None: a lock for readers (many at once, excludes an owner)
        that writes nothing and needs the file to be there.
        """

    def filesystem(self, path: str) -> str:
        """The type of the file system that holds `path`, such as "ext4"; "unknown" when it can't be told."""


class RealFiles:
    """The operating system's own files."""

    __slots__ = ("_sync_after_write",)

    def __init__(self) -> None:
        # Handles whose writes must be followed by a sync, where the system has no O_DSYNC that reaches the platter.
        self._sync_after_write: set[int] = set()

    def make_directory(self, path: str) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)

    def list(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def open(self, path: str, mode: Mode, *, dsync: bool = False) -> int:
        flags = _FLAGS[mode] | _FLAGS_ALWAYS
        if dsync and _DSYNC:
            flags |= _DSYNC
        handle = os.open(path, flags, 0o600)
        if dsync and not _DSYNC:
            self._sync_after_write.add(handle)
        return handle

    def close(self, handle: int) -> None:
        self._sync_after_write.discard(handle)
        os.close(handle)

    def size(self, handle: int) -> int:
        return os.fstat(handle).st_size

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        data = _pread(handle, size, offset)
        if len(data) == size or not data:
            return data
        parts = [data]
        missing = size - len(data)
        while missing and (data := _pread(handle, missing, offset + size - missing)):
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def forget_cached(self, handle: int) -> None:
        if sys.platform == "linux":
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)

    def pwritev(self, handle: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        if len(buffers) > _BUFFERS_MAX:
            buffers = (b"".join(buffers),)
        total = sum(map(len, buffers))
        written = _pwritev(handle, buffers, offset)
        if written < total:  # allowed by POSIX, seen when a disk is nearly full
            rest = memoryview(b"".join(buffers))[written:]
            while rest:
                written = _pwritev(handle, (rest,), offset + total - len(rest))
                rest = rest[written:]
        if handle in self._sync_after_write:
            self.sync(handle)

    def allocate(self, handle: int, size: int) -> None:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(handle, 0, size)
                return
            except OSError as error:
                if error.errno not in _CANT_ALLOCATE:
                    raise
        for offset in range(self.size(handle), size, _ZEROS_BYTES):
            self.pwritev(handle, (bytes(min(_ZEROS_BYTES, size - offset)),), offset)

    def sync(self, handle: int) -> None:
        sync_descriptor(handle)

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def sync_directory(self, path: str) -> None:
        if sys.platform == "win32":
            return  # a directory can't be opened there, and NTFS journals its names
        handle = os.open(path, os.O_RDONLY | _FLAGS_ALWAYS)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def lock(self, path: str, owner: bytes | None) -> int:
        flags = os.O_RDONLY if owner is None else os.O_RDWR | os.O_CREAT
        handle = os.open(path, flags | _FLAGS_ALWAYS, 0o600)
        try:
            _take_lock(handle, shared=owner is None)
            if owner is not None:  # in place: a file that is cut first may find no room again on a full disk
                _pwritev(handle, (owner.ljust(_OWNER_BYTES),), 0)
        except BaseException:
            os.close(handle)
            raise
        return handle

    def filesystem(self, path: str) -> str:
        try:
            with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
                rows = [line.split() for line in mounts]
        except OSError:
            return "unknown"
        real = os.path.realpath(path)
        best, kind = "", "unknown"
        for row in rows:
            point = row[1].replace("\\040", " ")
            inside = real == point or real.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, row[2]
        return kind


_FLAGS: dict[Mode, int] = {"read": os.O_RDONLY, "write": os.O_RDWR, "create": os.O_RDWR | os.O_CREAT | os.O_EXCL}
# Never inherited by children, never translated line ends, never through a link that someone planted.
_FLAGS_ALWAYS: int = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
# On macOS O_DSYNC stops at the drive's cache, so a write there is followed by F_FULLFSYNC instead.
_DSYNC: int = 0 if sys.platform in ("darwin", "win32") else getattr(os, "O_DSYNC", 0)


if sys.platform == "win32":

    def sync_descriptor(descriptor: int) -> None:
        """Make durable all that was written to the file behind a descriptor."""
        os.fsync(descriptor)

    def _pread(handle: int, size: int, offset: int) -> bytes:
        os.lseek(handle, offset, os.SEEK_SET)
        return os.read(handle, size)

    def _pwritev(handle: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        os.lseek(handle, offset, os.SEEK_SET)
        return os.write(handle, b"".join(buffers))

    def _take_lock(handle: int, *, shared: bool) -> None:
        # Far behind the owner's id, because a locked byte can't be read by others there.
        os.lseek(handle, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(error.errno, "locked") from None

elif sys.platform == "darwin":

    def sync_descriptor(descriptor: int) -> None:
        """Make durable all that was written to the file behind a descriptor."""
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)

    _pread, _pwritev = os.pread, os.pwritev

    def _take_lock(handle: int, *, shared: bool) -> None:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)

else:

    def sync_descriptor(descriptor: int) -> None:
        """Make durable all that was written to the file behind a descriptor."""
        os.fdatasync(descriptor)

    _pread, _pwritev = os.pread, os.pwritev

    def _take_lock(handle: int, *, shared: bool) -> None:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def is_full(error: OSError) -> bool:
    """Does the error say that there is no room left?"""
    return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
