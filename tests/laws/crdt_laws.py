"""Which laws must every replicated type keep? Each as a function of a type and a history; they also judge mutants."""

import contextlib
import random
from typing import Any

import pytest
from crdt_histories import History, Life, Step, joined, same

from aegis_replication.crdt import Delta, LWWRegister
from aegis_replication.crdt.renaming import RETIRED, Renaming, Retired
from aegis_replication.errors import ActorReused, BehindStableCut


def law_join(life: Life, taken: list[Step]) -> None:
    """L1 commutative, L2 associative, L3 idempotent, L4 inflationary: of states, and of states with deltas."""
    history = History(life, taken)
    pool: list[Any] = [*history.replicas, *history.deltas[:2], *history.deltas[-1:]]

    for x in pool:
        assert same(joined(life, x, x), joined(life, x)), "L3: x ⊔ x = x"
        for y in pool:
            xy = joined(life, x, y)
            assert same(xy, joined(life, y, x)), "L1: x ⊔ y = y ⊔ x"
            assert not xy.merge(x), "L4: x is in x ⊔ y"
            assert not xy.merge(y), "L4: y is in x ⊔ y"
    for x, y, z in (pool[:3], pool[-3:], pool[1:4]) if len(pool) > 3 else (pool[:3],):
        left, right = joined(life, joined(life, x, y), z), joined(life, x, joined(life, y, z))
        assert same(left, right), "L2: (x ⊔ y) ⊔ z = x ⊔ (y ⊔ z)"
        assert left.value() == right.value(), "L2: equal states have equal values"
    whole = joined(life, *history.replicas)
    for replica in history.replicas:
        replica.merge(whole)
        assert replica.value() == whole.value(), "L1-L3: who has merged all, shows the same"


def law_mutators(life: Life, taken: list[Step]) -> None:
    """L4 and L5: a change inflates, and is the join with its delta."""

    def checked_change(life: Life, replica: Any, a: int, b: int) -> Delta:
        if b % 2:  # shipped later, maybe together with what comes after
            return life.change(replica, a, b)
        before = replica.copy()
        delta = life.change(replica, a, b)
        after = joined(life, before, delta)
        assert same(after, replica), f"L5: m(x) = x ⊔ mδ(x), after change {a, b}"
        assert not replica.copy().merge(before), "L4: x is in m(x)"
        assert after.value() == replica.value(), "L5: and it shows the same"
        return delta

    History(life, taken, on_change=checked_change)


def law_deltas(life: Life, taken: list[Step]) -> None:
    """L6: all deltas, in any order, repeated, with gaps on the way, are the full states. State and context."""
    history = History(life, taken)
    rng = random.Random(len(taken))

    whole = joined(life, *history.replicas)
    late = life.make(None)
    for delta in rng.sample(history.deltas, len(history.deltas)):
        late.merge(delta)
        if rng.random() < 0.3:
            late.merge(rng.choice(history.deltas))
    grouped = None
    for delta in rng.sample(history.deltas, len(history.deltas)):
        grouped = delta if grouped is None else grouped.join(delta)

    assert same(late, whole), "L6: deltas alone = full states"
    assert late.value() == whole.value(), "L6: and it shows the same"
    assert grouped is None or grouped == whole.delta(), "L6: a group of deltas is a delta"


def law_parts(life: Life, taken: list[Step]) -> None:
    """L8: a state is the join of its parts, and none of them is in the others."""
    for replica in History(life, taken).replicas:
        parts = replica.decompose()

        assert same(joined(life, *parts), replica), "L8: the join of the parts is the state"
        for at in range(min(len(parts), 6)):
            assert not same(joined(life, *parts[:at], *parts[at + 1 :]), replica), "L8: no part is in the others"


def law_level(life: Life, taken: list[Step]) -> None:
    """L9: `delta(context)` of a peer brings that peer exactly level; and of one that is level it is empty."""
    history = History(life, taken)
    for one in history.replicas:
        for other in history.replicas:
            wanted = joined(life, other, one)
            level = other.copy()

            level.merge(one.delta(level.context()))

            assert same(level, wanted), "L9: x ⊔ delta(y, x) = x ⊔ y"
            assert not level.merge(one), "L9: exactly level"


def law_bytes(life: Life, taken: list[Step]) -> None:
    """L10: bytes there and back are the same state; equal states are equal bytes, however they came about."""
    history = History(life, taken)
    for state in [*history.replicas, *history.deltas[:3]]:
        encoded = state.to_bytes()
        again = type(state).from_bytes(encoded)

        assert again.to_bytes() == encoded, "L10: round trip"
        assert again == state, "L10: equal"
    one, other = joined(life, *history.replicas), joined(life, *reversed(history.replicas))
    assert one.to_bytes() == other.to_bytes(), "L10: equal states, equal bytes"
    assert one.digest() == other.digest(), "L10: equal digests"
    assert one.to_json() == other.to_json(), "L10: equal JSON"


def law_collect(life: Life, taken: list[Step]) -> None:
    """L15: collecting below a stable cut changes no value, and nothing that all have in the end."""
    middle = len(taken) // 2
    plain, collected = History(life, taken[:middle]), History(life, taken[:middle])
    for history in (plain, collected):
        history.exchange()
    cut = plain.replicas[0].context()
    assert cut == collected.replicas[0].context(), "given the same life"

    for history in (plain, collected):
        history.life = life._replace(change=life.change_later or life.change)
    late = taken[middle:] + [(0, at, 0, 1, 1) for at in range(3)] * 2
    for step, at in zip(late, [0, None, None, 1, None, 2] + [None] * len(late)):
        for history in (plain, collected):
            history.go_on([step])  # deltas from before the cut may still come, late; a state from before may not
            for replica in history.replicas:
                replica.context()  # closes rounds, in both alike
        if at is not None:
            replica = collected.replicas[at]
            before = replica.value()
            replica.collect(cut)
            assert replica.value() == before, "L15: equal value"
    for history in (plain, collected):
        history.exchange()
        assert len({replica.to_json() for replica in history.replicas}) == 1, "L15: converged"

    assert plain.replicas[0].value() == collected.replicas[0].value(), "L15: equal future merges"
    assert plain.replicas[0].context() == collected.replicas[0].context(), "L15: equal contexts"


