"""How do several people edit one list or one text at once? A list and a text over Fugue's tree."""

from collections.abc import Iterator
from typing import Any, ClassVar, Self

from aegis_replication.crdt.delta import Delta
from aegis_replication.crdt.fugue import ROOT, Content, Erase, Run, Tree
from aegis_replication.crdt.kernel import CausalContext, Store
from aegis_replication.crdt.replica import Replica
from aegis_replication.crdt.values import freeze, plain, thaw
from aegis_replication.errors import ActorReused, InvalidArgument
from aegis_replication.vector_clock import Dot, VersionVector
from aegis_replication.vector_clock.codec import actor_id, count


class Sequence(Replica):
    """What lists and texts share: positions, inserting, deleting, collecting."""

    __slots__ = ("_tree", "_dots", "_content")
    EMPTY: ClassVar[Content] = ()

    def _begin(self, store: Store, context: CausalContext, stable: CausalContext, settings: Any) -> None:
        super()._begin(store, context, stable, settings)
        # The visible elements: None, or made of the store and kept up to date by local changes.
        self._tree: Tree | None = None
        self._dots: list[Dot] = []
        self._content: list[Any] = []

    def __len__(self) -> int:
        return len(self._visible())

    def delete(self, index: int, length: int = 1, *, context: CausalContext | None = None) -> Delta:
        """Deletes `length` elements from `index` on. InvalidArgument: there are not so many.

        With a read context, `index` counts in what that client had read: those elements go, wherever they are by now.
        """
        count(length, "length", least=1)
        shown = self if context is None else self._as_read(context)
        dots = shown._visible()
        self._check_index(index, len(dots) - length)
        targets = _as_runs(dots[index : index + length])
        dot = self._mint()
        self._store[dot] = Erase(targets)
        if shown is self:
            del dots[index : index + length]
            del self._content[index : index + length]
        else:
            self._forget_caches()
        # The tree's list of what is erased is only read when it is made, and then the store has it.
        return self._emit({dot: self._store[dot]}, (dot,))

    @classmethod
    def resolve(cls, dot: Dot, mine: Any, theirs: Any) -> Any:
        """Equal, or one was grown by `collect` out of runs that follow each other."""
        if mine == theirs:
            return mine
        if type(mine) is Run and type(theirs) is Run and mine[:2] == theirs[:2]:
            shorter, longer = sorted((mine, theirs), key=lambda run: len(run.content))
            if longer.content[: len(shorter.content)] == shorter.content:
                return longer
        raise ActorReused(*dot, f"{mine!r} here and {theirs!r} there")

    @staticmethod
    def extent(payload: Any) -> int:
        return len(payload.content) if type(payload) is Run else 1

    @classmethod
    def plain_payload(cls, payload: Any) -> Any:
        if type(payload) is Run:
            return [*payload.parent, payload.side, cls._plain_content(payload.content)]
        return [payload.targets]

    @classmethod
    def read_payload(cls, plain: Any) -> Run | Erase:
        if len(plain) == 1:
            targets = tuple(
                (actor_id(actor), count(first, least=1), count(last, least=first)) for actor, first, last in plain[0]
            )
            return Erase(targets)
        actor, number, side, content = plain
        parent = (actor_id(actor), count(number, least=1)) if actor else ROOT
        if type(side) is not int or side not in (0, 1) or (parent == ROOT and (number != 0 or side != 1)):
            raise InvalidArgument(f"place {plain[:3]!r}: actor, number and side expected")
        return Run(parent, side, cls._read_content(content))

    @classmethod
    def has_content(cls, store: Store) -> bool:
        erased = _erased(store, None)
        return any(type(entry) is Run and not _covers(erased, dot, entry) for dot, entry in store.items())

    @classmethod
    def collect_store(cls, store: Store, cut: CausalContext) -> int:
        before = len(store)
        _drop_dead_runs(store, cut)
        _join_runs(store, cut)
        return before - len(store)

    def _insert(self, index: int, content: Content, context: CausalContext | None) -> Delta:
        shown = self if context is None else self._as_read(context)
        dots = shown._visible()
        self._check_index(index, len(dots))
        if not content:
            return self._emit({}, ())
        assert shown._tree is not None, "made with the visible dots"
        left = dots[index - 1] if index else ROOT
        right = dots[index] if index < len(dots) else None
        actor, number = first = self._mint(len(content))
        run = Run(*shown._tree.place_between(left, right), content)
        self._store[first] = run
        new = [(actor, number + offset) for offset in range(len(content))]
        if shown is self:
            shown._tree.insert(first, run, left)
            dots[index:index] = new
            self._content[index:index] = content
        else:
            self._forget_caches()
        return self._emit({first: run}, new)

    def _as_read(self, context: CausalContext) -> Self:
        """What a client with this read context was shown."""
        self._check_read(context)
        store: Store = {}
        for dot, entry in self._store.items():
            if type(entry) is not Run:
                if dot in context:
                    store[dot] = entry
            elif length := _length_in(context, dot, entry):
                store[dot] = entry if length == len(entry.content) else entry._replace(content=entry.content[:length])
        return self._made(store, context, self._stable, None)

    def _visible(self) -> list[Dot]:
        """The dots of the visible elements, in order. Made anew after a merge: one pass over all runs."""
        if self._tree is None:
            self._tree = tree = Tree(self._store, self._context)
            self._dots, self._content = [], []
            for first, start, after in tree.walk():
                for low, high in tree.visible(first, start, after):
                    actor, number = first
                    self._dots += [(actor, number + offset) for offset in range(low, high)]
                    self._content += self._store[first].content[low:high]
        return self._dots

    def _forget_caches(self) -> None:
        self._tree = None

    def _check_index(self, index: int, last: int) -> None:
        if type(index) is not int or not 0 <= index <= last:
            raise InvalidArgument(f"index {index!r}: a whole number from 0 to {max(last, 0)} expected")

    @staticmethod
    def _plain_content(content: Content) -> Any:
        return content

    @staticmethod
    def _read_content(plain: Any) -> Content:
        raise NotImplementedError


