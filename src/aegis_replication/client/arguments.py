"""What may a caller say, and what is made of it? Keys, values, ranges and times at the client's border."""

from typing import Final, TypeAlias

from aegis_replication.errors import InvalidArgument, LevelNotSupported
from aegis_replication.state_machine.commands import prefix_end, text_key

TIMEOUT_SECONDS: Final = 10.0
LINEARIZABLE: Final = "linearizable"
LEADER: Final = "leader"
ANY: Final = "any"
STALENESS_SECONDS_MAX: Final = 86_400.0

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


def staleness_of(consistency: str, replica: str, max_staleness: float | None) -> int | None:
    """How old an answer may be, in ms; 0: as any linearizable read, by any replica; None: the same, by the leader."""
    if consistency != LINEARIZABLE:
        raise LevelNotSupported(f"consistency={consistency!r} is not there yet: what works is {LINEARIZABLE!r}")
    if replica not in (LEADER, ANY):
        raise InvalidArgument(f"replica={replica!r}: give {LEADER!r} or {ANY!r}")
    if max_staleness is None:
        return 0 if replica == ANY else None
    if type(max_staleness) not in (int, float) or not 0.001 <= max_staleness <= STALENESS_SECONDS_MAX:
        raise InvalidArgument(
            f"max_staleness = {max_staleness!r}: give seconds, 0.001 to {STALENESS_SECONDS_MAX:,.0f}, such as 1.0"
        )
    return int(max_staleness * 1000.0)
