"""How do replicas that come and go without names keep track of causes? Interval tree clocks (Almeida et al. 2008)."""

from typing import Any, Self, TypeAlias

from aegis_replication.errors import InvalidArgument
from aegis_replication.vector_clock.clock import Ordering
from aegis_replication.vector_clock.codec import COUNT_MAX, from_json, pack, to_json, unpack

Identity: TypeAlias = Any
"""Which part of [0, 1) a stamp owns: 0, 1, or a pair of halves."""

Events: TypeAlias = Any
"""How often each part of [0, 1) was counted: n, or (n, left half, right half)."""

DEPTH_MAX = 200
"""How deep a tree may be when it is read from bytes."""


class IntervalTreeClock:
    """An immutable stamp: `seed`, then `fork` per new replica, `event` per change, `join` to merge or retire."""

    __slots__ = ("identity", "events")

    def __init__(self, identity: Identity, events: Events) -> None:
        self.identity: Identity = _checked_identity(identity, DEPTH_MAX)
        self.events: Events = _checked_events(events, DEPTH_MAX)

    @classmethod
    def seed(cls) -> Self:
        """The first stamp, which owns everything."""
        return cls(1, 0)

    def fork(self) -> tuple["IntervalTreeClock", "IntervalTreeClock"]:
        """Two stamps that know the same and share what this one owned. This one must not be used any more."""
        left, right = _split(self.identity)
        return IntervalTreeClock(left, self.events), IntervalTreeClock(right, self.events)

    def peek(self) -> "IntervalTreeClock":
        """The same knowledge without ownership: to send along with a message."""
        return IntervalTreeClock(0, self.events)

    def event(self) -> "IntervalTreeClock":
        """This stamp after one more event. InvalidArgument: it owns nothing (a peeked one)."""
        if self.identity == 0:
            raise InvalidArgument("this stamp owns no part of [0, 1), so it can't count: fork one that does")
        filled = _fill(self.identity, self.events)
        if filled != self.events:
            return IntervalTreeClock(self.identity, filled)
        return IntervalTreeClock(self.identity, _grow(self.identity, self.events)[0])

    def join(self, other: "IntervalTreeClock") -> "IntervalTreeClock":
        """What both know, and what both own. InvalidArgument: they own the same part, so one of them is a copy."""
        return IntervalTreeClock(_sum(self.identity, other.identity), _joined(self.events, other.events))

    def leq(self, other: "IntervalTreeClock") -> bool:
        """Is all that this stamp knows known to `other`?"""
        return _leq(self.events, 0, other.events, 0)

    def compare(self, other: "IntervalTreeClock") -> Ordering:
        before, after = self.leq(other), other.leq(self)
        if before and after:
            return Ordering.EQUAL
        return Ordering.BEFORE if before else Ordering.AFTER if after else Ordering.CONCURRENT

    def to_bytes(self) -> bytes:
        return pack("IntervalTreeClock", [self.identity, self.events])

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Self:
        return unpack("IntervalTreeClock", encoded, lambda body: cls(*body))

    def to_json(self) -> str:
        return to_json([self.identity, self.events])

    @classmethod
    def from_json(cls, text: str) -> Self:
        return from_json("IntervalTreeClock", text, lambda body: cls(*body))

    def __le__(self, other: "IntervalTreeClock") -> bool:
        return self.leq(other)

    def __eq__(self, other: object) -> bool:
        """The same ownership and the same knowledge; `compare` asks about knowledge alone."""
        return isinstance(other, IntervalTreeClock) and (self.identity, self.events) == (other.identity, other.events)

    def __hash__(self) -> int:
        return hash((self.identity, self.events))

    def __repr__(self) -> str:
        return f"IntervalTreeClock({self.identity!r}, {self.events!r})"


# --- identities (§5.1 to §5.2 of the paper) -------------------------------------------------------------------------


def _checked_identity(identity: Any, depth: int) -> Identity:
    if type(identity) is int and identity in (0, 1):
        return identity
    if isinstance(identity, list | tuple) and len(identity) == 2 and depth:
        return _normal_identity(_checked_identity(identity[0], depth - 1), _checked_identity(identity[1], depth - 1))
    raise InvalidArgument(f"identity {identity!r}: 0, 1 or a pair of identities expected, at most {DEPTH_MAX} deep")


def _normal_identity(left: Identity, right: Identity) -> Identity:
    return left if left == right and left in (0, 1) else (left, right)