def law_retire(life: Life, taken: list[Step]) -> None:
    """L15 for actors: retiring one below a stable cut changes no value, and no context but in that actor's name."""
    middle = len(taken) // 2
    plain, retiring = History(life, taken[:middle]), History(life, taken[:middle])
    for history in (plain, retiring):
        history.exchange()
        named = history.replicas[2].actor is not None
        history.replicas[2] = history.replicas[0].copy("d" if named else None)  # c has left, and d has come
        history.life = life._replace(change=life.change_later or life.change)
    cut = plain.replicas[0].context()
    renaming = Renaming([Retired("c", 0, cut.highest("c"))] if cut.highest("c") else [])
    before_it = list(retiring.deltas)

    late = taken[middle:] + [(0, at, 0, 1, 1) for at in range(3)] * 2
    for step, at in zip(late, [0, None, None, 1, None, 2] + [None] * len(late)):
        for history in (plain, retiring):
            history.go_on([step])  # deltas from before the retirement may still come, and states of who has not heard
            for replica in history.replicas:
                replica.context()  # closes rounds, in both alike
        if at is not None:
            retire(retiring.replicas[at], cut)
    for history in (plain, retiring):
        history.exchange()
    for one, other in zip(plain.replicas, retiring.replicas):
        assert one.to_json() == other.to_json(), "L15: equal value"
        assert renaming.context(one.context()) == other.context(), "L15: equal contexts, but for the name"
        again = type(other).from_bytes(other.to_bytes())
        assert again == other, "L10: round trip"
        assert again.to_bytes() == other.to_bytes(), "L10: round trip"
    retiring.replicas[2] = retiring.replicas[0].copy()
    everything = retiring.replicas[0].context()
    for replica in retiring.replicas:  # all have heard of it: its name is forgotten, and the next one's kept
        replica.collect(everything, retired=["d"])
        assert {"a", "b", RETIRED} >= {*replica.context().actors}
        assert b"\xa1c" not in Delta(type(replica), {}, replica.context(), stable=replica._stable).to_bytes()
    assert len({replica.to_bytes() for replica in retiring.replicas}) == 1, "equal states, equal bytes"
    assert retiring.replicas[0].to_json() == plain.replicas[0].to_json(), "L15: equal value, in the end"
    after = retiring.replicas[0].to_bytes()
    for delta in before_it if renaming else []:
        with contextlib.suppress(BehindStableCut):
            retiring.replicas[0].merge(delta)
        assert retiring.replicas[0].to_bytes() == after, "what is from before says nothing new"


def retire(replica: Any, cut: Any) -> None:
    before = replica.to_json()
    replica.collect(cut, retired=["c"])
    assert replica.to_json() == before, "L15: equal value"
    encoded = replica.to_bytes()
    replica.collect(cut, retired=["c"])
    assert replica.to_bytes() == encoded, "told twice is told once"
    if replica.actor is not None and cut.highest("c"):
        with pytest.raises(ActorReused, match="was retired"):
            replica.copy("c")


def law_actors(life: Life, taken: list[Step]) -> None:
    """L16: a replica that meets dots of its own name which it never made refuses, and is as it was."""
    history = History(life, taken)
    replica = history.replicas[0]
    if isinstance(replica, LWWRegister) and replica.actor is None:
        return  # it has no name to reuse
    clone = replica.copy("a")
    for _ in range(3):
        life.change(clone, 1, 1)
        life.change(clone, 2, 2)
    if clone.context() == replica.context():
        return  # changes without a dot: nothing was written
    before = replica.to_bytes()

    for again in (clone, clone.delta(), clone.delta(replica.context())):
        with pytest.raises(ActorReused, match="actor 'a' is used twice"):
            replica.merge(again)

    assert replica.to_bytes() == before, "L16: nothing was merged"


def law_sessions(life: Life, taken: list[Step]) -> None:
    """L17: a replica that has seen a client's context shows its writes; contexts only grow."""
    history = History(life, taken[: len(taken) // 2])
    before = [replica.context() for replica in history.replicas]
    read = history.replicas[0].read()

    history.go_on(taken[len(taken) // 2 :])

    for replica, earlier in zip(history.replicas, before):
        assert replica.has_seen(earlier), "L17: monotonic reads"
    other = history.replicas[1]
    other.merge(history.replicas[0])
    assert other.has_seen(read.context), "L17: read your writes"
    assert other.has_seen(history.replicas[0].context())


def law_watchers(life: Life, taken: list[Step]) -> None:
    """A watcher is told of every change: the deltas it was given rebuild the state."""
    history = History(life, [])
    told = [life.make(None) for _ in history.replicas]
    for replica, copy in zip(history.replicas, told):
        replica.subscribe(lambda change, copy=copy: copy.merge(change.delta))

    history.go_on(taken)

    for replica, copy in zip(history.replicas, told):
        assert copy.value() == replica.value()


LAWS = [
    law_join,
    law_mutators,
    law_deltas,
    law_parts,
    law_level,
    law_bytes,
    law_collect,
    law_retire,
    law_actors,
    law_sessions,
    law_watchers,
]
