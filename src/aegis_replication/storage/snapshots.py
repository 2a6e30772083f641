"""How does a group's state survive without its log? Snapshot files: written aside, verified, named, one kept per group.

`<group>-<term>-<index>.snap` is complete and durable; `.tmp` is being written, `.part` being received. A file says
nothing of the node that wrote it, so that the same bytes can be sent to a peer. docs/data-files.md draws it.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Final
from zlib import crc32

import msgspec

from aegis_replication.errors import (
    CorruptRecord,
    DiskFailed,
    IncompatibleVersion,
    LimitExceeded,
    StorageError,
    WrongIdentity,
)
from aegis_replication.ids import GroupId
from aegis_replication.log import EntryId, SnapshotMeta
from aegis_replication.storage.base import FORMAT_VERSION
from aegis_replication.storage.files import Files, is_full
from aegis_replication.storage.snapshot_arrival import Arrival
from aegis_replication.storage.snapshot_format import (
    CHECKSUM,
    HEAD,
    MAGIC,
    META_BYTES_MAX,
    PIECE,
    PIECE_BYTES_MAX,
    TRAILER,
    TRAILER_BYTES,
    check_owner,
    pack_head,
    unpack_meta,
)

_SYNC_EVERY_BYTES: Final = 8 * 1024 * 1024  # so that the last flush is short
_NAME = re.compile(r"(\d{1,10})-(\d{1,20})-(\d{1,20})\.(snap|tmp|part)")


def snapshot_name(group: GroupId, snapshot: EntryId, kind: str = "snap") -> str:
    """The file's name; made of numbers only, so nothing that comes from a peer can lead elsewhere."""
    return f"{group}-{snapshot.term}-{snapshot.index}.{kind}"


class SnapshotReader:
    """A snapshot file, its head verified; `pieces` verifies the rest while it gives it out."""

    def __init__(self, files: Files, path: str) -> None:
        """Raises CorruptRecord for a damaged head or a missing trailer, IncompatibleVersion for a later format."""
        self._files, self.path = files, path
        self._handle = files.open(path, "read")
        try:
            self.size = files.size(self._handle)
            self.group, self.meta, self.cluster, self._head = self._read_head()
            self.piece_count, self.piece_bytes, self._whole = self._read_trailer()
        except BaseException:
            self.close()
            raise

    def _read_head(self) -> tuple[GroupId, SnapshotMeta, str, bytes]:
        fixed = self._files.pread(self._handle, HEAD.size, 0)
        if len(fixed) < HEAD.size or not fixed.startswith(MAGIC):
            raise CorruptRecord(self.path, 0, f"a snapshot beginning with {MAGIC!r}", f"{fixed[:8]!r}")
        _, version, _, group, meta_bytes = HEAD.unpack(fixed)
        if version > FORMAT_VERSION:
            raise IncompatibleVersion(
                f"{self.path} has format {version}, this program knows 1 to {FORMAT_VERSION}: upgrade it"
            )
        rest = self._files.pread(self._handle, min(meta_bytes, META_BYTES_MAX) + CHECKSUM.size, HEAD.size)
        head, stored = fixed + rest[: -CHECKSUM.size], rest[-CHECKSUM.size :]
        if len(head) != HEAD.size + meta_bytes or CHECKSUM.pack(crc32(head)) != stored:
            raise CorruptRecord(self.path, 0, "a head with a right checksum", f"checksum {crc32(head):08x}")
        try:
            return group, *unpack_meta(rest[: -CHECKSUM.size]), head + stored
        except msgspec.MsgspecError as error:
            raise CorruptRecord(self.path, HEAD.size, "a snapshot's meta", str(error)) from None

    def _read_trailer(self) -> tuple[int, int, int]:
        start = self.size - TRAILER_BYTES
        data = self._files.pread(self._handle, TRAILER_BYTES, start) if start >= len(self._head) else b""
        if len(data) < TRAILER_BYTES or CHECKSUM.pack(crc32(data[: TRAILER.size])) != data[TRAILER.size :]:
            raise CorruptRecord(self.path, max(start, 0), "a trailer with a right checksum", f"{len(data)} bytes, none")
        _, _, count, piece_bytes, whole = TRAILER.unpack_from(data)
        if len(self._head) + count * PIECE.size + piece_bytes != start:
            raise CorruptRecord(self.path, start, f"{count} pieces of {piece_bytes} bytes", f"{self.size} bytes in all")
        return count, piece_bytes, whole

    def pieces(self) -> Iterator[bytes]:
        """The pieces in order, each verified; after the last one the whole is. Raises CorruptRecord where it is not."""
        offset, whole, count = len(self._head), crc32(self._head), 0
        end = self.size - TRAILER_BYTES
        while offset < end:
            head = self._files.pread(self._handle, PIECE.size, offset)
            size, checksum = PIECE.unpack(head)
            if not 0 < size <= min(end - offset - PIECE.size, PIECE_BYTES_MAX):
                raise CorruptRecord(self.path, offset, f"piece {count} of {self.piece_count}", f"one of {size} bytes")
            piece = self._files.pread(self._handle, size, offset + PIECE.size)
            if crc32(piece) != checksum:
                raise CorruptRecord(
                    self.path, offset, f"piece {count} with checksum {checksum:08x}", f"{crc32(piece):08x}"
                )
            whole = crc32(head, whole)
            offset, count = offset + PIECE.size + size, count + 1
            yield piece
        if (count, whole) != (self.piece_count, self._whole):
            raise CorruptRecord(
                self.path, end, f"{self.piece_count} pieces, {self._whole:08x}", f"{count}, {whole:08x}"
            )

    def close(self) -> None:
        """Give the file back."""
        if self._handle >= 0:
            self._files.close(self._handle)
            self._handle = -1


