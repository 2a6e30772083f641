"""How does a node keep everything in one directory? Identity, lock, log and snapshots together (docs/data-files.md)."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from zlib import crc32

import msgspec

from aegis_replication.errors import (
    AegisError,
    CorruptRecord,
    DirectoryInUse,
    DiskFailed,
    DiskFull,
    IncompatibleVersion,
    StorageError,
    WrongIdentity,
)
from aegis_replication.ids import GroupId
from aegis_replication.log import LogWrite, RecoveredGroup, SnapshotMeta
from aegis_replication.storage.base import FORMAT_VERSION, Identity, StorageStats
from aegis_replication.storage.files import Files, RealFiles
from aegis_replication.storage.flush_policy import FlushPolicy
from aegis_replication.storage.recycling import Recycler
from aegis_replication.storage.segments import SEGMENT_BYTES
from aegis_replication.storage.snapshots import FileSnapshots, snapshot_name
from aegis_replication.storage.wal import Found, Wal

IDENTITY_NAME: Final = "identity"
LOCK_NAME: Final = "lock"
LOG_NAME: Final = "log"
SNAPSHOTS_NAME: Final = "snapshots"
_IDENTITY_BYTES_MAX: Final = 4096


class DirectoryStorage:
    """A data directory, locked by this process from `open` to `close`."""

    def __init__(self, files: Files, path: str, identity: Identity, lock: int, segment_bytes: int) -> None:
        """Use `open`."""
        self.path, self.identity = path, identity
        self.flushes = FlushPolicy()
        self.snapshots = FileSnapshots(files, f"{path}/{SNAPSHOTS_NAME}", cluster=identity.cluster)
        self._files, self._lock = files, lock
        self._wal = Wal(files, f"{path}/{LOG_NAME}", identity, segment_bytes)
        self._recycler = Recycler(files, self._wal)
        self._recovered = False

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        identity: Identity | None = None,
        *,
        files: Files | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> "DirectoryStorage":
        """Lock a data directory and check whose it is; with `identity` a new one is made where there is none.

        The incarnation of a directory is drawn once: when it exists, its own counts and the one in `identity` doesn't.
        Raises DirectoryInUse, WrongIdentity or IncompatibleVersion, or StorageError when it can't be used otherwise.
        """
        root = os.fspath(path)
        files = files or RealFiles()
        with storage_errors(root):
            if identity is not None:
                _make_directories(files, root)
            lock = take_lock(files, root, owner=str(os.getpid()).encode())
        try:
            with storage_errors(root):
                if identity is not None and read_identity(files, root) is None:
                    _create(files, root, identity, segment_bytes)
                found = known_identity(files, root)
                if identity is not None:
                    check_identity(root, found, identity)
            return cls(files, root, found, lock, segment_bytes)
        except BaseException:
            files.close(lock)
            raise

    # --- the contract; storage/base.py says what each does ---

    def recover(self) -> dict[GroupId, RecoveredGroup]:
        """What the directory holds, once, before the first write. Changes nothing when it raises CorruptRecord."""
        assert not self._recovered, f"{self.path} was recovered before"
        with storage_errors(self.path):
            newest = self.snapshots.find()
            found = self._wal.find()
            self._check_reach(found, newest)
            try:
                groups = self._wal.resume(found, newest)
            except DiskFull as error:
                raise self._wal.fail(f"{error}, then start this node again") from error
            self.snapshots.tidy()
        self._recovered = True
        return groups

    def _check_reach(self, found: Found, newest: dict[GroupId, SnapshotMeta]) -> None:
        """What a log has forgotten must be in a snapshot."""
        for group, records in sorted(found.groups.items()):
            on_disk = newest.get(group)
            if records.base.index > (on_disk.index if on_disk else 0):
                named = records.snapshot.id if records.snapshot else records.base
                raise CorruptRecord(
                    f"{self.snapshots.path}/{snapshot_name(group, named)}",
                    0,
                    f"the snapshot of group {group} before entry {records.base.index + 1}, where its log begins",
                    f"none later than entry {on_disk.index if on_disk else 0}",
                )

    @property
    def notes(self) -> Sequence[str]:
        return self._wal.notes

    def write(self, writes: Sequence[LogWrite], *, durable: bool) -> None:
        self._wal.write(writes, durable=durable)

    @property
    def room_bytes(self) -> int | None:
        return self._wal.room_bytes

    def flush(self) -> None:
        self._wal.flush()

    def unflushed(self) -> tuple[Sequence[int], int]:
        return self._wal.unflushed()

    def flushed(self, position: int) -> None:
        self._wal.flushed(position)

    def fail(self, why: str) -> DiskFailed:
        return self._wal.fail(f"{self.path}: {why}")

    def mark(self) -> None:
        self._wal.mark()

    def maintain(self) -> bool:
        return self._recycler.step()

    def stats(self) -> StorageStats:
        wal, flushes = self._wal, self.flushes
        median_ms, p99_ms = flushes.percentiles_ms()
        free_bytes, size_bytes = self._files.space(self.path)
        return StorageStats(
            flushes=flushes.count,
            flush_p50_ms=round(median_ms, 3),
            flush_p99_ms=round(p99_ms, 3),
            flush_mode=flushes.mode,
            live_bytes=wal.live.total_bytes + self.snapshots.total_bytes,
            allocated_bytes=wal.allocated_bytes + self.snapshots.total_bytes,
            segments=wal.segment_count,
            filesystem=self._files.filesystem(self.path),
            full=wal.room.full,
            reserve_bytes=wal.segments.segment_bytes if wal.segments.has_reserve else 0,
            free_bytes=free_bytes,
            size_bytes=size_bytes,
        )

    def close(self) -> None:
        """Mark the log's end, so that a later damage of the last batch is known as one, and give the directory free."""
        if self._lock < 0:
            return
        try:
            if self._recovered and not self._wal.has_failed:
                with contextlib.suppress(DiskFull):  # then a later damage of the last batch looks like a torn write
                    self._wal.mark()
        finally:
            self._recycler.stop()
            self._wal.close()
            self.snapshots.close()
            self._files.close(self._lock)
            self._lock = -1


