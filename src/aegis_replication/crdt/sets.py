"""Is it in, when one added it and another removed it at once? Sets: grow-only, two-phase, add or remove wins; a bag."""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from aegis_replication.crdt.counters import fold, larger, net, read_pair
from aegis_replication.crdt.delta import Delta, Round
from aegis_replication.crdt.flags import read_bool
from aegis_replication.crdt.kernel import CausalContext, Shape, Store
from aegis_replication.crdt.replica import Replica
from aegis_replication.crdt.values import Key, canonical, checked_key
from aegis_replication.vector_clock import Dot
from aegis_replication.vector_clock.codec import count

NO_DOTS: Store = {}
"""The leaf of an element that isn't there. Never changed."""


class ElementSet(Replica):
    """What all sets share: element -> dot -> payload, and reading."""

    __slots__ = ()
    SHAPE: ClassVar[Shape] = Shape.MAP

    def value(self) -> set[Any]:
        return {element for element, leaf in self._store.items() if self._is_in(leaf)}

    def elements(self) -> list[Any]:
        """The elements in the order of their bytes."""
        return sorted(self.value(), key=canonical)

    def __contains__(self, element: object) -> bool:
        return self._is_in(self._store.get(checked_key(element), NO_DOTS))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.elements())

    def __len__(self) -> int:
        return sum(map(self._is_in, self._store.values()))

    @classmethod
    def has_content(cls, store: Store) -> bool:
        return any(map(cls._is_in, store.values()))

    @staticmethod
    def read_payload(plain: Any) -> bool:
        return read_bool(plain)

    @staticmethod
    def _is_in(leaf: Store) -> bool:
        return bool(leaf)

    def _replace(self, element: Key, payload: Any, gone: list[Dot]) -> Delta:
        """A new dot in place of those `gone`; the others of the element stay beside it."""
        old = self._store.get(element, NO_DOTS)
        dot = self._mint()
        new = {dot: payload}
        self._store[element] = new if len(gone) == len(old) else _without(old, gone) | new
        return self._emit({element: new}, (dot,), gone)

    def _drop(self, element: Key, gone: list[Dot]) -> Delta:
        if gone:
            left = _without(self._store[element], gone)
            if left:
                self._store[element] = left
            else:
                del self._store[element]
        return self._emit({element: {}}, (), gone)


class GSet(ElementSet):
    """Only grows."""

    __slots__ = ()
    NAME: ClassVar[str] = "GSet"

    def add(self, element: Any) -> Delta:
        """Adds it; an element that is in is not added again."""
        element = checked_key(element)
        if element in self._store:
            return self._emit({}, ())
        return self._replace(element, True, [])


class TwoPSet(ElementSet):
    """What was removed once never comes back."""

    __slots__ = ()
    NAME: ClassVar[str] = "TwoPSet"
    IS_RESETTABLE: ClassVar[bool] = False

    def add(self, element: Any) -> Delta:
        """Adds it, unless it is in or was removed."""
        element = checked_key(element)
        if element in self._store:
            return self._emit({}, ())
        return self._replace(element, True, [])

    def remove(self, element: Any) -> Delta:
        """Removes an element that is in, for ever."""
        element = checked_key(element)
        leaf = self._store.get(element, NO_DOTS)
        return self._replace(element, False, [*leaf]) if self._is_in(leaf) else self._emit({}, ())

    def is_removed(self, element: Any) -> bool:
        return not all(self._store.get(checked_key(element), NO_DOTS).values())

    @staticmethod
    def _is_in(leaf: Store) -> bool:
        return bool(leaf) and all(leaf.values())


class ORSet(ElementSet):
    """Add wins: a remove takes the adds that it saw, and only those. Removing leaves no trace but in the context.

    With a read context, a remove takes what that client had read, and an add replaces only that.
    """

    __slots__ = ()
    NAME: ClassVar[str] = "ORSet"

    def add(self, element: Any, *, context: CausalContext | None = None) -> Delta:
        if type(element) is not str or not element.isascii():
            element = checked_key(element)
        old = self._store.get(element)
        if old is None:
            if context is not None:
                self._check_read(context)
            dot = self._mint()
            leaf = self._store[element] = {dot: True}
            return self._emit({element: leaf}, (dot,))
        return self._replace(element, True, self._observed(old, context))

    def update(self, elements: Iterable[Any]) -> Delta:
        """Adds them all, in one delta: several times faster than one by one."""
        keys = list(dict.fromkeys(map(checked_key, elements)))
        if not keys:
            return self._emit({}, ())
        actor, first = self._mint(len(keys))
        dots = [(actor, number) for number in range(first, first + len(keys))]
        fragment = {key: {dot: True} for key, dot in zip(keys, dots)}
        store = self._store
        gone = [dot for key in keys if key in store for dot in store[key]]
        store.update(fragment)
        return self._emit(fragment, dots, gone)

    def remove(self, element: Any, *, context: CausalContext | None = None) -> Delta:
        """Removes it as far as it was seen; nothing happens if it isn't in."""
        element = checked_key(element)
        return self._drop(element, self._observed(self._store.get(element, NO_DOTS), context))

    def clear(self) -> Delta:
        """Removes all that was seen."""
        gone = {element: [*leaf] for element, leaf in self._store.items()}
        self._store.clear()
        return self._emit({element: {} for element in gone}, (), [dot for dots in gone.values() for dot in dots])


