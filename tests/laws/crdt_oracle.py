"""What must a value be, by the happens-before graph alone? A second, slow meaning of each type, without dots.

An event knows which events its replica saw alive. It is dead at a replica that knows a later event on the same thing
which had seen it; the value is a function of the events that are alive there. (A delta without the deltas before it
tells of its own event alone, so what had died before is no business of it.)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from crdt_histories import Step

from aegis_replication.crdt import (
    Bag,
    Delta,
    DWFlag,
    EWFlag,
    MVRegister,
    ORMap,
    ORSet,
    ResettableCounter,
    RWSet,
)


class Event(NamedTuple):
    number: int
    things: frozenset[Any]  # what it is about: it kills what it has seen of these
    says: Any  # None: it only kills
    seen: frozenset[int]
    kills: bool = True


class Oracle(NamedTuple):
    make: Callable[[str], Any]
    # Replica, two arguments -> its delta, what the event is about, what it says, whether it kills.
    change: Callable[[Any, int, int], tuple[Delta, frozenset[Any], Any, bool]]
    value: Callable[[list[Event]], Any]


def judge(name: str, taken: list[Step]) -> None:
    """Runs the steps beside the graph. A delta brings its event; a state brings all that its replica knew."""
    oracle = ORACLES[name]
    replicas = [oracle.make(actor) for actor in "abc"]
    known: list[set[int]] = [set(), set(), set()]
    events: list[Event] = []
    deltas: list[Delta] = []
    for action, at, other, a, b in taken:
        if action < 6:
            seen = frozenset(number for number in known[at] if is_alive(events[number], known[at], events))
            delta, things, says, kills = oracle.change(replicas[at], a, b)
            delta.to_bytes()  # shipped at once: its round is closed
            events.append(Event(len(events), things, says, seen, kills))
            deltas.append(delta)
            known[at].add(len(events) - 1)
        elif action < 8 and deltas:
            which = (a * 6 + b) % len(deltas)
            replicas[at].merge(deltas[which])
            known[at].add(which)
        elif at != other:
            replicas[at].merge(replicas[other])
            known[at] |= known[other]
        alive = [events[number] for number in sorted(known[at]) if is_alive(events[number], known[at], events)]
        expected = oracle.value(alive)
        assert replicas[at].value() == expected, f"L11: {replicas[at]!r}, the graph says {expected!r}"


def is_alive(event: Event, known: set[int], events: list[Event]) -> bool:
    killers = (events[number] for number in known)
    return not any(each.kills and event.number in each.seen and event.things & each.things for each in killers)


def change_set(elements: Any, a: int, b: int) -> tuple[Delta, frozenset[Any], Any, bool]:
    element = "xyz"[b % 3]
    delta = elements.remove(element) if a % 2 else elements.add(element)
    return delta, frozenset([element]), None if a % 2 else element, True


def change_remove_wins(elements: Any, a: int, b: int) -> tuple[Delta, frozenset[Any], Any, bool]:
    element = "xyz"[b % 3]
    delta = elements.remove(element) if a % 2 else elements.add(element)
    return delta, frozenset([element]), (element, not a % 2), True


def remove_wins_value(alive: list[Event]) -> set[str]:
    said = [event.says for event in alive]
    return {element for element, _ in said if all(is_add for each, is_add in said if each == element)}


def change_enable_wins(flag: Any, a: int, b: int) -> tuple[Delta, frozenset[Any], Any, bool]:
    return (flag.enable() if a % 2 else flag.disable()), frozenset([0]), True if a % 2 else None, True


def change_disable_wins(flag: Any, a: int, b: int) -> tuple[Delta, frozenset[Any], Any, bool]:
    return (flag.enable() if a % 2 else flag.disable()), frozenset([0]), bool(a % 2), True


def change_register(register: Any, a: int, b: int) -> tuple[Delta, frozenset[Any], Any, bool]:
    return (register.clear() if a == 5 else register.set(b)), frozenset([0]), None if a == 5 else b, True


def change_resettable(counter: Any, a: int, b: int) -> tuple[Delta, frozenset[Any], Any, bool]:
    if a == 0:
        return counter.reset(), frozenset([0]), None, True
    return (
        (counter.increment(b + 1) if a % 2 else counter.decrement(b + 1)),
        frozenset([0]),
        (b + 1 if a % 2 else -b - 1),
        False,
    )


def change_bag(bag: Any, a: int, b: int) -> tuple[Delta, frozenset[Any], Any, bool]:
    element = "xyz"[b % 3]
    if a % 3 == 0:
        return bag.discard(element), frozenset([element]), None, True
    return bag.add(element, a), frozenset([element]), (element, a), False


def bag_value(alive: list[Event]) -> dict[str, int]:
    said = [event.says for event in alive if event.says]
    return {element: sum(times for each, times in said if each == element) for element, _ in said}


def change_map_of_sets(entries: Any, a: int, b: int) -> tuple[Delta, frozenset[Any], Any, bool]:
    """Removing a key kills what was seen of all its elements."""
    key, element = "kl"[b % 2], "xyz"[a % 3]
    if a >= 4:
        return entries.remove(key), frozenset((key, each) for each in "xyz"), None, True
    delta = entries.at(key, ORSet).add(element) if b < 4 else entries.at(key, ORSet).remove(element)
    return delta, frozenset([(key, element)]), (key, element) if b < 4 else None, True


def map_of_sets_value(alive: list[Event]) -> dict[str, set[str]]:
    result: dict[str, set[str]] = {}
    for event in alive:
        if event.says:
            result.setdefault(event.says[0], set()).add(event.says[1])
    return result


def change_map_of_counters(entries: Any, a: int, b: int) -> tuple[Delta, frozenset[Any], Any, bool]:
    key = "kl"[b % 2]
    if a == 0:
        return entries.remove(key), frozenset([key]), None, True
    return entries.at(key, ResettableCounter).increment(a), frozenset([key]), (key, a), False


ORACLES: dict[str, Oracle] = {
    "ORSet": Oracle(ORSet, change_set, lambda alive: {event.says for event in alive if event.says}),
    "RWSet": Oracle(RWSet, change_remove_wins, remove_wins_value),
    "EWFlag": Oracle(EWFlag, change_enable_wins, lambda alive: any(event.says for event in alive)),
    "DWFlag": Oracle(DWFlag, change_disable_wins, lambda alive: bool(alive) and all(event.says for event in alive)),
    "MVRegister": Oracle(
        MVRegister,
        change_register,
        lambda alive: sorted({event.says for event in alive if event.says is not None}),
    ),
    "ResettableCounter": Oracle(
        ResettableCounter, change_resettable, lambda alive: sum(event.says or 0 for event in alive)
    ),
    "Bag": Oracle(Bag, change_bag, bag_value),
    "ORMap of ORSet": Oracle(ORMap, change_map_of_sets, map_of_sets_value),
    "ORMap of ResettableCounter": Oracle(ORMap, change_map_of_counters, bag_value),
}
