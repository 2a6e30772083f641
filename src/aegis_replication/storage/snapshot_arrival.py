"""Is what a peer sends the snapshot that it says? A file's bytes, verified in the order in which they come."""

from typing import Final
from zlib import crc32

import msgspec

from aegis_replication.ids import GroupId
from aegis_replication.log import SnapshotMeta
from aegis_replication.storage.snapshot_format import (
    CHECKSUM,
    FORMAT_VERSION,
    HEAD,
    MAGIC,
    META_BYTES_MAX,
    PIECE,
    PIECE_BYTES_MAX,
    TRAILER,
    TRAILER_BYTES,
    check_owner,
    is_sealed,
    unpack_meta,
)

_HEAD: Final = "head"
_HEADS: Final = "between two pieces"
_PIECE: Final = "piece"
_DONE: Final = "done"


class Arrival:
    """What has come of one snapshot, and how far it is known to be good.

    `take` each portion in order. Where one is damaged, everything behind `verified` is to be sent again: never the
    whole, since what was verified before it can't have changed.
    """

    # fmt: off
    __slots__ = ("_buffer", "_checksum", "_cluster", "_count", "_expected", "_group", "_left", "_meta",
                 "_piece_bytes", "_state", "_total_bytes", "_where", "_whole", "taken", "verified")
    # fmt: on

    def __init__(self, where: str, group: GroupId, meta: SnapshotMeta, total_bytes: int, *, cluster: str) -> None:
        self._where, self._group, self._meta, self._cluster = where, group, meta, cluster
        self._total_bytes = total_bytes
        # Bytes taken so far, and how many of them are known to be good: whole pieces. Invariant: verified <= taken.
        self.taken = self.verified = 0
        self._state = _HEAD
        self._buffer = bytearray()  # of a head or the trailer, while it is incomplete
        self._left = self._checksum = self._expected = 0  # of the piece that is coming
        self._whole = self._count = self._piece_bytes = 0  # as of `verified`

    @property
    def is_whole(self) -> bool:
        """Has everything come, and is it good?"""
        return self._state is _DONE

    def take(self, data: bytes) -> bool:
        """The next bytes; False when they are damaged: `taken` is back at `verified` then.

        Raises WrongIdentity for a snapshot of another group or cluster.
        """
        view = memoryview(data)
        while view:
            used = self._step(view)
            if not used:
                self.begin_at_verified()
                return False
            self.taken += used
            view = view[used:]
        return True

    def begin_at_verified(self) -> None:
        """What comes next is what lies behind `verified`, whatever was taken of it before."""
        if self._state is not _DONE:
            self.taken = self.verified
            self._state = _HEADS if self.verified else _HEAD
            self._buffer.clear()

    def _step(self, view: memoryview) -> int:
        """Take some of `view`; how much, 0 for what can't be part of this snapshot."""
        if self._state is _PIECE:
            return self._take_piece(view)
        if self._state is _HEAD:
            return self._take_head(view)
        return self._take_between(view) if self._state is _HEADS else 0

    def _fill(self, view: memoryview, size: int) -> int:
        """Add to the buffer until it holds `size` bytes; how many were added."""
        part = view[: size - len(self._buffer)]
        self._buffer += part
        return len(part)

    def _take_head(self, view: memoryview) -> int:
        buffer = self._buffer
        if len(buffer) < HEAD.size:
            used = self._fill(view, HEAD.size)
            return used if len(buffer) < HEAD.size or self._head_bytes() else 0
        size = self._head_bytes()
        used = self._fill(view, size)
        if len(buffer) < size:
            return used
        head = bytes(buffer)
        if not is_sealed(head) or not self._is_ours(head):
            return 0
        self._whole = crc32(head)
        return self._verified(used)

    def _head_bytes(self) -> int:
        """The head's length as its beginning says; 0 when that can't be one."""
        magic, version, _, _, meta_bytes = HEAD.unpack_from(self._buffer)
        size: int = HEAD.size + meta_bytes + CHECKSUM.size
        fits = meta_bytes <= META_BYTES_MAX and size + TRAILER_BYTES <= self._total_bytes
        return size if magic == MAGIC and version <= FORMAT_VERSION and fits else 0

    def _is_ours(self, head: bytes) -> bool:
        try:
            meta, cluster = unpack_meta(head[HEAD.size : -CHECKSUM.size])
        except msgspec.MsgspecError:
            return False
        group: GroupId = HEAD.unpack_from(head)[3]
        check_owner(self._where, group=self._group, cluster=self._cluster, found_group=group, found_cluster=cluster)
        return meta == self._meta

    def _verified(self, used: int) -> int:
        self.verified = self.taken + used
        self._buffer.clear()
        self._state = _HEADS
        return used

    def _take_between(self, view: memoryview) -> int:
        """The head of the next piece, or the trailer."""
        buffer = self._buffer
        is_trailer = len(buffer) >= PIECE.size
        used = self._fill(view, TRAILER_BYTES if is_trailer else PIECE.size)
        if is_trailer:
            return self._take_trailer(used)
        if len(buffer) < PIECE.size:
            return used
        size, self._expected = PIECE.unpack(buffer)
        room = self._total_bytes - TRAILER_BYTES - self.taken - used
        if size == 0:
            return used if room + PIECE.size == 0 else 0
        if size > min(room, PIECE_BYTES_MAX):
            return 0
        self._state, self._left, self._checksum = _PIECE, size, 0
        return used

    def _take_trailer(self, used: int) -> int:
        if len(self._buffer) < TRAILER_BYTES:
            return used
        data = bytes(self._buffer)
        if not is_sealed(data):
            return 0
        if TRAILER.unpack_from(data) != (0, 0, self._count, self._piece_bytes, self._whole):
            self.verified = 0  # each piece is good, but not all of them are of the snapshot that ends here
            return 0
        self._verified(used)
        self._state = _DONE
        return used

    def _take_piece(self, view: memoryview) -> int:
        part = view[: self._left]
        self._checksum = crc32(part, self._checksum)
        self._left -= len(part)
        if self._left:
            return len(part)
        if self._checksum != self._expected:
            return 0
        head = bytes(self._buffer)
        self._whole = crc32(head, self._whole)
        self._count += 1
        self._piece_bytes += PIECE.unpack(head)[0]
        return self._verified(len(part))