class RWSet(ElementSet):
    """Remove wins: an element is in if every remove of it was known to an add. `collect` drops old removes."""

    __slots__ = ()
    NAME: ClassVar[str] = "RWSet"

    def add(self, element: Any, *, context: CausalContext | None = None) -> Delta:
        element = checked_key(element)
        return self._replace(element, True, self._observed(self._store.get(element, NO_DOTS), context))

    def remove(self, element: Any, *, context: CausalContext | None = None) -> Delta:
        """Removes it, also against adds elsewhere that did not know of this remove."""
        element = checked_key(element)
        return self._replace(element, False, self._observed(self._store.get(element, NO_DOTS), context))

    @staticmethod
    def _is_in(leaf: Store) -> bool:
        return bool(leaf) and all(leaf.values())

    @classmethod
    def collect_store(cls, store: Store, cut: CausalContext) -> int:
        """A stable remove goes together with the adds that it beat, all of which every replica has seen.

        An add that is not below the cut may have seen the remove, and only the delta that would say so is missing: then
        both wait for a later cut.
        """
        gone_count = 0
        for element, leaf in [*store.items()]:
            removes = [dot for dot, is_add in leaf.items() if not is_add]
            adds = [dot for dot, is_add in leaf.items() if is_add]
            if any(dot in cut for dot in removes) and all(dot in cut for dot in adds):
                left = {dot: is_add for dot, is_add in leaf.items() if not is_add and dot not in cut}
                gone_count += len(leaf) - len(left)
                if left:
                    store[element] = left
                else:
                    del store[element]
        return gone_count


class Bag(ElementSet):
    """A set that counts: each element is in so many times. `discard` takes all that was seen, exactly."""

    __slots__ = ("_open",)
    NAME: ClassVar[str] = "Bag"

    def add(self, element: Any, times: int = 1) -> Delta:
        return self._change(checked_key(element), count(times, "times", least=1), 0)

    def remove(self, element: Any, times: int = 1) -> Delta:
        """Takes it out so many times, at most as often as it is in."""
        element = checked_key(element)
        taken = min(count(times, "times", least=1), self.count(element))
        return self._change(element, 0, taken) if taken else self._emit({}, ())

    def discard(self, element: Any, *, context: CausalContext | None = None) -> Delta:
        element = checked_key(element)
        return self._drop(element, self._observed(self._store.get(element, NO_DOTS), context))

    def count(self, element: Any) -> int:
        """How often it is in. Concurrent removes may have taken more than there was: then 0."""
        leaf = self._store.get(checked_key(element), NO_DOTS)
        return max(0, net(leaf))

    def value(self) -> dict[Any, int]:  # type: ignore[override]  # a bag's value is its counts
        return {element: self.count(element) for element, leaf in self._store.items() if self._is_in(leaf)}

    def elements(self) -> list[Any]:
        return [each for element, times in sorted(self.value().items(), key=_by_bytes) for each in [element] * times]

    def __len__(self) -> int:
        return sum(self.value().values())

    @staticmethod
    def _is_in(leaf: Store) -> bool:
        return net(leaf) > 0

    @classmethod
    def resolve(cls, dot: Dot, mine: Any, theirs: Any) -> Any:
        return larger(dot, mine, theirs)

    @staticmethod
    def read_payload(plain: Any) -> Any:
        return read_pair(plain)

    @classmethod
    def collect_store(cls, store: Store, cut: CausalContext) -> int:
        gone_count = 0
        for element, leaf in [*store.items()]:
            folded = dict(leaf)
            if gone := fold(folded, cut):
                store[element] = folded
                gone_count += gone
        return gone_count

    def _begin(self, store: Store, context: CausalContext, stable: CausalContext, settings: Any) -> None:
        super()._begin(store, context, stable, settings)
        # Where the next change of an element is counted, while it is open and not discarded.
        self._open: dict[Key, Round] = {}

    def _change(self, element: Key, plus: int, minus: int) -> Delta:
        round = self._open.get(element)
        leaf = self._store.get(element, NO_DOTS)
        if round is None or not round.is_open or round.dot not in leaf:
            # Those that were shipped are done with.
            self._open = {key: each for key, each in self._open.items() if each.is_open}
            round = self._open[element] = Round(self._mint(), {element: {}})
            self._rounds.append(round)
        before = leaf.get(round.dot, (0, 0))
        total = count(before[0] + plus, "total"), count(before[1] + minus, "total")
        self._store[element] = leaf | {round.dot: total}
        round.fragment[element] = {round.dot: total}
        return self._emit(round.fragment, (round.dot,), round=round)


def _without(leaf: Store, gone: list[Dot]) -> Store:
    return {dot: payload for dot, payload in leaf.items() if dot not in gone}


def _by_bytes(item: tuple[Any, int]) -> bytes:
    return canonical(item[0])
