"""What does every strategy answer? Which token a key has, and which token ranges a scan must look at."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from aegis_replication.errors import NoPartition, NotSupported, UnorderableKey
from aegis_replication.hash.functions import HashFunction
from aegis_replication.partition.codec import Payload, encode
from aegis_replication.partition.encoding import KeyValue, after_composite_prefix, after_prefix, encode_all
from aegis_replication.partition.key import KeyExtractor, PartitionKey, as_key
from aegis_replication.partition.ranges import PartitionRange

AnyKey = PartitionKey | KeyValue


class Strategy:
    """A strategy turns keys into tokens; partitions are always ranges of tokens, so that all else is the same for all.

    A token is a prefix that the strategy chooses, followed by the encoded key: unique, and ordered within the prefix.
    """

    __slots__ = ("_extractor", "_ranges", "_starts")
    NAME: ClassVar[str] = ""  # in bytes

    def __init__(self, columns: str | Sequence[str], ranges: Sequence[PartitionRange]) -> None:
        self._extractor = KeyExtractor(columns)
        self._ranges = tuple(ranges)
        self._starts = [each.start for each in ranges]

    # --- what a strategy says -----------------------------------------------------------------------------------

    def _prefix(self, key: PartitionKey) -> bytes:
        """Equal keys, equal prefixes. May raise NoPartition or UnorderableKey for a key that it can't place."""
        raise NotImplementedError

    def _scan(self, low: PartitionKey | None, high: PartitionKey | None, cut: PartitionRange) -> list[PartitionRange]:
        """The token ranges that may hold keys of `cut`, the range of encoded keys between the two bounds."""
        return [PartitionRange.full()]

    def _scan_prefix(self, values: tuple[KeyValue, ...], cut: PartitionRange) -> list[PartitionRange]:
        """The same for composite keys that begin with `values`."""
        return [PartitionRange.full()]

    def check_boundary(self, token: bytes) -> None:
        """Raises InvalidBoundary where this strategy's ranges can't be cut."""

    def _settings(self) -> dict[str, Any]:
        """What this was made with beside its columns, as plain values; keys in their encoding."""
        raise NotSupported(f"{type(self).__name__} has no byte form: keep what it is made with, and make it anew")

    @classmethod
    def _from_settings(cls, columns: list[str], settings: dict[str, Any], known: Iterable[HashFunction]) -> Self:
        """The strategy again; the constructor's errors say what is wrong with the settings."""
        raise NotImplementedError

    # --- for everyone -------------------------------------------------------------------------------------------

    @property
    def columns(self) -> tuple[str, ...]:
        return self._extractor.columns

    @property
    def initial_ranges(self) -> tuple[PartitionRange, ...]:
        """All tokens in ascending order, as they are split before there is any row."""
        return self._ranges

    @property
    def partition_count(self) -> int:
        return len(self._ranges)

    def token(self, key: AnyKey) -> bytes:
        """Where the key stands in the order of all tokens. Raises NoPartition, UnorderableKey."""
        key = as_key(key)
        return self._prefix(key) + key.encoded

    def key_of(self, row: Mapping[str, Any]) -> PartitionKey:
        """The row's key. Raises MissingColumn."""
        return self._extractor.require(row)

    def partition_for_key(self, key: AnyKey) -> int:
        """The number of the initial range that holds the key. Raises NoPartition, UnorderableKey."""
        return bisect_right(self._starts, self.token(key)) - 1

    def partition_for_row(self, row: Mapping[str, Any]) -> int:
        """Raises MissingColumn, NoPartition, UnorderableKey."""
        return self.partition_for_key(self.key_of(row))

    def scan(
        self,
        low: AnyKey | None = None,
        high: AnyKey | None = None,
        *,
        low_inclusive: bool = True,
        high_inclusive: bool = False,
    ) -> tuple[PartitionRange, ...]:
        """Ascending token ranges outside which no key from `low` to `high` can be; a bound of None is open.

        Empty if no key can be between them. Raises UnorderableKey.
        """
        low_key, high_key = None if low is None else as_key(low), None if high is None else as_key(high)
        if low_key is not None and high_key is not None and not low_key < high_key:
            if low_key != high_key or not (low_inclusive and high_inclusive):
                return ()
            # Rows of one key: exact in every strategy.
            try:
                token = self.token(low_key)
            except NoPartition:
                return ()
            return (PartitionRange.between(token, token, end_inclusive=True),)
        if low_key is None and high_key is None:
            return (PartitionRange.full(),)
        cut = PartitionRange.between(low_key, high_key, start_inclusive=low_inclusive, end_inclusive=high_inclusive)
        return tuple(self._scan(low_key, high_key, cut))

    def scan_prefix(self, *values: KeyValue) -> tuple[PartitionRange, ...]:
        """Ascending token ranges outside which no composite key that begins with these values can be."""
        if not values:
            raise UnorderableKey("scan_prefix needs at least one value; scan() without bounds looks at everything")
        prefix = encode_all(values)
        return tuple(self._scan_prefix(values, PartitionRange(prefix, after_composite_prefix(prefix))))

    def payload(self, cuts: list[bytes] | None = None) -> Payload:
        """This strategy, in a map whose ranges after the first begin at `cuts`, as it is encoded."""
        return Payload(self.NAME, list(self.columns), sorted(self._settings().items()), cuts)

    def to_bytes(self) -> bytes:
        """Versioned bytes, equal for equal strategies on every host; `strategy_from_bytes` opens them."""
        return encode(self.payload())

    def __eq__(self, other: object) -> bool:
        """Whether both give every key the same token, and begin with the same ranges."""
        if type(self) is not type(other) or not isinstance(other, Strategy):
            return False
        return self is other or (bool(self.NAME) and self.payload() == other.payload())

    def __hash__(self) -> int:
        return hash((self.NAME, self.columns))


def with_prefix(prefix: bytes, cut: PartitionRange) -> PartitionRange:
    """The tokens that are `prefix` and then an encoded key of `cut`."""
    end = after_prefix(prefix) if cut.end is None else prefix + cut.end
    return PartitionRange(prefix + cut.start, end)
