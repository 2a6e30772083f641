"""Maglev hashing (Eisenbud et al., NSDI 2016, §3.4): nodes fill a table in turn, a lookup is one index."""

from collections.abc import Iterable, Iterator, Mapping
from sys import getsizeof

from aegis_replication.errors import InvalidCount, InvalidWeight
from aegis_replication.hash.base import PlacementBase, Snapshot
from aegis_replication.hash.checks import checked_count
from aegis_replication.hash.functions import (
    DEFAULT_HASH_FUNCTION,
    POSITION_BITS,
    HashFunction,
    Key,
    key_bytes,
    map_keys,
    mix,
)
from aegis_replication.hash.model import Node

TABLE_SIZE_DEFAULT = 65_537
TABLE_SIZE_MAX = 16_777_259
# The paper's rule for shares that are equal within 1 %.
SLOTS_PER_NODE = 100
_OFFSET_SEED, _SKIP_SEED = 1, 2


class MaglevTable:
    __slots__ = ("slots", "node_count")

    def __init__(self, slots: list[str], node_count: int) -> None:
        # The node of each slot.
        self.slots = slots
        self.node_count = node_count


class MaglevHash(PlacementBase[MaglevTable]):
    """The fastest lookup and a very even share, for a few more moved keys than the minimum when nodes change.

    `table_size` is a prime of at least 100 slots per node; another size is another placement, so choose it for the
    number of nodes that you will have.
    """

    __slots__ = ("_table_size",)

    algorithm = "maglev"
    accepts_weights = True

    def __init__(
        self,
        table_size: int = TABLE_SIZE_DEFAULT,
        *,
        nodes: Iterable[str | Node] = (),
        hash_function: str | HashFunction = DEFAULT_HASH_FUNCTION,
    ) -> None:
        self._table_size = checked_count("table_size", table_size, 2, TABLE_SIZE_MAX)
        if (divisor := _divisor(table_size)) is not None:
            raise InvalidCount(
                f"table_size = {table_size} is {divisor} * {table_size // divisor}: give a prime, such as "
                f"{_prime_from(table_size)}"
            )
        super().__init__(nodes, hash_function)

    @property
    def table_size(self) -> int:
        return self._table_size

    def get_node(self, key: Key) -> str:
        """The key's primary. Raises EmptyPlacement, InvalidKey."""
        view = self._snapshot.view or self._view()
        return view.slots[self._digest(key_bytes(key)) * self._table_size >> POSITION_BITS]

    def get_many(self, keys: Iterable[Key]) -> list[str]:
        """`[get_node(key) for key in keys]`, all from one state, faster."""
        table, size = self._view().slots, self._table_size
        return [table[position * size >> POSITION_BITS] for position in map_keys(list(keys), self._digest)]

    def _check_weights(self, nodes: Mapping[str, Node]) -> None:
        if len(nodes) * SLOTS_PER_NODE > self._table_size:
            enough = _prime_from(2 * SLOTS_PER_NODE * len(nodes))
            raise InvalidCount(
                f"a table of {self._table_size:,} slots serves {self._table_size // SLOTS_PER_NODE:,} nodes evenly, "
                f"not {len(nodes):,}: make a MaglevHash(table_size={enough})"
            )
        total = sum(node.weight for node in nodes.values())
        for node in nodes.values():
            if node.weight / total * self._table_size < 1:
                raise InvalidWeight(
                    f"weight {node.weight:g} of node {node.id!r} is less than one of {self._table_size:,} slots: "
                    "give it more weight, or a larger table_size"
                )

    def _build(self, snapshot: Snapshot[MaglevTable]) -> MaglevTable:
        nodes = [snapshot.nodes[id] for id in sorted(snapshot.nodes)]
        seeds = [self._digest(node.id.encode()) for node in nodes]
        return MaglevTable(_fill(nodes, seeds, self._table_size), len(nodes))

    def _node_at(self, view: MaglevTable, position: int) -> str:
        return view.slots[position * self._table_size >> POSITION_BITS]

    def _order_at(self, view: MaglevTable, position: int) -> Iterator[str]:
        first = position * self._table_size >> POSITION_BITS
        seen: set[str] = set()
        # Neighbouring slots are independent, so their nodes are a fair backup order.
        for part in (range(first, self._table_size), range(first)):
            for slot in part:
                node = view.slots[slot]
                if node not in seen:
                    yield node
                    seen.add(node)
                    if len(seen) == view.node_count:
                        return

    def _cuts(self, view: MaglevTable) -> list[int]:
        return [-(-(slot << POSITION_BITS) // self._table_size) - 1 for slot in range(1, self._table_size + 1)]

    def _steps(self, view: MaglevTable, position: int) -> Iterator[str]:
        slot = position * self._table_size >> POSITION_BITS
        yield f"slot {slot} of {self._table_size} belongs to {view.slots[slot]}"

    def _parameters(self) -> dict[str, int | float]:
        return {"table_size": self._table_size}

    def _table_bytes(self, view: MaglevTable) -> int:
        return getsizeof(view.slots)


def _fill(nodes: list[Node], seeds: list[int], size: int) -> list[str]:
    """Nodes take turns, each takes the next slot of its own permutation that is still free, until none is."""
    table = [""] * size
    cursors = [mix(seed, _OFFSET_SEED) % size for seed in seeds]
    skips = [mix(seed, _SKIP_SEED) % (size - 1) + 1 for seed in seeds]
    heaviest = max(node.weight for node in nodes)
    turns = [node.weight / heaviest for node in nodes]
    credit = [0.0] * len(nodes)
    free = size
    while True:
        for index, node in enumerate(nodes):
            # A node of half the weight takes every second turn.
            credit[index] += turns[index]
            if credit[index] < 1.0:
                continue
            credit[index] -= 1.0
            slot, skip = cursors[index], skips[index]
            while table[slot]:
                slot = (slot + skip) % size
            table[slot] = node.id
            cursors[index] = (slot + skip) % size
            free -= 1
            if free == 0:
                return table


def _divisor(number: int) -> int | None:
    """The least divisor above 1 of a number that is not prime."""
    candidate = 2
    while candidate * candidate <= number:
        if number % candidate == 0:
            return candidate
        candidate += 1
    return None


def _prime_from(number: int) -> int:
    while _divisor(number) is not None:
        number += 1
    return number
