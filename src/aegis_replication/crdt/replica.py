"""What can every replicated type do? The base of all types: merge, deltas, contexts, bytes, watching, collecting."""

import base64
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import msgspec

from aegis_replication.crdt import kernel
from aegis_replication.crdt.delta import NOTHING, Delta, Round, require_same
from aegis_replication.crdt.encoding import Parts, decode, encode
from aegis_replication.crdt.kernel import KINDS, CausalContext, Changes, Kind, Shape, Store
from aegis_replication.crdt.values import json_view
from aegis_replication.errors import (
    ActorReused,
    BehindStableCut,
    ContextNotSeen,
    ContextTooOld,
    InvalidArgument,
)
from aegis_replication.vector_clock import Dot, VersionVector
from aegis_replication.vector_clock.codec import actor_id


class Read(msgspec.Struct, frozen=True):
    """What a remote client is given: the value, and the context to bring back with a change of it."""

    value: Any
    context: CausalContext


class Change(msgspec.Struct, frozen=True):
    """What a watcher is told after a change: which keys (none in types without keys), what was joined, and by whom."""

    keys: tuple[Any, ...]
    delta: Delta
    is_local: bool


class Size(msgspec.Struct, frozen=True, gc=False):
    """What a replica holds."""

    entry_count: int  # dots that stand for something
    seen_count: int  # dots that were ever seen
    actor_count: int
    gap_count: int  # runs of dots that came out of order
    encoded_bytes: int


