"""How is a large map copied while it goes on changing? Not at once: what is overwritten before its turn is kept aside.

A copy of a million keys made in one go takes longer than a heartbeat. Here freezing costs nothing, a piece takes a
millisecond, and a write in between pays one look-up. Kept aside is at most what is written until the copy is done.
"""

from collections.abc import Iterator
from heapq import merge
from typing import Any
from weakref import ref

from sortedcontainers import SortedSet  # type: ignore[import-untyped]

_Stored = tuple[bytes, int]  # value, version


class FrozenMap:
    """The items of a sorted map as they were when this was made, given out once, in order, in bounded pieces.

    The map's owner calls `keep` before it changes a key, for as long as this lives.
    """

    __slots__ = ("__weakref__", "_before", "_gone", "_items", "_keys", "_last")

    def __init__(self, items: dict[bytes, _Stored], keys: Any) -> None:
        # The living map.
        self._items, self._keys = items, keys
        # What keys had that were written since and whose turn has not come; None: they weren't there.
        self._before: dict[bytes, _Stored | None] = {}
        # Those of them that were deleted since, and perhaps made again.
        self._gone: Any = SortedSet()
        # The last key given out. Invariant: nothing up to it is in _before.
        self._last: bytes | None = None

    def keep(self, key: bytes, *, is_leaving: bool = False) -> None:
        """`key` is about to be written, or deleted."""
        if self._last is not None and key <= self._last:
            return
        before = self._before
        if key not in before:
            before[key] = self._items.get(key)
        if is_leaving and before[key] is not None:
            self._gone.add(key)

    def pieces(self, piece_bytes: int) -> Iterator[list[tuple[bytes, bytes, int]]]:
        """Lines of key, value and version; a piece is full when it has passed `piece_bytes`."""
        lines: list[tuple[bytes, bytes, int]] = []
        while True:
            size = 0
            for key in self._remaining():
                if key == self._last:
                    continue  # deleted and made again: it is in both
                self._last = key
                stored = self._before.pop(key) if key in self._before else self._items[key]
                if stored is None:
                    continue
                lines.append((key, *stored))
                size += len(key) + len(stored[0]) + 16
                if size >= piece_bytes:
                    break
            else:
                if lines:
                    yield lines
                return
            yield lines
            lines = []

    def _remaining(self) -> Iterator[bytes]:
        living: Iterator[bytes] = self._keys.irange(self._last, None, (False, True))
        if not self._gone:
            return living
        return merge(living, self._gone.irange(self._last, None, (False, True)))


class FrozenMaps:
    """The copies of one map that are under way; one that nobody pulls any more is forgotten by itself."""

    __slots__ = ("_alive",)

    def __init__(self) -> None:
        self._alive: list[ref[FrozenMap]] = []

    def __bool__(self) -> bool:
        return bool(self._alive)

    def freeze(self, items: dict[bytes, _Stored], keys: Any) -> FrozenMap:
        """Begin a copy."""
        frozen = FrozenMap(items, keys)
        self._alive.append(ref(frozen, self._alive.remove))
        return frozen

    def keep(self, key: bytes, *, is_leaving: bool = False) -> None:
        """`key` is about to be written, or deleted."""
        for each in self._alive:
            frozen = each()
            if frozen is not None:
                frozen.keep(key, is_leaving=is_leaving)