def _split(identity: Identity) -> tuple[Identity, Identity]:
    match identity:
        case 0:
            return 0, 0
        case 1:
            return (1, 0), (0, 1)
        case (0, right):
            first, second = _split(right)
            return (0, first), (0, second)
        case (left, 0):
            first, second = _split(left)
            return (first, 0), (second, 0)
    left, right = identity
    return (left, 0), (0, right)


def _sum(one: Identity, other: Identity) -> Identity:
    if one == 0 or other == 0:
        return other if one == 0 else one
    if one == 1 or other == 1:
        raise InvalidArgument("two stamps own the same part of [0, 1): one of them was forked and still used")
    return _normal_identity(_sum(one[0], other[0]), _sum(one[1], other[1]))


# --- events (§5.3) --------------------------------------------------------------------------------------------------


def _checked_events(events: Any, depth: int) -> Events:
    if type(events) is int and 0 <= events <= COUNT_MAX:
        return events
    if isinstance(events, list | tuple) and len(events) == 3 and depth and type(events[0]) is int and events[0] >= 0:
        return _normal(events[0], _checked_events(events[1], depth - 1), _checked_events(events[2], depth - 1))
    raise InvalidArgument(f"events {events!r}: n or (n, left, right) expected, at most {DEPTH_MAX} deep")


def _base(events: Events) -> int:
    return events if isinstance(events, int) else int(events[0])


def _lift(events: Events, by: int) -> Events:
    return events + by if isinstance(events, int) else (events[0] + by, events[1], events[2])


def _normal(base: int, left: Events, right: Events) -> Events:
    if isinstance(left, int) and left == right:
        return base + left
    lower = min(_base(left), _base(right))
    return (base + lower, _lift(left, -lower), _lift(right, -lower))


def _lowest(events: Events) -> int:
    return _base(events)  # in normal form one half always starts at 0


def _highest(events: Events) -> int:
    return events if isinstance(events, int) else int(events[0]) + max(_highest(events[1]), _highest(events[2]))


def _leq(one: Events, one_base: int, other: Events, other_base: int) -> bool:
    one_base, other_base = one_base + _base(one), other_base + _base(other)
    if one_base > other_base:
        return False
    if isinstance(one, int):
        return True
    left, right = (0, 0) if isinstance(other, int) else other[1:]
    return _leq(one[1], one_base, left, other_base) and _leq(one[2], one_base, right, other_base)


def _joined(one: Events, other: Events) -> Events:
    if isinstance(one, int) and isinstance(other, int):
        return max(one, other)
    if _base(one) > _base(other):
        one, other = other, one
    rise = _base(other) - _base(one)
    left, right = (0, 0) if isinstance(one, int) else one[1:]
    other_left, other_right = (0, 0) if isinstance(other, int) else other[1:]
    return _normal(_base(one), _joined(left, _lift(other_left, rise)), _joined(right, _lift(other_right, rise)))


def _fill(identity: Identity, events: Events) -> Events:
    """Raises what is owned as far as it makes the tree simpler (§5.3.3)."""
    if identity == 0 or isinstance(events, int):
        return events
    if identity == 1:
        return _highest(events)
    base, left, right = events
    if identity[0] == 1:
        right = _fill(identity[1], right)
        return _normal(base, max(_highest(left), _lowest(right)), right)
    if identity[1] == 1:
        left = _fill(identity[0], left)
        return _normal(base, left, max(_highest(right), _lowest(left)))
    return _normal(base, _fill(identity[0], left), _fill(identity[1], right))


def _grow(identity: Identity, events: Events) -> tuple[Events, int]:
    """One event at the cheapest owned place, and its cost: a new node costs more than any depth (§5.3.4)."""
    if isinstance(events, int):
        if identity == 1:
            return events + 1, 0
        grown, cost = _grow(identity, (events, 0, 0))
        return grown, cost + 1_000
    base, left, right = events
    if identity == 1:
        identity = (1, 1)
    if identity[0] == 0:
        grown, cost = _grow(identity[1], right)
        return (base, left, grown), cost + 1
    if identity[1] == 0:
        grown, cost = _grow(identity[0], left)
        return (base, grown, right), cost + 1
    left_grown, left_cost = _grow(identity[0], left)
    right_grown, right_cost = _grow(identity[1], right)
    if left_cost < right_cost:
        return (base, left_grown, right), left_cost + 1
    return (base, left, right_grown), right_cost + 1
