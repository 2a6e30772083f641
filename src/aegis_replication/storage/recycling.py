"""How does the log stay small without forgetting anything? Segments are prepared, carried out of, and used again.

Before a segment is given free, each group's newest term and vote, the beginning of its log and its entries without a
snapshot that stand in it are written anew at the log's end, and that is flushed.
"""

from collections import deque
from typing import Final

from aegis_replication.errors import AegisError, CorruptRecord, DiskFull
from aegis_replication.ids import GroupId, LogIndex
from aegis_replication.log import FRAME_HEADER_BYTES, decode_entry, frame_checksum, read_frame_header
from aegis_replication.storage.files import Files
from aegis_replication.storage.live import GroupRecords
from aegis_replication.storage.records import (
    CARRIED,
    HEADER_BYTES,
    BaseBody,
    FirstBody,
    HardStateBody,
    RecordType,
)
from aegis_replication.storage.wal import Wal

_CARRY_STEP_BYTES: Final = 1024 * 1024
# Segments that may lie idle beside twice the needed bytes before records are carried forward. With the segment that is
# written next, the reserve and one that waits to be used again the log stays under twice the needed bytes plus four.
_IDLE_SEGMENTS: Final = 1
_FREE_KEPT: Final = 1


class Recycler:
    """Keeps one segment ready ahead of the writer, and the tail of the log from growing."""

    __slots__ = ("_carrying", "_files", "_wal")

    def __init__(self, files: Files, wal: Wal) -> None:
        self._files, self._wal = files, wal
        # What is left to carry out of the oldest segment: (handle, its id, records).
        self._carrying: tuple[int, int, deque[tuple[GroupId, LogIndex]]] | None = None

    def step(self) -> bool:
        """One bounded step, at most 1 MiB of writing; is there more to do?

        On a full disk first what makes room; then it is seen whether somebody else has made some.
        """
        wal = self._wal
        wal.check_alive()
        with wal.using_disk("prepare the log's next segment"):
            try:
                if not wal.room.full and wal.room.look_ahead(wal.current.id, wal.used_bytes):
                    return True
                if self._look_back():
                    return True
                if not wal.room.full:
                    return wal.segments.drop_free(_FREE_KEPT)
                wal.regain()
                return True
            except DiskFull:
                return False

    def _look_back(self) -> bool:
        """A step towards needing less: the oldest segment is given free, or what is needed of it carried forward."""
        wal = self._wal
        oldest = wal.chain[0]
        if self._carrying is not None:
            self._carry()
        elif oldest == wal.current.id:
            return False
        elif not wal.live.by_segment.get(oldest):
            self._give_free(oldest)
        elif self._is_sparse():
            handle = self._files.open(wal.segments.path_of(oldest), "read")
            self._carrying = (handle, oldest, deque(wal.live.needed_in(oldest)))
        else:
            return False
        return True

    def _is_sparse(self) -> bool:
        """Does so much of the log lie idle that carrying the oldest records forward pays?"""
        wal = self._wal
        size = wal.segments.segment_bytes
        return len(wal.chain) * size > 2 * wal.live.total_bytes + _IDLE_SEGMENTS * size

    def _give_free(self, oldest: int) -> None:
        """Say in the log where it begins now. Only when that, and with it all that was carried, is flushed, let go.

        The mark makes later damage of what was carried known as damage, although no group has written since.
        """
        wal = self._wal
        wal.put_value(RecordType.FIRST, FirstBody(oldest + 1))
        wal.spill(durable=True)
        wal.mark()
        wal.segments.give_free(oldest)
        wal.chain.popleft()

    def _carry(self) -> None:
        """Write some of the oldest segment's needed records anew at the end."""
        assert self._carrying is not None, "nothing is being carried"
        handle, oldest, left = self._carrying
        carried = 0
        while left and carried < _CARRY_STEP_BYTES:
            group, index = left.popleft()
            records = self._wal.live.of(group)
            if index == 0:
                carried += self._carry_hard_state(oldest, group, records)
            elif index == -1:
                carried += self._carry_base(oldest, group, records)
            else:
                carried += self._carry_entry(handle, oldest, group, records, index)
        self._wal.spill(durable=False)
        if not left:
            self.stop()

    # Each of these does nothing when the record is no longer needed or stands elsewhere by now, and returns its bytes.

    def _carry_hard_state(self, oldest: int, group: GroupId, records: GroupRecords) -> int:
        position, size = records.hard_place
        state = records.hard_state
        if position >> 32 != oldest or state is None:
            return 0
        place = self._wal.put_value(RecordType.HARD_STATE, HardStateBody(group, state.term, state.voted_for))
        self._wal.live.place_hard_state(records, state, *place)
        return size

    def _carry_base(self, oldest: int, group: GroupId, records: GroupRecords) -> int:
        position, size = records.base_place
        if position >> 32 != oldest:
            return 0
        # No reset: whatever an earlier one made obsolete stands in this segment or before it.
        body = BaseBody(group, records.base.term, records.base.index, False, records.snapshot)
        self._wal.live.place_base(records, body, *self._wal.put_value(RecordType.BASE, body))
        return size

    def _carry_entry(self, handle: int, oldest: int, group: GroupId, records: GroupRecords, index: LogIndex) -> int:
        at = index - records.base.index - 1
        if not 0 <= at < len(records.places) or records.places[at] >> 32 != oldest:
            return 0
        wal, position, size = self._wal, records.places[at], records.sizes[at]
        data = self._files.pread(handle, size, position & 0xFFFF_FFFF)
        after = HEADER_BYTES + FRAME_HEADER_BYTES + read_frame_header(data, HEADER_BYTES).payload_bytes
        frame = data[HEADER_BYTES:after]
        try:
            entry = decode_entry(frame, group=group)
        except AegisError as error:
            damage = CorruptRecord(
                wal.segments.path_of(oldest), position & 0xFFFF_FFFF, f"entry {index} of group {group}", str(error)
            )
            wal.fail(str(damage))
            raise damage from None
        assert entry.index == index, f"entry {entry.index} stands where {index} was written"
        wal.live.move_entry(records, index, *wal.put(RecordType.FRAME, frame, frame_checksum(frame), CARRIED))
        return size

    def stop(self) -> None:
        """Close the segment that is being carried out of."""
        if self._carrying is not None:
            self._files.close(self._carrying[0])
            self._carrying = None
