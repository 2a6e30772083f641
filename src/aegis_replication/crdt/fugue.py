"""In which order do all replicas put what was inserted at once? The tree of Fugue (Weidner, Kleppmann 2023).

Each element is a node with a parent and a side; the order is the walk: left children, the node, right children, and
siblings by their dots. What two people type at one place is never mixed. An insert is a *run*: its first element
hangs on the parent, each further one is the right child of the one before.

Unlike in the paper a new element never hangs on a deleted one: it stands between two visible neighbours, and hangs on
the right of the first or on the left of the second. So what was deleted long ago gets no new children, and may go.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from aegis_replication.crdt.kernel import CausalContext, Store
from aegis_replication.vector_clock import Dot
from aegis_replication.vector_clock import runs as run_sets
from aegis_replication.vector_clock.runs import Runs

ROOT: Final[Dot] = ("", 0)
LEFT: Final = 0
RIGHT: Final = 1

Content: TypeAlias = Any
"""A str or a tuple of kept values: what has a length and slices."""


class Run(NamedTuple):
    """An insert, kept under the dot of its first element."""

    parent: Dot
    side: int
    content: Content
    # The dot that it was made under, if it was renamed since: siblings keep their order.
    first: Dot | None = None


class Erase(NamedTuple):
    """A delete, kept under a dot of its own: runs (actor, first, last) of elements."""

    targets: tuple[tuple[str, int, int], ...]


class Tree:
    """What a store says, ready to be walked. Made anew after a merge, kept up to date by local changes."""

    __slots__ = ("_store", "_firsts", "_erased", "_children", "_right_of")

    def __init__(self, store: Store, context: CausalContext) -> None:
        self._store = store
        # Actor -> the first numbers of its runs, sorted.
        self._firsts: dict[str, list[int]] = {}
        erased: dict[str, Runs] = {}
        for (actor, number), entry in store.items():
            if type(entry) is Run:
                self._firsts.setdefault(actor, []).append(number)
            else:
                for target, first, last in entry.targets:
                    erased.setdefault(target, []).append((first, last))
        for firsts in self._firsts.values():
            firsts.sort()
        self._erased = {actor: run_sets.normalised(found) for actor, found in erased.items()}
        # Element -> one that it is in the right subtree of, if that is known: who types backwards climbs no chain.
        self._right_of: dict[Dot, Dot] = {}
        # (element, side) -> the runs that hang there, sorted; without each run's own next element.
        self._children: dict[tuple[Dot, int], list[Dot]] = {}
        for dot, entry in store.items():
            if type(entry) is Run:
                place = self._place(entry, context)
                if place is not None:
                    self._children.setdefault(place, []).append(dot)
        for siblings in self._children.values():
            if len(siblings) > 1:
                siblings.sort(key=self._made_as)

    def run_of(self, dot: Dot) -> Dot | None:
        """The first dot of the run that the element is in."""
        firsts = self._firsts.get(dot[0])
        if not firsts or (at := bisect_right(firsts, dot[1])) == 0:
            return None
        first = (dot[0], firsts[at - 1])
        return first if dot[1] < first[1] + len(self._store[first].content) else None

    def place_between(self, left: Dot, right: Dot | None) -> tuple[Dot, int]:
        """Where a new element hangs so that it stands between these visible neighbours."""
        if right is not None and (self._right_of.get(right) == left or self._is_right_of(right, left)):
            return right, LEFT
        return left, RIGHT

    def insert(self, dot: Dot, run: Run, left: Dot) -> None:
        """A new run of this replica, which stands behind the visible element `left`."""
        self._firsts.setdefault(dot[0], []).append(dot[1])  # own numbers only rise
        siblings = self._children.setdefault((run.parent, run.side), [])
        siblings.insert(bisect_left(siblings, dot, key=self._made_as), dot)
        self._right_of[dot] = left  # wherever it hangs: between `left` and the next is always in the right subtree

    def has_children(self, first: Dot) -> bool:
        """Does anything hang on the run's elements?"""
        actor, number = first
        return any(
            ((actor, number + offset), side) in self._children
            for offset in range(len(self._store[first].content))
            for side in (LEFT, RIGHT)
        )

    def visible(self, first: Dot, start: int, after: int) -> Iterator[tuple[int, int]]:
        """The stretches of elements [start, after) of a run that are not deleted, as offsets."""
        actor, number = first
        stretch = [(number + start, number + after - 1)]
        for low, high in run_sets.difference(stretch, self._near(actor, number + start, number + after)):
            yield low - number, high - number + 1

    def walk(self) -> Iterator[tuple[Dot, int, int]]:
        """All elements in order, as stretches (run, start, after), deleted ones included."""
        hung = self._hung()
        # What is left to do, the next on top: (run, start, after), or with after = -1 the rest of the run's subtree.
        stack: list[tuple[Dot, int, int]] = [(dot, 0, -1) for dot in reversed(self._children.get((ROOT, RIGHT), []))]
        while stack:
            first, start, after = stack.pop()
            if after >= 0:
                yield first, start, after
                continue
            length = len(self._store[first].content)
            offsets = hung.get(first, [])
            at = bisect_left(offsets, start)
            stop = offsets[at] if at < len(offsets) else length
            if stop > start:
                yield first, start, stop
            if stop < length:
                stack += reversed(self._around(first, stop, length))

    def _around(self, first: Dot, offset: int, length: int) -> list[tuple[Dot, int, int]]:
        """One element with its children: left ones, itself, right ones, of which the rest of its run may be one."""
        actor, number = first
        element = (actor, number + offset)
        result = [(dot, 0, -1) for dot in self._children.get((element, LEFT), [])]
        result.append((first, offset, offset + 1))
        made_by, made_as = self._made_as(first)
        follower = (made_by, made_as + offset + 1)
        is_followed = offset + 1 < length
        for dot in self._children.get((element, RIGHT), []):
            if is_followed and self._made_as(dot) > follower:
                result.append((first, offset + 1, -1))
                is_followed = False
            result.append((dot, 0, -1))
        if is_followed:
            result.append((first, offset + 1, -1))
        return result

    def _made_as(self, first: Dot) -> Dot:
        """The dot that orders a run among its siblings."""
        return self._store[first].first or first

    def _hung(self) -> dict[Dot, list[int]]:
        """Run -> the offsets of its elements on which something hangs, sorted."""
        offsets: dict[Dot, set[int]] = {}
        for parent, _ in self._children:
            if parent != ROOT and (first := self.run_of(parent)) is not None:
                offsets.setdefault(first, set()).add(parent[1] - first[1])
        return {first: sorted(found) for first, found in offsets.items()}

    def _place(self, run: Run, context: CausalContext) -> tuple[Dot, int] | None:
        """Where the run hangs; None: its parent has not come yet, so it isn't shown."""
        if run.parent == ROOT or self.run_of(run.parent) is not None:
            return run.parent, run.side
        return (ROOT, RIGHT) if run.parent in context else None  # the parent was reset away: kept, at the end

    def _is_right_of(self, right: Dot, left: Dot) -> bool:
        """Is `right` in the right subtree of `left`? Climbs run by run."""
        if (left, RIGHT) not in self._children and not self._is_followed(left):
            return False
        node = right
        while node != ROOT:
            first = self.run_of(node)
            if first is None:
                return False
            if left[0] == first[0] and first[1] <= left[1] < node[1] and left != ROOT:
                return True
            run = self._store[first]
            parent = run.parent
            if parent != ROOT and self.run_of(parent) is None:
                return left == ROOT
            if parent == left:
                return bool(run.side == RIGHT)
            node = parent
        return left == ROOT

    def _is_followed(self, element: Dot) -> bool:
        """Is there a next element of its run?"""
        first = self.run_of(element)
        return first is not None and element[1] + 1 < first[1] + len(self._store[first].content)

    def _near(self, actor: str, first: int, after: int) -> Runs:
        erased = self._erased.get(actor, [])
        low = max(0, bisect_right(erased, (first, 2**64)) - 1)
        return erased[low : bisect_left(erased, (after, 0))]
