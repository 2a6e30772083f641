"""Which elements, keys and values may a replicated type hold, so that equal means equal on every replica?

Python takes 1, 1.0 and True for one dictionary key; their bytes differ. So elements and keys are text, whole numbers,
bytes and tuples of these, and a value that could be changed from outside is kept as its bytes.
"""

from typing import Any, Final, TypeAlias

import msgspec

from aegis_replication.errors import InvalidArgument
from aegis_replication.vector_clock import HybridTimestamp
from aegis_replication.vector_clock.codec import count, is_unicode
from aegis_replication.vector_clock.values import Carrier, carried

Key: TypeAlias = str | int | bytes | tuple[Any, ...]
"""An element of a set, or a key of a map."""

Stamp: TypeAlias = int | HybridTimestamp
"""When a value was set: a whole number in any unit that all replicas share, or a hybrid clock's stamp."""

VALUE: Final = Carrier("a replicated value", has_bytes=True, has_infinity=False, has_scalar_keys=False)
_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")


class Frozen(msgspec.Struct, frozen=True, gc=False):
    """A list or a dict, kept as its canonical bytes."""

    encoded: bytes


def checked_key(key: Any) -> Key:
    """`key`, if it is one. InvalidArgument: a float or a bool (each equals an int in Python), or anything mutable."""
    kind = type(key)
    if kind is str:
        if not key.isascii() and not is_unicode(key):
            raise InvalidArgument(f"{key!r} is not Unicode text: give it as bytes")
        return key  # type: ignore[no-any-return]
    if kind is int and -(2**63) <= key < 2**64:
        return key  # type: ignore[no-any-return]
    if kind is bytes:
        return key  # type: ignore[no-any-return]
    if kind is tuple:
        return tuple(checked_key(part) for part in key)
    raise InvalidArgument(
        f"{key!r} can't be an element or a key: give text, bytes, a whole number of 64 bits, or a tuple of these"
    )


def read_key(plain: Any) -> Key:
    """A key as it came out of bytes, where tuples are lists."""
    return checked_key(_tuples(plain))


def freeze(value: Any) -> Any:
    """`value` as it is kept: as it is, or Frozen. UnencodableValue: some part would come back as something else."""
    kind = type(value)
    if (kind is str and value.isascii()) or value is None or kind is bool or kind is bytes:
        return value
    canonical_value = carried(value, VALUE, "value")
    return Frozen(_ENCODER.encode(canonical_value)) if kind in (list, dict) else canonical_value


def thaw(kept: Any) -> Any:
    """The value again; a list or a dict comes as a fresh copy."""
    return msgspec.msgpack.decode(kept.encoded) if type(kept) is Frozen else kept


def plain(kept: Any) -> Any:
    """What stands for a kept value in bytes."""
    return msgspec.Raw(kept.encoded) if type(kept) is Frozen else kept


def canonical(kept: Any) -> bytes:
    """The bytes of a key or a kept value; they order what has no order of its own."""
    return kept.encoded if type(kept) is Frozen else _ENCODER.encode(kept)


def stamp_of(timestamp: Stamp | None) -> tuple[int, int]:
    if type(timestamp) is HybridTimestamp:
        return timestamp.physical_ms, timestamp.logical
    return (0, 0) if timestamp is None else (count(timestamp, "timestamp"), 0)


def json_view(value: Any) -> Any:
    """`value` as JSON can say it: sets sorted, maps with other keys than text as pairs, bytes as base64."""
    if isinstance(value, set | frozenset):
        return [json_view(each) for each in sorted(value, key=canonical)]
    if isinstance(value, dict):
        if all(type(key) is str for key in value):
            return {key: json_view(value[key]) for key in sorted(value)}
        return [[json_view(key), json_view(value[key])] for key in sorted(value, key=canonical)]
    if isinstance(value, list | tuple):
        return [json_view(each) for each in value]
    return value


def _tuples(plain: Any) -> Any:
    return tuple(map(_tuples, plain)) if type(plain) is list else plain
