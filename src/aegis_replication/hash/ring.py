"""The ring of virtual nodes (Karger et al. 1997): a key belongs to the first point at or after its position."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from sys import getsizeof

import msgspec

from aegis_replication.errors import InvalidWeight
from aegis_replication.hash.arrays import BATCH_CHUNK, BATCH_MIN, RingArrays, numpy, positions_array
from aegis_replication.hash.base import PlacementBase, Snapshot
from aegis_replication.hash.checks import checked_count
from aegis_replication.hash.functions import DEFAULT_HASH_FUNCTION, HashFunction, Key, join_keys, key_bytes, map_keys
from aegis_replication.hash.model import Node

VNODES_DEFAULT = 150
VNODES_MAX = 65_536
# Slots per point: at 16, some five lookups in a hundred meet a slot with a boundary in it and need the bisection. More
# slots save bisections, but then the table leaves the processor's cache.
_SLOTS_PER_POINT = 16
_SLOT_BITS_MAX = 22
# Stands in slots that hold more than one owner. Not None: comparing texts is cheaper, and node ids are never empty.
_MIXED = ""


class VirtualNode(msgspec.Struct, frozen=True, gc=False):
    """One of a node's points on the ring."""

    node: str
    replica_index: int
    position: int


class RingView:
    """The points in ascending order, and a table that answers most lookups with one index."""

    __slots__ = ("points", "owners", "table", "shift", "fast", "node_count", "_arrays")

    def __init__(
        self, points: list[int], owners: list[str], position_bits: int, digest: Callable[[bytes], int]
    ) -> None:
        # Equal length, ordered by (position, node): of two nodes with one position the lesser name owns it, the other
        # steps in when that one leaves.
        self.points, self.owners = points, owners
        self.node_count = len(set(owners))
        slot_bits = min(_SLOT_BITS_MAX, position_bits, (len(points) * _SLOTS_PER_POINT).bit_length())
        self.shift = position_bits - slot_bits
        # table[position >> shift] is the owner of the whole slot, or _MIXED.
        self.table = _slot_table(points, owners, self.shift, 1 << slot_bits)
        # All that a lookup needs, in one load.
        self.fast = self.table, self.shift, digest
        self._arrays: RingArrays | None = None

    def locate(self, position: int) -> str:
        index = bisect_left(self.points, position)
        return self.owners[index if index < len(self.points) else 0]

    def locate_batch(self, keys: list[Key], digest_bytes: Callable[[bytes], bytes]) -> list[str]:
        """`locate` for every key, by numpy."""
        arrays = self._arrays
        if arrays is None:
            arrays = self._arrays = RingArrays(self.points, self.owners, self.table, self.shift)
        nodes: list[str] = []
        for start in range(0, len(keys), BATCH_CHUNK):
            nodes += arrays.locate(positions_array(join_keys(keys[start : start + BATCH_CHUNK], digest_bytes)))
        return nodes

    def walk(self, position: int) -> Iterator[str]:
        """The distinct owners from `position` on, clockwise."""
        first = bisect_left(self.points, position)
        seen: set[str] = set()
        for part in (range(first, len(self.owners)), range(first)):
            for index in part:
                owner = self.owners[index]
                if owner not in seen:
                    yield owner
                    seen.add(owner)
                    if len(seen) == self.node_count:
                        return

    def table_bytes(self) -> int:
        return getsizeof(self.points) + getsizeof(self.owners) + getsizeof(self.table) + 32 * len(self.points)


