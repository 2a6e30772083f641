"""How does one stamp follow cause and effect and still read as a time? Hybrid logical clocks (Kulkarni et al. 2014)."""

from collections.abc import Callable
from typing import Any, Final, Self

import msgspec

from aegis_replication.errors import ClockSkewError, InvalidArgument
from aegis_replication.vector_clock.codec import actor_id, count, from_json, pack, to_json, unpack

LOGICAL_MAX: Final = 2**16 - 1
PHYSICAL_MAX: Final = 2**48 - 1
"""In milliseconds since 1970: the year 10889."""


class HybridTimestamp(msgspec.Struct, frozen=True, gc=False, order=True):
    """Milliseconds, a counter within the millisecond, and the node, in this order: a total order."""

    physical_ms: int
    logical: int = 0
    node: str = ""

    def __post_init__(self) -> None:
        if count(self.physical_ms, "physical_ms") > PHYSICAL_MAX:
            raise InvalidArgument(f"physical_ms = {self.physical_ms}: must be below 2**48 (milliseconds since 1970)")
        if count(self.logical, "logical") > LOGICAL_MAX:
            raise InvalidArgument(f"logical = {self.logical}: must be below 2**16")

    def pack(self) -> int:
        """48 bits of milliseconds and 16 of counter: one number that sorts as the timestamp, without the node."""
        return self.physical_ms << 16 | self.logical

    @classmethod
    def unpack(cls, packed: int, node: str = "") -> Self:
        if count(packed, "packed") >> 64:
            raise InvalidArgument(f"packed = {packed}: 64 bits expected")
        return cls(packed >> 16, packed & LOGICAL_MAX, node)

    def to_bytes(self) -> bytes:
        return pack("HybridTimestamp", self.body())

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Self:
        return unpack("HybridTimestamp", encoded, cls.from_body)

    def to_json(self) -> str:
        return to_json(self.body())

    @classmethod
    def from_json(cls, text: str) -> Self:
        return from_json("HybridTimestamp", text, cls.from_body)

    def body(self) -> list[Any]:
        return [self.physical_ms, self.logical, self.node]

    @classmethod
    def from_body(cls, body: Any) -> Self:
        physical_ms, logical, node = body
        if type(node) is not str:
            raise InvalidArgument(f"node {node!r}: text expected")
        return cls(physical_ms, logical, node)


class HybridLogicalClock:
    """Stamps that never go back, not at a restart either, and never run away from the wall clock.

    `now_ms` is the wall clock of the caller, in milliseconds since 1970. The clock never stands more than
    `max_offset_ms` ahead of it: a remote stamp that would push it further is refused, and so is a stamp of its own
    after the wall clock was set back that far.

    `persist` is called with an upper bound in milliseconds before any stamp above the previous bound is given out; it
    returns when the bound is durable. After a restart, give that bound as `resume_after_ms`. It is called once per
    `persist_step_ms` at most while the wall clock runs normally.
    """

    __slots__ = ("node", "max_offset_ms", "_physical_ms", "_logical", "_bound_ms", "_persist", "_persist_step_ms")

    def __init__(
        self,
        node: str | int,
        *,
        max_offset_ms: int = 250,
        resume_after_ms: int = 0,
        persist: Callable[[int], None] | None = None,
        persist_step_ms: int = 100,
    ) -> None:
        self.node = actor_id(node)
        self.max_offset_ms = count(max_offset_ms, "max_offset_ms", least=1)
        if count(persist_step_ms, "persist_step_ms", least=1) > max_offset_ms:
            raise InvalidArgument(
                f"persist_step_ms = {persist_step_ms}: must not exceed max_offset_ms ({max_offset_ms} ms), or a "
                "restart would stand out of bound; try 100"
            )
        # The latest stamp; together they only rise. At start the whole millisecond of the old bound counts as used.
        self._physical_ms = count(resume_after_ms, "resume_after_ms")
        self._logical = LOGICAL_MAX if resume_after_ms else 0
        # Invariant: no stamp that was given out is above it, and `persist` has returned for it.
        self._bound_ms = resume_after_ms
        self._persist = persist
        self._persist_step_ms = persist_step_ms

    def now(self, now_ms: int) -> HybridTimestamp:
        """A stamp above all before it. ClockSkewError: `now_ms` fell back by more than the bound."""
        return self._advance(now_ms, 0, -1, "its own past")

    tick = now

    def update(self, remote: HybridTimestamp, now_ms: int) -> HybridTimestamp:
        """A stamp above `remote` and all before it. ClockSkewError: `remote` is out of bound, nothing is absorbed."""
        ahead_ms = remote.physical_ms - count(now_ms, "now_ms")
        if ahead_ms > self.max_offset_ms:
            raise ClockSkewError(f"node {remote.node!r}", ahead_ms, self.max_offset_ms)
        return self._advance(now_ms, remote.physical_ms, remote.logical, f"node {remote.node!r}")

    receive = update

    def read(self) -> HybridTimestamp:
        """The latest stamp, without an event."""
        return HybridTimestamp(self._physical_ms, self._logical, self.node)

    def offset_ms(self, now_ms: int) -> int:
        """How far the clock stands ahead of the wall clock, or 0. Worth a warning from 80 % of the bound."""
        return max(0, self._physical_ms - now_ms)

    @property
    def upper_bound_ms(self) -> int:
        """What `persist` was last called with."""
        return self._bound_ms

    def _advance(self, now_ms: int, remote_ms: int, remote_logical: int, source: str) -> HybridTimestamp:
        physical_ms = max(count(now_ms, "now_ms"), self._physical_ms, remote_ms)
        logical = -1
        if physical_ms == self._physical_ms:
            logical = self._logical
        if physical_ms == remote_ms:
            logical = max(logical, remote_logical)
        logical += 1
        if logical > LOGICAL_MAX:
            physical_ms, logical = physical_ms + 1, 0
        if physical_ms - now_ms > self.max_offset_ms:
            raise ClockSkewError(source, physical_ms - now_ms, self.max_offset_ms)
        if physical_ms > self._bound_ms:
            bound_ms = physical_ms + self._persist_step_ms - 1
            if self._persist is not None:
                self._persist(bound_ms)  # raises: no stamp, no change
            self._bound_ms = bound_ms
        stamp = HybridTimestamp(physical_ms, logical, self.node)
        self._physical_ms, self._logical = physical_ms, logical
        return stamp

    def __repr__(self) -> str:
        return f"HybridLogicalClock({self.node!r}, {self._physical_ms} ms + {self._logical})"
