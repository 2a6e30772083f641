"""What does a value with its version look like? A value, the vector clock it was written at, and a time to show."""

from typing import Any, Self

import msgspec

from aegis_replication.errors import InvalidArgument
from aegis_replication.vector_clock.clock import Ordering, VectorClock
from aegis_replication.vector_clock.codec import count, from_json, pack, to_json, unpack
from aegis_replication.vector_clock.values import BYTES, JSON, Carrier, carried


class VersionedValue(msgspec.Struct, frozen=True):
    """A value and its version. The clock alone decides what came first; the timestamp is for people."""

    value: Any
    clock: VectorClock
    timestamp_ms: int = 0

    def __post_init__(self) -> None:
        if type(self.clock) is not VectorClock:
            raise InvalidArgument(f"clock {self.clock!r}: give a VectorClock")
        count(self.timestamp_ms, "timestamp_ms")

    def compare(self, other: "VersionedValue") -> Ordering:
        return self.clock.compare(other.clock)

    def happened_before(self, other: "VersionedValue") -> bool:
        return self.clock.happened_before(other.clock)

    def happened_after(self, other: "VersionedValue") -> bool:
        return self.clock.happened_after(other.clock)

    def is_concurrent_with(self, other: "VersionedValue") -> bool:
        return self.clock.is_concurrent_with(other.clock)

    def to_bytes(self) -> bytes:
        """The same for equal values of equal types. UnencodableValue: this value can't come back as it is."""
        return pack("VersionedValue", self._body(BYTES))

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Self:
        return unpack("VersionedValue", encoded, lambda body: cls._from_body(body, BYTES))

    def to_json(self) -> str:
        """UnencodableValue: JSON has no word for (part of) this value."""
        return to_json(self._body(JSON))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return from_json("VersionedValue", text, lambda body: cls._from_body(body, JSON))

    def __hash__(self) -> int:
        return hash((self.clock, self.timestamp_ms))  # the value may be a list

    def _body(self, carrier: Carrier) -> list[Any]:
        return [carried(self.value, carrier, "value"), self.clock.to_dict(), self.timestamp_ms]

    @classmethod
    def _from_body(cls, body: Any, carrier: Carrier) -> Self:
        value, counts, timestamp_ms = body
        return cls(carried(value, carrier, "value"), VectorClock(dict(counts.items())), timestamp_ms)
