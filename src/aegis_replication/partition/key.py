"""What decides where a row lives? A key of one value or several, and how it is taken from a row."""

from collections.abc import Mapping, Sequence
from functools import total_ordering
from typing import Any, Self

from aegis_replication.errors import MissingColumn
from aegis_replication.hash.functions import DEFAULT_HASH_FUNCTION, HashFunction, hash_function
from aegis_replication.partition.encoding import KeyValue, decode, encode


@total_ordering
class PartitionKey:
    """A value, or a tuple of them, with one order and one byte form on every host.

    Keys compare as their values do. 123 and "123" are different keys, and so are ("a",) and "a".
    """

    __slots__ = ("value", "encoded")

    def __init__(self, value: KeyValue) -> None:
        """Raises UnorderableKey for what has no defined order: floats, bools, None, times without a zone."""
        # Not to be changed afterwards: `encoded` is its other form.
        self.value: KeyValue = value
        self.encoded = encode(value)

    def to_bytes(self) -> bytes:
        """Bytes that compare as the keys do."""
        return self.encoded

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Self:
        """Raises CorruptKey."""
        return cls(decode(bytes(encoded)))

    def hash_value(self, function: str | HashFunction = DEFAULT_HASH_FUNCTION) -> int:
        """An unsigned 64-bit number, equal on every platform."""
        return hash_function(function).digest(self.encoded)

    @property
    def is_composite(self) -> bool:
        return isinstance(self.value, tuple)

    @property
    def first(self) -> KeyValue:
        """The value itself, or the first of several: what list and time strategies look at."""
        return self.value[0] if isinstance(self.value, tuple) else self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PartitionKey) and self.encoded == other.encoded

    def __lt__(self, other: "PartitionKey") -> bool:
        return self.encoded < other.encoded

    def __hash__(self) -> int:
        return hash(self.encoded)

    def __repr__(self) -> str:
        return f"PartitionKey({self.value!r})"


def as_key(value: PartitionKey | KeyValue) -> PartitionKey:
    return value if isinstance(value, PartitionKey) else PartitionKey(value)


class KeyExtractor:
    """Takes the partition key out of a row: one column gives a plain key, several a composite one.

    Values keep their type. Where rows come from sources that disagree about it (123 in one, "123" in another), declare
    it in `types`: a row of another type is refused, and can't end up on another shard than its twin.
    """

    __slots__ = ("columns", "_types")

    def __init__(self, columns: str | Sequence[str], types: Mapping[str, type] | None = None) -> None:
        """Raises MissingColumn for no columns, or types of unknown ones."""
        self.columns: tuple[str, ...] = (columns,) if isinstance(columns, str) else tuple(columns)
        self._types = dict(types or {})
        if not self.columns or not all(self.columns):
            raise MissingColumn(f"partition columns {self.columns}: name at least one, and none empty")
        if unknown := set(self._types) - set(self.columns):
            raise MissingColumn(f"types name columns that aren't in the key: {', '.join(sorted(unknown))}")

    def extract(self, row: Mapping[str, Any]) -> PartitionKey | None:
        """None if a column is missing or None: such a row has no key. Raises MissingColumn for a wrong type."""
        values = []
        for column in self.columns:
            if (value := row.get(column)) is None:
                return None
            values.append(self._checked(column, value))
        return PartitionKey(values[0] if len(values) == 1 else tuple(values))

    def require(self, row: Mapping[str, Any]) -> PartitionKey:
        """Raises MissingColumn if a column is missing, None, or of a wrong type."""
        if (key := self.extract(row)) is None:
            missing = [column for column in self.columns if row.get(column) is None]
            raise MissingColumn(f"the row has nothing in {', '.join(missing)}, needed for its partition key")
        return key

    def _checked(self, column: str, value: Any) -> Any:
        wanted = self._types.get(column)
        if wanted is not None and (not isinstance(value, wanted) or (isinstance(value, bool) and wanted is int)):
            raise MissingColumn(f"column {column} holds {value!r}, a {type(value).__name__}, not {wanted.__name__}")
        return value
