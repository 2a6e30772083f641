"""Which values of an application come back from bytes and from JSON as they went in? Others are refused, by path."""

import math
from typing import Any, Final, NamedTuple

import msgspec

from aegis_replication.errors import UnencodableValue
from aegis_replication.vector_clock.codec import is_unicode

DEPTH_MAX: Final = 64
_SCALARS: Final = (type(None), bool, int, float, str, bytes)


class Carrier(NamedTuple):
    """What a format has words for, beyond None, bools, numbers, Unicode text, lists, and dicts with text as keys."""

    name: str
    has_bytes: bool
    has_infinity: bool
    has_scalar_keys: bool  # dicts with keys that are no text


BYTES: Final = Carrier("bytes", has_bytes=True, has_infinity=True, has_scalar_keys=True)
JSON: Final = Carrier("JSON", has_bytes=False, has_infinity=False, has_scalar_keys=False)


def carried(value: Any, carrier: Carrier, path: str, depth: int = DEPTH_MAX) -> Any:
    """`value` as it is written, the same for equal values of equal types: dicts sorted by the bytes of their keys.

    UnencodableValue: something in it would come back as something else, or not at all.
    """
    kind = type(value)
    if kind is list and depth:
        return [carried(each, carrier, f"{path}[{at}]", depth - 1) for at, each in enumerate(value)]
    if kind is dict and depth:
        checked = {_key(key, carrier, path): each for key, each in value.items()}
        return {
            key: carried(checked[key], carrier, f"{path}[{key!r}]", depth - 1)
            for key in sorted(checked, key=msgspec.msgpack.encode)
        }
    if reason := _refusal(value, carrier):
        raise UnencodableValue(path, carrier.name, reason)
    return value + 0.0 if kind is float else value  # -0.0 equals 0.0, and so must its bytes


def _key(key: Any, carrier: Carrier, path: str) -> Any:
    if type(key) is not str and type(key) in _SCALARS and not carrier.has_scalar_keys:
        raise UnencodableValue(
            path, carrier.name, f"the key {key!r} would come back as text: use text keys, or to_bytes()"
        )
    if reason := _refusal(key, carrier):
        raise UnencodableValue(path, carrier.name, f"the key {key!r}: {reason}")
    return key


def _refusal(value: Any, carrier: Carrier) -> str | None:
    """Why this can't go, if it is no list and no dict within the depth."""
    kind = type(value)
    if kind is str:
        return None if value.isascii() or is_unicode(value) else "it is not Unicode text: give it as bytes"
    if kind is int:
        return None if -(2**63) <= value < 2**64 else "it has more than 64 bits: give it as text"
    if kind is float:
        if math.isnan(value):
            return "NaN doesn't equal itself, so nobody could tell whether it came back: use None"
        return "there is no infinity: use None, or text" if math.isinf(value) and not carrier.has_infinity else None
    if kind is bytes:
        return None if carrier.has_bytes else "there are no bytes: use text, such as base64"
    if kind in _SCALARS:
        return None
    if kind is tuple:
        return "a tuple would come back as a list: use a list"
    if kind in (list, dict):
        return f"lists and dicts may stand {DEPTH_MAX} deep in each other, and none is a key"
    return f"a {kind.__name__} would not come back: use None, bools, numbers, text, bytes, lists and dicts"
