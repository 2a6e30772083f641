"""How are the log's files made, named, filled ahead and used again? (docs/data-files.md draws their header)

A segment's size never changes and its blocks are written before they are used, so that a flush has no metadata to
write. `0000000007.wal` is part of the log; `0000000003.free` holds nothing that is needed; `fill.tmp` is being filled;
`reserve` is room for one more segment, set aside for a full disk.
A name ends in .wal only after a header that says the same was flushed.
"""

import contextlib
import re
from collections import deque
from itertools import pairwise
from struct import Struct as Layout
from typing import Final
from zlib import crc32

import msgspec

from aegis_replication.errors import CorruptRecord, IncompatibleVersion, InvalidArgument, WrongIdentity
from aegis_replication.storage.base import FORMAT_VERSION, Identity
from aegis_replication.storage.files import Files

SEGMENT_BYTES: Final = 16 * 1024 * 1024
SEGMENT_BYTES_MIN: Final = 16 * 1024
SEGMENT_BYTES_MAX: Final = 1024 * 1024 * 1024
RECORDS_START: Final = 4096
"""Where a segment's first record stands: the header has a page of its own."""

FILL_STEP_BYTES: Final = 256 * 1024
_MAGIC: Final = b"AEGISWAL"
_FIELDS = Layout("<8sHHIIQ")  # magic, format version, bytes of the name, segment id, segment bytes, incarnation
_CHECKSUM = Layout("<I")
_HEADER_BYTES: Final = 512  # one sector, so that it is written whole or not at all
_ZEROS = bytes(FILL_STEP_BYTES)
_NAME = re.compile(r"(\d{10})\.(wal|free)")
_FILL_NAME: Final = "fill.tmp"
_RESERVE_NAME: Final = "reserve"


class Segment:
    """A segment that is or was written to, with its open handles."""

    __slots__ = ("id", "size", "plain", "durable")

    def __init__(self, id_: int, size: int, plain: int, durable: int) -> None:
        self.id, self.size = id_, size
        # Handle whose writes wait for a sync, and one whose writes are durable on return (-1: closed).
        self.plain, self.durable = plain, durable


def pack_segment_header(identity: Identity, segment: int, size: int) -> bytes:
    """The first sector of a segment: its id, its size, and whose it is."""
    name = msgspec.msgpack.encode((identity.cluster, identity.node))
    fields = _FIELDS.pack(_MAGIC, identity.format_version, len(name), segment, size, identity.log_incarnation) + name
    header = fields + _CHECKSUM.pack(crc32(fields))
    if len(header) > _HEADER_BYTES:
        raise InvalidArgument(
            f"cluster name {identity.cluster!r} is too long for a segment's header: use 64 characters"
        )
    return header.ljust(_HEADER_BYTES, b"\0")


def read_segment_header(path: str, data: bytes) -> tuple[Identity, int, int]:
    """Whose segment this is, its id and its size.

    Raises IncompatibleVersion for a later format and CorruptRecord for anything that isn't a whole header.
    """
    if len(data) < _HEADER_BYTES:
        raise CorruptRecord(path, 0, f"a segment header of {_HEADER_BYTES} bytes", f"{len(data)} bytes")
    magic, version, name_bytes, segment, size, incarnation = _FIELDS.unpack_from(data)
    if magic != _MAGIC:
        raise CorruptRecord(path, 0, f"a segment header beginning with {_MAGIC!r}", f"{data[:8]!r}")
    after = _FIELDS.size + name_bytes
    checksum = crc32(data[:after])
    if after + _CHECKSUM.size > _HEADER_BYTES or checksum != _CHECKSUM.unpack_from(data, after)[0]:
        raise CorruptRecord(path, 0, "a segment header with a right checksum", f"checksum {checksum:08x}")
    if any(data[after + _CHECKSUM.size :]):
        raise CorruptRecord(path, after + _CHECKSUM.size, "zero bytes behind the segment's header", "others")
    if version > FORMAT_VERSION:
        raise IncompatibleVersion(f"{path} has format {version}, this program knows 1 to {FORMAT_VERSION}: upgrade it")
    cluster, node = msgspec.msgpack.decode(data[_FIELDS.size : after], type=tuple[str, str])
    return Identity(cluster, node, incarnation, version), segment, size


