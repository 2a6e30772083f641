"""What is replicated? Entries as opaque frames, and one group's log in memory with its durable mark (Raft §5.3)."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from enum import IntEnum
from itertools import accumulate
from operator import attrgetter
from struct import Struct as Layout
from typing import NamedTuple
from zlib import crc32

import msgspec

from aegis_replication.errors import IncompatibleVersion, ProtocolError
from aegis_replication.ids import GroupId, LogIndex, NodeId, Term

FORMAT_LOWEST = 1
FORMAT_HIGHEST = 2
"""The formats that this program reads and writes. A frame names its own, and with it the rules by which its commands
are applied (2: the results that sessions remember are bounded by bytes). A leader writes the one that its group's
configuration names, so that all replicas turn to a new one at the same entry.
"""


def check_format(format: int, whose: str) -> None:
    """Can this program go on where entries of `format` were written? Raises IncompatibleVersion."""
    if format > FORMAT_HIGHEST:
        raise IncompatibleVersion(
            f"{whose} writes format {format}, this program knows {FORMAT_LOWEST} to {FORMAT_HIGHEST}: use a later one"
        )


_FIELDS = Layout("<BBHIQQQII")  # version, kind, flags, group, term, index, stamp, count, payload length
_CHECKSUM = Layout("<I")
FRAME_HEADER_BYTES = _FIELDS.size + _CHECKSUM.size


class Kind(IntEnum):
    """What a frame's payload is."""

    NO_OP = 0
    COMMANDS = 1
    CONFIGURATION = 2
    CONTROL = 3


class EntryId(NamedTuple):
    """An entry's identity: two logs that hold the same id are equal up to there. Compares by term,
    then index (§5.4.1).
    """

    term: Term
    index: LogIndex  # type: ignore[assignment]  # an entry's index, not tuple.index


NOTHING = EntryId(0, 0)
"""The id of the empty log's end."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One batch of commands, made once by a leader; `frame` is the same bytes on every wire and in every log."""

    term: Term
    index: LogIndex
    kind: int
    count: int  # how many commands the payload holds
    stamp: int  # the leader's hybrid-clock time, ms << 16 | logical: every replica's clock for expiry and versions
    frame: bytes

    @property
    def id(self) -> EntryId:
        return EntryId(self.term, self.index)

    @property
    def payload(self) -> memoryview:
        return memoryview(self.frame)[FRAME_HEADER_BYTES:]

    @property
    def format(self) -> int:
        return self.frame[0]


def make_entry(
    group: GroupId,
    term: Term,
    index: LogIndex,
    kind: int,
    payload: bytes,
    *,
    count: int = 0,
    stamp: int = 0,
    format: int = FORMAT_LOWEST,
) -> Entry:
    """A new entry with its frame: header, checksum of header and payload, payload."""
    fields = _FIELDS.pack(format, kind, 0, group, term, index, stamp, count, len(payload))
    frame = b"".join((fields, _CHECKSUM.pack(crc32(payload, crc32(fields))), payload))
    return Entry(term, index, kind, count, stamp, frame)


class FrameHeader(NamedTuple):
    """What a frame says of itself, before its payload is looked at."""

    version: int
    kind: int
    flags: int
    group: GroupId
    term: Term
    index: LogIndex  # type: ignore[assignment]
    stamp: int
    count: int  # type: ignore[assignment]
    payload_bytes: int


def read_frame_header(data: bytes | memoryview, offset: int = 0) -> FrameHeader:
    """The header at `offset`; unchecked, so that a reader can find the frame's end. Needs
    FRAME_HEADER_BYTES bytes there.
    """
    return FrameHeader(*_FIELDS.unpack_from(data, offset))


