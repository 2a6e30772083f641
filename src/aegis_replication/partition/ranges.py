"""What is a partition? A half-open range of tokens, which can be split, merged and measured."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Self

import msgspec

from aegis_replication.errors import InvalidBoundary
from aegis_replication.hash.checks import checked_count
from aegis_replication.partition.key import PartitionKey

TOKEN_PREFIX_BYTES = 8
TOKEN_PREFIX_COUNT = 1 << 8 * TOKEN_PREFIX_BYTES
PIECES_MAX = 1 << 20


class PartitionRange(msgspec.Struct, frozen=True, gc=False, order=False):
    """Tokens [start, end); an end of None is the end of all tokens. Never empty."""

    start: bytes = b""
    end: bytes | None = None

    def __post_init__(self) -> None:
        if self.end is not None and self.start >= self.end:
            raise InvalidBoundary(f"range [{_shown(self.start)}, {_shown(self.end)}) is empty or turned around")

    @classmethod
    def full(cls) -> Self:
        return cls()

    @classmethod
    def between(
        cls,
        start: bytes | PartitionKey | None,
        end: bytes | PartitionKey | None,
        *,
        start_inclusive: bool = True,
        end_inclusive: bool = False,
    ) -> Self:
        """The same as a half-open range: nothing stands between a token and that token with a zero byte added."""
        low, high = _token(start) or b"", _token(end)
        if not start_inclusive and start is not None:
            low += b"\x00"
        if end_inclusive and high is not None:
            high += b"\x00"
        return cls(low, high)

    def contains(self, token: bytes | PartitionKey) -> bool:
        found = token.encoded if isinstance(token, PartitionKey) else token
        return self.start <= found and (self.end is None or found < self.end)

    def overlaps(self, other: "PartitionRange") -> bool:
        return (other.end is None or self.start < other.end) and (self.end is None or other.start < self.end)

    @property
    def size(self) -> int:
        """How many of the 2**64 first eight bytes of a token lie in it: equal sizes are equal shares of hashed keys."""
        return _prefix_number(self.end) - _prefix_number(self.start)

    def split_at(self, token: bytes | PartitionKey) -> tuple["PartitionRange", "PartitionRange"]:
        """[start, token) and [token, end). Raises InvalidBoundary if one of them would be empty."""
        at = token.encoded if isinstance(token, PartitionKey) else token
        if at == self.start or not self.contains(at):
            raise InvalidBoundary(f"{_shown(at)} doesn't lie inside {self}, so it can't split it")
        return PartitionRange(self.start, at), PartitionRange(at, self.end)

    def split(self, count: int) -> tuple["PartitionRange", ...]:
        """`count` ranges of equal size, as far as eight bytes behind the common beginning can tell.

        Raises InvalidCount, or InvalidBoundary if the range is too narrow for so many.
        """
        checked_count("count", count, 1, PIECES_MAX)
        width = _common_length(self.start, self.end) + TOKEN_PREFIX_BYTES
        low = int.from_bytes(self.start[:width].ljust(width, b"\x00"), "big")
        high = 1 << 8 * width if self.end is None else int.from_bytes(self.end[:width].ljust(width, b"\x00"), "big")
        cuts = [(low + (high - low) * index // count).to_bytes(width, "big") for index in range(1, count)]
        starts, ends = [self.start, *cuts], [*cuts, self.end]
        if any(end is not None and start >= end for start, end in zip(starts, ends)):
            raise InvalidBoundary(f"{self} is too narrow for {count} ranges")
        return tuple(PartitionRange(start, end) for start, end in zip(starts, ends))

    def merge(self, other: "PartitionRange") -> "PartitionRange":
        """The range that both make up. Raises InvalidBoundary unless they touch without overlapping."""
        if self.end is not None and self.end == other.start:
            return PartitionRange(self.start, other.end)
        if other.end is not None and other.end == self.start:
            return PartitionRange(other.start, self.end)
        raise InvalidBoundary(f"{self} and {other} don't touch: only neighbours can be merged")

    def __str__(self) -> str:
        return f"[{_shown(self.start)}, {_shown(self.end)})"


def even_ranges(count: int) -> tuple[PartitionRange, ...]:
    """All tokens in `count` ranges that hold equal shares of hashed keys."""
    return PartitionRange.full().split(count)


def checked_ranges(ranges: Sequence[PartitionRange]) -> tuple[PartitionRange, ...]:
    """The ranges, if they cover all tokens in order without gap or overlap. Raises InvalidBoundary."""
    if not ranges:
        raise InvalidBoundary("no ranges: at least one must hold all tokens")
    if ranges[0].start != b"":
        raise InvalidBoundary(f"the first range {ranges[0]} must start at the lowest token: tokens below have no place")
    for index, (left, right) in enumerate(pairwise(ranges)):
        if left.end is None or left.end > right.start:
            raise InvalidBoundary(f"range {index} {left} and range {index + 1} {right} overlap or are out of order")
        if left.end < right.start:
            raise InvalidBoundary(f"between range {index} {left} and range {index + 1} {right} is a gap")
    if ranges[-1].end is not None:
        raise InvalidBoundary(f"the last range {ranges[-1]} must have no end: tokens above have no place")
    return tuple(ranges)


def _token(token: bytes | PartitionKey | None) -> bytes | None:
    return token.encoded if isinstance(token, PartitionKey) else token


def _prefix_number(token: bytes | None) -> int:
    if token is None:
        return TOKEN_PREFIX_COUNT
    return int.from_bytes(token[:TOKEN_PREFIX_BYTES].ljust(TOKEN_PREFIX_BYTES, b"\x00"), "big")


def _common_length(start: bytes, end: bytes | None) -> int:
    length = 0
    while end is not None and length < min(len(start), len(end)) and start[length] == end[length]:
        length += 1
    return length


def _shown(token: bytes | None) -> str:
    if token is None:
        return "end"
    return token[:24].hex() + ("..." if len(token) > 24 else "") if token else "start"
