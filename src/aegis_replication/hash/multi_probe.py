"""Multi-probe consistent hashing (Appleton and O'Reilly 2015): one point per node, several probes per key."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from sys import getsizeof

from aegis_replication.hash.base import PlacementBase, Snapshot
from aegis_replication.hash.checks import checked_count
from aegis_replication.hash.functions import DEFAULT_HASH_FUNCTION, POSITION_COUNT, HashFunction, mix
from aegis_replication.hash.model import Node

PROBES_DEFAULT = 21
PROBES_MAX = 1_024
_MASK = POSITION_COUNT - 1


class Points:
    """One point per node in ring order, equal points by name."""

    __slots__ = ("points", "owners")

    def __init__(self, points: list[int], owners: list[str]) -> None:
        self.points, self.owners = points, owners


class MultiProbeHash(PlacementBase[Points]):
    """A ring in the least memory: the probe of a key that is nearest before a point decides.

    With 21 probes no node has more than 1.05 times its share, on average over placements. Only the peak is bounded: the
    least loaded of a hundred nodes may have a tenth of its share. Choose HashRing unless memory is what counts.
    """

    __slots__ = ("_probes",)

    algorithm = "multi_probe"

    def __init__(
        self,
        probes: int = PROBES_DEFAULT,
        *,
        nodes: Iterable[str | Node] = (),
        hash_function: str | HashFunction = DEFAULT_HASH_FUNCTION,
    ) -> None:
        self._probes = checked_count("probes", probes, 1, PROBES_MAX)
        super().__init__(nodes, hash_function)

    @property
    def probes(self) -> int:
        return self._probes

    def _build(self, snapshot: Snapshot[Points]) -> Points:
        points = sorted((self._digest(id.encode()), id) for id in snapshot.nodes)
        return Points([point for point, _ in points], [id for _, id in points])

    def _node_at(self, view: Points, position: int) -> str:
        return view.owners[self._best(view, position)[0]]

    def _order_at(self, view: Points, position: int) -> Iterator[str]:
        first, _ = self._best(view, position)
        yield from view.owners[first:]
        yield from view.owners[:first]

    def _best(self, view: Points, position: int) -> tuple[int, int]:
        """Index of the point nearest after a probe, and the distance to it; of equal ones the first probe's."""
        points = view.points
        best_index, best_distance = 0, POSITION_COUNT
        for seed in range(self._probes):
            probe = mix(position, seed)
            index = bisect_left(points, probe)
            if index == len(points):
                index = 0
            distance = (points[index] - probe) & _MASK
            if distance < best_distance:
                best_index, best_distance = index, distance
        return best_index, best_distance

    def _steps(self, view: Points, position: int) -> Iterator[str]:
        index, distance = self._best(view, position)
        yield f"of {self._probes} probes the nearest lies {distance / POSITION_COUNT:.3g} of the circle before"
        yield f"point {view.points[index]} of {view.owners[index]}"

    def _parameters(self) -> dict[str, int | float]:
        return {"probes": self._probes}

    def _table_bytes(self, view: Points) -> int:
        return getsizeof(view.points) + getsizeof(view.owners) + 32 * len(view.points)