# --- the directory itself -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def storage_errors(path: str) -> Iterator[None]:
    """What the system refuses, as a StorageError that names the path."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{error.filename or path}: {error.strerror or error}: check the path and its rights"
        ) from error


def _make_directories(files: Files, root: str) -> None:
    try:
        files.make_directory(root)
    except FileNotFoundError:
        parent = parent_of(root)
        if parent in (root, "."):
            raise
        _make_directories(files, parent)
        files.make_directory(root)
        files.sync_directory(parent_of(parent))


def take_lock(files: Files, root: str, *, owner: bytes | None) -> int:
    """The handle that holds the directory's lock; raises DirectoryInUse, naming the process that holds it."""
    path = f"{root}/{LOCK_NAME}"
    try:
        return files.lock(path, owner)
    except BlockingIOError:
        pass
    handle = files.open(path, "read")
    try:
        holder = files.pread(handle, 20, 0).decode("ascii", "replace").strip()
    finally:
        files.close(handle)
    raise DirectoryInUse(
        f"{root} is in use by process {holder or 'unknown'}: stop that one first, or give this node another directory"
    )


def create_from_snapshots(path: str, identity: Identity, fill: Callable[[FileSnapshots], None]) -> None:
    """Make a new data directory whose log begins after the snapshots that `fill` saves in it.

    Until all of it is durable it has no identity, and no node starts on it. Raises StorageError when it isn't new.
    """
    files = RealFiles()
    with storage_errors(path):
        _make_directories(files, path)
        lock = take_lock(files, path, owner=str(os.getpid()).encode())
        try:
            _create(files, path, identity, SEGMENT_BYTES, fill)
        finally:
            files.close(lock)


