"""How does a replicated type live? Three replicas that change, lose, repeat and reorder deltas, and merge whole states.

A history is a list of steps of small numbers, so that hypothesis can shrink it and a seed can draw it.
"""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st

from aegis_replication.crdt import (
    Bag,
    BoundedCounter,
    Delta,
    DWFlag,
    EWFlag,
    GCounter,
    GSet,
    List,
    LWWMap,
    LWWRegister,
    MaxRegister,
    MinRegister,
    MVRegister,
    ORMap,
    ORSet,
    PNCounter,
    Replica,
    ResettableCounter,
    RWSet,
    Text,
    TwoPSet,
)
from aegis_replication.errors import InsufficientRights

Step = tuple[int, int, int, int, int]
"""What to do (below 6: change; then deliver a delta, or merge a state), replica, other, and two arguments."""

steps = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 2), st.integers(0, 2), st.integers(0, 5), st.integers(0, 5)),
    max_size=20,
)


def drawn_steps(seed: int, length: int = 20) -> list[Step]:
    rng = random.Random(seed)
    return [
        (rng.randint(0, 9), rng.randint(0, 2), rng.randint(0, 2), rng.randint(0, 5), rng.randint(0, 5))
        for _ in range(length)
    ]


class Life(NamedTuple):
    """A type under test: how a replica is made, and what its change number `a` with argument `b` does."""

    make: Callable[[str | None], Any]
    change: Callable[[Any, int, int], Delta]
    change_later: Callable[[Any, int, int], Delta] | None = None  # after a cut, if that must differ


def change_growing(counter: Any, a: int, b: int) -> Delta:
    return counter.increment(1 + b)


def change_counter(counter: Any, a: int, b: int) -> Delta:
    return counter.increment(1 + b) if a % 2 else counter.decrement(1 + b)


def change_resettable(counter: Any, a: int, b: int) -> Delta:
    return counter.reset() if a == 0 else change_counter(counter, a, b)


def change_bounded(counter: Any, a: int, b: int) -> Delta:
    try:
        if a < 2:
            return counter.increment(1 + b)
        if a < 4:
            return counter.decrement(1 + b)
        return counter.transfer({"a": "b", "b": "c", "c": "a"}[counter.actor], 1 + b)
    except InsufficientRights:
        return counter.increment(1)


def change_last_write(register: Any, a: int, b: int) -> Delta:
    return register.set([b], a) if a else register.set(f"value {b}")


def change_many(register: Any, a: int, b: int) -> Delta:
    return register.set(b, context=None) if a else register.clear()


def change_number(register: Any, a: int, b: int) -> Delta:
    return register.set(a * 6 + b if a % 2 else float(b))


def change_flag(flag: Any, a: int, b: int) -> Delta:
    return flag.enable() if a % 2 else flag.disable()


def change_growing_set(elements: Any, a: int, b: int) -> Delta:
    return elements.add("xyz"[b % 3])


def change_set(elements: Any, a: int, b: int) -> Delta:
    element = ("x", 7, ("y", b"z"))[b % 3]
    if a == 4 and isinstance(elements, ORSet):
        return elements.update([element, "x"])
    return elements.remove(element) if a % 2 else elements.add(element)


def change_bag(bag: Any, a: int, b: int) -> Delta:
    if a == 0:
        return bag.discard("xyz"[b % 3])
    return bag.remove("xyz"[b % 3], a) if a % 2 else bag.add("xyz"[b % 3], a)


def change_map(entries: Any, a: int, b: int) -> Delta:
    if a == 5:
        return entries.update({"x": b, "xyz"[b % 3]: [b]}, a % 3)
    return entries.remove("xyz"[b % 3], a) if a == 0 else entries.set("xyz"[b % 3], a, a % 3)


def change_map_later(entries: Any, a: int, b: int) -> Delta:
    """With timestamps above all that stand below the cut: a collected remove has left its stamp behind."""
    return entries.remove("xyz"[b % 3], 1_000) if a == 0 else entries.set("xyz"[b % 3], a, 1_000 + a % 3)


def change_list(values: Any, a: int, b: int) -> Delta:
    if a % 3 == 0 and len(values) > 1:
        return values.delete(b % (len(values) - 1), 1 + a % 2)
    return values.insert(b % (len(values) + 1), a, [b])