class List(Sequence):
    """A list of values."""

    __slots__ = ()
    NAME: ClassVar[str] = "List"

    def insert(self, index: int, *values: Any, context: CausalContext | None = None) -> Delta:
        """Inserts the values before `index`, in this order; with a read context, where that client had read it."""
        return self._insert(index, tuple(map(freeze, values)), context)

    def append(self, *values: Any) -> Delta:
        return self.insert(len(self), *values)

    def value(self) -> list[Any]:
        self._visible()
        return [*map(thaw, self._content)]

    def __getitem__(self, index: int) -> Any:
        self._visible()
        return thaw(self._content[index])

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value())

    @staticmethod
    def _plain_content(content: Content) -> Any:
        return [*map(plain, content)]

    @staticmethod
    def _read_content(plain: Any) -> Content:
        if type(plain) is not list or not plain:
            raise InvalidArgument(f"content {plain!r}: a list of values expected")
        return tuple(map(freeze, plain))


class Text(Sequence):
    """A text, edited by characters (Unicode code points)."""

    __slots__ = ()
    NAME: ClassVar[str] = "Text"
    EMPTY: ClassVar[Content] = ""

    def insert(self, index: int, text: str, *, context: CausalContext | None = None) -> Delta:
        """Inserts `text` before the character at `index`; with a read context, where that client had read it."""
        if type(text) is not str:
            raise InvalidArgument(f"{text!r} is a {type(text).__name__}: give text")
        return self._insert(index, freeze(text), context)

    def append(self, text: str) -> Delta:
        return self.insert(len(self), text)

    def value(self) -> str:
        self._visible()
        return "".join(self._content)

    def __str__(self) -> str:
        return self.value()

    @staticmethod
    def _read_content(plain: Any) -> Content:
        if type(plain) is not str or not plain:
            raise InvalidArgument(f"content {plain!r}: text expected")
        return freeze(plain)


# --- garbage ---------------------------------------------------------------------------------------------------------


def _drop_dead_runs(store: Store, cut: CausalContext) -> None:
    """Runs that are deleted as a whole, and on which nothing hangs; then deletes that have nothing left to say."""
    erased = _erased(store, cut)
    while True:
        tree = Tree(store, cut)
        dead = [
            dot
            for dot, entry in store.items()
            if type(entry) is Run
            and _covers(erased, dot, entry)
            and _covers(cut, dot, entry)
            and not tree.has_children(dot)
        ]
        if not dead:
            break
        for dot in dead:
            del store[dot]
    standing = VersionVector.of_runs(
        (actor, number, number + len(entry.content) - 1)
        for (actor, number), entry in store.items()
        if type(entry) is Run
    )
    for dot, entry in [*store.items()]:
        if type(entry) is Erase and dot in cut and not standing.meet(VersionVector.of_runs(entry.targets)):
            del store[dot]


def _join_runs(store: Store, cut: CausalContext) -> None:
    """What an actor typed in one go, key by key, becomes one run."""
    for dot in sorted(dot for dot, entry in store.items() if type(entry) is Run and _covers(cut, dot, entry)):
        while dot in store:
            actor, number = dot
            run = store[dot]
            follower = (actor, number + len(run.content))
            next_run = store.get(follower)
            if type(next_run) is not Run or not _covers(cut, follower, next_run):
                break
            if (next_run.parent, next_run.side) != ((actor, follower[1] - 1), 1):
                break
            store[dot] = Run(run.parent, run.side, run.content + next_run.content)
            del store[follower]


def _erased(store: Store, cut: CausalContext | None) -> VersionVector:
    """What was deleted, by deletes in the cut alone if there is one."""
    return VersionVector.of_runs(
        target
        for dot, entry in store.items()
        if type(entry) is Erase and (cut is None or dot in cut)
        for target in entry.targets
    )


def _covers(seen: CausalContext, dot: Dot, run: Run) -> bool:
    return seen.covers(VersionVector.of_runs([(dot[0], dot[1], dot[1] + len(run.content) - 1)]))


def _length_in(seen: CausalContext, dot: Dot, run: Run) -> int:
    """How many of a run's first elements were seen: what followed may have become one run with them since."""
    if dot not in seen:
        return 0
    actor, number = dot
    last = next(last for first, last in seen.runs(actor) if first <= number <= last)
    return min(len(run.content), last - number + 1)


def _as_runs(dots: list[Dot]) -> tuple[tuple[str, int, int], ...]:
    found = VersionVector.of(dots)
    return tuple((actor, first, last) for actor in found.actors for first, last in found.runs(actor))
