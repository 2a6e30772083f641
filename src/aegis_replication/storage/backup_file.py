"""How does a snapshot look that was carried away? One file: whose state it is and of when, then the snapshot.

The snapshot's bytes are those of the node's own file, so that every checksum in them was made by the node.
"""

import os
from collections.abc import Iterator
from struct import Struct as Layout
from typing import Final
from zlib import crc32

import msgspec

from aegis_replication.errors import CorruptRecord, DiskFailed, IncompatibleVersion, StorageError
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.log import SnapshotMeta
from aegis_replication.storage.files import RealFiles, is_full
from aegis_replication.storage.snapshot_format import CHECKSUM, is_sealed, seal
from aegis_replication.storage.snapshot_reader import SnapshotReader

BACKUP_FORMAT_VERSION: Final = 1
_MAGIC: Final = b"AEGISBAK"
_HEAD = Layout("<8sHHI")  # magic, format version, 0, bytes of the description
_DESCRIPTION_BYTES_MAX: Final = 64 * 1024
_SYNC_EVERY_BYTES: Final = 8 * 1024 * 1024


class BackupHead(msgspec.Struct, frozen=True, gc=False):
    """What a backup says of itself. As JSON in the file; later fields have a default."""

    cluster: str
    node: NodeId  # who gave it out
    group: GroupId
    term: int
    index: int  # the last entry in it
    taken_unix_ms: int
    snapshot_bytes: int
    version: str  # of the program that wrote it


class BackupWriter:
    """A backup being written aside: `path` appears only when it is complete and verified."""

    def __init__(self, path: str, *, overwrite: bool = False) -> None:
        """Raises StorageError when there is such a file already and not `overwrite`."""
        if os.path.exists(path) and not overwrite:
            raise StorageError(f"{path} exists already: name another file, or ask for it to be overwritten (--force)")
        self.path, self._aside = path, f"{path}.part"
        self._files = RealFiles()
        self._handle = -1
        self._offset = self._synced = 0

    def begin(self, head: BackupHead) -> None:
        """Start, or start over."""
        self.drop()
        description = msgspec.json.encode(head)
        data = _HEAD.pack(_MAGIC, BACKUP_FORMAT_VERSION, 0, len(description)) + description
        try:
            self._handle = self._files.open(self._aside, "create")
        except OSError as error:
            raise StorageError(f"{self._aside}: {error.strerror}: name a file that can be written") from None
        self._offset = self._synced = 0
        self.append(seal(data))

    def append(self, data: bytes) -> None:
        """Add bytes of the snapshot's file. Raises DiskFailed."""
        try:
            self._files.pwritev(self._handle, (data,), self._offset)
            self._offset += len(data)
            if self._offset - self._synced >= _SYNC_EVERY_BYTES:
                self._files.sync(self._handle)
                self._synced = self._offset
        except OSError as error:
            full = " The disk is full: make room." if is_full(error) else ""
            raise DiskFailed(f"{self._aside}: the backup can't be written: {error}.{full}") from error

    def finish(self) -> None:
        """Verify all of it from the file, flush, name it, flush the name. Raises CorruptRecord or DiskFailed."""
        try:
            self._files.sync(self._handle)
            self._files.close(self._handle)
            self._handle = -1
            with BackupReader(self._aside) as backup:
                for _ in backup.pieces():
                    pass
            self._files.rename(self._aside, self.path)
            self._files.sync_directory(os.path.dirname(self.path) or ".")
        except OSError as error:
            raise DiskFailed(f"{self.path}: the backup can't be written: {error}") from error

    def drop(self) -> None:
        """Forget what isn't finished."""
        if self._handle >= 0:
            self._files.close(self._handle)
            self._handle = -1
        try:
            self._files.unlink(self._aside)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageError(f"{self._aside}: {error.strerror}: name a file that can be written") from None


