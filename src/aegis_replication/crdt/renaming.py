"""Under which names do the dots of actors go on that left for good? One for all of them, so that contexts don't grow.

Below a stable cut that has all of an actor's dots, every replica renames them alike: (actor, n) to (RETIRED, base + n);
the bases follow each other in the order of retirement. That is one to one, so the join of renamed states is the renamed
join, and nothing else changes.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final

import msgspec

from aegis_replication.errors import ActorReused, InvalidArgument
from aegis_replication.vector_clock import Dot, VersionVector
from aegis_replication.vector_clock.codec import actor_id, count

RETIRED: Final = "(retired)"
"""The name that all of them get. No replica can be given it."""


class Retired(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An actor that made the dots 1 to `dot_count`; they became (RETIRED, base + 1) and so on."""

    actor: str
    base: int
    dot_count: int

    @property
    def after(self) -> int:
        """The base of the next one."""
        return self.base + self.dot_count


class Renaming:
    """The new names of some actors' dots."""

    __slots__ = ("_of",)

    def __init__(self, retired: Iterable[Retired]) -> None:
        self._of = {each.actor: each for each in retired}

    def __contains__(self, actor: str) -> bool:
        return actor in self._of

    def __bool__(self) -> bool:
        return bool(self._of)

    def dot(self, dot: Dot) -> Dot:
        """ActorReused: the actor has written after it was retired."""
        found = self._of.get(dot[0])
        return dot if found is None else (RETIRED, found.base + _checked(found, dot[1]))

    def run(self, run: tuple[str, int, int]) -> tuple[str, int, int]:
        actor, first, last = run
        found = self._of.get(actor)
        return run if found is None else (RETIRED, found.base + first, found.base + _checked(found, last))

    def context(self, context: VersionVector) -> VersionVector:
        """The same dots under their new names; the same object if there is none of them."""
        if not any(actor in context.prefixes or context.highest(actor) for actor in self._of):
            return context
        return VersionVector.of_runs(
            self.run((actor, first, last)) for actor in context.actors for first, last in context.runs(actor)
        )

    def in_place(self, context: VersionVector) -> None:
        """As `context`, in the object that a map and all in it share."""
        for actor, each in self._of.items():
            if highest := context.highest(actor):
                _checked(each, highest)
                context.rename(actor, RETIRED, each.base)


def named(actor: str | int | None, retired: Iterable[Retired] = ()) -> str | None:
    """The name of a replica. InvalidArgument: it can't be one. ActorReused: an actor of that name was retired."""
    if actor is None:
        return None
    name = actor_id(actor)
    if name == RETIRED:
        raise InvalidArgument(f"{RETIRED!r} stands for all retired actors: give the replica another name")
    for each in retired:
        if each.actor == name:
            raise ActorReused(name, each.dot_count, "it was retired")
    return name


def read_retired(plain: Any) -> tuple[Retired, ...]:
    """What was remembered, from what was read. InvalidArgument: it is no sequence of retirements."""
    retired = tuple(Retired(actor_id(actor), count(base), count(dots, least=1)) for actor, base, dots in plain)
    for one, other in pairwise(retired):
        if one.after != other.base:
            raise InvalidArgument(f"retirements {one} and {other} don't follow each other")
    if len({each.actor for each in retired}) < len(retired):
        raise InvalidArgument("an actor is retired twice")
    return retired


def _checked(retired: Retired, number: int) -> int:
    if number > retired.dot_count:
        raise ActorReused(retired.actor, number, f"it was retired after its dot {retired.dot_count}, and has written")
    return number
