"""How do events of several nodes get one order that agrees with cause and effect? Lamport clocks (Lamport 1978)."""

from typing import Self

import msgspec

from aegis_replication.vector_clock.codec import actor_id, count, from_json, pack, to_json, unpack


class LamportTimestamp(msgspec.Struct, frozen=True, gc=False, order=True):
    """A time of a Lamport clock; equal times are ordered by node, so that the order is total."""

    time: int
    node: str


class LamportClock:
    """Counts events: if a happened before b, then a's time is lower. The converse doesn't hold."""

    __slots__ = ("node", "value")

    def __init__(self, node: str | int, value: int = 0) -> None:
        self.node = actor_id(node)
        # The time of the latest event here. Only rises.
        self.value = count(value, "value")

    def tick(self) -> LamportTimestamp:
        """A local event, a send included."""
        self.value = count(self.value + 1, "value")
        return self.read()

    def receive(self, remote: LamportTimestamp | int) -> LamportTimestamp:
        """The event of receiving a message that was stamped `remote`."""
        self.merge(remote)
        return self.tick()

    def merge(self, remote: LamportTimestamp | int) -> None:
        """Takes the higher time, without an event of its own."""
        self.value = max(self.value, count(remote.time if isinstance(remote, LamportTimestamp) else remote, "remote"))

    def read(self) -> LamportTimestamp:
        return LamportTimestamp(self.value, self.node)

    def to_bytes(self) -> bytes:
        return pack("LamportClock", [self.node, self.value])

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Self:
        return unpack("LamportClock", encoded, lambda body: cls(body[0], body[1]))

    def to_json(self) -> str:
        return to_json([self.node, self.value])

    @classmethod
    def from_json(cls, text: str) -> Self:
        return from_json("LamportClock", text, lambda body: cls(body[0], body[1]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LamportClock) and self.read() == other.read()

    __hash__ = None  # type: ignore[assignment]  # it changes; its timestamps are the keys

    def __repr__(self) -> str:
        return f"LamportClock({self.node!r}, {self.value})"
