"""Which records does the log still need, and in which segments do they stand? One account for all groups."""

from array import array
from bisect import bisect_right
from operator import itemgetter

from aegis_replication.ids import GroupId, LogIndex, Term
from aegis_replication.log import NOTHING, Entry, EntryId, HardState, LogWrite, SnapshotMeta
from aegis_replication.storage.records import BaseBody, Position

_first = itemgetter(0)


class GroupRecords:
    """Where one group's newest hard state, its base and each of its entries stand."""

    # fmt: off
    __slots__ = ("hard_state", "hard_place", "base", "snapshot", "base_place", "damaged", "places", "sizes", "terms")
    # fmt: on

    def __init__(self) -> None:
        self.hard_state: HardState | None = None
        # (position, bytes) of the record that says so; bytes 0: there is none.
        self.hard_place: tuple[Position, int] = (0, 0)
        # Id of the entry before the first one held. Only rises.
        self.base: EntryId = NOTHING
        self.snapshot: SnapshotMeta | None = None
        self.base_place: tuple[Position, int] = (0, 0)
        # Position and bytes of the record of entry base.index + 1 + i. Invariant: equally long.
        self.places: array[int] = array("Q")
        self.sizes: array[int] = array("L")
        # Indexes of entries that aren't whole on this disk: they stay where they are until they are repaired.
        self.damaged: set[LogIndex] = set()
        # (first index, term) of each run of entries of one term, in order.
        self.terms: list[tuple[LogIndex, Term]] = []

    @property
    def last_index(self) -> LogIndex:
        return self.base.index + len(self.places)

    def term_at(self, index: LogIndex) -> Term | None:
        """The term of entry `index` or of the base; None for what isn't held."""
        if index == self.base.index:
            return self.base.term
        if not self.base.index < index <= self.last_index:
            return None
        return self.terms[bisect_right(self.terms, index, key=_first) - 1][1]

    def base_after(self, write: LogWrite) -> BaseBody | None:
        """Where the log begins once `write` is done, if the write says anything of that.

        A snapshot that the log doesn't reach, or whose last entry it holds with another term, leaves nothing of the old
        log (§7).
        """
        snapshot, base, reset = write.snapshot, self.base, write.reset
        if snapshot is not None:
            held = self.term_at(snapshot.index)
            reset = reset or (held is not None and held != snapshot.term)
            if reset or snapshot.index > self.last_index or not write.forget_below:
                assert snapshot.index >= base.index or not reset, (
                    f"group {write.group}: would start over at snapshot {snapshot.id}, behind the log's base {base}"
                )
                base = max(base, snapshot.id)
        last = base.index if reset else max(base.index, self.last_index)
        if write.forget_below > base.index + 1:
            index = write.forget_below - 1
            term = snapshot.term if snapshot is not None and index == snapshot.index else self.term_at(index)
            assert index <= last, f"group {write.group}: would forget below {write.forget_below}, holds up to {last}"
            assert term is not None, f"group {write.group}: the term of entry {index} isn't known"
            base = EntryId(term, index)
        if self.snapshot is not None and (snapshot is None or snapshot.index < self.snapshot.index):
            snapshot = self.snapshot
        if base == self.base and snapshot == self.snapshot and not reset:
            return None
        return BaseBody(write.group, base.term, base.index, reset, snapshot)


