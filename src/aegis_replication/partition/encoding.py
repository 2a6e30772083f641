"""How do key values become bytes that sort as the values do? The FoundationDB tuple encoding, and a tag for times."""

from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from aegis_replication.errors import CorruptKey, UnorderableKey

KeyValue: TypeAlias = str | int | bytes | UUID | datetime | tuple["KeyValue", ...]
"""What a key may hold. Values of different kinds sort by kind: bytes, text, composites, numbers, UUIDs, times."""

# Tags of the published encoding; times use the first of its tags for users.
_BYTES, _TEXT, _COMPOSITE = 0x01, 0x02, 0x05
_INT_ZERO = 0x14  # lengths of one to eight bytes are added to it, or subtracted for negative numbers
_BIG_NEGATIVE, _BIG_POSITIVE = 0x0B, 0x1D
_UUID, _TIME = 0x30, 0x40
_END, _ESCAPED_ZERO = b"\x00", b"\x00\xff"

DEPTH_MAX = 16
_SHORT_INT_BYTES, _INT_BYTES_MAX = 8, 255
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TIME_OFFSET = 1 << 63


def encode(value: KeyValue) -> bytes:
    """Bytes that compare as the values do, and from which the value can be read back. Raises UnorderableKey."""
    return _encode(value, 0)


def encode_all(values: tuple[KeyValue, ...]) -> bytes:
    """The beginning that all composites share which begin with these values."""
    return bytes([_COMPOSITE]) + b"".join(_encode(value, 1) for value in values)


def decode(encoded: bytes) -> KeyValue:
    """The value that `encode` gave. Raises CorruptKey for bytes that it can't have given."""
    try:
        value, after = _decode(encoded, 0, 0)
        if after == len(encoded) and encode(value) == encoded:
            return value
    except (IndexError, ValueError, OverflowError):  # UnicodeDecodeError and UnorderableKey are ValueErrors
        pass
    raise CorruptKey(f"these {len(encoded)} bytes are not an encoded partition key: {encoded[:32].hex(' ')}")


def microseconds(time: datetime) -> int:
    """Since 1970-01-01T00:00Z, negative before. Raises UnorderableKey for a time without a zone."""
    if time.tzinfo is None or time.utcoffset() is None:
        raise UnorderableKey(f"time {time.isoformat()} has no zone: say which, for example time.replace(tzinfo=UTC)")
    return (time - _EPOCH) // _MICROSECOND


def time_of(microseconds_since_1970: int) -> datetime:
    """Raises OverflowError outside the years 1 to 9999."""
    return _EPOCH + timedelta(microseconds=microseconds_since_1970)


def encode_microseconds(since_1970: int) -> bytes:
    return (since_1970 + _TIME_OFFSET).to_bytes(8, "big")


def after_prefix(prefix: bytes) -> bytes | None:
    """The least bytes greater than all that begin with `prefix`; None if there is no such thing."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


def after_composite_prefix(prefix: bytes) -> bytes:
    """The least bytes greater than those of all composites that begin with the values in `prefix`, and of no other."""
    # What may follow is a tag or the end, all below 0xff; 0xff would make the last value's end an escaped zero.
    return prefix + b"\xff"


def _encode(value: object, depth: int) -> bytes:
    if isinstance(value, str):
        try:
            return bytes([_TEXT]) + value.encode().replace(b"\x00", _ESCAPED_ZERO) + _END
        except UnicodeEncodeError:
            raise UnorderableKey(f"{value!r} is not valid Unicode text: pass its bytes instead") from None
    if isinstance(value, int) and not isinstance(value, bool):
        return _encode_int(value)
    if isinstance(value, bytes):
        return bytes([_BYTES]) + value.replace(b"\x00", _ESCAPED_ZERO) + _END
    if isinstance(value, UUID):
        return bytes([_UUID]) + value.bytes
    if isinstance(value, datetime):
        return bytes([_TIME]) + encode_microseconds(microseconds(value))
    if isinstance(value, tuple):
        if not value:
            raise UnorderableKey("a composite key of no values names nothing: give at least one")
        if depth == DEPTH_MAX:
            raise UnorderableKey(f"composite keys nest deeper than {DEPTH_MAX} levels")
        return bytes([_COMPOSITE]) + b"".join(_encode(each, depth + 1) for each in value) + _END
    raise UnorderableKey(
        f"{value!r} of type {type(value).__name__} can't be a partition key: use str, int, bytes, UUID, a datetime "
        "with a zone, or a tuple of them"
    )


def _encode_int(value: int) -> bytes:
    if value == 0:
        return bytes([_INT_ZERO])
    size = (value.bit_length() + 7) // 8
    if size > _INT_BYTES_MAX:
        raise UnorderableKey(f"a whole number of {size} bytes is too large for a key: {_INT_BYTES_MAX} are possible")
    # Negative numbers as ones' complement, so that a longer one, whose tag is lower, sorts before a shorter one.
    body = (value if value > 0 else value + (1 << 8 * size) - 1).to_bytes(size, "big")
    if size <= _SHORT_INT_BYTES:
        return bytes([_INT_ZERO + size if value > 0 else _INT_ZERO - size]) + body
    if value > 0:
        return bytes([_BIG_POSITIVE, size]) + body
    return bytes([_BIG_NEGATIVE, size ^ 0xFF]) + body


def _decode(encoded: bytes, start: int, depth: int) -> tuple[KeyValue, int]:
    """The value that begins at `start`, and where the next one would."""
    tag, body = encoded[start], start + 1
    if tag in (_TEXT, _BYTES):
        raw, after = _decode_escaped(encoded, body)
        return (raw.decode() if tag == _TEXT else raw), after
    if tag == _UUID:
        return UUID(bytes=encoded[body : body + 16]), body + 16
    if tag == _TIME:
        return time_of(int.from_bytes(encoded[body : body + 8], "big") - _TIME_OFFSET), body + 8
    if tag == _COMPOSITE and depth < DEPTH_MAX:
        values = []
        while encoded[body] != 0:
            value, body = _decode(encoded, body, depth + 1)
            values.append(value)
        return tuple(values), body + 1
    if _BIG_NEGATIVE <= tag <= _BIG_POSITIVE:
        return _decode_int(encoded, tag, body)
    raise ValueError(f"unknown tag {tag:#04x}")


def _decode_escaped(encoded: bytes, start: int) -> tuple[bytes, int]:
    end = encoded.index(_END, start)
    while encoded[end + 1 : end + 2] == b"\xff":
        end = encoded.index(_END, end + 2)
    return encoded[start:end].replace(_ESCAPED_ZERO, b"\x00"), end + 1


def _decode_int(encoded: bytes, tag: int, body: int) -> tuple[int, int]:
    size = tag - _INT_ZERO
    if tag == _BIG_POSITIVE:
        size, body = encoded[body], body + 1
    elif tag == _BIG_NEGATIVE:
        size, body = -(encoded[body] ^ 0xFF), body + 1
    after = body + abs(size)
    value = int.from_bytes(encoded[body:after], "big")
    return (value if size >= 0 else value - (1 << 8 * -size) + 1), after
