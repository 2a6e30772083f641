"""Is a snapshot's file what was written? It is read in order, each piece verified, and the whole at the end."""

from collections.abc import Iterator
from zlib import crc32

import msgspec

from aegis_replication.errors import CorruptRecord, IncompatibleVersion
from aegis_replication.ids import GroupId
from aegis_replication.log import SnapshotMeta
from aegis_replication.storage.files import Files
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
    is_sealed,
    unpack_meta,
)


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
        head = fixed + rest
        if len(head) != HEAD.size + meta_bytes + CHECKSUM.size or not is_sealed(head):
            found = f"checksum {crc32(head[: -CHECKSUM.size]):08x}"
            raise CorruptRecord(self.path, 0, "a head with a right checksum", found)
        try:
            return group, *unpack_meta(rest[: -CHECKSUM.size]), head
        except msgspec.MsgspecError as error:
            raise CorruptRecord(self.path, HEAD.size, "a snapshot's meta", str(error)) from None

    def _read_trailer(self) -> tuple[int, int, int]:
        start = self.size - TRAILER_BYTES
        data = self._files.pread(self._handle, TRAILER_BYTES, start) if start >= len(self._head) else b""
        if len(data) < TRAILER_BYTES or not is_sealed(data):
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
