"""How do all groups of a node share one log? Appending, flushing, recovering, and giving old segments free."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from zlib import crc32

from aegis_replication.errors import AegisError, CorruptRecord, DiskFailed, LimitExceeded
from aegis_replication.ids import GroupId
from aegis_replication.log import (
    NOTHING,
    HardState,
    LogWrite,
    RecoveredGroup,
    SnapshotMeta,
    frame_checksum,
)
from aegis_replication.storage.base import Identity
from aegis_replication.storage.files import Files
from aegis_replication.storage.live import LiveRecords
from aegis_replication.storage.records import (
    END_BYTES,
    HEADER_BYTES,
    BaseBody,
    FirstBody,
    HardStateBody,
    Position,
    RecordType,
    checksum_seed,
    encode_body,
    pack_header,
    padding,
    position_of,
    record_bytes,
)
from aegis_replication.storage.recovery import Chain, RecoveredRecords, replay
from aegis_replication.storage.room import Room
from aegis_replication.storage.segments import RECORDS_START, Segment, SegmentFiles


class Found(NamedTuple):
    """What was read of a log before anything is changed."""

    segments: list[int]
    chain: Chain
    groups: dict[GroupId, RecoveredRecords]


class Wal:
    """The log. `find` and `resume` come first, then writes; after an error of the disk every call raises DiskFailed.

    A full disk is no such error: DiskFull is raised, nothing is lost, and the same call may be made again.
    """

    __slots__ = (
        "_buffers",
        "_buffers_start",
        "_chunks",
        "_failed",
        "_files",
        "_flushed",
        "_is_gathered",
        "_last_type",
        "_lent",
        "_limit",
        "_offset",
        "_previous",
        "_retired",
        "_seed",
        "_unflushed",
        "chain",
        "current",
        "live",
        "room",
        "segments",
    )

    def __init__(self, files: Files, path: str, identity: Identity, segment_bytes: int) -> None:
        self._files = files
        self.segments = SegmentFiles(files, path, identity, segment_bytes)
        self._seed = checksum_seed(identity.log_incarnation)
        self.live = LiveRecords()
        self._failed: str | None = None
        # Ids of the log's segments, from the oldest needed one to the one being written; the recycler takes the oldest.
        self.chain: deque[int] = deque()
        # What comes after it, and whether the disk has room for that.
        self.room = Room(self.segments)
        self.current: Segment
        # Where the next record goes in the current segment, and the offset that records must not pass.
        self._offset = self._limit = RECORDS_START
        self._previous = 0  # checksum of the last record
        self._last_type = 0
        # Bytes gathered for the current segment and where they begin; and before them those for earlier segments.
        self._buffers: list[bytes] = []
        self._buffers_start = RECORDS_START
        self._chunks: list[tuple[Segment, int, list[bytes]]] = []
        # The last `write` was gathered, and found no room: it comes once more.
        self._is_gathered = False
        # All before it is on disk. Only rises. Invariant: flushed <= end.
        self._flushed: Position = 0
        # Segments with writes that wait for a sync, and the position up to which they were written.
        self._unflushed: dict[Segment, Position] = {}
        # Is a flush under way elsewhere? Its handles stay open: full and flushed segments wait to be closed.
        self._lent = False
        self._retired: list[Segment] = []

    # --- looking ---

    @property
    def has_failed(self) -> bool:
        return self._failed is not None

    @property
    def end(self) -> Position:
        """Where the next record goes."""
        return position_of(self.current.id, self._offset)

    @property
    def _written_to(self) -> Position:
        """All before it was handed to the system; what is gathered behind it waits, for room perhaps."""
        for segment, start, _ in self._chunks:
            return position_of(segment.id, start)
        return position_of(self.current.id, self._buffers_start if self._buffers else self._offset)

    @property
    def used_bytes(self) -> int:
        """How much of the current segment is written."""
        return self._offset

    @property
    def flushed_to(self) -> Position:
        """All before it is on disk."""
        return self._flushed

    @property
    def segment_count(self) -> int:
        """Files the log has: written, prepared and idle ones."""
        return len(self.chain) + len(self.room.ready) + self.segments.free_count + self.segments.has_reserve

    @property
    def allocated_bytes(self) -> int:
        return self.segment_count * self.segments.segment_bytes

    @property
    def room_bytes(self) -> int | None:
        """How much of entries may be written while the disk is full; None: it isn't."""
        return self.room.left_bytes(self._limit - self._offset)

    # --- beginning ---

    def create(self) -> None:
        """The first segment of a new log."""
        with self.using_disk("make the first segment"):
            while not self.segments.prepare_step(1):
                pass

    def is_fresh(self) -> bool:
        """Is there no record in it? What a crash left of an earlier `create` is removed."""
        return self.segments.remove_unused()

    def find(self) -> Found:
        """What the log holds; changes nothing. Raises CorruptRecord when there is damage."""
        segments = self.segments.find()
        if not segments:
            raise CorruptRecord(self.segments.path_of(1), 0, "a log with at least one segment", "no such file")
        chain = Chain(segments, self.segments.load, self._seed, self.segments.path_of)
        replayed = replay(chain, self.segments.path_of)
        first = replayed.first_segment
        if segments[0] > first:
            raise CorruptRecord(self.segments.path_of(first), 0, f"segment {first}, the log's first", "no such file")
        replayed.check_whole(self.segments.path_of)
        return Found(segments, chain, replayed.groups)

    def resume(self, found: Found, snapshots: Mapping[GroupId, SnapshotMeta]) -> dict[GroupId, RecoveredGroup]:
        """Cut off a torn tail, durably, and be ready to write; `snapshots` are the newest ones on disk.

        One that is newer than the log says is taken up: it was named, and then the node went down.
        """
        with self.using_disk("cut off the unfinished last write"):
            self._cut_tail(found.chain)
            self._enter_last(found.segments, found.chain)
        groups = {group: self._adopt(group, records) for group, records in sorted(found.groups.items())}
        newer = []
        for group, records in self.live.groups.items():
            on_disk = snapshots.get(group)
            if records.snapshot is not None and (on_disk is None or on_disk.index < records.snapshot.index):
                records.snapshot = groups[group].snapshot = on_disk  # gone, and not needed: the log reaches behind it
        for group, meta in sorted(snapshots.items()):
            held = self.live.of(group).snapshot
            if held is None or held.index < meta.index:
                newer.append(LogWrite(group, 0, snapshot=meta))
        if newer:
            self._take_up(newer, groups)
        return groups

    def _cut_tail(self, chain: Chain) -> None:
        """Zero what lies behind the log's end up to the last header that could be taken for a record, durably.

        Left in place, a record of the cut tail could seem to follow once the gap before it is written again.
        """
        first, start = chain.end >> 32, chain.end & 0xFFFF_FFFF
        ends: dict[int, int] = {}
        for header in chain.leftovers:
            ends[header.segment] = max(ends.get(header.segment, 0), header.end)
        for segment, end in sorted(ends.items()):
            begin = start if segment == first else RECORDS_START
            handle = self._files.open(self.segments.path_of(segment), "write")
            try:
                self._files.pwritev(handle, (bytes(end - begin),), begin)
                self._files.sync(handle)
            finally:
                self._files.close(handle)

    def _enter_last(self, segments: Sequence[int], chain: Chain) -> None:
        """Go on writing where the chain ends."""
        current = chain.end >> 32
        self.chain = deque(segment for segment in segments if segment <= current)
        self.room.ready = deque(segment for segment in segments if segment > current)
        self._enter(self.segments.open(current), chain.end & 0xFFFF_FFFF)
        self._previous, self._last_type = chain.previous or 0, chain.last_type
        self._flushed = chain.end

    def _adopt(self, group: GroupId, found: RecoveredRecords) -> RecoveredGroup:
        """Open the account of a group with what was replayed of it."""
        records = self.live.of(group)
        if found.hard_state is not None:
            self.live.place_hard_state(records, found.hard_state, *found.hard_place)
        if found.base_place[1]:
            body = BaseBody(group, found.base.term, found.base.index, True, found.snapshot)
            self.live.place_base(records, body, *found.base_place)
        group_found = found.as_group()
        for entry in group_found.entries:
            self.live.place_entry(records, *found.entries[entry.index])
        return group_found

    def _take_up(self, newer: list[LogWrite], groups: dict[GroupId, RecoveredGroup]) -> None:
        """Snapshots that were named before the log said so."""
        writes = []
        for write in newer:
            meta = write.snapshot
            assert meta is not None, f"group {write.group}: no snapshot to take up"
            group = groups.setdefault(write.group, RecoveredGroup(HardState(), NOTHING, []))
            if group.hard_state.term < meta.term:
                # Its term was accepted, unvoted, in the same breath: no vote in it can have been given (Figure 2).
                group.hard_state = HardState(meta.term)
                write = LogWrite(write.group, 0, hard_state=group.hard_state, snapshot=meta)
            writes.append(write)
        self.write(writes, durable=True)
        for write in writes:
            group, records = groups[write.group], self.live.of(write.group)
            kept = len(records.places)
            group.entries = group.entries[len(group.entries) - kept :]
            group.base, group.snapshot = records.base, records.snapshot

    # --- writing ---

    def write(self, writes: Sequence[LogWrite], *, durable: bool) -> None:
        """Append all of them, in as few calls as there are segments; on disk on return if `durable`.

        After DiskFull the next call must be with the same writes: it goes on where this one stopped.
        """
        self.check_alive()
        room = self.room.segment_bytes - HEADER_BYTES
        for write in writes:
            for entry in write.entries:
                if len(entry.frame) > room:
                    raise LimitExceeded(f"entry {entry.index} of group {write.group}", len(entry.frame), room)
        with self.using_disk("write the log"):
            if not self._is_gathered:
                self.room.prepare(writes, self.end, self._limit)
                for write in writes:
                    self._put_write(write)
                self._is_gathered = True
            self.spill(durable=durable)
            self._is_gathered = False

    def _put_write(self, write: LogWrite) -> None:
        live = self.live
        records = live.of(write.group)
        if write.snapshot is not None or write.forget_below:
            base = records.base_after(write)
            if base is not None:
                live.place_base(records, base, *self.put_value(RecordType.BASE, base))
        state = write.hard_state
        if state is not None:
            body = HardStateBody(write.group, state.term, state.voted_for)
            live.place_hard_state(records, state, *self.put_value(RecordType.HARD_STATE, body))
        for entry in write.entries:
            frame = entry.frame
            position, size = self.put(RecordType.FRAME, frame, frame_checksum(frame))
            live.place_entry(records, entry, position, size)

    def put_value(self, type_: RecordType, body: HardStateBody | BaseBody | FirstBody) -> tuple[Position, int]:
        data = encode_body(body)
        return self.put(type_, data, crc32(data))

    def put(self, type_: int, body: bytes, body_checksum: int, flags: int = 0) -> tuple[Position, int]:
        """Gather one record; its position and size. Goes to the next segment when this one has no room."""
        size = record_bytes(len(body))
        if self._offset + size > self._limit:
            self._go_on()
        position = self.current.id << 32 | self._offset
        self._gather(position, type_, body, body_checksum, flags)
        self._offset += size
        return position, size

    def _gather(self, position: Position, type_: int, body: bytes, body_checksum: int, flags: int) -> None:
        header, self._previous = pack_header(
            self._seed, position, type_, flags, self._flushed, self._previous, body, body_checksum
        )
        self._last_type = type_
        self._buffers.append(header)
        if body:
            self._buffers.append(body)
        pad = padding(len(body))
        if pad:
            self._buffers.append(pad)

    def _go_on(self) -> None:
        """End the current segment and begin the next; a frame never lies in two.

        The next one has its name before this one says that the log goes on there.
        """
        if not self.room.ready:
            self.room.prepare_next(self.current.id)
        self._gather(self.end, RecordType.END, b"", 0, 0)
        self._offset += END_BYTES
        self._chunks.append((self.current, self._buffers_start, self._buffers))
        self._buffers = []
        segment = self.room.ready.popleft()
        self.chain.append(segment)
        self._enter(self.segments.open(segment), RECORDS_START)

    def _enter(self, segment: Segment, offset: int) -> None:
        self.current, self._offset, self._buffers_start = segment, offset, offset
        self._limit = segment.size - END_BYTES

    def spill(self, *, durable: bool) -> None:
        """Hand what was gathered to its segments, in one call each, and flush if `durable`.

        A durable handle makes only its own write durable, so it serves only where nothing else waits in the file.
        What finds no room stays gathered, and is written anew by the next call: no flush has claimed it.
        """
        chunks = self._chunks
        if self._buffers:
            chunks.append((self.current, self._buffers_start, self._buffers))
            self._buffers, self._buffers_start = [], self._offset
        while chunks:
            segment, start, buffers = chunks[0]
            is_plain = not durable or len(chunks) > 1 or segment in self._unflushed
            try:
                self._files.pwritev(segment.plain if is_plain else segment.durable, buffers, start)
            except OSError as error:
                raise self.room.note_full(error) from error
            if is_plain:
                self._unflushed[segment] = position_of(segment.id, start + sum(map(len, buffers)))
            del chunks[0]
        if durable:
            self._sync()

    def _sync(self) -> None:
        end = self.end
        for segment in self._unflushed:
            self._files.sync(segment.plain)
        self._settle(end)

    # --- flushing ---

    def flush(self) -> None:
        """All written so far is on disk on return."""
        self.check_alive()
        with self.using_disk("flush the log"):
            self.spill(durable=True)

    def unflushed(self) -> tuple[list[int], Position]:
        """Handles whose flush makes durable all that was written so far, and the position to tell `flushed` then."""
        self.check_alive()
        self._lent = bool(self._unflushed)
        return [segment.plain for segment in self._unflushed], self._written_to

    def flushed(self, position: Position) -> None:
        """All before `position` is on disk: the flush asked for with it has ended."""
        self._lent = False
        self._settle(position)

    def _settle(self, position: Position) -> None:
        self._flushed = max(self._flushed, position)
        for segment in [segment for segment, written in self._unflushed.items() if written <= position]:
            del self._unflushed[segment]
            if segment is not self.current:
                self._retired.append(segment)
        while self._retired and not self._lent:
            self.segments.close(self._retired.pop())

    def regain(self) -> None:
        """See whether a full disk has room again: for what is gathered, the reserve, the next segment. Or DiskFull."""
        self.spill(durable=False)
        self.room.regain(self.current.id)

    def mark(self) -> None:
        """Write and flush a record that says that all before it was flushed; nothing when the last record is one."""
        self.check_alive()
        if self._last_type == RecordType.MARK and not self._chunks:
            return
        with self.using_disk("write the log"):
            self.spill(durable=True)
            if self._last_type != RecordType.MARK:
                self.put(RecordType.MARK, b"", 0)
                self.spill(durable=True)

    def fail(self, why: str) -> DiskFailed:
        """Nothing may be written or acknowledged any more; the error to raise."""
        self._failed = self._failed or why
        return DiskFailed(self._failed)

    def check_alive(self) -> None:
        if self._failed is not None:
            raise DiskFailed(self._failed)

    @contextmanager
    def using_disk(self, what: str) -> Iterator[None]:
        """Any error in here is final: what the disk holds is no longer known, and a second flush would lie."""
        try:
            yield
        except OSError as error:
            raise self.fail(f"{self.segments.path}: the disk refused to {what}: {error}") from error
        except AegisError:
            raise
        except BaseException as error:
            self.fail(f"{self.segments.path}: could not {what}: {error!r}")
            raise

    def close(self) -> None:
        """Close all handles; makes nothing durable."""
        self.segments.stop()
        if self.chain:
            for segment in {*self._unflushed, *self._retired, self.current}:
                self.segments.close(segment)
        self._unflushed.clear()
        self._retired.clear()