class _Appending:
    """A file that only grows, flushed now and then, named at the end."""

    __slots__ = ("_files", "_synced", "handle", "path", "size")

    def __init__(self, files: Files, path: str) -> None:
        self._files, self.path = files, path
        with contextlib.suppress(FileNotFoundError):
            files.unlink(path)
        self.handle = files.open(path, "create")
        self.size = self._synced = 0

    def append(self, buffers: list[bytes]) -> None:
        self.put(buffers)
        if self.unflushed_bytes >= _SYNC_EVERY_BYTES:
            self.sync()

    def put(self, buffers: list[bytes]) -> None:
        """Append, and leave it to others when that is flushed."""
        self._files.pwritev(self.handle, buffers, self.size)
        self.size += sum(map(len, buffers))

    def cut(self, size: int) -> None:
        """What lies behind `size` is written again."""
        self.size, self._synced = size, min(self._synced, size)

    @property
    def unflushed_bytes(self) -> int:
        return self.size - self._synced

    def sync(self) -> None:
        size = self.size
        self._files.sync(self.handle)
        self._synced = size

    def close(self) -> None:
        if self.handle >= 0:
            self._files.close(self.handle)
            self.handle = -1

    def drop(self) -> None:
        self.close()
        with contextlib.suppress(OSError):  # it goes at the next start then
            self._files.unlink(self.path)


class FileSnapshotWriter:
    """A snapshot of one's own state; `flush` and `finish` may be called in another thread."""

    __slots__ = ("_bytes", "_file", "_group", "_meta", "_pieces", "_store", "_whole")

    def __init__(self, store: "FileSnapshots", group: GroupId, meta: SnapshotMeta, file: _Appending) -> None:
        self._store, self._group, self._meta, self._file = store, group, meta, file
        head = pack_head(group, meta, store.cluster)
        self._file.append([head])
        self._whole, self._pieces, self._bytes = crc32(head), 0, 0

    def write(self, chunk: bytes) -> None:
        """Append one piece; raises DiskFailed when there is no room: abort it then, the log is still whole."""
        if not chunk:
            return
        if len(chunk) > PIECE_BYTES_MAX:
            raise LimitExceeded("a piece of a snapshot", len(chunk), PIECE_BYTES_MAX)
        head = PIECE.pack(len(chunk), crc32(chunk))
        self._whole = crc32(head, self._whole)
        self._pieces += 1
        self._bytes += len(chunk)
        with writing_snapshot(self._file.path):
            self._file.append([head, chunk])

    def flush(self) -> None:
        """Flush what was written so far; may be called in another thread while nothing is written."""
        with writing_snapshot(self._file.path):
            self._file.sync()

    def finish(self) -> int:
        """Flush, name and make durable; the size in bytes."""
        trailer = TRAILER.pack(0, 0, self._pieces, self._bytes, self._whole)
        with writing_snapshot(self._file.path):
            self._file.append([trailer, CHECKSUM.pack(crc32(trailer))])
            self._store.publish(self._group, self._meta, self._file)
        return self._file.size

    def abort(self) -> None:
        """Forget what was written."""
        self._file.drop()


