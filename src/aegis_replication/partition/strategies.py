"""The strategies by value: hash, range, list, composite, and round robin for writes without a key."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import count, pairwise
from typing import Any, ClassVar, Self

from aegis_replication.errors import InvalidBoundary, NoPartition, UnorderableKey
from aegis_replication.hash.checks import checked_count
from aegis_replication.hash.functions import DEFAULT_HASH_FUNCTION, HashFunction
from aegis_replication.hash.functions import hash_function as named_hash_function
from aegis_replication.partition.encoding import KeyValue, decode, encode
from aegis_replication.partition.key import PartitionKey, as_key
from aegis_replication.partition.ranges import PartitionRange, even_ranges
from aegis_replication.partition.strategy import AnyKey, Strategy, with_prefix

PARTITIONS_DEFAULT = 16
PARTITIONS_MAX = 65_535
_ORDINAL_BYTES = 2
# The default partition's own, so that new lists can be added before it without moving a row.
_DEFAULT_ORDINAL = b"\xff\xff"


class HashStrategy(Strategy):
    """Spreads rows evenly by a 64-bit hash of the whole key; a scan must look everywhere, a single key at one place.

    A range of hashes is split without moving rows of other ranges, unlike with `hash % n`.
    """

    __slots__ = ("_function",)
    NAME: ClassVar[str] = "hash"

    def __init__(
        self,
        columns: str | Sequence[str] = "key",
        partitions: int = PARTITIONS_DEFAULT,
        *,
        hash_function: str | HashFunction = DEFAULT_HASH_FUNCTION,
    ) -> None:
        checked_count("partitions", partitions, 1, PARTITIONS_MAX)
        super().__init__(columns, even_ranges(partitions))
        self._function = named_hash_function(hash_function)

    @property
    def hash_function(self) -> str:
        return self._function.name

    def _prefix(self, key: PartitionKey) -> bytes:
        return self._function.digest(key.encoded).to_bytes(8, "big")

    def _settings(self) -> dict[str, Any]:
        return {"partitions": self.partition_count, "hash_function": self.hash_function}

    @classmethod
    def _from_settings(cls, columns: list[str], settings: dict[str, Any], known: Iterable[HashFunction]) -> Self:
        function = named_hash_function(settings.pop("hash_function"), known)
        return cls(columns, hash_function=function, **settings)


class RangeStrategy(Strategy):
    """Keeps rows in key order: partition i holds keys from bounds[i - 1] up to, not including, bounds[i]."""

    __slots__ = ()
    NAME: ClassVar[str] = "range"

    def __init__(self, column: str | Sequence[str] = "key", bounds: Sequence[AnyKey] = ()) -> None:
        """Raises InvalidBoundary unless the bounds ascend and are of one kind."""
        keys = [as_key(bound) for bound in bounds]
        for index, (left, right) in enumerate(pairwise(keys)):
            if type(left.value) is not type(right.value):
                raise InvalidBoundary(f"bounds {index} {left.value!r} and {index + 1} {right.value!r} differ in kind")
            if not left < right:
                raise InvalidBoundary(f"bound {index} {left.value!r} is not below bound {index + 1} {right.value!r}")
        tokens = [key.encoded for key in keys]
        super().__init__(column, [PartitionRange(s, e) for s, e in zip([b"", *tokens], [*tokens, None])])

    def _prefix(self, key: PartitionKey) -> bytes:
        return b""

    def _scan(self, low: PartitionKey | None, high: PartitionKey | None, cut: PartitionRange) -> list[PartitionRange]:
        return [cut]

    def _scan_prefix(self, values: tuple[KeyValue, ...], cut: PartitionRange) -> list[PartitionRange]:
        return [cut]

    def _settings(self) -> dict[str, Any]:
        return {"bounds": self._starts[1:]}

    @classmethod
    def _from_settings(cls, columns: list[str], settings: dict[str, Any], known: Iterable[HashFunction]) -> Self:
        return cls(columns, [PartitionKey.from_bytes(bound) for bound in settings.pop("bounds")], **settings)


class ListStrategy(Strategy):
    """Puts listed values into named partitions; any other value is refused, unless a default is named for it.

    The first column decides. New lists go at the end of `partitions`: the order is part of the tokens.
    """

    __slots__ = ("names", "_ordinals", "_default")
    NAME: ClassVar[str] = "list"

    def __init__(
        self,
        column: str | Sequence[str] = "key",
        partitions: Mapping[str, Sequence[KeyValue]] | None = None,
        *,
        default: str | None = None,
    ) -> None:
        """Raises NoPartition for no lists, InvalidBoundary for a value in two lists or a name used twice."""
        lists = dict(partitions or {})
        if not lists and default is None:
            raise NoPartition("a list strategy needs lists of values, or at least a default partition")
        checked_count("the number of lists", len(lists), 0, PARTITIONS_MAX - 1)
        if default in lists:
            raise InvalidBoundary(f"{default!r} names both a list and the default partition")
        # Names in the order of their ranges.
        self.names: tuple[str, ...] = (*lists, *([] if default is None else [default]))
        self._default = default
        self._ordinals: dict[bytes, int] = {}
        for ordinal, (name, values) in enumerate(lists.items()):
            for value in values:
                first = self._ordinals.setdefault(encode(value), ordinal)
                if first != ordinal:
                    raise InvalidBoundary(f"value {value!r} is listed for both {self.names[first]!r} and {name!r}")
        starts = [ordinal.to_bytes(_ORDINAL_BYTES, "big") for ordinal in range(len(lists))]
        starts += [] if default is None else [_DEFAULT_ORDINAL]
        ends: list[bytes | None] = [*starts[1:], None]
        super().__init__(column, [PartitionRange(s, e) for s, e in zip([b"", *starts[1:]], ends)])

    def partition_name(self, key: AnyKey) -> str:
        """Raises NoPartition."""
        return self.names[self.partition_for_key(key)]

    def _prefix(self, key: PartitionKey) -> bytes:
        ordinal = self._ordinals.get(encode(key.first))
        if ordinal is not None:
            return ordinal.to_bytes(_ORDINAL_BYTES, "big")
        if self._default is None:
            raise NoPartition(
                f"{key.first!r} is in none of the lists {', '.join(self.names)}: list it, or name a default partition"
            )
        return _DEFAULT_ORDINAL

    def _scan(self, low: PartitionKey | None, high: PartitionKey | None, cut: PartitionRange) -> list[PartitionRange]:
        floor, ceiling = (None if key is None else encode(key.first) for key in (low, high))
        if low is not None and high is not None and low.is_composite != high.is_composite:
            floor = ceiling = None  # keys of two shapes: every list may hold some
        ordinals = {
            ordinal
            for value, ordinal in self._ordinals.items()
            if (floor is None or floor <= value) and (ceiling is None or value <= ceiling)
        }
        return self._parts(ordinals, cut, with_default=True)

    def _scan_prefix(self, values: tuple[KeyValue, ...], cut: PartitionRange) -> list[PartitionRange]:
        ordinal = self._ordinals.get(encode(values[0]))
        return self._parts(set() if ordinal is None else {ordinal}, cut, with_default=ordinal is None)

    def _parts(self, ordinals: set[int], cut: PartitionRange, *, with_default: bool) -> list[PartitionRange]:
        prefixes = [ordinal.to_bytes(_ORDINAL_BYTES, "big") for ordinal in sorted(ordinals)]
        if with_default and self._default is not None:
            prefixes.append(_DEFAULT_ORDINAL)
        return [with_prefix(prefix, cut) for prefix in prefixes]

    def _settings(self) -> dict[str, Any]:
        lists: list[tuple[str, list[bytes]]] = [(name, []) for name in self.names if name != self._default]
        for value in sorted(self._ordinals):  # the order of lists is part of the tokens, that of values isn't
            lists[self._ordinals[value]][1].append(value)
        return {"partitions": lists, "default": self._default}

    @classmethod
    def _from_settings(cls, columns: list[str], settings: dict[str, Any], known: Iterable[HashFunction]) -> Self:
        lists = {name: [decode(value) for value in values] for name, values in settings.pop("partitions")}
        return cls(columns, lists, **settings)


class CompositeStrategy(Strategy):
    """Spreads rows by a hash of the first columns and keeps those of one hash in the order of the others.

    All rows of a customer lie together, sorted by time, while customers are spread evenly.
    """

    __slots__ = ("_hash_count", "_function")
    NAME: ClassVar[str] = "composite"

    def __init__(
        self,
        hash_columns: str | Sequence[str],
        range_columns: str | Sequence[str],
        partitions: int = PARTITIONS_DEFAULT,
        *,
        hash_function: str | HashFunction = DEFAULT_HASH_FUNCTION,
    ) -> None:
        hashed = (hash_columns,) if isinstance(hash_columns, str) else tuple(hash_columns)
        ordered = (range_columns,) if isinstance(range_columns, str) else tuple(range_columns)
        if not hashed or not ordered:
            raise UnorderableKey("a composite strategy needs at least one column to hash and one to sort by")
        checked_count("partitions", partitions, 1, PARTITIONS_MAX)
        super().__init__((*hashed, *ordered), even_ranges(partitions))
        self._hash_count = len(hashed)
        self._function = named_hash_function(hash_function)

    def _prefix(self, key: PartitionKey) -> bytes:
        values = key.value
        if not isinstance(values, tuple) or len(values) != len(self.columns):
            raise UnorderableKey(
                f"key {values!r} must be a tuple of {len(self.columns)} values: {', '.join(self.columns)}"
            )
        return self._hash_prefix(values)

    def _hash_prefix(self, values: tuple[KeyValue, ...]) -> bytes:
        return self._function.digest(encode(values[: self._hash_count])).to_bytes(8, "big")

    def _scan(self, low: PartitionKey | None, high: PartitionKey | None, cut: PartitionRange) -> list[PartitionRange]:
        if low is None or high is None or not isinstance(low.value, tuple) or not isinstance(high.value, tuple):
            return [PartitionRange.full()]
        if min(len(low.value), len(high.value)) < self._hash_count:
            return [PartitionRange.full()]
        if encode(low.value[: self._hash_count]) != encode(high.value[: self._hash_count]):
            return [PartitionRange.full()]
        return [with_prefix(self._hash_prefix(low.value), cut)]

    def _scan_prefix(self, values: tuple[KeyValue, ...], cut: PartitionRange) -> list[PartitionRange]:
        if len(values) < self._hash_count:
            return [PartitionRange.full()]
        return [with_prefix(self._hash_prefix(values), cut)]

    def _settings(self) -> dict[str, Any]:
        return {
            "partitions": self.partition_count,
            "hash_function": self._function.name,
            "hash_count": self._hash_count,
        }

    @classmethod
    def _from_settings(cls, columns: list[str], settings: dict[str, Any], known: Iterable[HashFunction]) -> Self:
        function, hash_count = named_hash_function(settings.pop("hash_function"), known), settings.pop("hash_count")
        return cls(columns[:hash_count], columns[hash_count:], hash_function=function, **settings)


class RoundRobinStrategy(Strategy):
    """Deals writes without a key to all partitions in turn; reading a row back means asking them all.

    The turn is kept in memory only: after a restart it begins at `first` again, which costs nothing but evenness.
    """

    __slots__ = ("_turns",)
    NAME: ClassVar[str] = "round_robin"

    def __init__(self, partitions: int = PARTITIONS_DEFAULT, *, first: int = 0) -> None:
        checked_count("partitions", partitions, 1, PARTITIONS_MAX)
        checked_count("first", first, 0, partitions - 1)
        super().__init__("row_id", even_ranges(partitions))
        self._turns = count(first)

    def next_partition(self) -> int:
        """The number of the partition whose turn it is; every call is a turn."""
        return next(self._turns) % len(self._ranges)

    def next_token(self, row_id: AnyKey) -> bytes:
        """A token in the partition whose turn it is, made unique by the row's id."""
        # The first range starts with no bytes at all; eight zeros begin it as well.
        return self._starts[self.next_partition()].ljust(8, b"\x00") + as_key(row_id).encoded

    def _settings(self) -> dict[str, Any]:
        return {"partitions": self.partition_count}

    @classmethod
    def _from_settings(cls, columns: list[str], settings: dict[str, Any], known: Iterable[HashFunction]) -> Self:
        return cls(**settings)

    def _prefix(self, key: PartitionKey) -> bytes:
        raise NoPartition(
            f"round robin doesn't look at keys, so {key.value!r} may be anywhere: write with next_token(row_id), read "
            "with scan()"
        )

    def scan(
        self,
        low: AnyKey | None = None,
        high: AnyKey | None = None,
        *,
        low_inclusive: bool = True,
        high_inclusive: bool = False,
    ) -> tuple[PartitionRange, ...]:
        """Everything, whatever the bounds."""
        return (PartitionRange.full(),)
