"""Which partition holds a key, and which ones does a scan meet, as ranges are split and merged?"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Self

from aegis_replication.errors import CorruptPartitioning, InvalidBoundary
from aegis_replication.hash.checks import checked_count
from aegis_replication.hash.functions import HashFunction
from aegis_replication.partition.codec import decode, encode
from aegis_replication.partition.encoding import KeyValue
from aegis_replication.partition.key import PartitionKey
from aegis_replication.partition.ranges import PIECES_MAX, PartitionRange, checked_ranges
from aegis_replication.partition.registry import strategy_of
from aegis_replication.partition.strategy import AnyKey, Strategy


class PartitionMap:
    """A strategy and the ranges that its tokens are cut into at present. Never changes: split and merge give a new one.

    A partition is known here by its place in the order of ranges, which shifts when ranges before it are split.
    """

    __slots__ = ("strategy", "ranges", "_starts")

    def __init__(self, strategy: Strategy, ranges: Sequence[PartitionRange] | None = None) -> None:
        """Raises InvalidBoundary unless the ranges cover all tokens and are cut where the strategy allows it."""
        self.strategy = strategy
        self.ranges = checked_ranges(strategy.initial_ranges if ranges is None else ranges)
        self._starts = [each.start for each in self.ranges]
        for start in self._starts[1:]:
            strategy.check_boundary(start)

    def __len__(self) -> int:
        return len(self.ranges)

    def partition_of_token(self, token: bytes) -> int:
        return bisect_right(self._starts, token) - 1

    def partition_for_key(self, key: AnyKey) -> int:
        """Raises NoPartition, UnorderableKey."""
        return self.partition_of_token(self.strategy.token(key))

    def range_for_key(self, key: AnyKey) -> PartitionRange:
        return self.ranges[self.partition_for_key(key)]

    def partitions_for_scan(
        self,
        low: AnyKey | None = None,
        high: AnyKey | None = None,
        *,
        low_inclusive: bool = True,
        high_inclusive: bool = False,
    ) -> list[int]:
        """The partitions that may hold a key from `low` to `high`, in order; all others need not be asked."""
        return self.partitions_meeting(
            self.strategy.scan(low, high, low_inclusive=low_inclusive, high_inclusive=high_inclusive)
        )

    def partitions_for_prefix(self, *values: KeyValue) -> list[int]:
        """The partitions that may hold a composite key that begins with these values."""
        return self.partitions_meeting(self.strategy.scan_prefix(*values))

    def partitions_meeting(self, token_ranges: Iterable[PartitionRange]) -> list[int]:
        """The partitions that share a token with one of the ranges, in order."""
        met: set[int] = set()
        for part in token_ranges:
            first = self.partition_of_token(part.start)
            after = len(self.ranges) if part.end is None else bisect_left(self._starts, part.end)
            met.update(range(first, after))
        return sorted(met)

    def split(self, index: int, at: bytes | PartitionKey) -> Self:
        """Partition `index` becomes two, the second beginning at this token, or at this key's.

        Raises InvalidCount, or InvalidBoundary if it can't be cut there.
        """
        token = self.strategy.token(at) if isinstance(at, PartitionKey) else at
        return self._replaced(index, 1, self.ranges[self._checked(index)].split_at(token))

    def split_evenly(self, index: int, count: int = 2) -> Self:
        """Partition `index` becomes `count` of equal size. Raises InvalidCount, InvalidBoundary."""
        checked_count("count", count, 2, PIECES_MAX)
        return self._replaced(index, 1, self.ranges[self._checked(index)].split(count))

    def merge(self, index: int) -> Self:
        """Partition `index` and the next one become one. Raises InvalidCount, or InvalidBoundary for the last one."""
        if self._checked(index) == len(self.ranges) - 1:
            raise InvalidBoundary(f"partition {index} is the last of {len(self.ranges)}: there is no next one")
        return self._replaced(index, 2, (self.ranges[index].merge(self.ranges[index + 1]),))

    def _replaced(self, index: int, count: int, ranges: tuple[PartitionRange, ...]) -> Self:
        return type(self)(self.strategy, (*self.ranges[:index], *ranges, *self.ranges[index + count :]))

    def _checked(self, index: int) -> int:
        return checked_count("partition", index, 0, len(self.ranges) - 1)

    def to_bytes(self) -> bytes:
        """Versioned bytes of the strategy and the ranges, equal for equal maps on every host."""
        return encode(self.strategy.payload(self._starts[1:]))

    @classmethod
    def from_bytes(cls, encoded: bytes, *, hash_functions: Iterable[HashFunction] = ()) -> Self:
        """The map that `to_bytes` encoded; pass hash functions that this package doesn't bring.

        Raises CorruptPartitioning, IncompatibleVersion, UnknownHashFunction.
        """
        payload = decode(encoded)
        strategy = strategy_of(payload, hash_functions)
        if payload.cuts is None:
            raise CorruptPartitioning("these bytes hold a strategy without ranges: open them with strategy_from_bytes")
        try:
            starts = [b"", *payload.cuts]
            return cls(strategy, [PartitionRange(*each) for each in zip(starts, [*payload.cuts, None])])
        except InvalidBoundary as error:
            raise CorruptPartitioning(f"these bytes don't describe ranges: {error}") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PartitionMap) and self.strategy == other.strategy and self.ranges == other.ranges

    def __hash__(self) -> int:
        return hash(self.ranges)

    def __repr__(self) -> str:
        return f"PartitionMap({type(self.strategy).__name__}, {len(self.ranges)} ranges)"
