"""How does a group's state survive without its log? Snapshot files: written aside, verified, named, one kept per group.

`<group>-<term>-<index>.snap` is complete and durable; `.tmp` is being written, `.part` being received, perhaps again
after a restart. A file says nothing of the node that wrote it, so that the same bytes can be sent to a peer.
docs/data-files.md draws it.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Final
from zlib import crc32

from aegis_replication.errors import (
    CorruptRecord,
    DiskFailed,
    DiskFull,
    LimitExceeded,
    StorageError,
    WrongIdentity,
)
from aegis_replication.ids import GroupId
from aegis_replication.log import EntryId, SnapshotMeta
from aegis_replication.storage.files import Files, is_full
from aegis_replication.storage.snapshot_arrival import Arrival
from aegis_replication.storage.snapshot_format import (
    HEAD,
    PIECE,
    PIECE_BYTES_MAX,
    TRAILER,
    TRAILER_BYTES,
    check_owner,
    pack_head,
    seal,
)
from aegis_replication.storage.snapshot_reader import SnapshotReader

_SYNC_EVERY_BYTES: Final = 8 * 1024 * 1024  # so that the last flush is short
_READ_BYTES: Final = 1024 * 1024
_DOUBTS_MAX: Final = 3  # damaged portions in a row, after which all that came before them is in doubt, too
_NAME = re.compile(r"(\d{1,10})-(\d{1,20})-(\d{1,20})\.(snap|tmp|part)")


def snapshot_name(group: GroupId, snapshot: EntryId, kind: str = "snap") -> str:
    """The file's name; made of numbers only, so nothing that comes from a peer can lead elsewhere."""
    return f"{group}-{snapshot.term}-{snapshot.index}.{kind}"


class _Appending:
    """A file that only grows, flushed now and then, named at the end."""

    __slots__ = ("_files", "_synced", "handle", "path", "size")

    def __init__(self, files: Files, path: str, *, is_there: bool = False) -> None:
        """`is_there`: a file of that name is written on, from wherever `size` is set to."""
        self._files, self.path = files, path
        if not is_there:
            with contextlib.suppress(FileNotFoundError):
                files.unlink(path)
        self.handle = files.open(path, "write" if is_there else "create")
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
            self._file.append([seal(trailer)])
            self._store.publish(self._group, self._meta, self._file)
        return self._file.size

    def abort(self) -> None:
        """Forget what was written."""
        self._file.drop()


class _Receiving:
    """A peer's snapshot, coming in."""

    __slots__ = ("arrival", "doubts", "file", "is_found_again", "meta", "total_bytes")

    def __init__(self, file: _Appending, meta: SnapshotMeta, total_bytes: int, arrival: Arrival) -> None:
        self.file, self.meta, self.total_bytes, self.arrival = file, meta, total_bytes, arrival
        self.is_found_again = False  # after a power cut: the file's name is flushed
        self.doubts = 0  # how often what came was damaged, since the last that was good


