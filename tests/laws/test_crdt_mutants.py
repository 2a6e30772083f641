"""Would the laws notice? Each mutant leaves one step out, as real implementations did, and a law must catch it."""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from crdt_histories import LIVES, drawn_steps
from crdt_laws import (
    law_actors,
    law_bytes,
    law_collect,
    law_deltas,
    law_join,
    law_level,
    law_mutators,
    law_parts,
)
from crdt_oracle import judge
from test_crdt_meaning import check_bound

from aegis_replication.crdt import counters, delta, encoding, fugue, kernel, maps, registers, replica, sequence, sets
from aegis_replication.crdt.delta import Delta
from aegis_replication.crdt.replica import Replica
from aegis_replication.errors import AegisError
from aegis_replication.vector_clock import VersionVector

Patch = pytest.MonkeyPatch


class Mutant(NamedTuple):
    what: str
    apply: Callable[[Patch], None]
    law: Callable[[int], None]  # given a seed


def law_of(law: Callable[..., None], name: str) -> Callable[[int], None]:
    return lambda seed: law(LIVES[name], drawn_steps(seed, 10 + seed % 20))


def oracle_of(name: str) -> Callable[[int], None]:
    return lambda seed: judge(name, drawn_steps(seed, 10 + seed % 20))


def escrow(seed: int) -> None:
    rng = random.Random(seed)
    taken = [(rng.randint(0, 3), rng.randint(0, 2), rng.randint(0, 2), rng.randint(1, 9)) for _ in range(40)]
    check_bound(taken, bound=0)


def ship_the_whole_context(patch: Patch) -> None:
    """The delta claims dots that the receiver never got: they count as removed there."""
    emit = Replica._emit

    def emitting(self: Any, fragment: Any, new: Any, gone: Any = (), round: Any = None) -> Delta:
        made = emit(self, fragment, new, gone, round)
        made._context = self._context.copy()
        return made

    patch.setattr(Replica, "_emit", emitting)


def forget_what_a_change_replaced(patch: Patch) -> None:
    emit = Replica._emit
    patch.setattr(
        Replica, "_emit", lambda self, fragment, new, gone=(), round=None: emit(self, fragment, new, (), round)
    )


def join_without_context(patch: Patch) -> None:
    """The original's sets: a removed element comes back with the next merge of a stale replica."""
    patch.setattr(kernel, "_keys_to_check", lambda *_: [])


def take_the_maximum_of_dots(patch: Patch) -> None:
    """The original's dotted version vectors: what lies below a gap is claimed as seen."""
    add_run = VersionVector._replace

    def replacing(self: Any, actor: str, found: Any) -> None:
        add_run(self, actor, [(1, max((last for _, last in found), default=0))] if found else [])

    patch.setattr(VersionVector, "_replace", replacing)


def keep_the_first_of_equal_stamps(patch: Patch) -> None:
    """First arrival wins: the delta CRDT reference code, Rust's crdts and others."""
    patch.setattr(registers, "latest_write", lambda leaf: max(leaf.items(), key=lambda item: item[1][:2]))
    patch.setattr(maps, "latest_write", lambda leaf: max(leaf.items(), key=lambda item: item[1][:2]))


def keep_mine_of_equal_stamps(patch: Patch) -> None:
    def resolve(cls: Any, dot: Any, mine: Any, theirs: Any) -> Any:
        return mine if mine[:2] >= theirs[:2] else theirs

    patch.setattr(registers.LWWRegister, "resolve", classmethod(resolve))


def leave_rounds_open(patch: Patch) -> None:
    """What is counted after a copy left still goes under the dot that somebody may have reset."""
    patch.setattr(Replica, "_ship", lambda self: None)
    patch.setattr(Delta, "store", property(lambda self: self._store))


def count_under_one_dot(patch: Patch) -> None:
    """Riak's embedded counter: a concurrent reset resets nothing."""

    def change(self: Any, plus: int, minus: int) -> Delta:
        old = counters.own_dot(self)
        before = self._store.get(old, (0, 0))
        return counters.replace_own(self, old, (before[0] + plus, before[1] + minus))

    patch.setattr(counters.ResettableCounter, "_change", change)


