"""How do states meet of which one has renamed an actor's dots and the other hasn't? By *level*.

A state's level is how many dots of RETIRED are in its stable cut: it rises with each retirement, in one order for all.
What is of a lower level is renamed before it is joined. For that a state remembers the latest retirements, until a
later cut shows that every replica has renamed; what comes from before is refused then, and all have it already.
"""

from collections.abc import Iterable

from aegis_replication.crdt import kernel
from aegis_replication.crdt.encoding import Parts
from aegis_replication.crdt.kernel import CausalContext, Kind
from aegis_replication.crdt.renaming import RETIRED, Renaming, Retired
from aegis_replication.errors import BehindStableCut, InvalidArgument, MergeMismatch


def level(stable: CausalContext) -> int:
    return stable.highest(RETIRED)


def renaming_from(low: int, retired: tuple[Retired, ...], whose: str) -> Renaming:
    """What takes a state of level `low` to that of who remembers `retired`.

    BehindStableCut: what would be needed is forgotten.
    """
    if not retired or low < retired[0].base:
        raise BehindStableCut(
            f"{whose} was made before actors were retired whose names are forgotten by now, and says nothing new. "
            "Start a replica that has only this anew, from a copy of another"
        )
    return Renaming(each for each in retired if each.base >= low)


def raised(kind: type[Kind], parts: Parts, to: Parts, whose: str) -> Parts:
    """`parts` at the level of `to`, if its own is lower; nothing is changed in place."""
    require_one_history(to.retired, parts.retired)
    if level(parts.stable) >= level(to.stable) or not parts.context:
        return parts
    renaming = renaming_from(level(parts.stable), to.retired, whose)
    store = kernel.renamed(kind, parts.store, renaming)
    context, stable = renaming.context(parts.context), renaming.context(parts.stable)
    return Parts(parts.settings, store, context, stable, to.retired)


def require_one_history(one: Iterable[Retired], other: Iterable[Retired]) -> None:
    at_base = {each.base: each for each in one}
    for each in other:
        if at_base.get(each.base, each) != each:
            raise MergeMismatch(
                f"here {at_base[each.base].actor!r} was retired where the other side retired {each.actor!r}: give "
                "every replica the same actors with the same cut"
            )


def retirements(
    actors: Iterable[str], cut: CausalContext, context: CausalContext, own: str | None
) -> tuple[Retired, ...]:
    """The next ones in line, in the order of their names; those that never made a dot are left out.

    InvalidArgument: one of them can't be retired at this cut.
    """
    result: list[Retired] = []
    base = level(cut)
    for actor in sorted(set(actors)):
        if actor in (own, RETIRED):
            raise InvalidArgument(f"{actor!r} can't be retired here: this replica writes, or would write, under it")
        if (
            context.runs(actor) != cut.runs(actor)
            or len(cut.runs(actor)) > 1
            or cut.highest(actor) != cut.prefix(actor)
        ):
            raise InvalidArgument(
                f"actor {actor!r} can't be retired at this cut, which has {cut.runs(actor)} of its dots, while this "
                f"replica has seen {context.runs(actor)}: take a cut that has them all"
            )
        if dot_count := cut.highest(actor):
            result.append(Retired(actor, base, dot_count))
            base += dot_count
    return tuple(result)