class FileHold:
    """A snapshot's open file: deleted or not, it can be read to its end."""

    __slots__ = ("_files", "_handle", "path", "size")

    def __init__(self, files: Files, path: str) -> None:
        self._files, self.path = files, path
        self._handle = files.open(path, "read")
        self.size = files.size(self._handle)

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` raw bytes at `offset`. Raises DiskFailed."""
        try:
            return self._files.pread(self._handle, size, offset)
        except OSError as error:
            raise DiskFailed(f"{self.path}: can't be read: {error}") from error

    def close(self) -> None:
        """Give the file back."""
        self._files.close(self._handle)


class FileSnapshots:
    """The snapshots of all groups of one node, in one directory."""

    def __init__(self, files: Files, path: str, *, cluster: str = "") -> None:
        """`cluster` names whose snapshots these are: another one's are refused. "": any."""
        self._files, self.path, self.cluster = files, path, cluster
        self._newest: dict[GroupId, SnapshotMeta] = {}
        self._sizes: dict[GroupId, int] = {}
        self._receiving: dict[GroupId, _Receiving] = {}
        # What a former process had of a peer's snapshot, by its file's name: nothing in it is trusted unread.
        self._parts: dict[GroupId, EntryId] = {}

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
            if match is None or match[4] == "snap":
                continue
            group, part = int(match[1]), EntryId(int(match[2]), int(match[3]))
            newest = self._newest.get(group)
            is_wanted = match[4] == "part" and (newest is None or newest.index < part.index)
            if is_wanted and group not in self._parts:
                self._parts[group] = part
            else:
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
        part = self._parts.get(group)
        if part is not None and part.index <= meta.index:
            self._drop_part(group)

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

    def hold(self, group: GroupId, snapshot: EntryId) -> FileHold | None:
        """A snapshot kept readable until the hold is closed; None when it is gone already."""
        try:
            return FileHold(self._files, self.path_of(group, snapshot))
        except FileNotFoundError:
            return None

    def receive(self, group: GroupId, meta: SnapshotMeta, offset: int, total_bytes: int, data: bytes) -> int:
        """Take raw bytes of a peer's file, verified as they come; the offset wanted next.

        `total_bytes` comes back when all of it is there and good: `keep_received` makes it this node's newest. A
        damaged part is wanted again. Another snapshot takes the place of the one that was coming, at its offset 0.
        Raises WrongIdentity for another cluster's or group's, DiskFull without room, DiskFailed: nothing of it is left.
        """
        with self._all_or_nothing(group):
            return self._receive(group, meta, offset, total_bytes, data)

    def _receive(self, group: GroupId, meta: SnapshotMeta, offset: int, total_bytes: int, data: bytes) -> int:
        coming = self._receiving.get(group)
        if coming is None or coming.meta != meta or coming.total_bytes != total_bytes:
            if offset != 0 or total_bytes < HEAD.size + TRAILER_BYTES:
                return 0
            coming = self._begin_receiving(group, meta, total_bytes)
        file, arrival = coming.file, coming.arrival
        if offset != file.size or offset + len(data) > total_bytes:
            return file.size
        is_good = arrival.take(data)
        coming.doubts = 0 if is_good else coming.doubts + 1
        if not arrival.taken or coming.doubts > _DOUBTS_MAX:
            self._give_up(group)
            return 0
        if arrival.taken > file.size:  # all of it, or the good part
            file.put([data[: arrival.taken - file.size]])
        else:
            file.cut(arrival.taken)
        return file.size

    def _begin_receiving(
        self, group: GroupId, meta: SnapshotMeta, total_bytes: int, *, is_there: bool = False
    ) -> _Receiving:
        self._give_up(group)
        if not is_there:
            self._drop_part(group)
        path = self.path_of(group, meta.id, "part")
        where = f"the snapshot {meta.id.term}:{meta.id.index} that the leader of group {group} sends"
        arrival = Arrival(where, group, meta, total_bytes, cluster=self.cluster)
        coming = _Receiving(_Appending(self._files, path, is_there=is_there), meta, total_bytes, arrival)
        self._receiving[group] = coming
        return coming

    def can_resume(self, group: GroupId, meta: SnapshotMeta) -> bool:
        """Is there a part of this snapshot that a former process of this node was sent?"""
        return self._parts.get(group) == meta.id and group not in self._receiving

    def resume(self, group: GroupId, meta: SnapshotMeta, total_bytes: int) -> int:
        """Take up what `can_resume`, as far as it is good, and say how far; all of it is read, perhaps in a thread."""
        with self._all_or_nothing(group):
            coming = self._begin_receiving(group, meta, total_bytes, is_there=True)
            del self._parts[group]  # from now on it is the file of what is received
            file, arrival = coming.file, coming.arrival
            self._files.forget_cached(file.handle)  # or what a failed flush didn't write could look as if it were there
            offset, end = 0, self._files.size(file.handle)
            while offset < end <= total_bytes:
                data = self._files.pread(file.handle, _READ_BYTES, offset)
                offset += len(data)
                if not data or not arrival.take(data):
                    break
            arrival.begin_at_verified()
            file.cut(arrival.verified)
            if not arrival.verified:
                self._give_up(group)
            return arrival.verified

    def _drop_part(self, group: GroupId) -> None:
        part = self._parts.pop(group, None)
        if part is not None:
            with contextlib.suppress(OSError):  # it goes at the next start then
                self._files.unlink(self.path_of(group, part, "part"))

    def unflushed_received(self, group: GroupId) -> int:
        """How many bytes of what comes in wait for a flush."""
        coming = self._receiving.get(group)
        return coming.file.unflushed_bytes if coming is not None else 0

    def flush_received(self, group: GroupId) -> None:
        """Flush what has come so far; may be called in another thread."""
        coming = self._receiving.get(group)
        if coming is not None:
            with self._all_or_nothing(group):
                coming.file.sync()
                if not coming.is_found_again:
                    self._files.sync_directory(self.path)
                    coming.is_found_again = True

    def keep_received(self, group: GroupId) -> None:
        """Flush, name and make durable what `receive` has found whole; may be called in another thread."""
        coming = self._receiving[group]
        assert coming.arrival.is_whole, f"{coming.file.path} is not whole: {coming.arrival.verified} bytes are good"
        with self._all_or_nothing(group):
            self.publish(group, coming.meta, coming.file)
        del self._receiving[group]

    @contextlib.contextmanager
    def _all_or_nothing(self, group: GroupId) -> Iterator[None]:
        """After an error nothing is left of what came: what isn't flushed may be gone, and a full disk needs the room.

        Raises DiskFull, or DiskFailed for any other error of the disk.
        """
        try:
            yield
        except OSError as error:
            coming = self._receiving.get(group)
            what = f"{coming.file.path if coming else self.path}: a peer's snapshot can't be kept: {error}"
            self._give_up(group)
            raise (DiskFull(f"{what}. Make room on it") if is_full(error) else DiskFailed(what)) from error
        except WrongIdentity:
            self._give_up(group)
            raise

    def _give_up(self, group: GroupId) -> None:
        coming = self._receiving.pop(group, None)
        if coming is not None:
            coming.file.drop()

    def close(self) -> None:
        """Close what is half received; the next process goes on with it."""
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