class Replica(Kind):
    """One replica of a replicated object. `actor` names it in every dot it makes; without one it can only merge.

    An actor id must never be used by two replicas, nor again after a restored backup. Merging never looks at a
    clock. A change returns its delta, which may be sent to the others, or dropped if whole states are exchanged.
    """

    __slots__ = (
        "_actor", "_store", "_context", "_stable", "_settings", "_parent", "_field", "_index", "_rounds", "_watchers",
    )  # fmt: skip

    def __init_subclass__(cls) -> None:
        if "NAME" in cls.__dict__:
            KINDS[cls.NAME] = cls

    def __init__(self, actor: str | int | None = None) -> None:
        self._actor = None if actor is None else actor_id(actor)
        self._begin({}, VersionVector(), VersionVector(), None)

    def _begin(self, store: Store, context: CausalContext, stable: CausalContext, settings: Any) -> None:
        # Owned, and changed in place; the leaves in it are shared and never change.
        self._store = store
        # All dots ever seen. Invariant: holds every dot of the store. One object for a map and all in it.
        self._context = context
        # The last cut of a garbage collection. Replaced by a higher one, never changed.
        self._stable = stable
        # What all replicas share from the start.
        self._settings = settings
        # The map that this is a field of, and under which name. None: it stands alone.
        self._parent: Replica | None = None
        self._field: Any = None
        # Dot -> key, made when the first small delta comes, and kept from then on. None: not made.
        self._index: dict[Dot, Any] | None = None
        # The rounds of this object and all in it that are not shipped yet. One list for a map and all in it.
        self._rounds: list[Round] = []
        self._watchers: list[Callable[[Change], None]] = []

    # --- reading

    @property
    def actor(self) -> str | None:
        return self._actor

    def value(self) -> Any:
        """The plain Python value; a fresh copy."""
        raise NotImplementedError

    def read(self) -> Read:
        """The value, and the context that a remote client brings back with its change."""
        return Read(self.value(), self.context())

    def context(self) -> CausalContext:
        """All dots seen so far: tell it to a peer, and its `delta(context)` brings this replica level."""
        self._ship()
        return self._context.copy()

    def has_seen(self, context: CausalContext) -> bool:
        """Would a client that has read `context` elsewhere still read its own writes here?"""
        return self._context.covers(context)

    # --- exchanging

    def merge(self, other: "Replica | Delta") -> bool:
        """Joins another replica's state, or a delta; whether anything was new. An error leaves all as it was.

        MergeMismatch: another type or other settings. ActorReused: the other writes under this replica's name, or two
        under one. BehindStableCut: a replica that was away while garbage was collected.
        """
        if self._parent is not None:
            raise InvalidArgument("this stands in a map: merge the whole map")
        require_same(type(self), self._settings, type(other) if isinstance(other, Replica) else other.kind,
                     other._settings if isinstance(other, Replica) else other.settings)  # fmt: skip
        theirs, their_context, their_stable = _opened(other)
        self._check_actor(their_context)
        if isinstance(other, Replica):
            _require_above(self._stable, their_context, f"the state of {other.actor!r}")
        if not self._stable.covers(their_stable):
            _require_above(their_stable, self._context, f"this replica ({self.actor!r})")
            if self._context:
                self.collect(their_stable.copy().merge(self._stable))
        found = kernel.changes(
            type(self), self._store, self._context, theirs, their_context, self._finder(their_context)
        )
        if not found and self._context.covers(their_context):
            self._stable = _higher(self._stable, their_stable)
            return False
        self._reindex(found)
        kernel.apply(type(self), self._store, found)
        self._context.merge(their_context)
        self._stable = _higher(self._stable, their_stable)
        self._notify_merged(found, other)
        return True

    def merged(self, other: "Replica | Delta") -> Self:
        """A replica without an actor that knows what both know; this one is left as it is."""
        result = self.copy()
        result.merge(other)
        return result

    def delta(self, context: CausalContext | None = None) -> Delta:
        """What a peer that has seen `context` lacks (by default: everything)."""
        if self._parent is not None:
            raise InvalidArgument("this stands in a map: ask the whole map for its delta")
        whole = Delta(type(self), kernel.copied(type(self), self._open_store()), self._context, settings=self._settings,
                      stable=self._stable)  # fmt: skip
        return whole.delta(context or NOTHING)

    def decompose(self) -> list[Delta]:
        """The smallest deltas whose join this state is."""
        return self.delta().decompose()

    def copy(self, actor: str | int | None = None) -> Self:
        """Another replica with the same state, under a name of its own, or read-only."""
        return self._made(kernel.copied(type(self), self._open_store()), self._context, self._stable, actor)

    def to_bytes(self) -> bytes:
        """The state, byte for byte the same for equal states."""
        parts = Parts(self._settings, self._open_store(), self._context, self._stable)
        return encode(type(self), parts)

    @classmethod
    def from_bytes(cls, encoded: bytes, actor: str | int | None = None) -> Self:
        """A replica with that state. `actor` must be new, unless these are this replica's own latest bytes."""
        parts = decode(cls, encoded)
        blank = cls.__new__(cls)
        blank._settings = parts.settings
        return blank._made(parts.store, parts.context, parts.stable, actor)

    def digest(self) -> bytes:
        """16 bytes, the same for equal states."""
        return self.delta().digest()

    # --- watching, showing, cleaning

    def subscribe(self, watcher: Callable[[Change], None]) -> Callable[[], None]:
        """Calls `watcher` after every change that was made or merged here; the result ends it."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher) if watcher in self._watchers else None

    def to_json(self) -> str:
        """The value as JSON, with sorted keys; bytes as base64."""
        return msgspec.json.encode(
            json_view(self.value()), enc_hook=lambda value: base64.b64encode(value).decode()
        ).decode()

    def size(self) -> Size:
        context, store = self._context, self._store
        return Size(
            entry_count=sum(1 for _ in kernel.entries(type(self), store)),
            seen_count=len(context),
            actor_count=len(context.actors),
            gap_count=context.gap_count,
            encoded_bytes=len(self.to_bytes()) if self._parent is None else 0,
        )

    def collect(self, cut: CausalContext) -> int:
        """Drops and folds what is below a stable cut; how many dots went. The value stays.

        `cut` is stable when every replica had it in a state that every other has merged since. Each cut must cover
        the one before. A read context from before is refused from now on, and so is a replica that was away.
        """
        if self._parent is not None:
            raise InvalidArgument("this stands in a map: collect the whole map")
        if not self._context.covers(cut):
            raise ContextNotSeen(f"the cut names dots that this replica has not seen: {cut.minus(self._context)!r}")
        if not cut.covers(self._stable):
            raise InvalidArgument(f"the cut is below the one before: it lacks {self._stable.minus(cut)!r}")
        store = self._open_store()
        gone = self.collect_store(store, cut)
        self._forget_caches()
        self._stable = cut.copy()
        self._index = None
        return gone

    def __eq__(self, other: object) -> bool:
        """The same state; whose replica it is doesn't count."""
        return isinstance(other, Replica) and self.delta() == other.delta()

    __hash__ = None  # type: ignore[assignment]  # it changes; digest() is the key

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value()!r})"

    # --- for the types

    def _made(self, store: Store, context: CausalContext, stable: CausalContext, actor: str | int | None) -> Self:
        result = type(self).__new__(type(self))
        result._actor = None if actor is None else actor_id(actor)
        result._begin(store, context.copy(), stable.copy(), self._settings)
        return result

    def _mint(self, dot_count: int = 1) -> Dot:
        """A new dot (the first of `dot_count` in a row), seen at once."""
        if self._actor is None:
            raise InvalidArgument(f"this {type(self).__name__} has no actor id, so it can only merge: give it one")
        return self._context.mint(self._actor, dot_count)

    def _emit(self, fragment: Store, new: Sequence[Dot], gone: Iterable[Dot] = (), round: Round | None = None) -> Delta:
        """Ends a change, after it was made in the store: index, watchers, and the delta for the caller."""
        if self._index is not None:
            for key, child in fragment.items():
                if self.SHAPE is Shape.MAP:
                    self._index.update(dict.fromkeys(child, key))
                else:
                    self._index.update(dict.fromkeys(new, key))
            for dot in gone:
                self._index.pop(dot, None)
        delta = Delta(type(self), fragment, dots=(*new, *gone), settings=self._settings, stable=self._stable,
                      round=round)  # fmt: skip
        if self._watchers:
            self._tell(Change(self._keys(fragment), delta, is_local=True))
        if self._parent is not None:
            return self._parent._emit({self._field: fragment}, new, gone, round)
        return delta

    def _put(self, payload: Any, gone: Sequence[Dot]) -> Delta:
        """Where the store is dot -> payload: a new dot in place of those `gone`."""
        dot = self._mint()
        for each in gone:
            del self._store[each]
        self._store[dot] = payload
        return self._emit({dot: payload}, (dot,), gone)

    def _take(self, gone: Sequence[Dot]) -> Delta:
        """Where the store is dot -> payload: those `gone`, and nothing in their place."""
        for each in gone:
            del self._store[each]
        return self._emit({}, (), gone)

    def _observed(self, leaf: Store, context: CausalContext | None) -> list[Dot]:
        """Those dots of `leaf` that a change with this read context replaces: all, or what the client had read."""
        if context is None:
            return [*leaf]
        self._check_read(context)
        return [dot for dot in leaf if dot in context]

    def _check_read(self, context: CausalContext) -> None:
        if not self._context.covers(context):
            raise ContextNotSeen(
                f"the read context names dots that this replica has not seen: {context.minus(self._context)!r}; "
                "merge first, or ask where it was read"
            )
        if not context.covers(self._root()._stable):
            raise ContextTooOld("the read context is older than the last garbage collection: read again")

    def _root(self) -> "Replica":
        return self if self._parent is None else self._parent._root()

    def _ship(self) -> None:
        """A copy leaves: what is counted from now on gets dots of its own."""
        for each in self._rounds:
            each.is_open = False
        self._rounds.clear()

    def _open_store(self) -> Store:
        self._ship()
        return self._store

    def _keys(self, found: Changes) -> tuple[Any, ...]:
        """What a watcher is told of the changed keys."""
        return () if self.SHAPE is Shape.FUN else tuple(found)

    def _tell(self, change: Change) -> None:
        for watcher in [*self._watchers]:
            watcher(change)

    def _forget_caches(self) -> None:
        """The store was changed by other means than this object's own changes."""

    def _notify_merged(self, found: Changes, other: "Replica | Delta") -> None:
        self._forget_caches()
        if self._watchers:
            delta = other.delta() if isinstance(other, Replica) else other
            self._tell(Change(self._keys(found), delta, is_local=False))

    def _check_actor(self, their_context: CausalContext) -> None:
        actor = self._actor
        if actor is not None and their_context.highest(actor) > (own := self._context.highest(actor)):
            raise ActorReused(actor, own + 1, "another replica has written under this one's name")

    def _finder(self, their_context: CausalContext) -> Callable[[Dot], Any] | None:
        """How to find the key of a dot, if their context is so small that this pays."""
        if self.SHAPE is Shape.FUN or len(their_context) >= len(self._store) // 4:
            self._index = None  # a whole state changes so much that the index is made anew when it is needed
            return None
        if self._index is None:
            self._index = {
                dot: key
                for key, below in self._store.items()
                for dot in (below if self.SHAPE is Shape.MAP else _dots(key, below))
            }
        return self._index.get

    def _reindex(self, found: Changes) -> None:
        """Keeps the index true while `found` is applied."""
        if self._index is None:
            return
        for key, change in found.items():
            below = self._store.get(key, {})
            if self.SHAPE is Shape.MAP:
                for dot in below:
                    self._index.pop(dot, None)
                self._index.update(dict.fromkeys(change or (), key))
            else:
                kind = kernel.kind_named(key[0])
                after = kernel.copied(kind, below)
                kernel.apply(kind, after, change)
                for dot in _dots(key, below):
                    self._index.pop(dot, None)
                self._index.update(dict.fromkeys(_dots(key, after), key))


def _dots(field: Any, store: Store) -> list[Dot]:
    return [dot for dot, _ in kernel.entries(kernel.kind_named(field[0]), store)]


def _opened(other: Replica | Delta) -> tuple[Store, CausalContext, CausalContext]:
    if isinstance(other, Replica):
        return other._open_store(), other._context, other._stable
    return other.store, other.context, other.stable


def _require_above(cut: CausalContext, context: CausalContext, whose: str) -> None:
    if context and not context.covers(cut):
        raise BehindStableCut(
            f"{whose} lacks dots that all replicas had when garbage was collected: {cut.minus(context)!r}. "
            "Start it anew from a copy of a replica that has them"
        )


def _higher(one: CausalContext, other: CausalContext) -> CausalContext:
    return one if one.covers(other) else one.copy().merge(other)
