"""Is there room for what comes next in the log? Segments made ahead, one in reserve, and what a full disk leaves."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from aegis_replication.errors import DiskFull
from aegis_replication.log import LogWrite
from aegis_replication.storage.files import is_full
from aegis_replication.storage.records import ALIGNMENT, END_BYTES, HEADER_BYTES, Position
from aegis_replication.storage.segments import RECORDS_START, SegmentFiles

RECORD_OVERHEAD_BYTES: Final = HEADER_BYTES + ALIGNMENT
"""What a record takes beside its body, at the most."""

_VALUE_BYTES: Final = 512  # a record of the log itself, at the most, but for a configuration in it


class Room:
    """The segments after the one that is written, and the reserve."""

    __slots__ = ("_segments", "full", "ready")

    def __init__(self, segments: SegmentFiles) -> None:
        self._segments = segments
        # Ids of prepared segments, in the order in which they will be written.
        self.ready: deque[int] = deque()
        # Why the disk counts as full; "" while it doesn't.
        self.full = ""

    @property
    def segment_bytes(self) -> int:
        """How much of records one segment holds."""
        return self._segments.segment_bytes - RECORDS_START - END_BYTES

    def left_bytes(self, rest_bytes: int) -> int | None:
        """How much may be written while the disk is full, the reserve untouched; None: it isn't full.

        `rest_bytes` is what the current segment has left. Without a reserve nothing may: what is left is for votes, and
        for what makes room.
        """
        if not self.full:
            return None
        if not self._segments.has_reserve:
            return 0
        return max(rest_bytes, self.segment_bytes if self.ready else 0)

    def note_full(self, error: OSError) -> DiskFull:
        """The disk counts as full from now on; what to raise. Any other error is raised as it is."""
        if not is_full(error):
            raise error
        self.full = f"{self._segments.path}: the disk is full ({error.strerror}): make room on it"
        return DiskFull(self.full)

    def prepare(self, writes: Sequence[LogWrite], end: Position, limit: int) -> None:
        """Have the segments that `writes` take from `end` on, in a segment with room up to offset `limit`, and then in
        others. Raises DiskFull when that can't be."""
        sizes = []
        for write in writes:
            if write.snapshot is not None:
                sizes.append(_VALUE_BYTES + len(write.snapshot.configuration))
            sizes.append(_VALUE_BYTES)
            sizes.extend([len(entry.frame) + RECORD_OVERHEAD_BYTES for entry in write.entries])
        segment, offset = end >> 32, end & 0xFFFF_FFFF
        if offset + sum(sizes) <= limit:
            return
        needed = 0
        for size in sizes:
            if offset + size > limit:
                offset, limit, needed = RECORDS_START, RECORDS_START + self.segment_bytes, needed + 1
            offset += size
        while len(self.ready) < needed:
            self.prepare_next(segment)

    def prepare_next(self, current: int) -> None:
        """One more segment at once; out of the reserve, when there is no other room. Raises DiskFull without one."""
        following = (self.ready[-1] if self.ready else current) + 1
        try:
            self._segments.prepare_now(following)
        except OSError as error:
            full = self.note_full(error)
            if not self._segments.has_reserve:
                raise full from error
            self._segments.use_reserve(following)
        self.ready.append(following)

    def look_ahead(self, current: int, used_bytes: int) -> bool:
        """A step towards having the reserve, and the next segment; was one due? Raises DiskFull.

        The next segment is filled no faster than the current one is used, by a quarter: all at once it would hold up
        the flushes of every node on this disk for as long as that takes.
        """
        segments = self._segments
        try:
            if not segments.has_reserve:
                segments.make_reserve()
            elif self.ready or segments.filled_bytes > used_bytes * 5 // 4:
                return False
            elif segments.prepare_step(current + 1):
                self.ready.append(current + 1)
        except OSError as error:
            raise self.note_full(error) from error
        return True

    def regain(self, current: int) -> None:
        """Have the reserve and the next segment, and with them room again. Raises DiskFull while there is none."""
        try:
            if not self._segments.has_reserve:
                self._segments.make_reserve()
            if not self.ready:
                self._segments.prepare_now(current + 1)
                self.ready.append(current + 1)
        except OSError as error:
            raise self.note_full(error) from error
        self.full = ""