def replace_unseen_writes(patch: Patch) -> None:
    """A multi-value register that keeps one dot per replica: a last write wins in disguise."""

    def resolve(kind: Any, mine: Any, my_context: Any, theirs: Any, their_context: Any) -> Any:
        found = original(kind, mine, my_context, theirs, their_context)
        kept = {dot: payload for dot, payload in {**mine, **found}.items() if payload is not None}
        for dot in sorted(kept)[:-1]:
            found[dot] = None
        return {dot: payload for dot, payload in found.items() if payload is not None or dot in mine}

    original = kernel._fun_changes
    patch.setattr(kernel, "_fun_changes", resolve)


def let_adds_win(patch: Patch) -> None:
    patch.setattr(sets.RWSet, "_is_in", staticmethod(lambda leaf: any(leaf.values())))


def let_removes_win(patch: Patch) -> None:
    """PyPI's crdts: a remove that never saw the add deletes it."""

    def drop(self: Any, element: Any, gone: Any) -> Delta:
        dots = [("abc"[at], number) for at in range(3) for number in range(1, 30)]
        self._store.pop(element, None)
        return self._emit({element: {}}, (), [*gone, *dots])

    patch.setattr(sets.ElementSet, "_drop", drop)


def level_without_removals(patch: Patch) -> None:
    def since(self: Delta, context: Any) -> Delta:
        store = kernel.since(self.kind, self.store, context)
        return Delta(self.kind, store, self.context.minus(context), settings=self.settings, stable=self.stable)

    patch.setattr(Delta, "delta", since)


def level_with_everything(patch: Patch) -> None:
    """The peer takes all entries that stand for removed."""

    def since(self: Delta, context: Any) -> Delta:
        store = kernel.since(self.kind, self.store, context)
        return Delta(self.kind, store, self.context, settings=self.settings, stable=self.stable)

    patch.setattr(Delta, "delta", since)


def write_in_order_of_arrival(patch: Patch) -> None:
    patch.setattr(encoding, "canonical", lambda key: b"")


def spend_without_rights(patch: Patch) -> None:
    patch.setattr(counters.BoundedCounter, "_require_rights", lambda self, wanted: None)


def mint_a_dot_twice(patch: Patch) -> None:
    minted = Replica._mint

    def minting(self: Any, dot_count: int = 1) -> Any:
        dot = minted(self, dot_count)
        if dot[1] % 5 == 0:
            self._context._prefix[dot[0]] = dot[1] - 1
            return minted(self, 1) if dot_count == 1 and dot[1] < 5 else (dot[0], dot[1] - 1)
        return dot

    patch.setattr(Replica, "_mint", minting)


def trust_every_actor(patch: Patch) -> None:
    patch.setattr(Replica, "_check_actor", lambda self, context: None)
    patch.setattr(replica, "ActorReused", ValueError)


def order_siblings_by_arrival(patch: Patch) -> None:
    class Unsorted(fugue.Tree):
        __slots__ = ()

        def __init__(self, store: Any, context: Any) -> None:
            super().__init__(store, context)
            for siblings in self._children.values():
                siblings.sort(key=[*store].index)

    patch.setattr(sequence, "Tree", Unsorted)


def collect_what_is_not_stable(patch: Patch) -> None:
    """A remove that not all have seen is forgotten: an older write comes back."""

    def collect(cls: Any, store: Any, cut: Any) -> int:
        for key, leaf in [*store.items()]:
            if len(registers.latest_write(leaf)[1]) == 2:
                store[key] = {dot: write for dot, write in leaf.items() if len(write) == 3}
                if not store[key]:
                    del store[key]
        return 0

    patch.setattr(maps.LWWMap, "collect_store", classmethod(collect))


def fold_into_the_lowest_dot(patch: Patch) -> None:
    """Replicas that fold at different times, or not yet, no longer agree on where the sum is."""

    def fold(store: Any, cut: Any) -> int:
        below = sorted(dot for dot in store if dot in cut)
        if len(below) < 2:
            return 0
        total = tuple(sum(store[dot][part] for dot in below) for part in (0, 1))
        for dot in below[1:]:
            del store[dot]
        store[below[0]] = (total[0] + 1, total[1])
        return len(below) - 1

    patch.setattr(counters, "fold", fold)


