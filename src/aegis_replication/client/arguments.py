"""What may a caller say, and what is made of it? Keys, values, ranges and times at the client's border."""

from typing import Final, TypeAlias

from aegis_replication.errors import InvalidArgument
from aegis_replication.state_machine.commands import prefix_end, text_key

TIMEOUT_SECONDS: Final = 10.0
LINEARIZABLE: Final = "linearizable"

Text: TypeAlias = bytes | str
"""A key or value: bytes, or text that is stored as UTF-8."""


def key_range(prefix: Text | None, start: Text | None, end: Text | None) -> tuple[bytes, bytes | None]:
    """The half-open range that is meant."""
    if prefix is not None:
        if start is not None or end is not None:
            raise InvalidArgument("prefix= beside start= or end=: give one or the other")
        first = text_key(prefix)
        return first, prefix_end(first)
    return b"" if start is None else text_key(start), None if end is None else text_key(end)


def value_bytes(value: Text) -> bytes:
    """A value as it is stored."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise InvalidArgument(f"a value of type {type(value).__name__}: give bytes or text")


def whole(name: str, value: int) -> int:
    """A whole number, unchanged; True and 1.0 are none."""
    if type(value) is not int:
        raise InvalidArgument(f"{name} = {value!r}: give a whole number")
    return value


def seconds_of(timeout: float) -> float:
    """A time that a call may take."""
    if type(timeout) not in (int, float) or not timeout > 0:
        raise InvalidArgument(f"timeout = {timeout!r}: give seconds, more than 0, such as {TIMEOUT_SECONDS:g}")
    return float(timeout)
