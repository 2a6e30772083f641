"""What was a damaged record before? Told from its checksums, from the record before it and from the one after it.

A record's own checksum stands twice on the disk: in itself, and in the record that follows. So a header can be guessed
from what must stand in it, and the guess is believed only if it has the checksum that its follower names.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple
from zlib import crc32

from aegis_replication.log import FRAME_HEADER_BYTES, frame_checksum, read_frame_header
from aegis_replication.storage.files import Files
from aegis_replication.storage.records import (
    COVERED_BYTES,
    FIELDS,
    FIELDS_BYTES,
    HEADER_BYTES,
    MAGIC,
    Header,
    Position,
    RecordType,
    body_fault,
    join_record,
    record_bytes,
)

_BITS_BYTES_MAX: Final = 4096  # in a longer body nobody looks for the one bit that is wrong


_LENGTH_AT: Final = range(24, 28)  # where the fields say how long the body is


class Damage(NamedTuple):
    """A record that isn't as it was written, and what the log knows of it all the same."""

    path: str
    offset: int
    expected: str
    found: str
    is_whole: bool  # as those around it tell it; else of an entry only the head is known
    data: bytes | None  # what must stand there, if that is known and something else does


class Mended(NamedTuple):
    """A record as it must have been: its header, and all its bytes; and whether its body is right."""

    header: Header
    data: bytes
    is_whole: bool


def put_right(files: Files, damage: Sequence[Damage]) -> list[str]:
    """Write what is known of damaged records where it belongs, durably; what was done, for people."""
    notes = []
    for each in damage:
        if each.data is not None:
            handle = files.open(each.path, "write")
            try:
                files.pwritev(handle, (each.data,), each.offset)
                files.sync(handle)
            finally:
                files.close(handle)
            notes.append(f"{each.path}: put right at byte {each.offset}: expected {each.expected}, found {each.found}")
    return notes


def mend_body(header: Header, raw: bytes) -> Mended | None:
    """The record of a right header whose padding, or a single bit of its body, is wrong; None: more is.

    `raw` is what stands in its place.
    """
    body = raw[HEADER_BYTES : HEADER_BYTES + header.body_bytes]
    if _is_right(header, body):
        return Mended(header, join_record(raw[:HEADER_BYTES], body), is_whole=True)
    if len(body) <= _BITS_BYTES_MAX:
        changed = bytearray(body)
        for at in range(len(body)):
            for bit in range(8):
                changed[at] ^= 1 << bit
                if _is_right(header, bytes(changed)):
                    return Mended(header, join_record(raw[:HEADER_BYTES], bytes(changed)), is_whole=True)
                changed[at] ^= 1 << bit
    return None


def mend_header(
    seed: int, position: Position, raw: bytes, previous: int | None, flushed: Position, after: Header
) -> Mended | None:
    """The record whose header, or what that covers of an entry, is wrong; None: it can't be told.

    `raw` is what stands between its place and that of the record `after` it; `previous` and `flushed` are the checksum
    and the *flushed before* of the record before it.
    """
    fields = bytearray(raw[:FIELDS_BYTES])
    body = bytearray(raw[HEADER_BYTES:])
    # Known whatever stands there: the place, and what comes before it.
    _, _, _, type_, flags, _, flushed_before, body_bytes, named, body_checksum = FIELDS.unpack(fields)
    known = (MAGIC, position >> 32, position & 0xFFFF_FFFF)
    named = named if previous is None else previous
    FIELDS.pack_into(fields, 0, *known, type_, flags, 0, flushed_before, body_bytes, named, body_checksum)
    guesses = [bytes(fields)]
    if len(body) >= FRAME_HEADER_BYTES:  # an entry says itself how long it is, and its checksum
        length = FRAME_HEADER_BYTES + read_frame_header(bytes(body)).payload_bytes
        of_frame = frame_checksum(bytes(body))
        if length <= len(body):
            guesses += [
                FIELDS.pack(*known, RecordType.FRAME, flags, 0, flushed_to, length, named, of_frame)
                for flags in (0, 1)
                for flushed_to in (flushed_before, flushed, after.flushed_before, position)
            ]
    for guess in guesses:
        header = _believed(seed, guess, body, len(raw), after.previous)
        if header is not None:
            is_whole = _is_right(header, bytes(body[: header.body_bytes]))
            if is_whole or header.type == RecordType.FRAME:
                return _mended(guess, header, body, is_whole=is_whole)
    # Of thousands of guesses one may fit by chance: then it must fit the body's checksum, too.
    for changed, rest in _with_one_byte_changed(seed, fields, body, after.previous):
        header = _believed(seed, changed, rest, len(raw), after.previous)
        if header is not None and _is_right(header, bytes(rest[: header.body_bytes])):
            return _mended(bytes(changed), header, rest, is_whole=True)
    return None


def _with_one_byte_changed(
    seed: int, fields: bytearray, body: bytearray, checksum: int
) -> Iterator[tuple[bytearray, bytearray]]:
    """All that differ in one byte, of the fields or of what they cover of the body, and have `checksum`."""
    length = min(len(body), COVERED_BYTES, FIELDS.unpack(fields)[7])
    covered = body[:length]
    for at in range(FIELDS_BYTES):
        original = fields[at]
        for value in range(256):
            fields[at] = value
            if at in _LENGTH_AT or crc32(covered, crc32(fields, seed)) == checksum:
                yield fields, body
        fields[at] = original
    before = crc32(fields, seed)
    for at in range(length):
        original = covered[at]
        for value in range(256):
            covered[at] = value
            if crc32(covered, before) == checksum:
                yield fields, covered + body[length:]
        covered[at] = original


def _believed(seed: int, fields: bytes | bytearray, body: bytearray, raw_bytes: int, checksum: int) -> Header | None:
    """The header with such fields in front of `body`, if it fills `raw_bytes` and has `checksum`."""
    _, segment, offset, type_, flags, _, flushed_before, body_bytes, previous, body_checksum = FIELDS.unpack(fields)
    if record_bytes(body_bytes) != raw_bytes:
        return None
    if crc32(body[: min(body_bytes, COVERED_BYTES)], crc32(fields, seed)) != checksum:
        return None
    return Header(segment, offset, type_, flags, flushed_before, body_bytes, previous, body_checksum, checksum)


def _mended(fields: bytes, header: Header, body: bytearray, *, is_whole: bool) -> Mended:
    head = fields + header.checksum.to_bytes(4, "little")
    return Mended(header, join_record(head, bytes(body[: header.body_bytes])), is_whole)


def _is_right(header: Header, body: bytes) -> bool:
    """Is it the body that the header was written for?"""
    at_start = header._replace(offset=0)
    return body_fault(at_start, bytes(HEADER_BYTES) + body) is None
