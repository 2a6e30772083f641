"""How do clocks and replicated data types look as bytes and as JSON? One versioned envelope, equal on every host."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from aegis_replication.errors import IncompatibleVersion, InvalidArgument, UndecodableBytes

FORMAT_VERSION: Final = 1
"""The newest version that this program writes and reads."""

COUNT_MAX: Final = 2**63 - 1
"""The highest count of an actor, and the highest timestamp."""

T = TypeVar("T")


def pack(kind: str, body: Any) -> bytes:
    """`body` in the envelope [version, kind, body]. The caller sorts what has no order, so equals give equal bytes."""
    return msgspec.msgpack.encode([FORMAT_VERSION, kind, body])


def unpack(kind: str, encoded: bytes, read: Callable[[Any], T]) -> T:
    """What `read` makes of the body. IncompatibleVersion: a newer program wrote it. UndecodableBytes: anything else."""
    found, body = open_envelope(encoded)
    if found != kind:
        raise UndecodableBytes(f"these bytes are a {found}, not a {kind}: decode them with {found}.from_bytes")
    return checked(kind, body, read)


def open_envelope(encoded: bytes) -> tuple[str, Any]:
    """Kind and body."""
    try:
        envelope = msgspec.msgpack.decode(encoded)
    except (msgspec.DecodeError, TypeError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableBytes(f"not the bytes of a clock or a replicated type ({error}): cut off or damaged") from None
    return _opened(envelope)


def _opened(envelope: Any) -> tuple[str, Any]:
    match envelope:
        case [bool(), *_]:
            pass
        case [int(version), *_] if version > FORMAT_VERSION:
            raise IncompatibleVersion(
                f"written in format version {version}, this program reads up to {FORMAT_VERSION}: update this program"
            )
        case [1, str(kind), body]:
            return kind, body
    raise UndecodableBytes("not the bytes of a clock or a replicated type: [version, kind, body] expected")


def checked(kind: str, body: Any, read: Callable[[Any], T]) -> T:
    """`read(body)`, whose every stumble over the shape of the input is one UndecodableBytes."""
    try:
        return read(body)
    except UndecodableBytes:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise UndecodableBytes(f"not the body of a {kind}: {error}") from None


def to_json(body: Any) -> str:
    return msgspec.json.encode(body).decode()


def from_json(kind: str, text: str, read: Callable[[Any], T]) -> T:
    try:
        body = msgspec.json.decode(text)
    except (msgspec.DecodeError, TypeError, RecursionError) as error:
        raise UndecodableBytes(f"not the JSON of a {kind}: {error}") from None
    return checked(kind, body, read)


def actor_id(value: object) -> str:
    """`value` as the name of an actor or a node: any text of 1 to 200 characters."""
    if type(value) is str and 0 < len(value) <= 200 and (value.isascii() or is_unicode(value)):
        return value
    if type(value) is int and value >= 0:
        return str(value)
    raise InvalidArgument(f"actor id {value!r}: give a text of 1 to 200 characters, such as 'n1', or a whole number")


def count(value: object, what: str = "count", least: int = 0) -> int:
    """`value` as a whole number from `least` to COUNT_MAX."""
    if type(value) is int and least <= value <= COUNT_MAX:
        return value
    raise InvalidArgument(f"{what} {value!r}: give a whole number from {least} to 2**63 - 1")


def is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