class LiveRecords:
    """The account: told of every record as it is placed, it knows what each segment still holds that is needed."""

    __slots__ = ("groups", "by_segment", "total_bytes")

    def __init__(self) -> None:
        self.groups: dict[GroupId, GroupRecords] = {}
        # Bytes of needed records per segment; a segment without any is missing.
        self.by_segment: dict[int, int] = {}
        self.total_bytes = 0

    def of(self, group: GroupId) -> GroupRecords:
        """The group's records; a new group has none."""
        records = self.groups.get(group)
        if records is None:
            records = self.groups[group] = GroupRecords()
        return records

    def _gain(self, position: Position, size: int) -> None:
        segment = position >> 32
        self.by_segment[segment] = self.by_segment.get(segment, 0) + size
        self.total_bytes += size

    def _lose(self, position: Position, size: int) -> None:
        if not size:
            return
        segment = position >> 32
        left = self.by_segment[segment] - size
        assert left >= 0, f"segment {segment} would hold {left} needed bytes"
        if left:
            self.by_segment[segment] = left
        else:
            del self.by_segment[segment]
        self.total_bytes -= size

    def place_hard_state(self, records: GroupRecords, state: HardState, position: Position, size: int) -> None:
        """The newest term and vote stand at `position`."""
        self._lose(*records.hard_place)
        self._gain(position, size)
        records.hard_state, records.hard_place = state, (position, size)

    def place_base(self, records: GroupRecords, body: BaseBody, position: Position, size: int) -> None:
        """The log's new beginning stands at `position`; what lies before it is no longer needed."""
        self._lose(*records.base_place)
        self._gain(position, size)
        records.base_place = (position, size)
        gone = len(records.places) if body.reset else min(body.index - records.base.index, len(records.places))
        for i in range(gone):
            self._lose(records.places[i], records.sizes[i])
        del records.places[:gone], records.sizes[:gone]
        if records.damaged:
            records.damaged = set() if body.reset else {index for index in records.damaged if index > body.index}
        records.base, records.snapshot = EntryId(body.term, body.index), body.snapshot
        if not records.places:
            records.terms.clear()
        else:
            run = bisect_right(records.terms, body.index + 1, key=_first) - 1
            records.terms[: run + 1] = [(body.index + 1, records.terms[run][1])]

    def place_entry(self, records: GroupRecords, entry: Entry, position: Position, size: int) -> None:
        """The entry stands at `position`; it replaces what had its index and everything after it."""
        index = entry.index
        if index != records.base.index + len(records.places) + 1:
            self._truncate(records, index)
        if not records.terms or records.terms[-1][1] != entry.term:
            records.terms.append((index, entry.term))
        records.places.append(position)
        records.sizes.append(size)
        segment = position >> 32
        self.by_segment[segment] = self.by_segment.get(segment, 0) + size
        self.total_bytes += size

    def _truncate(self, records: GroupRecords, index: LogIndex) -> None:
        first, last = records.base.index + 1, records.last_index
        assert first <= index <= last, f"entry {index} would leave a hole in a log that holds [{first}, {last + 1})"
        for i in range(index - first, len(records.places)):
            self._lose(records.places[i], records.sizes[i])
        del records.places[index - first :], records.sizes[index - first :]
        records.damaged = {damaged for damaged in records.damaged if damaged < index}
        while records.terms and records.terms[-1][0] >= index:
            records.terms.pop()

    def move_entry(self, records: GroupRecords, index: LogIndex, position: Position, size: int) -> None:
        """Entry `index` was written anew at `position`."""
        at = index - records.base.index - 1
        self._lose(records.places[at], records.sizes[at])
        self._gain(position, size)
        records.places[at], records.sizes[at] = position, size
        records.damaged.discard(index)

    def has_damage_in(self, segment: int) -> bool:
        """Does a needed entry stand there that isn't whole?"""
        return any(
            records.places[index - records.base.index - 1] >> 32 == segment
            for records in self.groups.values()
            for index in records.damaged
        )

    def needed_in(self, segment: int) -> list[tuple[GroupId, LogIndex]]:
        """What a segment holds that is needed: (group, index) of entries, index 0 for a hard state, -1 for a base."""
        needed: list[tuple[GroupId, LogIndex]] = []
        for group in sorted(self.groups):
            records = self.groups[group]
            if records.hard_place[1] and records.hard_place[0] >> 32 == segment:
                needed.append((group, 0))
            if records.base_place[1] and records.base_place[0] >> 32 == segment:
                needed.append((group, -1))
            low, high, first = segment << 32, (segment + 1) << 32, records.base.index + 1
            needed.extend((group, first + i) for i, place in enumerate(records.places) if low <= place < high)
        return needed
