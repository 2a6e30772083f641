"""What do all placements promise, and which values do they speak in?"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, Self

import msgspec

from aegis_replication.errors import InvalidNode, InvalidWeight
from aegis_replication.hash.checks import is_finite_number
from aegis_replication.hash.functions import Key

NODE_ID_BYTES_MAX = 255


class Node(msgspec.Struct, frozen=True):
    """A place where data can live. A weight of 2 asks for twice the share of a weight of 1."""

    id: str
    weight: float = 1.0
    labels: dict[str, str] = {}


class Unmet(msgspec.Struct, frozen=True, gc=False):
    """A wish of `get_nodes` that the nodes at hand can't fulfil: `wanted` distinct values of `label`, `found` exist."""

    label: str
    wanted: int
    found: int

    def __str__(self) -> str:
        return f"wanted {self.wanted} distinct values of {self.label!r}, found {self.found}: add nodes, or ask for less"


class Replicas(list[str]):
    """Distinct nodes for one key, the primary first; `unmet` says which wishes they don't fulfil (empty: none)."""

    __slots__ = ("unmet",)

    def __init__(self, nodes: Iterable[str], unmet: tuple[Unmet, ...] = ()) -> None:
        super().__init__(nodes)
        self.unmet = unmet

    @property
    def primary(self) -> str:
        return self[0]


class PositionRange(msgspec.Struct, frozen=True, gc=False):
    """Positions [start, after) of the hashed key space."""

    start: int
    after: int


class Move(msgspec.Struct, frozen=True, gc=False):
    """Copy `fraction` of all stored replicas from `source` to `target`. `ranges` is empty in an estimated plan."""

    source: str
    target: str
    fraction: float
    ranges: tuple[PositionRange, ...] = ()


class MovementPlan(msgspec.Struct, frozen=True, gc=False):
    """What must be copied to get from one placement to another, the largest move first."""

    moves: tuple[Move, ...]
    # The least that any algorithm would have to move, given both sets of weights.
    ideal_fraction: float
    # Computed from the placements' boundaries; if not, estimated from `sample_count` positions.
    exact: bool
    sample_count: int

    @property
    def moved_fraction(self) -> float:
        return sum(move.fraction for move in self.moves)

    @property
    def received(self) -> dict[str, float]:
        """The fraction that each node receives."""
        return _sums((move.target, move.fraction) for move in self.moves)

    @property
    def sent(self) -> dict[str, float]:
        """The fraction that is copied from each node."""
        return _sums((move.source, move.fraction) for move in self.moves)


class NodeShare(msgspec.Struct, frozen=True, gc=False):
    """The part of the key space whose primary is `node`, beside the part that its weight asks for."""

    node: str
    share: float
    expected: float

    @property
    def ratio(self) -> float:
        return self.share / self.expected


class PlacementStats(msgspec.Struct, frozen=True, gc=False):
    """How even a placement is: ratios are share over expected share, so 1.0 is perfect for every weight."""

    algorithm: str
    node_count: int
    max_over_mean: float
    min_over_mean: float
    coefficient_of_variation: float
    table_bytes: int  # the lookup tables alone, without the nodes' names
    exact: bool
    sample_count: int
    shares: tuple[NodeShare, ...]


class Explanation(msgspec.Struct, frozen=True, gc=False):
    """Why a key is where it is, step by step. `str()` of it is meant for people."""

    key: str
    algorithm: str
    hash_function: str
    position: int
    node: str
    then: tuple[str, ...]  # who takes over, in this order, when the nodes before are gone
    steps: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([f"{self.key!r} is on {self.node}", *(f"  {step}" for step in self.steps)])


class Placement(Protocol):
    """Which node holds a key? Equal on every host, whatever the process, platform or order of additions.

    Every lookup works on one complete state: a reader in another thread sees a change wholly or not at all.
    """

    @property
    def algorithm(self) -> str: ...

    @property
    def hash_function(self) -> str: ...

    @property
    def position_bits(self) -> int:
        """Positions are in [0, 2**position_bits)."""

    @property
    def nodes(self) -> tuple[Node, ...]: ...

    def add_node(self, id: str, *, weight: float = 1.0, labels: Mapping[str, str] | None = None) -> None:
        """Raises DuplicateNode, InvalidNode, InvalidWeight, or NotSupported for a weight that it can't honour."""

    def remove_node(self, id: str) -> None:
        """Raises UnknownNode, or NotSupported where the algorithm can only remove the newest."""

    def set_weight(self, id: str, weight: float) -> None: ...

    def get_node(self, key: Key) -> str:
        """The key's primary. Raises EmptyPlacement, InvalidKey."""

    def get_nodes(self, key: Key, n: int, spread: Sequence[str] = (), *, strict: bool = False) -> Replicas:
        """Up to `n` distinct nodes, primary first, over as many values of each `spread` label as there are."""

    def get_many(self, keys: Iterable[Key]) -> list[str]:
        """`[get_node(key) for key in keys]`, faster."""

    def key_position(self, key: Key) -> int:
        """The key's position. Raises InvalidKey."""

    def node_at(self, position: int) -> str:
        """The primary of a key with this position."""

    def nodes_at(self, position: int, n: int, spread: Sequence[str] = ()) -> Replicas: ...

    def cuts(self) -> list[int] | None:
        """Ascending positions, each the last one before the primary may change; None: only sampling tells."""

    def diff(
        self, other: "Placement", *, replicas: int = 1, spread: Sequence[str] = (), sample_count: int = 16_384
    ) -> MovementPlan:
        """What to copy to get from this placement to `other`."""

    def stats(self, *, sample_count: int = 16_384) -> PlacementStats: ...

    def explain(self, key: Key) -> Explanation: ...

    def copy(self) -> Self:
        """An independent placement in the same state."""

    def to_bytes(self) -> bytes:
        """Versioned bytes, equal for equal placements on every host."""


def checked_node(id: str, weight: float = 1.0, labels: Mapping[str, str] | None = None) -> Node:
    """A node whose name, weight and labels are usable. Raises InvalidNode, InvalidWeight."""
    _check_text("node id", id)
    labels = dict(labels or {})
    for name, value in labels.items():
        _check_text(f"label name of node {id!r}", name)
        _check_text(f"label {name!r} of node {id!r}", value)
    if not is_finite_number(weight) or weight <= 0:
        raise InvalidWeight(f"weight {weight!r} of node {id!r} must be a finite number above 0, such as 1.0")
    return Node(id, float(weight), dict(sorted(labels.items())))


def _check_text(what: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidNode(f"{what} {value!r} is of type {type(value).__name__}: give text")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidNode(f"{what} {value!r} is not valid Unicode text") from None
    if not 0 < size <= NODE_ID_BYTES_MAX:
        raise InvalidNode(f"{what} {value!r} has {size} bytes: give 1 to {NODE_ID_BYTES_MAX}")


def _sums(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for name, amount in pairs:
        sums[name] = sums.get(name, 0.0) + amount
    return sums