def _create(
    files: Files,
    root: str,
    identity: Identity,
    segment_bytes: int,
    fill: Callable[[FileSnapshots], None] = lambda snapshots: None,
) -> None:
    """A new data directory. The identity comes last: a directory that has one is complete."""
    log, snapshots = f"{root}/{LOG_NAME}", f"{root}/{SNAPSHOTS_NAME}"
    files.make_directory(log)
    files.make_directory(snapshots)
    wal = Wal(files, log, identity, segment_bytes)
    if files.list(snapshots) or not wal.is_fresh():
        raise StorageError(
            f"{root} holds a log or snapshots, but no identity: put its file '{IDENTITY_NAME}' back, or name another "
            "directory"
        )
    wal.create()
    fill(FileSnapshots(files, snapshots, cluster=identity.cluster))
    files.sync_directory(root)
    write_identity(files, root, identity)
    files.sync_directory(parent_of(root))


def parent_of(path: str) -> str:
    """The directory in which `path` has its name; of a bare name that is the working directory."""
    return os.path.dirname(path.rstrip(os.sep)) or ("/" if path.startswith(os.sep) else ".")


def write_identity(files: Files, root: str, identity: Identity) -> None:
    """Write the identity file aside, flush it, name it, flush the name."""
    path, aside = f"{root}/{IDENTITY_NAME}", f"{root}/{IDENTITY_NAME}.tmp"
    with contextlib.suppress(FileNotFoundError):
        files.unlink(aside)
    first = identity.first_incarnation
    line = msgspec.json.encode(
        {
            "format_version": identity.format_version,
            "cluster": identity.cluster,
            "node": identity.node,
            "incarnation": f"{identity.incarnation:016x}",
            **({"joins": True} if identity.joins else {}),
            **({"first_incarnation": f"{first:016x}"} if first else {}),
        }
    )
    handle = files.open(aside, "create")
    try:
        files.pwritev(handle, (line + b"\n" + f"crc32 {crc32(line):08x}\n".encode(),), 0)
        files.sync(handle)
    finally:
        files.close(handle)
    files.rename(aside, path)
    files.sync_directory(root)


def read_identity(files: Files, root: str) -> Identity | None:
    """Whose directory this is; None when it has no identity file.

    Raises IncompatibleVersion for a later format and CorruptRecord when the file isn't as it was written.
    """
    path = f"{root}/{IDENTITY_NAME}"
    try:
        handle = files.open(path, "read")
    except FileNotFoundError:
        return None
    try:
        text = files.pread(handle, _IDENTITY_BYTES_MAX, 0)
    finally:
        files.close(handle)
    line, _, rest = text.partition(b"\n")
    try:
        fields: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
        version = int(fields["format_version"])
        if version > FORMAT_VERSION:
            raise IncompatibleVersion(
                f"{root} has format {version}, this program knows 1 to {FORMAT_VERSION}: start a later program on it"
            )
        if rest != f"crc32 {crc32(line):08x}\n".encode():
            raise ValueError(f"checksum {crc32(line):08x}, the file says {rest[:40]!r}")
        incarnation, joins = int(fields["incarnation"], 16), bool(fields.get("joins", False))
        first = int(fields.get("first_incarnation", "0"), 16)
        return Identity(str(fields["cluster"]), str(fields["node"]), incarnation, version, joins, first)
    except AegisError:
        raise
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise CorruptRecord(path, 0, "one line of JSON and its checksum", str(error)) from None


def known_identity(files: Files, root: str) -> Identity:
    """Whose directory this is; raises StorageError when it is nobody's."""
    found = read_identity(files, root)
    if found is None:
        raise StorageError(f"{root} holds no identity: it isn't the data directory of a node")
    return found


def check_identity(root: str, found: Identity, wanted: Identity) -> None:
    """Raises WrongIdentity, naming both, when the directory is another node's or another cluster's."""
    if (found.cluster, found.node) != (wanted.cluster, wanted.node):
        raise WrongIdentity(
            f"{root} belongs to node {found.node} of cluster {found.cluster}, not to node {wanted.node} of cluster "
            f"{wanted.cluster}: name the right directory, or the right node"
        )