def decode_entry(frame: bytes, *, group: GroupId | None = None) -> Entry:
    """The entry of a whole frame, its checksum verified once.

    Raises ProtocolError for a frame that is cut, damaged or of another group, IncompatibleVersion for a newer format.
    """
    if len(frame) < FRAME_HEADER_BYTES:
        raise ProtocolError(f"a frame of {len(frame)} bytes: a header alone has {FRAME_HEADER_BYTES}")
    version, kind, flags, of_group, term, index, stamp, count, payload_bytes = _FIELDS.unpack_from(frame)
    if not FORMAT_LOWEST <= version <= FORMAT_HIGHEST:
        raise IncompatibleVersion(
            f"a frame of format {version}: this program knows {FORMAT_LOWEST} to {FORMAT_HIGHEST}"
        )
    if payload_bytes != len(frame) - FRAME_HEADER_BYTES:
        raise ProtocolError(
            f"frame {term}:{index} says {payload_bytes} bytes of payload, has {len(frame) - FRAME_HEADER_BYTES}"
        )
    (expected,) = _CHECKSUM.unpack_from(frame, _FIELDS.size)
    view = memoryview(frame)
    found = crc32(view[FRAME_HEADER_BYTES:], crc32(view[: _FIELDS.size]))
    if found != expected:
        raise ProtocolError(f"frame {term}:{index} has checksum {found:08x}, says {expected:08x}")
    if group is not None and of_group != group:
        raise ProtocolError(f"frame {term}:{index} belongs to group {of_group}, came for group {group}")
    if kind > Kind.CONTROL or flags or not term or not index:
        raise ProtocolError(f"frame {term}:{index} of kind {kind} with flags {flags}: no leader makes such a frame")
    return Entry(term, index, kind, count, stamp, frame)


def frame_checksum(frame: bytes) -> int:
    """The checksum a frame carries (not verified here)."""
    checksum: int = _CHECKSUM.unpack_from(frame, _FIELDS.size)[0]
    return checksum


# --- what storage is told and tells back ----------------------------------------------------------------------------


class HardState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a replica must never forget (Figure 2, "Persistent state")."""

    term: Term = 0
    voted_for: NodeId | None = None


class SnapshotMeta(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Which state a snapshot holds: everything up to and including entry `index`,
    and the configuration in force there.
    """

    term: Term
    index: LogIndex
    stamp: int  # of the last entry in it, so that a clock made of stamps goes on from there
    configuration: bytes  # payload of the configuration frame in force at `index`
    configuration_index: LogIndex

    @property
    def id(self) -> EntryId:
        return EntryId(self.term, self.index)


class LogWrite(msgspec.Struct, frozen=True):
    """One group's share of one flush, to be written in this order: snapshot point, hard state, entries.

    An entry at or below the last one written replaces it and everything after it.
    """

    group: GroupId
    number: int  # rises by one per write of the group; comes back in Persisted
    hard_state: HardState | None = None
    entries: tuple[Entry, ...] = ()
    forget_below: LogIndex = 0  # entries under this index will not be asked for again (0: no change)
    snapshot: SnapshotMeta | None = None  # the log now starts after this one; it must be on disk already
    reset: bool = False  # with `snapshot`: nothing of the old log survives


class RecoveredGroup(msgspec.Struct):
    """What a data directory holds of one group after a restart."""

    hard_state: HardState
    base: EntryId  # of the entry before the first one held
    entries: list[Entry]
    snapshot: SnapshotMeta | None = None


# --- one group's log ------------------------------------------------------------------------------------------------


