"""Is a number that a caller gave usable? One sentence that names it, what it is, and what would do."""

from math import isfinite

from aegis_replication.errors import InvalidCount

U64_COUNT = 1 << 64


def checked_count(what: str, value: object, least: int, most: int) -> int:
    """`value`, if it is a whole number in [least, most]. Raises InvalidCount."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidCount(f"{what} = {value!r}: give a whole number from {least:,} to {most:,}")
    return value


def checked_u64(what: str, value: object) -> int:
    """`value`, if it fits 64 bits without a sign. Raises InvalidCount."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < U64_COUNT:
        raise InvalidCount(f"{what} = {value!r}: give an unsigned 64-bit number, in [0, 2**64)")
    return value


def is_finite_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