class _Receiving:
    """A peer's snapshot, coming in."""

    __slots__ = ("arrival", "file", "meta", "total_bytes")

    def __init__(self, file: _Appending, meta: SnapshotMeta, total_bytes: int, arrival: Arrival) -> None:
        self.file, self.meta, self.total_bytes, self.arrival = file, meta, total_bytes, arrival


class FileSnapshots:
    """The snapshots of all groups of one node, in one directory."""

    def __init__(self, files: Files, path: str, *, cluster: str = "") -> None:
        """`cluster` names whose snapshots these are: another one's are refused. "": any."""
        self._files, self.path, self.cluster = files, path, cluster
        self._newest: dict[GroupId, SnapshotMeta] = {}
        self._sizes: dict[GroupId, int] = {}
        self._receiving: dict[GroupId, _Receiving] = {}

    def find(self) -> dict[GroupId, SnapshotMeta]:
        """The newest snapshot of each group; changes nothing.

        Raises CorruptRecord when a newest one is damaged: the log no longer reaches back behind it, WrongIdentity when
        it is another cluster's or group's.
        """
        for group, ids in sorted(self._named().items()):
            newest = max(ids, key=lambda id_: (id_.index, id_.term))
            reader = SnapshotReader(self._files, self.path_of(group, newest))
            reader.close()
            check_owner(
                reader.path,
                group=group,
                cluster=self.cluster,
                found_group=reader.group,
                found_cluster=reader.cluster,
            )
            if reader.meta.id != newest:
                raise CorruptRecord(reader.path, 0, "the snapshot that the name says", f"{reader.meta.id}")
            self._newest[group], self._sizes[group] = reader.meta, reader.size
        return dict(self._newest)

    def _named(self) -> dict[GroupId, list[EntryId]]:
        found: dict[GroupId, list[EntryId]] = {}
        for name in self._files.list(self.path):
            match = _NAME.fullmatch(name)
            if match is not None and match[4] == "snap":
                found.setdefault(int(match[1]), []).append(EntryId(int(match[2]), int(match[3])))
        return found

    def tidy(self) -> None:
        """After `find`: names that were seen are durable, and what a crash left behind is gone."""
        self._files.sync_directory(self.path)
        for name in self._files.list(self.path):
            match = _NAME.fullmatch(name)
            if match is not None and match[4] != "snap":
                self._files.unlink(f"{self.path}/{name}")
        for group, ids in sorted(self._named().items()):
            self._drop_older(group, ids)

    def path_of(self, group: GroupId, snapshot: EntryId, kind: str = "snap") -> str:
        """The file of a snapshot, complete or in the making."""
        return f"{self.path}/{snapshot_name(group, snapshot, kind)}"

    def _drop_older(self, group: GroupId, snapshots: list[EntryId]) -> None:
        for snapshot in snapshots:
            if snapshot != self._newest[group].id:
                with contextlib.suppress(FileNotFoundError):
                    self._files.unlink(self.path_of(group, snapshot))

    @property
    def total_bytes(self) -> int:
        """What the named snapshots take."""
        return sum(self._sizes.values())

    # --- one's own ---

    def create(self, group: GroupId, meta: SnapshotMeta) -> FileSnapshotWriter:
        """Begin a snapshot of one's own state."""
        path = self.path_of(group, meta.id, "tmp")
        with writing_snapshot(path):
            return FileSnapshotWriter(self, group, meta, _Appending(self._files, path))

    def publish(self, group: GroupId, meta: SnapshotMeta, file: _Appending) -> None:
        """A complete file: flush, name, flush the name; only then do older ones go."""
        file.sync()
        file.close()
        self._files.rename(file.path, self.path_of(group, meta.id))
        self._files.sync_directory(self.path)
        before = self._newest.get(group)
        if before is not None and before.index > meta.index:
            self._drop_older(group, [meta.id])
            return
        self._newest[group], self._sizes[group] = meta, file.size
        if before is not None:
            self._drop_older(group, [before.id])

    def newest(self, group: GroupId) -> SnapshotMeta | None:
        """Which snapshot of the group is on disk, complete and named."""
        return self._newest.get(group)

    def chunks(self, group: GroupId, snapshot: EntryId) -> Iterator[bytes]:
        """The machine's pieces of a snapshot, verified as they are read. Raises CorruptRecord when damaged."""
        path = self.path_of(group, snapshot)
        try:
            reader = SnapshotReader(self._files, path)
        except FileNotFoundError:
            raise StorageError(f"{path}: no such snapshot: a newer one has taken its place") from None
        try:
            yield from reader.pieces()
        finally:
            reader.close()

    # --- to and from peers ---

    def read(self, group: GroupId, snapshot: EntryId, offset: int, size: int) -> tuple[bytes, int]:
        """Up to `size` raw bytes of the file at `offset`, and its total size; (b"", 0) when it is gone."""
        try:
            handle = self._files.open(self.path_of(group, snapshot), "read")
        except FileNotFoundError:
            return b"", 0
        try:
            return self._files.pread(handle, size, offset), self._files.size(handle)
        except OSError as error:
            raise DiskFailed(f"{self.path_of(group, snapshot)}: can't be read: {error}") from error
        finally:
            self._files.close(handle)

    def receive(self, group: GroupId, meta: SnapshotMeta, offset: int, total_bytes: int, data: bytes) -> int:
        """Take raw bytes of a peer's file, verified as they come; the offset wanted next.

        `total_bytes` comes back when all of it is there and good: `keep_received` makes it this node's newest. A
        damaged part is wanted again. Another snapshot takes the place of the one that was coming, at its offset 0.
        Raises WrongIdentity for another cluster's or group's; DiskFailed.
        """
        coming = self._receiving.get(group)
        with writing_snapshot(self.path_of(group, meta.id, "part")):
            if coming is None or coming.meta != meta or coming.total_bytes != total_bytes:
                if offset != 0 or total_bytes < HEAD.size + TRAILER_BYTES:
                    return 0
                coming = self._begin_receiving(group, meta, total_bytes)
            file, arrival = coming.file, coming.arrival
            if offset != file.size or offset + len(data) > total_bytes:
                return file.size
            try:
                arrival.take(data)
                if arrival.taken > file.size:  # all of it, or the good part
                    file.put([data[: arrival.taken - file.size]])
                elif arrival.taken:
                    file.cut(arrival.taken)
                else:
                    self._give_up(group)
                    return 0
            except (WrongIdentity, OSError):
                self._give_up(group)
                raise
            return file.size

    def _begin_receiving(self, group: GroupId, meta: SnapshotMeta, total_bytes: int) -> _Receiving:
        self._give_up(group)
        path = self.path_of(group, meta.id, "part")
        where = f"the snapshot {meta.id.term}:{meta.id.index} that the leader of group {group} sends"
        arrival = Arrival(where, group, meta, total_bytes, cluster=self.cluster)
        coming = _Receiving(_Appending(self._files, path), meta, total_bytes, arrival)
        self._receiving[group] = coming
        return coming

    def unflushed_received(self, group: GroupId) -> int:
        """How many bytes of what comes in wait for a flush."""
        coming = self._receiving.get(group)
        return coming.file.unflushed_bytes if coming is not None else 0

    def flush_received(self, group: GroupId) -> None:
        """Flush what has come so far; may be called in another thread."""
        coming = self._receiving.get(group)
        if coming is not None:
            with writing_snapshot(coming.file.path):
                coming.file.sync()

    def keep_received(self, group: GroupId) -> None:
        """Flush, name and make durable what `receive` has found whole; may be called in another thread."""
        coming = self._receiving.pop(group)
        assert coming.arrival.is_whole, f"{coming.file.path} is not whole: {coming.arrival.verified} bytes are good"
        with writing_snapshot(coming.file.path):
            self.publish(group, coming.meta, coming.file)

    def _give_up(self, group: GroupId) -> None:
        coming = self._receiving.pop(group, None)
        if coming is not None:
            coming.file.drop()

    def close(self) -> None:
        """Close what is half received; it goes at the next start."""
        for coming in self._receiving.values():
            coming.file.close()
        self._receiving.clear()


@contextlib.contextmanager
def writing_snapshot(path: str) -> Iterator[None]:
    """Errors of the disk as DiskFailed. What is unnamed is worth nothing yet, so nothing is lost by them."""
    try:
        yield
    except OSError as error:
        full = " The disk is full: make room." if is_full(error) else ""
        raise DiskFailed(f"{path}: the snapshot can't be written: {error}.{full}") from error
