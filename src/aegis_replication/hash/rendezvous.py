"""Rendezvous hashing (Thaler and Ravishankar 1998): every node bids for a key, the highest bid has it."""

from collections.abc import Iterable, Iterator
from heapq import nlargest
from math import frexp

from aegis_replication.hash.base import PlacementBase, Snapshot
from aegis_replication.hash.functions import DEFAULT_HASH_FUNCTION, HashFunction, mix
from aegis_replication.hash.model import Node

_EXPLAINED = 3
_LN_2 = 0.6931471805599453


class Bidders:
    """The nodes by name, with what their bids are made from."""

    __slots__ = ("ids", "seeds", "weights")

    def __init__(self, ids: list[str], seeds: list[int], weights: list[float] | None) -> None:
        # Equal length, sorted by id: of two equal bids the lesser name wins.
        self.ids, self.seeds = ids, seeds
        # None if all are equal: then the plain hash is the bid.
        self.weights = weights


class RendezvousHash(PlacementBase[Bidders]):
    """The most even and least moving placement with exact weights; each lookup costs one hash per node.

    With weights the bid is -weight / ln(hash) (Schindelhauer and Schomaker 2005), so that a node's share is its part of
    all weight, and changing one weight moves only keys to or from that node.
    """

    __slots__ = ()

    algorithm = "rendezvous"
    accepts_weights = True

    def __init__(
        self, *, nodes: Iterable[str | Node] = (), hash_function: str | HashFunction = DEFAULT_HASH_FUNCTION
    ) -> None:
        super().__init__(nodes, hash_function)

    def _build(self, snapshot: Snapshot[Bidders]) -> Bidders:
        nodes = [snapshot.nodes[id] for id in sorted(snapshot.nodes)]
        weights = [node.weight for node in nodes]
        seeds = [self._digest(node.id.encode()) for node in nodes]
        return Bidders([node.id for node in nodes], seeds, weights if len(set(weights)) > 1 else None)

    def _node_at(self, view: Bidders, position: int) -> str:
        bids = _bids(view, position)
        return view.ids[bids.index(max(bids))]

    def _order_at(self, view: Bidders, position: int) -> Iterator[str]:
        bids = _bids(view, position)
        # Stable: equal bids stay in the order of names.
        for index in sorted(range(len(bids)), key=bids.__getitem__, reverse=True):
            yield view.ids[index]

    def _steps(self, view: Bidders, position: int) -> Iterator[str]:
        bids = _bids(view, position)
        best = nlargest(_EXPLAINED, zip(bids, view.ids), key=lambda bid: bid[0])
        what = "hashes with this position" if view.weights is None else "-weight / ln(hash)"
        yield f"highest bids ({what}): " + ", ".join(f"{id} {bid:.6g}" for bid, id in best)

    def _table_bytes(self, view: Bidders) -> int:
        return 48 * len(view.ids)


def _bids(view: Bidders, position: int) -> list[float]:
    hashes: list[float] = [mix(position, seed) for seed in view.seeds]
    if view.weights is None:
        return hashes
    return [weight / _minus_ln((value + 0.5) / 2.0**64) for value, weight in zip(hashes, view.weights)]


def _minus_ln(fraction: float) -> float:
    """-ln(fraction) for a fraction in (0, 1), to about ten digits, with the same bits on every platform.

    The C library's log differs in its last bit between platforms, which would let two hosts disagree about a key.
    This uses only operations that IEEE 754 defines exactly: ln(m) = 2 artanh((m - 1) / (m + 1)).
    """
    mantissa, exponent = frexp(fraction)  # mantissa in [0.5, 1)
    if mantissa < 0.7071067811865476:
        mantissa *= 2.0
        exponent -= 1
    z = (mantissa - 1.0) / (mantissa + 1.0)
    square = z * z
    series = 1 / 11
    for divisor in (9.0, 7.0, 5.0, 3.0, 1.0):
        series = series * square + 1 / divisor
    # At a fraction that rounds to 1 the sum is 0: the smallest bid's divisor stands in, so that nothing divides by 0.
    return max(-(exponent * _LN_2 + 2.0 * z * series), 2.0**-65)