def collect_without_telling(patch: Patch) -> None:
    """Deltas made after a collection don't carry the cut: elsewhere they meet removes that they know nothing of."""
    emit = Replica._emit

    def emitting(self: Any, fragment: Any, new: Any, gone: Any = (), round: Any = None) -> Delta:
        made = emit(self, fragment, new, gone, round)
        made.stable = delta.NOTHING
        return made

    patch.setattr(Replica, "_emit", emitting)
    opened = replica._opened
    patch.setattr(replica, "_opened", lambda other: (*opened(other)[:2], delta.NOTHING))


def ignore_the_cut_of_a_delta(patch: Patch) -> None:
    """Whole states tell of a collection, deltas don't: an add from after it meets the remove that was collected."""
    opened = replica._opened
    patch.setattr(
        replica,
        "_opened",
        lambda other: (*opened(other)[:2], delta.NOTHING if isinstance(other, Delta) else other._stable),
    )


def part_without_the_gone(patch: Patch) -> None:
    decompose = Delta.decompose
    patch.setattr(Delta, "decompose", lambda self: [part for part in decompose(self) if part._store])


MUTANTS = [
    Mutant("a delta ships the whole context", ship_the_whole_context, law_of(law_mutators, "ORSet")),
    Mutant("a delta ships the whole context, seen late", ship_the_whole_context, law_of(law_deltas, "ORSet")),
    Mutant("a change forgets what it replaced", forget_what_a_change_replaced, law_of(law_mutators, "MVRegister")),
    Mutant("a join without context", join_without_context, law_of(law_join, "ORSet")),
    Mutant("the maximum of dots", take_the_maximum_of_dots, law_of(law_deltas, "ORSet")),
    Mutant("first of equal stamps", keep_the_first_of_equal_stamps, law_of(law_join, "LWWMap")),
    Mutant("mine of equal stamps", keep_mine_of_equal_stamps, law_of(law_join, "LWWRegister without an actor")),
    Mutant("a round left open", leave_rounds_open, oracle_of("ResettableCounter")),
    Mutant("one dot per counting replica", count_under_one_dot, oracle_of("ResettableCounter")),
    Mutant("writes replaced unseen", replace_unseen_writes, oracle_of("MVRegister")),
    Mutant("adds win where removes should", let_adds_win, oracle_of("RWSet")),
    Mutant("removes win where adds should", let_removes_win, oracle_of("ORSet")),
    Mutant("a level without removals", level_without_removals, law_of(law_level, "ORSet")),
    Mutant("a level with everything", level_with_everything, law_of(law_level, "ORSet")),
    Mutant("bytes in order of arrival", write_in_order_of_arrival, law_of(law_bytes, "ORSet")),
    Mutant("spending without rights", spend_without_rights, escrow),
    Mutant("a dot minted twice", mint_a_dot_twice, law_of(law_mutators, "PNCounter")),
    Mutant("every actor trusted", trust_every_actor, law_of(law_actors, "ORSet")),
    Mutant("siblings in order of arrival", order_siblings_by_arrival, law_of(law_join, "Text")),
    Mutant("collected before it is stable", collect_what_is_not_stable, law_of(law_collect, "LWWMap")),
    Mutant("folded to another sum", fold_into_the_lowest_dot, law_of(law_collect, "ResettableCounter")),
    Mutant("collected without telling", collect_without_telling, law_of(law_collect, "RWSet")),
    Mutant("the cut of a delta ignored", ignore_the_cut_of_a_delta, law_of(law_collect, "RWSet")),
    Mutant("parts without what is gone", part_without_the_gone, law_of(law_parts, "ORSet")),
]
SEEDS = 400


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_the_mutant_is_caught(mutant: Mutant, monkeypatch: Patch) -> None:
    mutant.apply(monkeypatch)

    caught = None
    for seed in range(SEEDS):
        try:
            mutant.law(seed)
        except (AssertionError, AegisError, pytest.fail.Exception) as error:
            caught = seed, error
            break

    assert caught is not None, f"{SEEDS} histories, and no law noticed"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_the_law_is_silent_without_the_mutant(mutant: Mutant) -> None:
    for seed in range(25):
        mutant.law(seed)
