"""Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam 2018): no node above its cap, ever."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil
from sys import getsizeof
from typing import Any

import msgspec

from aegis_replication.errors import InvalidCount
from aegis_replication.hash.base import PlacementBase, Snapshot
from aegis_replication.hash.checks import checked_count, is_finite_number
from aegis_replication.hash.functions import DEFAULT_HASH_FUNCTION, POSITION_BITS, HashFunction, Key
from aegis_replication.hash.model import Node
from aegis_replication.hash.ring import VNODES_MAX, HashRing

PARTITIONS_DEFAULT = 271
PARTITIONS_MAX = 1 << 20
LOAD_FACTOR_DEFAULT = 1.25
VNODES_DEFAULT = 150


class BoundedView:
    __slots__ = ("owners", "ring")

    def __init__(self, owners: list[str], ring: HashRing) -> None:
        # The node of each partition.
        self.owners = owners
        # Who would take over: the ring that the assignment follows as far as the caps allow.
        self.ring = ring


class BoundedLoad(PlacementBase[BoundedView]):
    """A fixed number of partitions over a ring; no node holds more than ceil(load_factor * its fair number of them).

    A change starts from the assignment that stands and moves only what it must: the partitions of a node that left,
    those that the ring gives to a new node, and those above a cap that fell. The order of changes is therefore part of
    the placement, and of its bytes. The cap holds for primaries; replicas follow the ring.
    """

    __slots__ = ("_partitions", "_load_factor", "_vnodes")

    algorithm = "bounded_load"
    accepts_weights = True

    def __init__(
        self,
        partitions: int = PARTITIONS_DEFAULT,
        load_factor: float = LOAD_FACTOR_DEFAULT,
        *,
        vnodes: int = VNODES_DEFAULT,
        nodes: Iterable[str | Node] = (),
        hash_function: str | HashFunction = DEFAULT_HASH_FUNCTION,
    ) -> None:
        self._partitions = checked_count("partitions", partitions, 1, PARTITIONS_MAX)
        self._vnodes = checked_count("vnodes", vnodes, 1, VNODES_MAX)
        if not is_finite_number(load_factor):
            raise InvalidCount(f"load_factor = {load_factor!r}: give a number of at least 1.0, such as 1.25")
        if load_factor < 1.0:
            raise InvalidCount(f"load_factor = {load_factor}: below 1.0 the nodes can't hold all partitions; try 1.25")
        self._load_factor = float(load_factor)
        super().__init__(nodes, hash_function)

    @property
    def partition_count(self) -> int:
        return self._partitions

    @property
    def load_factor(self) -> float:
        return self._load_factor

    def partition_of(self, key: Key) -> int:
        """The key's partition in [0, partition_count); it never changes. Raises InvalidKey."""
        return self.key_position(key) * self._partitions >> POSITION_BITS

    def partition_owner(self, partition: int) -> str:
        """Raises EmptyPlacement, InvalidCount."""
        return self._view().owners[checked_count("partition", partition, 0, self._partitions - 1)]

    def load(self) -> dict[str, int]:
        """The number of partitions on each node."""
        return _loads(self._snapshot.nodes, self._snapshot.history)

    def caps(self) -> dict[str, int]:
        """The most partitions that each node may hold."""
        return self._caps(self._snapshot.nodes)

    def _caps(self, nodes: Mapping[str, Node]) -> dict[str, int]:
        total = sum(node.weight for node in nodes.values())
        return {
            node.id: ceil(self._load_factor * self._partitions * node.weight / total - 1e-9) for node in nodes.values()
        }

    def _build(self, snapshot: Snapshot[BoundedView]) -> BoundedView:
        return BoundedView(list(snapshot.history), self._ring_of(snapshot.nodes))

    def _node_at(self, view: BoundedView, position: int) -> str:
        return view.owners[position * self._partitions >> POSITION_BITS]

    def _order_at(self, view: BoundedView, position: int) -> Iterator[str]:
        partition = position * self._partitions >> POSITION_BITS
        owner = view.owners[partition]
        yield owner
        yield from (id for id in self._preference(view.ring, partition) if id != owner)

    def _cuts(self, view: BoundedView) -> list[int]:
        return [-(-(each << POSITION_BITS) // self._partitions) - 1 for each in range(1, self._partitions + 1)]

    def _steps(self, view: BoundedView, position: int) -> Iterator[str]:
        partition = position * self._partitions >> POSITION_BITS
        owner, wanted = view.owners[partition], next(self._preference(view.ring, partition))
        yield f"partition {partition} of {self._partitions} is on {owner}"
        if owner != wanted:
            yield f"the ring would put it on {wanted}, which was full, or not worth a move, when it was assigned"

    def _parameters(self) -> dict[str, int | float]:
        return {"partitions": self._partitions, "load_factor": self._load_factor, "vnodes": self._vnodes}

    def _table_bytes(self, view: BoundedView) -> int:
        return getsizeof(view.owners) + view.ring._table_bytes(view.ring._view())

    # --- history: the assignment ----------------------------------------------------------------------------------

    def _history_of_none(self) -> tuple[str, ...]:
        return ()

    def _history_added(self, nodes: dict[str, Node], history: tuple[str, ...], added: Sequence[Node]) -> Any:
        return self._reassigned(nodes, history, {node.id for node in added})

    def _history_removed(self, nodes: dict[str, Node], history: tuple[str, ...], removed: Node) -> Any:
        return self._reassigned(nodes, history, set())

    def _history_reweighed(self, nodes: dict[str, Node], history: tuple[str, ...]) -> Any:
        return self._reassigned(nodes, history, set())

    def _history_to_list(self, history: tuple[str, ...]) -> list[Any]:
        return list(history)

    def _history_from_list(self, encoded: list[Any], nodes: dict[str, Node]) -> tuple[str, ...]:
        owners = msgspec.convert(encoded, list[str])
        if len(owners) != (self._partitions if nodes else 0) or not set(owners) <= set(nodes):
            raise ValueError("its assignment doesn't fit its partitions and nodes")
        loads, caps = _loads(nodes, owners), self._caps(nodes)
        for id, load in loads.items():
            if load > caps[id]:
                raise ValueError(f"node {id!r} holds {load} partitions, above its cap of {caps[id]}")
        return tuple(owners)

    def _reassigned(self, nodes: dict[str, Node], old: Sequence[str], added: set[str]) -> tuple[str, ...]:
        """The assignment over `nodes` that differs least from `old`; what the ring gives to `added` goes there."""
        if not nodes:
            return ()
        ring, caps = self._ring_of(nodes), self._caps(nodes)
        orders = [list(self._preference(ring, partition)) for partition in range(self._partitions)]
        owners = [owner if owner in nodes else "" for owner in old] or [""] * self._partitions
        loads = _loads(nodes, owners)

        def rank(partition: int) -> int:
            return orders[partition].index(owners[partition])

        def place(partition: int, candidates: Iterable[str]) -> None:
            for id in candidates:
                if loads[id] < caps[id]:
                    if owners[partition]:
                        loads[owners[partition]] -= 1
                    owners[partition] = id
                    loads[id] += 1
                    return

        # New nodes claim what the ring gives them.
        for partition in range(self._partitions):
            if added and owners[partition]:
                place(partition, [id for id in orders[partition][: rank(partition)] if id in added])
        # Nodes above a cap give up what they hold against most of the ring's preference.
        for id in sorted(loads):
            if (excess := loads[id] - caps[id]) > 0:
                held = [partition for partition in range(self._partitions) if owners[partition] == id]
                for partition in sorted(held, key=lambda each: (-rank(each), each))[:excess]:
                    place(partition, [other for other in orders[partition] if other != id])
        for partition in range(self._partitions):
            if not owners[partition]:
                place(partition, orders[partition])
        assert all(owners), f"{owners.count('')} partitions without a node although caps sum to {sum(caps.values())}"
        return tuple(owners)

    def _ring_of(self, nodes: Mapping[str, Node]) -> HashRing:
        return HashRing(self._vnodes, nodes=nodes.values(), hash_function=self._function)

    def _preference(self, ring: HashRing, partition: int) -> Iterator[str]:
        return ring._order_at(ring._view(), self._digest(f"partition:{partition}".encode()))


def _loads(nodes: Mapping[str, Node], owners: Iterable[str]) -> dict[str, int]:
    loads = dict.fromkeys(nodes, 0)
    for owner in owners:
        if owner:
            loads[owner] += 1
    return loads
