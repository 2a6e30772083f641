"""Which of two events came first, or did neither know the other? Vector clocks (Fidge 1988, Mattern 1989)."""

import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

from aegis_replication.errors import InvalidArgument
from aegis_replication.vector_clock.codec import COUNT_MAX, actor_id, count, from_json, pack, to_json, unpack


class Ordering(enum.Enum):
    """How one clock stands to another."""

    BEFORE = "before"
    AFTER = "after"
    EQUAL = "equal"
    CONCURRENT = "concurrent"


class VectorClock:
    """Events counted per node. A node that is not named has count 0, and a count of 0 is not kept.

    Comparison is the partial order of happened-before: `a < b` says that all of `a` is known to `b`, and of two
    concurrent clocks neither `<=` holds. A clock that was used as a key (hashed) can't be changed any more: copy it.
    """

    __slots__ = ("_counts", "_is_key")

    def __init__(self, counts: Mapping[str, int] | Iterable[tuple[str, int]] = ()) -> None:
        # Invariant: no count is 0, so that equal clocks are equal dicts.
        self._counts: dict[str, int] = {}
        # Whether __hash__ was asked; only rises.
        self._is_key = False
        for node, events in dict(counts).items():
            self.set(node, events)

    def increment(self, node: str | int, by: int = 1) -> Self:
        """Counts an event (or `by` of them) at `node`; gives back this clock."""
        self._changing()
        node = actor_id(node)
        events = self._counts.get(node, 0) + count(by, "increment", least=1)
        if events > COUNT_MAX:
            raise InvalidArgument(f"node {node!r} would have counted {events} events: the limit is 2**63 - 1")
        self._counts[node] = events
        return self

    def merge(self, other: "VectorClock") -> Self:
        """Learns all that `other` knows; gives back this clock."""
        self._changing()
        for node, events in other._counts.items():
            if events > self._counts.get(node, 0):
                self._counts[node] = events
        return self

    def merged(self, other: "VectorClock") -> "VectorClock":
        """A new clock that knows what both know."""
        return self.copy().merge(other)

    def compare(self, other: "VectorClock") -> Ordering:
        before, after = self.descends_from(other), other.descends_from(self)
        if before and after:
            return Ordering.EQUAL
        return Ordering.AFTER if before else Ordering.BEFORE if after else Ordering.CONCURRENT

    def descends_from(self, other: "VectorClock") -> bool:
        """Does this clock know all that `other` knows? True for equal clocks."""
        counts = self._counts
        return all(counts.get(node, 0) >= events for node, events in other._counts.items())

    def dominates(self, other: "VectorClock") -> bool:
        """Does this clock know all that `other` knows, and more?"""
        return self.compare(other) is Ordering.AFTER

    def happened_before(self, other: "VectorClock") -> bool:
        return self.compare(other) is Ordering.BEFORE

    def happened_after(self, other: "VectorClock") -> bool:
        return self.compare(other) is Ordering.AFTER

    def is_concurrent_with(self, other: "VectorClock") -> bool:
        """Does each know something that the other doesn't? Equal clocks are not concurrent."""
        return self.compare(other) is Ordering.CONCURRENT

    def meet(self, other: "VectorClock") -> "VectorClock":
        """A new clock of what both know: the greatest lower bound."""
        return VectorClock({node: min(events, other.get(node)) for node, events in self._counts.items()})

    def difference(self, other: "VectorClock") -> dict[str, tuple[int, int]]:
        """Per node, the events that this clock knows and `other` doesn't: (first, last), both counted in."""
        return {
            node: (other.get(node) + 1, events) for node, events in self._counts.items() if events > other.get(node)
        }

    def get(self, node: str | int) -> int:
        return self._counts.get(actor_id(node), 0)

    def set(self, node: str | int, events: int) -> None:
        """Sets one count; 0 takes the node out."""
        self._changing()
        node = actor_id(node)
        if count(events):
            self._counts[node] = events
        else:
            self._counts.pop(node, None)

    def remove(self, node: str | int) -> int:
        """Forgets a node; what it had counted. Only safe for a node that will never be met again."""
        self._changing()
        return self._counts.pop(actor_id(node), 0)

    def prune(self, retired: Iterable[str], stable: "VectorClock") -> list[str]:
        """Forgets those `retired` nodes whose every event is in `stable`, which all replicas know; their names.

        Forgetting by age, as some stores do, turns ordered clocks into concurrent ones; this does not, as long as
        all replicas prune the same nodes.
        """
        gone = [node for node in retired if 0 < self.get(node) <= stable.get(node)]
        for node in gone:
            self.remove(node)
        return gone

    def reset(self) -> None:
        """Back to the clock that knows nothing."""
        self._changing()
        self._counts.clear()

    @property
    def nodes(self) -> list[str]:
        return sorted(self._counts)

    @property
    def max_value(self) -> int:
        return max(self._counts.values(), default=0)

    @property
    def sum(self) -> int:
        return sum(self._counts.values())

    @property
    def is_empty(self) -> bool:
        return not self._counts

    def copy(self) -> "VectorClock":
        twin = VectorClock()
        twin._counts.update(self._counts)
        return twin

    def to_dict(self) -> dict[str, int]:
        return dict(sorted(self._counts.items()))

    def to_bytes(self) -> bytes:
        """The same for equal clocks, on every host."""
        return pack("VectorClock", sorted(self._counts.items()))

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Self:
        return unpack("VectorClock", encoded, cls)

    def to_json(self) -> str:
        return to_json(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> Self:
        return from_json("VectorClock", text, lambda body: cls(dict(body.items())))

    def __len__(self) -> int:
        return len(self._counts)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._counts))

    def __contains__(self, node: object) -> bool:
        return node in self._counts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VectorClock) and self._counts == other._counts

    def __le__(self, other: "VectorClock") -> bool:
        return other.descends_from(self)

    def __lt__(self, other: "VectorClock") -> bool:
        return self != other and other.descends_from(self)

    def __ge__(self, other: "VectorClock") -> bool:
        return self.descends_from(other)

    def __gt__(self, other: "VectorClock") -> bool:
        return self != other and self.descends_from(other)

    def __hash__(self) -> int:
        self._is_key = True  # a key that changes is never found again
        return hash(frozenset(self._counts.items()))

    def __repr__(self) -> str:
        return f"VectorClock({self.to_dict()!r})"

    def _changing(self) -> None:
        if self._is_key:
            raise InvalidArgument(f"{self!r} is a key of a set or dict and can't change: change a copy()")