class PointRing(PlacementBase[RingView]):
    """What HashRing and KetamaRing share; they differ in where the points lie."""

    __slots__ = ()

    def _points_of(self, nodes: dict[str, Node]) -> Iterator[tuple[int, str, int]]:
        """(position, node, index) of every virtual node, in any order."""
        raise NotImplementedError

    def _build(self, snapshot: Snapshot[RingView]) -> RingView:
        triples = sorted(self._points_of(snapshot.nodes))
        points, owners = [point for point, _, _ in triples], [owner for _, owner, _ in triples]
        return RingView(points, owners, self.position_bits, self._digest)

    def get_node(self, key: Key) -> str:
        """The owner of the first point at or after the key's position. Raises EmptyPlacement, InvalidKey."""
        view = self._snapshot.view or self._view()
        table, shift, digest = view.fast
        try:
            position = digest(key.encode() if type(key) is str else key_bytes(key))
        except UnicodeEncodeError:
            position = self.key_position(key)  # raises, saying which key it was
        return table[position >> shift] or view.locate(position)

    def get_many(self, keys: Iterable[Key]) -> list[str]:
        """`[get_node(key) for key in keys]`, all from one state, faster."""
        view, keys = self._view(), list(keys)
        digest_bytes = self._function.digest_bytes
        if numpy is not None and digest_bytes is not None and len(keys) >= BATCH_MIN:
            return view.locate_batch(keys, digest_bytes)
        table, shift, locate = view.table, view.shift, view.locate
        return [table[position >> shift] or locate(position) for position in map_keys(keys, self._digest)]

    def virtual_nodes(self) -> list[VirtualNode]:
        """All points in ring order."""
        nodes = self._snapshot.nodes
        return [VirtualNode(node, index, position) for position, node, index in sorted(self._points_of(nodes))]

    @property
    def virtual_node_count(self) -> int:
        snapshot = self._snapshot
        return len(self._view(snapshot).points) if snapshot.nodes else 0

    def _node_at(self, view: RingView, position: int) -> str:
        return view.table[position >> view.shift] or view.locate(position)

    def _order_at(self, view: RingView, position: int) -> Iterator[str]:
        return view.walk(position)

    def _cuts(self, view: RingView) -> list[int]:
        return view.points

    def _steps(self, view: RingView, position: int) -> Iterator[str]:
        index = bisect_left(view.points, position)
        wraps = index == len(view.points)
        index = 0 if wraps else index
        where = "the circle wraps to its first point," if wraps else "the next point clockwise is"
        yield f"{where} {view.points[index]} of {view.owners[index]} ({index + 1} of {len(view.points)} points)"

    def _table_bytes(self, view: RingView) -> int:
        return view.table_bytes()


class HashRing(PointRing):
    """Consistent hashing with virtual nodes: `vnodes` points for each node of weight 1, in proportion for others.

    The share of a node varies by about 1 / sqrt(vnodes). A change moves only the keys of the node it is about.
    """

    __slots__ = ("_vnodes",)

    algorithm = "ring"
    accepts_weights = True

    def __init__(
        self,
        vnodes: int = VNODES_DEFAULT,
        *,
        nodes: Iterable[str | Node] = (),
        hash_function: str | HashFunction = DEFAULT_HASH_FUNCTION,
    ) -> None:
        self._vnodes = checked_count("vnodes", vnodes, 1, VNODES_MAX)
        super().__init__(nodes, hash_function)

    @property
    def vnodes(self) -> int:
        return self._vnodes

    def _points_of(self, nodes: dict[str, Node]) -> Iterator[tuple[int, str, int]]:
        digest = self._digest
        for node in nodes.values():
            for index in range(self._point_count(node)):
                yield digest(f"{node.id}:{index}".encode()), node.id, index

    def _point_count(self, node: Node) -> int:
        return round(self._vnodes * node.weight)

    def _check_weights(self, nodes: Mapping[str, Node]) -> None:
        for node in nodes.values():
            count = self._vnodes * node.weight
            if not 1 <= round(count) <= VNODES_MAX:
                raise InvalidWeight(
                    f"weight {node.weight:g} of node {node.id!r} makes {count:g} points of {self._vnodes} vnodes: "
                    f"1 to {VNODES_MAX:,} are possible, so change the weight or vnodes"
                )

    def _parameters(self) -> dict[str, int | float]:
        return {"vnodes": self._vnodes}


def _slot_table(points: list[int], owners: list[str], shift: int, slot_count: int) -> list[str]:
    """For each slot the one owner of all its positions, or _MIXED."""
    table: list[str] = []
    for index, point in enumerate(points):
        slot = point >> shift
        if slot >= len(table):
            # No point lies in the slots since the last one that is filled: they are wholly this owner's.
            table.extend(repeat(owners[index], slot - len(table)))
            table.append(_only_owner(points, owners, index, (slot + 1) << shift))
    table.extend(repeat(owners[0], slot_count - len(table)))
    return table


def _only_owner(points: list[int], owners: list[str], first: int, slot_after: int) -> str:
    """The owner of a slot whose first point is `first`, or _MIXED if others own a part of it."""
    owner = owners[first]
    for index in range(first + 1, len(points)):
        if owners[index] != owner:
            return _MIXED
        if points[index] >= slot_after:
            return owner
    return owner if owners[0] == owner else _MIXED
