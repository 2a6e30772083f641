"""How does one record of the log look as bytes, and when is it believed? (docs/data-files.md draws it)

A record is this node's own header in front of a body; a body is a frame, byte for byte as on the wire, or a small value
of the log itself. The header binds the record to its place (segment and offset), to its directory (a seed in every
checksum) and to the record before it (that one's checksum), so that nothing left over from earlier uses of a recycled
segment is ever taken for part of the log.
"""

from enum import IntEnum
from struct import Struct as Layout
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from aegis_replication.errors import IncompatibleVersion
from aegis_replication.ids import GroupId, LogIndex, NodeId, Term
from aegis_replication.log import FRAME_HEADER_BYTES, Entry, SnapshotMeta, decode_entry, read_frame_header

Position = int
"""Where a record stands in the log: segment id << 32 | offset in the segment. Rises for ever, never used twice."""

MAGIC: Final = 0x4C52_4741  # "AGRL"
ALIGNMENT: Final = 16
CARRIED: Final = 1  # flag: an older record written anew before its segment is recycled; it replaces nothing

# magic, segment, offset, type, flags, reserved, flushed before, body bytes, previous record's checksum, body's checksum
FIELDS = Layout("<IIIBBHQIII")
_CHECKSUM = Layout("<I")
FIELDS_BYTES: Final = FIELDS.size
HEADER_BYTES: Final = FIELDS_BYTES + _CHECKSUM.size
# The header's checksum reaches over this much of the body, so that an entry's identity (term, index, checksum) stays
# known when only its payload is damaged.
COVERED_BYTES: Final = FRAME_HEADER_BYTES

_PATTERN = Layout("<II")
_PADDING = tuple(bytes(count) for count in range(ALIGNMENT))


class RecordType(IntEnum):
    """What a record's body is."""

    FRAME = 1  # an entry
    HARD_STATE = 2  # a group's term and vote
    BASE = 3  # where a group's log begins, and the snapshot it begins after
    MARK = 4  # nothing: says that all before it was flushed
    FIRST = 5  # the lowest segment that the log still needs
    END = 6  # the log goes on in the next segment


def position_of(segment: int, offset: int) -> Position:
    """The place of byte `offset` in segment `segment`."""
    return segment << 32 | offset


def show_position(position: Position) -> str:
    """A position for people: "7:4096"."""
    return f"{position >> 32}:{position & 0xFFFF_FFFF}"


def record_bytes(body_bytes: int) -> int:
    """How much of a segment a record with such a body takes, header and padding included."""
    return (HEADER_BYTES + body_bytes + ALIGNMENT - 1) & -ALIGNMENT


END_BYTES: Final = record_bytes(0)
"""Kept free at each segment's end for the record that says so."""


class Header(NamedTuple):
    """What a record says of itself, once its own checksum was found right."""

    segment: int
    offset: int
    type: int
    flags: int
    flushed_before: Position  # this node had flushed up to there when it wrote the record
    body_bytes: int
    previous: int  # checksum of the record before
    body_checksum: int
    checksum: int

    @property
    def end(self) -> int:
        """The offset at which the next record begins."""
        return self.offset + record_bytes(self.body_bytes)


def checksum_seed(incarnation: int) -> int:
    """What every record checksum of one directory starts from: records of other directories never fit, nor do forgeries
    that a client hides in its values."""
    return crc32(incarnation.to_bytes(8, "little"))


def pack_header(
    seed: int,
    position: Position,
    type_: int,
    flags: int,
    flushed_before: Position,
    previous: int,
    body: bytes,
    body_checksum: int,
) -> tuple[bytes, int]:
    """The header in front of `body` at `position`, and its own checksum, which the next record repeats."""
    fields = FIELDS.pack(
        MAGIC,
        position >> 32,
        position & 0xFFFF_FFFF,
        type_,
        flags,
        0,
        flushed_before,
        len(body),
        previous,
        body_checksum,
    )
    checksum = crc32(body[:COVERED_BYTES], crc32(fields, seed))
    return fields + _CHECKSUM.pack(checksum), checksum


def padding(body_bytes: int) -> bytes:
    """The zero bytes behind a body, up to the next record's place."""
    return _PADDING[-(HEADER_BYTES + body_bytes) % ALIGNMENT]


def join_record(header: bytes, body: bytes) -> bytes:
    """A whole record: header, body, padding."""
    return header + body + padding(len(body))


