"""What does a value with its version look like? A value, the vector clock it was written at, and a time to show."""

from typing import Any, Self

import msgspec

from aegis_replication.vector_clock.clock import Ordering, VectorClock
from aegis_replication.vector_clock.codec import count, from_json, pack, to_json, unpack


class VersionedValue(msgspec.Struct, frozen=True):
    """A value and its version. The clock alone decides what came first; the timestamp is for people."""

    value: Any
    clock: VectorClock
    timestamp_ms: int = 0

    def compare(self, other: "VersionedValue") -> Ordering:
        return self.clock.compare(other.clock)

    def happened_before(self, other: "VersionedValue") -> bool:
        return self.clock.happened_before(other.clock)

    def happened_after(self, other: "VersionedValue") -> bool:
        return self.clock.happened_after(other.clock)

    def is_concurrent_with(self, other: "VersionedValue") -> bool:
        return self.clock.is_concurrent_with(other.clock)

    def to_bytes(self) -> bytes:
        return pack("VersionedValue", self._body())

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Self:
        return unpack("VersionedValue", encoded, cls._from_body)

    def to_json(self) -> str:
        return to_json(self._body())

    @classmethod
    def from_json(cls, text: str) -> Self:
        return from_json("VersionedValue", text, cls._from_body)

    def _body(self) -> list[Any]:
        return [self.value, self.clock.to_dict(), self.timestamp_ms]

    @classmethod
    def _from_body(cls, body: Any) -> Self:
        value, counts, timestamp_ms = body
        return cls(value, VectorClock(dict(counts.items())), count(timestamp_ms, "timestamp_ms"))