class BackupReader:
    """A backup, its head verified; `pieces` verifies the rest while it gives it out. Use it in a `with` block."""

    def __init__(self, path: str) -> None:
        """Raises StorageError, CorruptRecord naming the place, or IncompatibleVersion."""
        self.path = path
        files = RealFiles()
        try:
            handle = files.open(path, "read")
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}: name a backup made by `aegis backup`") from None
        try:
            fixed = files.pread(handle, _HEAD.size, 0)
            self.head, self._start = self._read_head(fixed, files.pread(handle, _DESCRIPTION_BYTES_MAX, _HEAD.size))
            size = files.size(handle)
        finally:
            files.close(handle)
        expected = self._start + self.head.snapshot_bytes
        if size != expected:
            what = "it is cut off there" if size < expected else "something was added behind it"
            raise CorruptBackup(path, min(size, expected), f"{expected:,} bytes in all", f"{size:,}: {what}")
        try:
            self._snapshot = SnapshotReader(_Behind(self._start), path)
        except CorruptRecord as error:
            raise self._placed(error) from None
        if (self._snapshot.group, self.meta.id) != (self.head.group, (self.head.term, self.head.index)):
            raise CorruptBackup(path, self._start, f"the snapshot of its head, {self.head}", f"{self.meta.id}")
        if self._snapshot.cluster not in ("", self.head.cluster):
            of = f"one of cluster {self._snapshot.cluster}"
            raise CorruptBackup(path, self._start, f"a snapshot of its head's cluster {self.head.cluster}", of)

    def _read_head(self, fixed: bytes, rest: bytes) -> tuple[BackupHead, int]:
        if len(fixed) < _HEAD.size or not fixed.startswith(_MAGIC):
            raise CorruptBackup(self.path, 0, f"a backup beginning with {_MAGIC!r}", f"{fixed[:8]!r}")
        _, version, _, size = _HEAD.unpack(fixed)
        if version > BACKUP_FORMAT_VERSION:
            raise IncompatibleVersion(
                f"{self.path} is a backup of format {version}, this program knows 1 to {BACKUP_FORMAT_VERSION}: "
                "restore it with a later one"
            )
        head = fixed + rest[: size + CHECKSUM.size]
        if len(head) != _HEAD.size + size + CHECKSUM.size or not is_sealed(head):
            found = f"checksum {crc32(fixed + rest[:size]):08x}"
            raise CorruptBackup(self.path, 0, "a head with a right checksum", found)
        try:
            return msgspec.json.decode(rest[:size], type=BackupHead), len(head)
        except msgspec.MsgspecError as error:
            raise CorruptBackup(self.path, _HEAD.size, "a backup's description", str(error)) from None

    @property
    def meta(self) -> SnapshotMeta:
        """Up to where the state goes, and who were the members there."""
        return self._snapshot.meta

    @property
    def piece_count(self) -> int:
        return self._snapshot.piece_count

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return self._start + self.head.snapshot_bytes

    def pieces(self) -> Iterator[bytes]:
        """The machine's pieces in order, each verified, and all of them at the end. Raises CorruptRecord."""
        try:
            yield from self._snapshot.pieces()
        except CorruptRecord as error:
            raise self._placed(error) from None

    def _placed(self, error: CorruptRecord) -> CorruptRecord:
        return CorruptBackup(self.path, self._start + error.offset, error.expected, error.found)

    def close(self) -> None:
        """Give the file back."""
        self._snapshot.close()

    def __enter__(self) -> "BackupReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CorruptBackup(CorruptRecord):
    """A backup that isn't what was written; nothing was restored from it."""

    def __init__(self, path: str, offset: int, expected: str, found: str) -> None:
        super().__init__(path, offset, expected, found)
        self.args = (
            f"{path}: damaged at byte {offset}: expected {expected}, found {found}. Nothing was changed: take another "
            "copy of this backup, or an earlier one",
        )


def is_backup(path: str | os.PathLike[str]) -> bool:
    """Does the file say that it is one? Raises OSError when it can't be read."""
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


class _Behind(RealFiles):
    """A file as if it began a little later."""

    __slots__ = ("_start",)

    def __init__(self, start: int) -> None:
        super().__init__()
        self._start = start

    def size(self, handle: int) -> int:
        return super().size(handle) - self._start

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        return super().pread(handle, size, offset + self._start)