def read_header(seed: int, segment: int, data: bytes, offset: int) -> Header | None:
    """The header at `offset` of a segment, if there is one that was written for exactly this place."""
    if offset + HEADER_BYTES > len(data):
        return None
    magic, of_segment, of_offset, type_, flags, _, flushed_before, body_bytes, previous, body_checksum = (
        FIELDS.unpack_from(data, offset)
    )
    if magic != MAGIC or not is_at_home(of_segment, of_offset, segment, offset):
        return None
    body = offset + HEADER_BYTES
    fields = data[offset : offset + FIELDS.size]
    checksum = crc32(data[body : body + min(body_bytes, COVERED_BYTES)], crc32(fields, seed))
    if checksum != _CHECKSUM.unpack_from(data, offset + FIELDS.size)[0] or body + body_bytes > len(data):
        return None
    return Header(of_segment, of_offset, type_, flags, flushed_before, body_bytes, previous, body_checksum, checksum)


def is_at_home(of_segment: int, of_offset: int, segment: int, offset: int) -> bool:
    """Was the record written for the place where it is found? Else it is left over from the segment's earlier life."""
    return of_segment == segment and of_offset == offset


def follows(header: Header, previous: int | None) -> bool:
    """Was the record written right after the one whose checksum is `previous`? None: nothing is known of that one."""
    return previous is None or header.previous == previous


def body_fault(header: Header, data: bytes) -> tuple[str, str] | None:
    """What was expected and what was found in a record's body or padding; None when both are as they were written."""
    start = header.offset + HEADER_BYTES
    after = start + header.body_bytes
    frame = memoryview(data)[start:after]
    if header.type != RecordType.FRAME:
        found = crc32(frame)
    else:  # a frame's checksum leaves out the four bytes that hold it
        found = crc32(frame[FRAME_HEADER_BYTES:], crc32(frame[: FRAME_HEADER_BYTES - 4]))
    if found != header.body_checksum:
        return f"a body with checksum {header.body_checksum:08x}", f"{found:08x}"
    if any(data[after : header.end]):
        return "zero bytes behind the body", data[after : header.end].hex()
    return None


def later_headers(seed: int, segment: int, data: bytes, offset: int) -> list[Header]:
    """All headers written for this segment at or after `offset`, wherever they stand, whatever lies between them."""
    pattern = _PATTERN.pack(MAGIC, segment)
    found: list[Header] = []
    at = data.find(pattern, offset)
    while at >= 0:
        if at % ALIGNMENT == 0 and (header := read_header(seed, segment, data, at)) is not None:
            found.append(header)
        at = data.find(pattern, at + 1)
    return found


# --- bodies that aren't frames --------------------------------------------------------------------------------------


class HardStateBody(msgspec.Struct, frozen=True, array_like=True):
    """A group's term and vote."""

    group: GroupId
    term: Term
    voted_for: NodeId | None


class BaseBody(msgspec.Struct, frozen=True, array_like=True):
    """Where a group's log begins now: after entry (term, index), and which snapshot holds what lies before.

    With `reset`, nothing of the log written before this record is left.
    """

    group: GroupId
    term: Term
    index: LogIndex
    reset: bool
    snapshot: SnapshotMeta | None


class FirstBody(msgspec.Struct, frozen=True, array_like=True):
    """The lowest segment that is still needed; those before it were given free after this record was flushed."""

    segment: int


Body = HardStateBody | BaseBody | FirstBody

encode_body = msgspec.msgpack.Encoder().encode
_DECODERS: dict[int, "msgspec.msgpack.Decoder[HardStateBody | BaseBody | FirstBody]"] = {
    RecordType.HARD_STATE: msgspec.msgpack.Decoder(HardStateBody),
    RecordType.BASE: msgspec.msgpack.Decoder(BaseBody),
    RecordType.FIRST: msgspec.msgpack.Decoder(FirstBody),
}


def decode_head(body: bytes) -> Entry:
    """An entry of which only the head is right, as the checksum of its record's header proves."""
    head = read_frame_header(body)
    return Entry(head.term, head.index, head.kind, head.count, head.stamp, body)


def decode_body(type_: int, body: bytes) -> Entry | Body | None:
    """What a record holds (None for marks and ends); its checksums were verified before.

    Raises IncompatibleVersion or ProtocolError for what this program can't have written.
    """
    if type_ == RecordType.FRAME:
        return decode_entry(body)
    decoder = _DECODERS.get(type_)
    if decoder is not None:
        try:
            return decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise IncompatibleVersion(f"a record of type {type_} that this program can't read: {error}") from None
    if type_ in (RecordType.MARK, RecordType.END):
        return None
    raise IncompatibleVersion(f"a record of type {type_}: this program knows 1 to {max(RecordType)}")
