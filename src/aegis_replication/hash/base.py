"""What do all placement algorithms share? Membership, replicas, plans, statistics and bytes around one lookup."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

from aegis_replication.errors import (
    CorruptPlacement,
    DuplicateNode,
    EmptyPlacement,
    NotSupported,
    UnknownNode,
)
from aegis_replication.hash.checks import checked_count
from aegis_replication.hash.codec import Payload, decode, encode
from aegis_replication.hash.functions import (
    POSITION_BITS,
    HashFunction,
    Key,
    hash_function,
    key_bytes,
    map_keys,
)
from aegis_replication.hash.model import (
    Explanation,
    MovementPlan,
    Node,
    Placement,
    PlacementStats,
    Replicas,
    checked_node,
)
from aegis_replication.hash.plan import movement_plan, placement_stats
from aegis_replication.hash.spread import choose

View = TypeVar("View")
NODES_SHOWN = 8


class Snapshot(Generic[View]):
    """One complete state. Never changed after it is published, but for `view`, which is computed once from the rest."""

    __slots__ = ("nodes", "history", "view")

    def __init__(self, nodes: dict[str, Node], history: Any = None) -> None:
        # In order of addition.
        self.nodes = nodes
        # What the present state owes to the order of past changes; None where only the set of nodes matters.
        self.history = history
        # The lookup tables, built when first needed, so that adding many nodes one by one stays cheap.
        self.view: View | None = None


class PlacementBase(Generic[View]):
    """An algorithm says how to build its view of a snapshot and how to look up a position; the rest is here."""

    __slots__ = ("_function", "_digest", "_snapshot", "__weakref__")

    algorithm: ClassVar[str]
    # Weights other than 1 are refused where the algorithm can't honour them.
    accepts_weights: ClassVar[bool] = False
    position_bits: ClassVar[int] = POSITION_BITS

    def __init__(self, nodes: Iterable[str | Node], function: str | HashFunction) -> None:
        self._function = hash_function(function)
        self._digest = self._function.digest
        self._snapshot: Snapshot[View] = Snapshot({}, self._history_of_none())
        self.add_nodes(nodes)

    # --- what an algorithm says ---------------------------------------------------------------------------------

    def _build(self, snapshot: Snapshot[View]) -> View:
        raise NotImplementedError

    def _node_at(self, view: View, position: int) -> str:
        """The primary of `position`; there is at least one node."""
        raise NotImplementedError

    def _order_at(self, view: View, position: int) -> Iterator[str]:
        """All nodes, each once, in the order in which they would take over."""
        raise NotImplementedError

    def _cuts(self, view: View) -> list[int] | None:
        """Ascending positions, each the last one before the primary may change; None: only sampling tells."""
        return None

    def _steps(self, view: View, position: int) -> Iterator[str]:
        """The part of `explain` that only this algorithm knows."""
        raise NotImplementedError

    def _parameters(self) -> dict[str, int | float]:
        """Constructor arguments that the placement depends on."""
        return {}

    def _canonical_nodes(self, nodes: Mapping[str, Node]) -> Iterable[Node]:
        """In the order in which they are encoded: by name where the order of additions doesn't matter."""
        return (nodes[id] for id in sorted(nodes))

    def _history_of_none(self) -> Any:
        return None

    def _history_added(self, nodes: dict[str, Node], history: Any, added: Sequence[Node]) -> Any:
        """The history once `nodes`, which includes `added`, are there. May raise to refuse."""
        return None

    def _history_removed(self, nodes: dict[str, Node], history: Any, removed: Node) -> Any:
        return None

    def _check_weights(self, nodes: Mapping[str, Node]) -> None:
        if self.accepts_weights:
            return
        for node in nodes.values():
            if node.weight != 1.0:
                raise NotSupported(
                    f"{self.algorithm} can't weigh nodes ({node.id!r} has weight {node.weight:g}): "
                    "use HashRing or RendezvousHash"
                )

    def _table_bytes(self, view: View) -> int:
        return 0

    # --- membership ---------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> tuple[Node, ...]:
        """In order of addition."""
        return tuple(self._snapshot.nodes.values())

    @property
    def node_count(self) -> int:
        return len(self._snapshot.nodes)

    @property
    def is_empty(self) -> bool:
        return not self._snapshot.nodes

    def __len__(self) -> int:
        return len(self._snapshot.nodes)

    def __contains__(self, id: object) -> bool:
        return id in self._snapshot.nodes

    def add_node(self, id: str, *, weight: float = 1.0, labels: Mapping[str, str] | None = None) -> None:
        """Takes a share of the keys from the others. Raises DuplicateNode, InvalidNode, InvalidWeight, NotSupported."""
        self.add_nodes((checked_node(id, weight, labels),))

    def add_nodes(self, nodes: Iterable[str | Node]) -> None:
        """Adds all of them or, if one is refused, none."""
        before = self._snapshot
        after = dict(before.nodes)
        added = []
        for each in nodes:
            node = checked_node(each.id, each.weight, each.labels) if isinstance(each, Node) else checked_node(each)
            if node.id in after:
                raise DuplicateNode(
                    f"node {node.id!r} is in this placement already: use set_weight, or remove it first"
                )
            after[node.id] = node
            added.append(node)
        if added:
            self._check_weights(after)
            self._snapshot = Snapshot(after, self._history_added(after, before.history, added))

    def add(self, id: str, *, weight: float = 1.0, labels: Mapping[str, str] | None = None) -> None:
        """Like add_node, but does nothing when this very node, weight and labels included, is there already."""
        if self._snapshot.nodes.get(id) != checked_node(id, weight, labels):
            self.add_node(id, weight=weight, labels=labels)

    def remove_node(self, id: str) -> None:
        """Gives its keys to the others. Raises UnknownNode, NotSupported."""
        before = self._snapshot
        removed = self._known(id)
        after = {name: node for name, node in before.nodes.items() if name != id}
        self._snapshot = Snapshot(after, self._history_removed(after, before.history, removed))

    def remove(self, id: str) -> None:
        """Like remove_node, but does nothing when the node isn't there."""
        if id in self._snapshot.nodes:
            self.remove_node(id)

    def set_weight(self, id: str, weight: float) -> None:
        """Raises UnknownNode, InvalidWeight, NotSupported."""
        before = self._snapshot
        old = self._known(id)
        node = checked_node(id, weight, old.labels)
        after = {**before.nodes, id: node}
        self._check_weights(after)
        self._snapshot = Snapshot(after, self._history_reweighed(after, before.history))

    def _history_reweighed(self, nodes: dict[str, Node], history: Any) -> Any:
        return history

    def copy(self) -> Self:
        """An independent placement in the same state, in constant time."""
        twin = type(self).__new__(type(self))
        for kind in type(self).__mro__:
            for name in getattr(kind, "__slots__", ()):
                if name != "__weakref__":
                    setattr(twin, name, getattr(self, name))
        return twin

    # --- lookups ------------------------------------------------------------------------------------------------

    @property
    def hash_function(self) -> str:
        return self._function.name

    def key_position(self, key: Key) -> int:
        """The key's position in [0, 2**position_bits). Raises InvalidKey."""
        return self._digest(key_bytes(key))

    def get_node(self, key: Key) -> str:
        """The key's primary. Raises EmptyPlacement, InvalidKey."""
        return self._node_at(self._view(), self.key_position(key))

    def get_nodes(self, key: Key, n: int, spread: Sequence[str] = (), *, strict: bool = False) -> Replicas:
        """Up to `n` distinct nodes, primary first, over as many values of each `spread` label as there are.

        What couldn't be met stands in the answer's `unmet`; with `strict` it raises SpreadNotMet instead.
        """
        snapshot = self._snapshot
        order = self._order_at(self._view(snapshot), self.key_position(key))
        return choose(order, snapshot.nodes, n, spread, strict=strict)

    def get_many(self, keys: Iterable[Key]) -> list[str]:
        """`[get_node(key) for key in keys]`, all from one state, faster."""
        view, node_at = self._view(), self._node_at
        return [node_at(view, position) for position in map_keys(list(keys), self._digest)]

    def node_at(self, position: int) -> str:
        """The primary of a key with this position."""
        return self._node_at(self._view(), self._checked_position(position))

    def nodes_at(self, position: int, n: int, spread: Sequence[str] = ()) -> Replicas:
        snapshot = self._snapshot
        order = self._order_at(self._view(snapshot), self._checked_position(position))
        return choose(order, snapshot.nodes, n, spread, strict=False)

    def cuts(self) -> list[int] | None:
        """Ascending positions, each the last one before the primary may change; None: only sampling tells."""
        return self._cuts(self._view())

    # --- what operators ask -------------------------------------------------------------------------------------

    def diff(
        self, other: Placement, *, replicas: int = 1, spread: Sequence[str] = (), sample_count: int = 16_384
    ) -> MovementPlan:
        """What must be copied, and from where, when this placement is replaced by `other`.

        Exact, with ranges of positions, where both have boundaries over the same hash function (HashRing, KetamaRing,
        Maglev, BoundedLoad); elsewhere estimated from `sample_count` positions, with a standard error of at most
        1 / (2 * sqrt(sample_count)). Raises EmptyPlacement, InvalidCount.
        """
        return movement_plan(self.copy(), other.copy(), replicas=replicas, spread=spread, sample_count=sample_count)

    def stats(self, *, sample_count: int = 16_384) -> PlacementStats:
        """How evenly the key space is shared; exact or estimated as in `diff`. Raises EmptyPlacement."""
        still = self.copy()
        return placement_stats(still, still._table_bytes(still._view()), sample_count=sample_count)

    def explain(self, key: Key) -> Explanation:
        """Why the key is where it is. Raises EmptyPlacement, InvalidKey."""
        view, position = self._view(), self.key_position(key)
        order = list(self._order_at(view, position))
        steps = (f"{self._function.name}({key!r}) = {position}", *self._steps(view, position))
        shown = key if isinstance(key, str) else bytes(key).decode("utf-8", "backslashreplace")
        return Explanation(
            key=shown,
            algorithm=self.algorithm,
            hash_function=self._function.name,
            position=position,
            node=order[0],
            then=tuple(order[1:NODES_SHOWN]),
            steps=steps,
        )

    # --- bytes --------------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Versioned bytes, equal for equal placements on every host."""
        snapshot = self._snapshot
        return encode(
            Payload(
                self.algorithm,
                self._function.name,
                sorted(self._parameters().items()),
                [(n.id, n.weight, sorted(n.labels.items())) for n in self._canonical_nodes(snapshot.nodes)],
                self._history_to_list(snapshot.history),
            )
        )

    @classmethod
    def from_bytes(cls, encoded: bytes, *, hash_functions: Iterable[HashFunction] = ()) -> Self:
        """The placement that `to_bytes` encoded; pass the functions that this package doesn't bring.

        Raises CorruptPlacement, IncompatibleVersion, UnknownHashFunction.
        """
        return cls._from_payload(decode(encoded), hash_functions)

    @classmethod
    def _from_payload(cls, payload: Payload, hash_functions: Iterable[HashFunction]) -> Self:
        if payload.algorithm != cls.algorithm:
            raise CorruptPlacement(
                f"these bytes hold a {payload.algorithm!r} placement, not {cls.algorithm!r}: use placement_from_bytes"
            )
        function = cls._function_named(payload.hash_function, hash_functions)
        try:
            placement = cls._made(dict(payload.parameters), function)
            nodes = [checked_node(id, weight, dict(labels)) for id, weight, labels in payload.nodes]
            by_id = {node.id: node for node in nodes}
            if len(by_id) < len(nodes):
                raise DuplicateNode("a node is listed twice")
            placement._check_weights(by_id)
            placement._snapshot = Snapshot(by_id, placement._history_from_list(payload.history, by_id))
        except (TypeError, ValueError) as error:
            raise CorruptPlacement(f"these bytes don't describe a {cls.algorithm} placement: {error}") from error
        return placement

    @classmethod
    def _function_named(cls, name: str, known: Iterable[HashFunction]) -> HashFunction:
        return hash_function(name, known)

    @classmethod
    def _made(cls, parameters: dict[str, Any], function: HashFunction) -> Self:
        return cls(**parameters, hash_function=function)  # type: ignore[call-arg]  # each algorithm's own constructor

    def _history_to_list(self, history: Any) -> list[Any]:
        return []

    def _history_from_list(self, encoded: list[Any], nodes: dict[str, Node]) -> Any:
        return None

    def __eq__(self, other: object) -> bool:
        """Whether both place every key alike, now and after equal changes."""
        return isinstance(other, PlacementBase) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]  # it can be changed

    def __repr__(self) -> str:
        shown = [f"{node.id}*{node.weight:g}" if node.weight != 1 else node.id for node in self.nodes[:NODES_SHOWN]]
        more = f", ... {self.node_count - NODES_SHOWN} more" if self.node_count > NODES_SHOWN else ""
        return f"{type(self).__name__}({', '.join(shown)}{more})"

    # --- helpers ------------------------------------------------------------------------------------------------

    def _view(self, snapshot: Snapshot[View] | None = None) -> View:
        snapshot = snapshot or self._snapshot
        if (view := snapshot.view) is None:
            if not snapshot.nodes:
                raise EmptyPlacement(f"this {type(self).__name__} has no node: add one with add_node(id)")
            view = snapshot.view = self._build(snapshot)
        return view

    def _known(self, id: str) -> Node:
        if (node := self._snapshot.nodes.get(id)) is None:
            some = ", ".join(list(self._snapshot.nodes)[:NODES_SHOWN]) or "none"
            raise UnknownNode(f"node {id!r} is not in this placement of {self.node_count} nodes ({some})")
        return node

    def _checked_position(self, position: int) -> int:
        return checked_count("position", position, 0, (1 << self.position_bits) - 1)