class ReplicatedLog:
    """The tail of one group's log since its last snapshot, and how much of it is durable here and committed.

    It knows no disk: what it wants written is taken with `take_unwritten`, and `on_written` says that it is durable.
    """

    __slots__ = (
        "_ends",
        "_entries",
        "_handed",
        "_in_flight",
        "base",
        "base_stamp",
        "committed",
        "durable",
        "group",
    )

    def __init__(
        self, group: GroupId, base: EntryId = NOTHING, entries: Iterable[Entry] = (), *, base_stamp: int = 0
    ) -> None:
        self.group = group
        # Id and stamp of the entry before the first one held. Only rise.
        self.base = base
        self.base_stamp = base_stamp
        self._entries: list[Entry] = list(entries)
        # How many bytes of frames end where the base and each entry does, counted from anywhere: see `bytes_between`.
        self._ends: list[int] = [0, *accumulate(len(entry.frame) for entry in self._entries)]
        # Highest index known stored on a majority. Only rises. Invariant: base <= committed <= last.
        self.committed: LogIndex = base.index
        # Highest index up to which this node's disk holds what `_entries` holds. Falls only by truncation.
        self.durable: LogIndex = self.last.index
        # Highest index that was handed out for writing. Invariant: durable <= handed <= last.
        self._handed: LogIndex = self.durable
        # Writes handed out and not yet durable: [write number, the highest index of it that is still this log's].
        self._in_flight: deque[list[int]] = deque()

    # --- looking ---

    @property
    def first(self) -> LogIndex:
        """Index of the first entry held (one past the last, when none is)."""
        return self.base.index + 1

    @property
    def last(self) -> EntryId:
        return self._entries[-1].id if self._entries else self.base

    @property
    def last_index(self) -> LogIndex:
        return self.base.index + len(self._entries)

    @property
    def last_stamp(self) -> int:
        return self._entries[-1].stamp if self._entries else self.base_stamp

    def __len__(self) -> int:
        return len(self._entries)

    def term_at(self, index: LogIndex) -> Term | None:
        """The term of entry `index`; None where this log no longer or not yet knows it."""
        offset = index - self.base.index
        if 0 < offset <= len(self._entries):
            return self._entries[offset - 1].term
        return self.base.term if offset == 0 else None

    def stamp_at(self, index: LogIndex) -> int:
        """The stamp of entry `index`, which must be held or be the base."""
        return self.base_stamp if index == self.base.index else self.get(index).stamp

    def get(self, index: LogIndex) -> Entry:
        """Entry `index`, which must be held."""
        assert self.first <= index <= self.last_index, f"entry {index} is not in [{self.first}, {self.last_index}]"
        return self._entries[index - self.first]

    def bytes_between(self, after: LogIndex, last: LogIndex) -> int:
        """The size of the entries (after, last]; what lies under the base counts nothing."""
        ends, base = self._ends, self.base.index
        return ends[last - base] - ends[max(after - base, 0)]

    @property
    def held_bytes(self) -> int:
        """The size of all entries held."""
        return self._ends[-1] - self._ends[0]

    @property
    def uncommitted_bytes(self) -> int:
        """The size of the tail that isn't known to be on a majority."""
        return self.bytes_between(self.committed, self.last_index)

    def slice(self, first: LogIndex, after: LogIndex) -> list[Entry]:
        """The entries of [first, after), all of which must be held."""
        assert self.first <= first, f"[{first}, {after}) starts before {self.first}"
        assert after <= self.last_index + 1, f"[{first}, {after}) ends after {self.last_index}"
        return self._entries[first - self.first : after - self.first]

    def since(self, first: LogIndex, *, bytes_max: int, commands_max: int = 2**63) -> list[Entry]:
        """Entries from `first` on, within both limits, but at least one when there is one."""
        chosen: list[Entry] = []
        size = commands = 0
        for position in range(first - self.first, len(self._entries)):
            entry = self._entries[position]
            size += len(entry.frame)
            commands += entry.count
            if chosen and (size > bytes_max or commands > commands_max):
                break
            chosen.append(entry)
        return chosen

    def matches(self, previous: EntryId) -> bool:
        """Does this log hold `previous`? What lies under the base is committed, so it matches by definition (§5.3)."""
        return previous.index <= self.base.index or self.term_at(previous.index) == previous.term

    def last_at_most(self, index: LogIndex, term: Term) -> EntryId:
        """The last entry at or before `index` whose term is at most `term`: where two logs can meet, found per term.

        Never below the base, which every leader of a later term holds.
        """
        after = min(max(index - self.base.index, 0), len(self._entries))
        position = bisect_right(self._entries, term, hi=after, key=attrgetter("term"))
        return self._entries[position - 1].id if position else self.base

    # --- growing ---

    def append_new(
        self, term: Term, kind: int, payload: bytes, *, count: int = 0, stamp: int = 0, format: int = FORMAT_LOWEST
    ) -> Entry:
        """A leader's own new entry at the end; its stamp is past every earlier one (§5.3)."""
        stamp = max(stamp, self.last_stamp + 1)
        entry = make_entry(
            self.group, term, self.last_index + 1, kind, payload, count=count, stamp=stamp, format=format
        )
        self._append(entry)
        return entry

    def adopt(self, previous: EntryId, entries: Sequence[Entry]) -> LogIndex:
        """Take a leader's `entries` that follow `previous` (which matches) and return the last index now verified.

        Only a real conflict (same index, other term) cuts the log; a short, old or repeated append cuts nothing (§5.3).
        """
        expected = previous.index + 1
        for entry in entries:
            assert entry.index == expected, f"entry {entry.index} where {expected} must follow"
            expected += 1
            if entry.index <= self.base.index:
                continue
            held = self.term_at(entry.index)
            if held == entry.term:
                continue
            if held is not None:
                self._truncate(entry.index)
            self._append(entry)
        return expected - 1

    def _append(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._ends.append(self._ends[-1] + len(entry.frame))

    def _truncate(self, first: LogIndex) -> None:
        """Forget entries[first, ∞): they conflict with the leader's."""
        assert first > self.committed, f"would overwrite committed entry {first} (committed {self.committed})"
        del self._entries[first - self.first :]
        del self._ends[first - self.base.index :]
        self.durable = min(self.durable, first - 1)
        self._handed = min(self._handed, first - 1)
        for write in self._in_flight:  # what it wrote from here on is no longer this log's, even if the same id returns
            write[1] = min(write[1], first - 1)

    def commit_to(self, index: LogIndex) -> bool:
        """Raise the commit index to `index`, bounded by what is held; says whether it rose (§5.3: it never falls)."""
        index = min(index, self.last_index)
        if index <= self.committed:
            return False
        self.committed = index
        return True

    # --- the disk, as far as this log knows it ---

    @property
    def has_unwritten(self) -> bool:
        return self._handed < self.last_index

    def take_unwritten(self, number: int) -> tuple[Entry, ...]:
        """The entries not yet handed out, to be written as write `number` of this group."""
        entries = tuple(self._entries[self._handed - self.base.index :])
        self._handed = self.last_index
        self._in_flight.append([number, self._handed])
        return entries

    def on_written(self, number: int) -> None:
        """Writes up to `number` are on disk: raise the durable mark, except for what was cut away meanwhile."""
        while self._in_flight and self._in_flight[0][0] <= number:
            self.durable = max(self.durable, self._in_flight.popleft()[1])

    # --- shrinking ---

    def compact(self, index: LogIndex) -> None:
        """Forget the entries up to and including `index`: a snapshot holds them."""
        assert index <= self.committed, f"would forget uncommitted entry {index} (committed {self.committed})"
        gone = index - self.base.index
        if gone <= 0:
            return
        last_gone = self._entries[gone - 1]
        del self._entries[:gone]
        del self._ends[:gone]
        self.base, self.base_stamp = last_gone.id, last_gone.stamp
        self.durable = max(self.durable, index)
        self._handed = max(self._handed, index)

    def reset(self, base: EntryId, stamp: int) -> None:
        """Start over after a snapshot that this log doesn't contain: all of it goes (§7)."""
        assert base.index > self.committed, f"snapshot {base} is behind committed {self.committed}"
        self._entries.clear()
        del self._ends[1:]
        self.base, self.base_stamp = base, stamp
        self.committed = self.durable = self._handed = base.index
        for write in self._in_flight:
            write[1] = min(write[1], base.index)
