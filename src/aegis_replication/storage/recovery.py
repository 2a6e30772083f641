"""What does the log hold after a crash? Where it ends, whether a torn tail or damage is there, what is each group's."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from aegis_replication.errors import CorruptRecord, IncompatibleVersion, ProtocolError
from aegis_replication.ids import GroupId, LogIndex
from aegis_replication.log import NOTHING, Entry, EntryId, HardState, RecoveredGroup, SnapshotMeta, read_frame_header
from aegis_replication.storage.records import (
    CARRIED,
    HEADER_BYTES,
    BaseBody,
    Body,
    FirstBody,
    HardStateBody,
    Header,
    Position,
    RecordType,
    body_fault,
    decode_body,
    follows,
    later_headers,
    position_of,
    read_header,
    record_bytes,
    show_position,
)
from aegis_replication.storage.segments import RECORDS_START

Load = Callable[[int], bytes]


class ChainRecord(NamedTuple):
    """One whole and verified record."""

    header: Header
    body: bytes

    @property
    def position(self) -> Position:
        return position_of(self.header.segment, self.header.offset)

    @property
    def size(self) -> int:
        return record_bytes(self.header.body_bytes)


class Chain:
    """The records of consecutive segments from the first on, each proved by the one before; iterate once.

    Afterwards `end` is where the next record belongs, `previous` the last one's checksum (None: there is none) and
    `last_type` its type, `fault` what was expected and found at `end`, and `leftovers` all headers behind it that were
    written for where they stand.
    """

    def __init__(self, segments: Sequence[int], load: Load, seed: int, path_of: Callable[[int], str]) -> None:
        self._segments, self._load, self._seed, self._path_of = segments, load, seed, path_of
        self.end: Position = position_of(segments[0], RECORDS_START)
        self.previous: int | None = None
        self.last_type = 0
        self.fault = ("", "")
        self.leftovers: list[Header] = []

    def __iter__(self) -> Iterator[ChainRecord]:
        for count, segment in enumerate(self._segments, start=1):
            data = self._load(segment)
            offset = RECORDS_START
            while offset == RECORDS_START or self.last_type != RecordType.END:
                header = self._believe(segment, data, offset)
                if header is None:
                    self.end = position_of(segment, offset)
                    self.leftovers = later_headers(self._seed, segment, data, offset)
                    for later in self._segments[count:]:
                        self.leftovers += later_headers(self._seed, later, self._load(later), RECORDS_START)
                    return
                start = offset + HEADER_BYTES
                yield ChainRecord(header, data[start : start + header.body_bytes])
                self.previous, self.last_type, offset = header.checksum, header.type, header.end
        # A segment's end is written only after the next one has its name.
        segment = self._segments[-1]
        raise CorruptRecord(
            self._path_of(segment + 1), 0, f"the segment in which the log goes on after {segment}", "no such file"
        )

    def _believe(self, segment: int, data: bytes, offset: int) -> Header | None:
        """The header of the whole record at `offset`; else None, and `fault` says what is wrong with it."""
        header = read_header(self._seed, segment, data, offset)
        if header is None:
            found = data[offset : offset + HEADER_BYTES]
            self.fault = ("the next record's header", found.hex() if any(found) else "zero bytes")
            return None
        if not follows(header, self.previous):
            self.fault = (
                f"a record that follows checksum {self.previous or 0:08x}",
                f"one after {header.previous:08x}",
            )
            return None
        fault = body_fault(header, data)
        if fault is not None:
            self.fault = fault
            return None
        return header


def is_damage(end: Position, leftovers: Sequence[Header]) -> Header | None:
    """A later record whose writer had flushed past `end`, so that the bytes there were good once; None: a torn tail.

    That valid records follow proves nothing: unflushed writes reach the disk in any order.
    """
    return next((header for header in leftovers if header.flushed_before > end), None)


class RecoveredRecords:
    """One group as its records tell it, before gaps are looked for."""

    __slots__ = ("base", "base_place", "entries", "hard_place", "hard_state", "highest", "snapshot")

    def __init__(self) -> None:
        self.hard_state: HardState | None = None
        self.hard_place: tuple[Position, int] = (0, 0)
        self.base: EntryId = NOTHING
        self.snapshot: SnapshotMeta | None = None
        self.base_place: tuple[Position, int] = (0, 0)
        # Index -> the entry, and where its record stands. May have holes until a record carried forward fills them.
        self.entries: dict[LogIndex, tuple[Entry, Position, int]] = {}
        self.highest: LogIndex = 0

    def as_group(self) -> RecoveredGroup:
        """What a node begins with. Of records without a hole."""
        entries = [self.entries[index][0] for index in range(self.base.index + 1, self.highest + 1)]
        return RecoveredGroup(self.hard_state or HardState(), self.base, entries, self.snapshot)

    def drop_from(self, index: LogIndex) -> None:
        """Forget the entries at and after `index`."""
        for gone in range(index, self.highest + 1):
            self.entries.pop(gone, None)
        self.highest = min(self.highest, index - 1)


class Replay:
    """Takes the log's records in their order and keeps what is left of each group."""

    __slots__ = ("first_segment", "groups")

    def __init__(self) -> None:
        self.groups: dict[GroupId, RecoveredRecords] = {}
        # The lowest segment that the log needs, as it says itself.
        self.first_segment = 1

    def of(self, group: GroupId) -> RecoveredRecords:
        """The group's records; a new group has none."""
        return self.groups.setdefault(group, RecoveredRecords())

    def take(self, record: ChainRecord, value: Entry | Body | None) -> None:
        """The next record, whose body says `value`."""
        if isinstance(value, Entry):
            self._take_entry(self.of(read_frame_header(value.frame).group), value, record)
        elif isinstance(value, HardStateBody):
            records = self.of(value.group)
            records.hard_state = HardState(value.term, value.voted_for)
            records.hard_place = (record.position, record.size)
        elif isinstance(value, BaseBody):
            self._take_base(self.of(value.group), value, record)
        elif isinstance(value, FirstBody):
            self.first_segment = value.segment

    def _take_entry(self, records: RecoveredRecords, entry: Entry, record: ChainRecord) -> None:
        if not record.header.flags & CARRIED and entry.index <= records.highest:
            records.drop_from(entry.index)  # it took their place when it was written (§5.3)
        records.entries[entry.index] = (entry, record.position, record.size)
        records.highest = max(records.highest, entry.index)

    def _take_base(self, records: RecoveredRecords, body: BaseBody, record: ChainRecord) -> None:
        if body.reset:
            records.entries.clear()
            records.highest = 0
        for gone in [index for index in records.entries if index <= body.index]:
            del records.entries[gone]
        records.highest = max(records.highest, body.index)
        records.base, records.snapshot = EntryId(body.term, body.index), body.snapshot
        records.base_place = (record.position, record.size)

    def check_whole(self, path_of: Callable[[int], str]) -> None:
        """Raises CorruptRecord when a group lacks an entry between its base and its last one."""
        for group, records in sorted(self.groups.items()):
            for index in range(records.base.index + 1, records.highest + 1):
                if index not in records.entries:
                    after = min((at for at in records.entries if at > index), default=0)
                    position = records.entries[after][1] if after else records.base_place[0]
                    raise CorruptRecord(
                        path_of(position >> 32),
                        position & 0xFFFF_FFFF,
                        f"entry {index} of group {group}, which begins after {records.base.index}",
                        f"entry {after} and nothing before it",
                    )


def replay(chain: Chain, path_of: Callable[[int], str]) -> Replay:
    """All that a chain says; raises CorruptRecord when it ends in damage, or lacks a part. Changes nothing."""
    found = Replay()
    for record in chain:
        path, offset = path_of(record.header.segment), record.header.offset
        try:
            value = decode_body(record.header.type, record.body)
        except ProtocolError as error:
            raise CorruptRecord(path, offset, "an entry", str(error)) from None
        except IncompatibleVersion as error:
            raise IncompatibleVersion(f"{path} at byte {offset}: {error}: upgrade it") from None
        found.take(record, value)
    witness = is_damage(chain.end, chain.leftovers)
    if witness is not None:
        expected, what = chain.fault
        raise CorruptRecord(
            path_of(chain.end >> 32),
            chain.end & 0xFFFF_FFFF,
            f"{expected} (record {show_position(position_of(witness.segment, witness.offset))} shows that all before "
            f"{show_position(witness.flushed_before)} was flushed)",
            what,
        )
    return found
