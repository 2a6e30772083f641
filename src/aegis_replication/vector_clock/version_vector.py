"""Which dots (actor, count) has a replica seen, gaps included? Version vectors with exceptions (Malkhi, Terry 2005)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, TypeAlias

from aegis_replication.errors import InvalidArgument
from aegis_replication.vector_clock import runs as run_sets
from aegis_replication.vector_clock.clock import Ordering, VectorClock
from aegis_replication.vector_clock.codec import actor_id, count, from_json, pack, to_json, unpack
from aegis_replication.vector_clock.runs import Runs

Dot: TypeAlias = tuple[str, int]
"""One event: the actor's name and its count, which starts at 1."""


class VersionVector:
    """A set of dots: per actor a prefix 1..n, and beyond it what came out of order, as runs.

    Merging is the union of sets and never the maximum of dots: a dot that was not seen is never claimed. As with
    vector clocks, one that was used as a key can't be changed any more.
    """

    __slots__ = ("_prefix", "_beyond", "_is_key")

    def __init__(self, prefix: Mapping[str, int] | Iterable[tuple[str, int]] = (), dots: Iterable[Dot] = ()) -> None:
        # Actor -> n: 1..n are all seen. Invariant: no n is 0.
        self._prefix: dict[str, int] = {}
        # Actor -> what is seen beyond. Invariant: no list is empty, and its first run starts above prefix + 1.
        self._beyond: dict[str, Runs] = {}
        # Whether __hash__ was asked; only rises.
        self._is_key = False
        for actor, last in dict(prefix).items():
            if count(last):
                self.add_run(actor, 1, last)
        for actor, number in dots:
            self.add_run(actor, number, number)

    def event(self, actor: str) -> Dot:
        """A new dot of `actor`, seen at once: one above its highest, whatever gaps there are."""
        actor = actor_id(actor)
        number = self.highest(actor) + 1
        self.add_run(actor, number, number)
        return (actor, number)

    def mint(self, actor: str, count: int = 1) -> Dot:
        """As `event`, for a checked name and `count` dots in a row: the first of them. The fast path of every write."""
        if self._is_key or actor in self._beyond:
            number = self.highest(actor) + 1
            self.add_run(actor, number, number + count - 1)
            return (actor, number)
        number = self._prefix.get(actor, 0) + 1
        self._prefix[actor] = number + count - 1
        return (actor, number)

    def add(self, dot: Dot) -> None:
        self.add_run(dot[0], dot[1], dot[1])

    def add_run(self, actor: str, first: int, last: int) -> None:
        """Sees the dots (actor, first) to (actor, last)."""
        self._changing()
        actor_id(actor)
        count(last, "last", least=count(first, "first", least=1))
        prefix = self._prefix.get(actor, 0)
        if first <= prefix + 1 and actor not in self._beyond:
            self._prefix[actor] = max(prefix, last)
        else:
            self._replace(actor, [*self.runs(actor), (first, last)])

    def merge(self, other: "VersionVector") -> Self:
        """Sees all that `other` has seen; gives back this vector."""
        self._changing()
        prefix = self._prefix
        for actor, last in other._prefix.items():
            if actor in self._beyond:
                self._replace(actor, [*self.runs(actor), (1, last)])
            elif last > prefix.get(actor, 0):
                prefix[actor] = last
        for actor, beyond in other._beyond.items():
            self._replace(actor, [*self.runs(actor), *beyond])
        return self

    sync = merge

    def rename(self, actor: str, to: str, by: int) -> None:
        """Sees `actor`'s dots as dots of `to`, their numbers raised by `by`, and none of `actor` any more."""
        self._changing()
        moved = [(first + by, last + by) for first, last in self.runs(actor)]
        self._replace(actor, [])
        self._replace(to, [*self.runs(to), *moved])

    def missing(self, other: "VersionVector") -> "VersionVector":
        """The dots that `other` has seen and this vector hasn't: what to ask `other` for."""
        return other.minus(self)

    def minus(self, other: "VersionVector") -> "VersionVector":
        """The dots of this vector that `other` hasn't."""
        return self._each(lambda actor, seen: run_sets.difference(seen, other.runs(actor)))

    def meet(self, other: "VersionVector") -> "VersionVector":
        """The dots that both have."""
        return self._each(lambda actor, seen: run_sets.intersection(seen, other.runs(actor)))

    def without(self, dots: Iterable[Dot]) -> "VersionVector":
        return self.minus(VersionVector.of(dots))

    def covers(self, other: "VersionVector") -> bool:
        """Has this vector all dots of `other`?"""
        prefix, beyond = self._prefix, self._beyond
        if not other._beyond and not beyond:
            return all(prefix.get(actor, 0) >= last for actor, last in other._prefix.items())
        return all(run_sets.covers(self.runs(actor), other.runs(actor)) for actor in other.actors)

    def compare(self, other: "VersionVector") -> Ordering:
        after, before = self.covers(other), other.covers(self)
        if before and after:
            return Ordering.EQUAL
        return Ordering.AFTER if after else Ordering.BEFORE if before else Ordering.CONCURRENT

    def exceptions(self) -> list[Dot]:
        """The dots below an actor's highest that were not seen, sorted."""
        return [
            (actor, number)
            for actor in sorted(self._beyond)
            for first, last in run_sets.difference([(1, self.highest(actor))], self.runs(actor))
            for number in range(first, last + 1)
        ]

    def missing_ranges(self) -> dict[str, Runs]:
        """The exceptions as runs per actor."""
        return {
            actor: run_sets.difference([(1, self.highest(actor))], self.runs(actor)) for actor in sorted(self._beyond)
        }

    def runs(self, actor: str) -> Runs:
        """What was seen of `actor`, as sorted runs (first, last)."""
        last = self._prefix.get(actor, 0)
        beyond = self._beyond.get(actor, [])
        return [(1, last), *beyond] if last else [*beyond]

    def prefix(self, actor: str) -> int:
        """The highest n for which all of 1..n was seen."""
        return self._prefix.get(actor, 0)

    def highest(self, actor: str) -> int:
        beyond = self._beyond.get(actor)
        return beyond[-1][1] if beyond else self._prefix.get(actor, 0)

    @property
    def prefixes(self) -> Mapping[str, int]:
        """Actor -> n for which all of 1..n was seen; what lies beyond a gap isn't in it. A view, not a copy."""
        return self._prefix

    @property
    def actors(self) -> list[str]:
        return sorted(self._prefix.keys() | self._beyond.keys())

    @property
    def gap_count(self) -> int:
        """How many runs stand beyond the prefixes: 0 when nothing came out of order."""
        return sum(map(len, self._beyond.values()))

    def dots(self) -> Iterator[Dot]:
        """Each dot, sorted. There may be very many: `runs` tells the same."""
        for actor in self.actors:
            for first, last in self.runs(actor):
                for number in range(first, last + 1):
                    yield actor, number

    def to_clock(self) -> VectorClock:
        """The prefixes alone: dots beyond a gap are left out, so that nothing unseen is claimed."""
        return VectorClock(self._prefix)

    def copy(self) -> "VersionVector":
        twin = VersionVector()
        twin._prefix.update(self._prefix)
        twin._beyond.update({actor: [*beyond] for actor, beyond in self._beyond.items()})
        return twin

    @staticmethod
    def of_runs(runs: Iterable[tuple[str, int, int]]) -> "VersionVector":
        """The set of the dots (actor, first) to (actor, last) of each run."""
        by_actor: dict[str, Runs] = {}
        for actor, first, last in runs:
            by_actor.setdefault(actor, []).append((first, last))
        result = VersionVector()
        for actor, found in by_actor.items():
            result._replace(actor, found)
        return result

    @staticmethod
    def of(dots: Iterable[Dot]) -> "VersionVector":
        """The set of these dots."""
        return VersionVector.of_runs((actor, number, number) for actor, number in dots)

    def body(self) -> list[Any]:
        """As plain values, canonical: sorted pairs of actor and [first, last, first, last, ...]."""
        return [[actor, [number for run in self.runs(actor) for number in run]] for actor in self.actors]

    @classmethod
    def from_body(cls, body: Any) -> Self:
        result = cls()
        for actor, flat in body:
            if type(flat) is not list or not flat or len(flat) % 2:
                raise InvalidArgument(f"runs of actor {actor!r}: pairs of first and last expected, found {flat!r}")
            for first, last in zip(flat[::2], flat[1::2]):
                result.add_run(actor, first, last)
        return result

    def to_bytes(self) -> bytes:
        """The same for equal vectors, on every host."""
        return pack("VersionVector", self.body())

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Self:
        return unpack("VersionVector", encoded, cls.from_body)

    def to_json(self) -> str:
        return to_json(self.body())

    @classmethod
    def from_json(cls, text: str) -> Self:
        return from_json("VersionVector", text, cls.from_body)

    def __contains__(self, dot: Dot) -> bool:
        actor, number = dot
        if number <= self._prefix.get(actor, 0):
            return number > 0
        beyond = self._beyond.get(actor)
        return beyond is not None and run_sets.contains(beyond, number)

    def __len__(self) -> int:
        """How many dots."""
        beyond = sum(last - first + 1 for runs in self._beyond.values() for first, last in runs)
        return sum(self._prefix.values()) + beyond

    def __bool__(self) -> bool:
        return bool(self._prefix or self._beyond)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VersionVector) and self._prefix == other._prefix and self._beyond == other._beyond

    def __le__(self, other: "VersionVector") -> bool:
        return other.covers(self)

    def __lt__(self, other: "VersionVector") -> bool:
        return self != other and other.covers(self)

    def __ge__(self, other: "VersionVector") -> bool:
        return self.covers(other)

    def __gt__(self, other: "VersionVector") -> bool:
        return self != other and self.covers(other)

    def __hash__(self) -> int:
        self._is_key = True  # a key that changes is never found again
        return hash(self.to_bytes())

    def __repr__(self) -> str:
        seen = ", ".join(
            f"{actor}: "
            + "+".join(f"{first}..{last}" if first < last else str(first) for first, last in self.runs(actor))
            for actor in self.actors
        )
        return f"VersionVector({seen})"

    def _each(self, operation: Any) -> "VersionVector":
        result = VersionVector()
        for actor in self._prefix.keys() | self._beyond.keys():
            result._replace(actor, operation(actor, self.runs(actor)))
        return result

    def _replace(self, actor: str, found: Runs) -> None:
        """Makes `found` all that was seen of `actor`."""
        merged = run_sets.normalised(found)
        self._prefix.pop(actor, None)
        self._beyond.pop(actor, None)
        if merged and merged[0][0] == 1:
            self._prefix[actor] = merged.pop(0)[1]
        if merged:
            self._beyond[actor] = merged

    def _changing(self) -> None:
        if self._is_key:
            raise InvalidArgument(f"{self!r} is a key of a set or dict and can't change: change a copy()")