def change_text(text: Any, a: int, b: int) -> Delta:
    if a % 3 == 0 and len(text) > 1:
        return text.delete(b % (len(text) - 1), 1 + a % 2)
    return text.insert(b % (len(text) + 1), "ab" if a % 2 else "ü")


def nested(key_count: int, *fields: tuple[type[Replica], Callable[[Any, int, int], Delta]]) -> Any:
    """Changes of a map: of an object in it, or (one in six) a remove of a key."""

    def change(entries: Any, a: int, b: int) -> Delta:
        key = f"key {b % key_count}"
        if a == 5:
            return entries.remove(key)
        kind, change_field = fields[a % len(fields)]
        return change_field(entries.at(key, kind), b, a)

    return change


def change_deep(entries: Any, a: int, b: int) -> Delta:
    """A map in a map in a map."""
    middle = entries.at("outer", ORMap)
    if a == 5:
        return entries.remove("outer")
    if a == 4:
        return middle.remove("inner")
    return nested(2, (ORSet, change_set), (MVRegister, change_many))(middle.at("inner", ORMap), a, b)


LIVES: dict[str, Life] = {
    "GCounter": Life(GCounter, change_growing),
    "PNCounter": Life(PNCounter, change_counter),
    "ResettableCounter": Life(ResettableCounter, change_resettable),
    "BoundedCounter": Life(BoundedCounter, change_bounded),
    "LWWRegister": Life(LWWRegister, change_last_write),
    "LWWRegister without an actor": Life(lambda actor: LWWRegister(), change_last_write),
    "MVRegister": Life(MVRegister, change_many),
    "MaxRegister": Life(MaxRegister, change_number),
    "MinRegister": Life(MinRegister, change_number),
    "EWFlag": Life(EWFlag, change_flag),
    "DWFlag": Life(DWFlag, change_flag),
    "GSet": Life(GSet, change_growing_set),
    "TwoPSet": Life(TwoPSet, change_set),
    "ORSet": Life(ORSet, change_set),
    "RWSet": Life(RWSet, change_set),
    "Bag": Life(Bag, change_bag),
    "LWWMap": Life(LWWMap, change_map, change_map_later),
    "List": Life(List, change_list),
    "Text": Life(Text, change_text),
    "ORMap of sets and counters": Life(ORMap, nested(2, (ORSet, change_set), (ResettableCounter, change_resettable))),
    "ORMap of texts and maps": Life(
        ORMap,
        nested(2, (Text, change_text), (LWWMap, change_map)),
        nested(2, (Text, change_text), (LWWMap, change_map_later)),
    ),
    "ORMap of registers and flags": Life(
        ORMap, nested(2, (LWWRegister, change_last_write), (EWFlag, change_flag), (Bag, change_bag))
    ),
    "ORMap of sets where removes win": Life(ORMap, nested(2, (RWSet, change_set))),
    "ORMap in ORMaps": Life(ORMap, change_deep),
}


class History:
    """What came of the steps: the replicas, and all deltas that were made."""

    def __init__(self, life: Life, taken: list[Step], *, on_change: Any = None) -> None:
        self.life = life
        self.replicas: list[Any] = [life.make(actor) for actor in "abc"]
        self.deltas: list[Delta] = []
        self.go_on(taken, on_change=on_change)

    def go_on(self, taken: list[Step], *, on_change: Any = None) -> None:
        for action, at, other, a, b in taken:
            replica = self.replicas[at]
            if action < 6:
                if on_change is not None:
                    self.deltas.append(on_change(self.life, replica, a, b))
                else:
                    self.deltas.append(self.life.change(replica, a, b))
            elif action < 8 and self.deltas:
                replica.merge(self.deltas[(a * 6 + b) % len(self.deltas)])
            elif at != other:
                replica.merge(self.replicas[other])

    def exchange(self) -> None:
        """Every replica has merged every other's state, from after it had merged all."""
        for _ in range(2):
            for one in self.replicas:
                for other in self.replicas:
                    if one is not other:
                        one.merge(other)


def joined(life: Life, *states: Any) -> Any:
    result = life.make(None)
    for state in states:
        result.merge(state)
    return result


def same(one: Any, other: Any) -> bool:
    """Store and context, byte for byte."""
    return bool(one.delta().to_bytes() == other.delta().to_bytes())