class SegmentFiles:
    """The directory of segments: finds, opens, prepares, gives free."""

    __slots__ = ("_files", "_filled", "_filling", "_free", "has_reserve", "identity", "path", "segment_bytes")

    def __init__(self, files: Files, path: str, identity: Identity, segment_bytes: int) -> None:
        if not SEGMENT_BYTES_MIN <= segment_bytes <= SEGMENT_BYTES_MAX or segment_bytes % RECORDS_START:
            raise InvalidArgument(
                f"segment_bytes = {segment_bytes}: must be a multiple of {RECORDS_START} from {SEGMENT_BYTES_MIN} to "
                f"{SEGMENT_BYTES_MAX}; try {SEGMENT_BYTES}"
            )
        self._files, self.path, self.identity, self.segment_bytes = files, path, identity, segment_bytes
        # Names of files that hold nothing needed, the oldest first.
        self._free: deque[str] = deque()
        # Handle of the file that is being filled (-1: none), and how far it is.
        self._filling, self._filled = -1, 0
        # Is there room for one more segment, come what may?
        self.has_reserve = False

    @property
    def free_count(self) -> int:
        return len(self._free)

    def path_of(self, segment: int) -> str:
        """The file of a segment that is part of the log."""
        return f"{self.path}/{segment:010}.wal"

    def find(self, *, read_only: bool = False) -> list[int]:
        """The ids of the log's segments, rising, none missing between the first and the last.

        Half-filled files of a crash are removed; the names found are durable.
        """
        segments = []
        for name in self._files.list(self.path):
            match = _NAME.fullmatch(name)
            if match is None:
                if name == _RESERVE_NAME and self._is_segment_long(f"{self.path}/{name}"):
                    self.has_reserve = True
                elif name in (_FILL_NAME, _RESERVE_NAME) and not read_only:
                    self._files.unlink(f"{self.path}/{name}")
            elif match[2] == "free":
                self._free.append(name)
            else:
                segments.append(int(match[1]))
        for segment, following in pairwise(segments):
            if following != segment + 1:
                raise CorruptRecord(self.path_of(segment + 1), 0, f"segment {segment + 1} of the log", "no such file")
        if not read_only:
            self._files.sync_directory(self.path)
        return segments

    def _is_segment_long(self, path: str) -> bool:
        handle = self._files.open(path, "read")
        try:
            return self._files.size(handle) == self.segment_bytes
        finally:
            self._files.close(handle)

    def remove_unused(self) -> bool:
        """Remove segments that were made and never written to; were there no others?"""
        for segment in self.find():
            handle = self._files.open(self.path_of(segment), "read")
            try:
                written = self._files.pread(handle, SEGMENT_BYTES_MIN, RECORDS_START).strip(b"\0")
            finally:
                self._files.close(handle)
            if written:
                return False
            self._files.unlink(self.path_of(segment))
        return not self._free

    def load(self, segment: int, *, read_only: bool = False) -> bytes:
        """A whole segment as the disk holds it, header checked."""
        path = self.path_of(segment)
        handle = self._files.open(path, "read" if read_only else "write")
        try:
            if not read_only:
                # What a process wrote before it was killed may sit in memory only: it is read as the log's content, so
                # it has to be durable first.
                self._files.sync(handle)
                self._files.forget_cached(handle)
            size = self._files.size(handle)
            owner, id_, header_size = read_segment_header(path, self._files.pread(handle, _HEADER_BYTES, 0))
            if (owner.cluster, owner.node, owner.incarnation) != (
                self.identity.cluster,
                self.identity.node,
                self.identity.log_incarnation,
            ):
                raise WrongIdentity(
                    f"{path} belongs to node {owner.node} of cluster {owner.cluster} (incarnation "
                    f"{owner.incarnation:016x}), its directory to node {self.identity.node} of {self.identity.cluster} "
                    f"({self.identity.log_incarnation:016x}): put back the directory's own files"
                )
            if id_ != segment:
                raise CorruptRecord(path, 0, f"the header of segment {segment}", f"that of segment {id_}")
            if size != header_size:
                raise CorruptRecord(path, min(size, header_size), f"a file of {header_size} bytes", f"{size} bytes")
            return self._files.pread(handle, size, 0)
        finally:
            self._files.close(handle)

    def open(self, segment: int) -> Segment:
        """The segment, to write to it."""
        path = self.path_of(segment)
        plain = self._files.open(path, "write")
        return Segment(segment, self._files.size(plain), plain, self._files.open(path, "write", dsync=True))

    def close(self, segment: Segment) -> None:
        """Give both handles back."""
        for handle in (segment.plain, segment.durable):
            if handle >= 0:
                self._files.close(handle)
        segment.plain = segment.durable = -1

    # --- the next segment ---

    @property
    def filled_bytes(self) -> int:
        """How much of the next segment is filled, if it is being filled."""
        return self._filled if self._filling >= 0 else 0

    def prepare_step(self, segment: int) -> bool:
        """One bounded step (a flush of FILL_STEP_BYTES at the most) towards segment `segment`; is it there now?"""
        if self._filling < 0:
            while self._free:
                name = self._free[0]
                if self._reuse(name, segment):
                    return True
            self._filling, self._filled = self._files.open(f"{self.path}/{_FILL_NAME}", "create"), 0
        step = min(FILL_STEP_BYTES, self.segment_bytes - self._filled)
        try:
            self._files.pwritev(self._filling, (_ZEROS[:step],), self._filled)
            self._filled += step
            if self._filled < self.segment_bytes:
                self._files.sync(self._filling)
                return False
        except OSError:
            self._drop_filling()
            raise
        self._finish_filling(segment)
        return True

    def prepare_now(self, segment: int) -> None:
        """Segment `segment` at once, because a write waits for it: its blocks are taken now, and made when written."""
        if self._filling < 0 and self._free and self.prepare_step(segment):
            return
        if self._filling < 0:
            self._filling, self._filled = self._files.open(f"{self.path}/{_FILL_NAME}", "create"), 0
        try:
            self._files.allocate(self._filling, self.segment_bytes)
        except OSError:
            self._drop_filling()
            raise
        self._finish_filling(segment)

    def _finish_filling(self, segment: int) -> None:
        try:
            self._name(self._filling, f"{self.path}/{_FILL_NAME}", segment)
        except OSError:
            self._drop_filling()
            raise
        self.stop()

    def _drop_filling(self) -> None:
        """No room: what is half filled gives back its own, for what needs it more."""
        self.stop()
        with contextlib.suppress(OSError):  # renamed already, or it goes at the next start
            self._files.unlink(f"{self.path}/{_FILL_NAME}")

    # --- the reserve ---

    def make_reserve(self) -> None:
        """Set room aside for one more segment; raises OSError when there is none."""
        path = f"{self.path}/{_RESERVE_NAME}"
        while self._free and not self.has_reserve:
            name = f"{self.path}/{self._free.popleft()}"
            if self._is_segment_long(name):
                self._files.rename(name, path)
                self.has_reserve = True
            else:
                self._files.unlink(name)
        if not self.has_reserve:
            handle = self._files.open(path, "create")
            try:
                self._files.allocate(handle, self.segment_bytes)
                self._files.sync(handle)
            except OSError:
                with contextlib.suppress(OSError):
                    self._files.unlink(path)
                raise
            finally:
                self._files.close(handle)
            self.has_reserve = True
        self._files.sync_directory(self.path)

    def use_reserve(self, segment: int) -> None:
        """Turn the reserve into segment `segment`."""
        path = f"{self.path}/{_RESERVE_NAME}"
        handle = self._files.open(path, "write")
        try:
            self._name(handle, path, segment)
        finally:
            self._files.close(handle)
        self.has_reserve = False

    def _reuse(self, name: str, segment: int) -> bool:
        """Turn the free file `name` into `segment`, or remove it when it is of another size."""
        path = f"{self.path}/{name}"
        handle = self._files.open(path, "write")
        try:
            fits = self._files.size(handle) == self.segment_bytes
            if fits:
                self._name(handle, path, segment)
        finally:
            self._files.close(handle)
        self._free.popleft()
        if not fits:
            self._files.unlink(path)
        return fits

    def _name(self, handle: int, path: str, segment: int) -> None:
        """Header, flush, name, flush of the directory: in this order, so that a .wal file always has its header."""
        header = pack_segment_header(self.identity, segment, self.segment_bytes)
        self._files.pwritev(handle, (header,), 0)
        self._files.sync(handle)
        self._files.rename(path, self.path_of(segment))
        self._files.sync_directory(self.path)

    # --- giving free ---

    def give_free(self, segment: int) -> None:
        """Nothing in the segment is needed, durably so: it may be used again."""
        name = f"{segment:010}.free"
        self._files.rename(self.path_of(segment), f"{self.path}/{name}")
        # Durable before the file gets its next header, else a crash could bring back the old name with a new header.
        self._files.sync_directory(self.path)
        self._free.append(name)

    def drop_free(self, keep: int) -> bool:
        """Remove one free file if there are more than `keep`; was there one?"""
        if len(self._free) <= keep:
            return False
        self._files.unlink(f"{self.path}/{self._free.popleft()}")
        return True

    def stop(self) -> None:
        """Close what is half filled; its file goes at the next start."""
        if self._filling >= 0:
            self._files.close(self._filling)
            self._filling = -1
