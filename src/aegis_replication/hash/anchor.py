"""AnchorHash (Mendelson et al. 2020): any node may leave at any time, and nothing but its own keys ever moves."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from sys import getsizeof
from typing import Any

import msgspec

from aegis_replication.errors import InvalidCount
from aegis_replication.hash.base import PlacementBase, Snapshot
from aegis_replication.hash.checks import checked_count
from aegis_replication.hash.functions import DEFAULT_HASH_FUNCTION, HashFunction, mix
from aegis_replication.hash.jump import distinct_buckets
from aegis_replication.hash.model import Node

CAPACITY_DEFAULT = 1_024
CAPACITY_MAX = 1 << 20


class AnchorHistory(msgspec.Struct, frozen=True, gc=False):
    """Which buckets are in use, and in which order the others were given up: the last of them is used next."""

    buckets: dict[str, int]
    unused: tuple[int, ...]


class Anchor:
    """The paper's arrays (§4, Algorithm 3), indexed by bucket; `names` says which node has the bucket."""

    __slots__ = ("size_when_removed", "working", "place", "successor", "names")

    def __init__(self, capacity: int, history: AnchorHistory) -> None:
        self.size_when_removed = [0] * capacity  # A: how many were left when it was removed; 0 = in use
        self.working = list(range(capacity))  # W
        self.place = list(range(capacity))  # L: where in W a bucket stands
        self.successor = list(range(capacity))  # K
        left = capacity
        for bucket in history.unused:
            left -= 1
            self.size_when_removed[bucket] = left
            # Here in the place of the removed bucket stands now the last one of W.
            self.working[self.place[bucket]] = self.successor[bucket] = self.working[left]
            self.place[self.working[left]] = self.place[bucket]
        self.names = [""] * capacity
        for name, bucket in history.buckets.items():
            self.names[bucket] = name

    def lookup(self, position: int) -> int:
        """The bucket in use that has this position."""
        sizes, successor = self.size_when_removed, self.successor
        bucket = position % len(sizes)
        while sizes[bucket]:
            # The bucket is gone: draw anew among those that were in use when it went.
            drawn = mix(position, bucket) % sizes[bucket]
            while sizes[drawn] >= sizes[bucket]:
                drawn = successor[drawn]
            bucket = drawn
        return bucket


class AnchorHash(PlacementBase[Anchor]):
    """Even, small, about as fast as jump hash, and free to remove any node. Adding one back undoes the last removal.

    `capacity` is the most nodes it can ever hold; the order of changes is part of the placement, and of its bytes.
    """

    __slots__ = ("_capacity",)

    algorithm = "anchor"

    def __init__(
        self,
        capacity: int = CAPACITY_DEFAULT,
        *,
        nodes: Iterable[str | Node] = (),
        hash_function: str | HashFunction = DEFAULT_HASH_FUNCTION,
    ) -> None:
        self._capacity = checked_count("capacity", capacity, 1, CAPACITY_MAX)
        super().__init__(nodes, hash_function)

    @property
    def capacity(self) -> int:
        return self._capacity

    def _build(self, snapshot: Snapshot[Anchor]) -> Anchor:
        return Anchor(self._capacity, snapshot.history)

    def _node_at(self, view: Anchor, position: int) -> str:
        return view.names[view.lookup(position)]

    def _order_at(self, view: Anchor, position: int) -> Iterator[str]:
        in_use = [bucket for bucket, name in enumerate(view.names) if name]
        for bucket in distinct_buckets(view.lookup, position, in_use):
            yield view.names[bucket]

    def _steps(self, view: Anchor, position: int) -> Iterator[str]:
        first, bucket = position % self._capacity, view.lookup(position)
        via = "" if first == bucket else f", which is not in use, so by redrawing bucket {bucket}"
        yield f"bucket {first} of {self._capacity}{via}"

    def _parameters(self) -> dict[str, int | float]:
        return {"capacity": self._capacity}

    def _table_bytes(self, view: Anchor) -> int:
        return sum(map(getsizeof, (view.size_when_removed, view.working, view.place, view.successor, view.names)))

    # --- history: which node has which bucket ---------------------------------------------------------------------

    def _history_of_none(self) -> AnchorHistory:
        # All were in use in the beginning and given up from the last to the first, so that bucket 0 is used first.
        return AnchorHistory({}, tuple(reversed(range(self._capacity))))

    def _history_added(self, nodes: dict[str, Node], history: AnchorHistory, added: Sequence[Node]) -> AnchorHistory:
        if len(nodes) > self._capacity:
            raise InvalidCount(
                f"capacity {self._capacity} can't hold {len(nodes)} nodes: make an AnchorHash with a larger capacity"
            )
        unused = list(history.unused)
        return AnchorHistory({**history.buckets, **{node.id: unused.pop() for node in added}}, tuple(unused))

    def _history_removed(self, nodes: dict[str, Node], history: AnchorHistory, removed: Node) -> AnchorHistory:
        buckets = {id: bucket for id, bucket in history.buckets.items() if id != removed.id}
        return AnchorHistory(buckets, (*history.unused, history.buckets[removed.id]))

    def _history_to_list(self, history: AnchorHistory) -> list[Any]:
        return [sorted(history.buckets.items()), list(history.unused)]

    def _history_from_list(self, encoded: list[Any], nodes: dict[str, Node]) -> AnchorHistory:
        buckets, unused = msgspec.convert(encoded, tuple[list[tuple[str, int]], list[int]])
        if sorted([*(bucket for _, bucket in buckets), *unused]) != list(range(self._capacity)):
            raise ValueError(f"its buckets are not 0 to {self._capacity - 1}, each once")
        if {id for id, _ in buckets} != set(nodes):
            raise ValueError("its buckets belong to other nodes")
        return AnchorHistory(dict(buckets), tuple(unused))

    def _canonical_nodes(self, nodes: Mapping[str, Node]) -> Iterable[Node]:
        return (nodes[id] for id in sorted(nodes))
