"""What travels between replicas? A delta: a small state, joined anywhere, in any order, any number of times."""

import hashlib
from collections.abc import Sequence
from typing import Any, Self

from aegis_replication.crdt import kernel
from aegis_replication.crdt.encoding import Parts, decode, encode
from aegis_replication.crdt.kernel import CausalContext, Kind, Store
from aegis_replication.crdt.renaming import Renaming, Retired
from aegis_replication.crdt.retirement import level, raised
from aegis_replication.errors import MergeMismatch
from aegis_replication.vector_clock import Dot, VersionVector
from aegis_replication.vector_clock.codec import open_envelope

NOTHING: CausalContext = VersionVector()
"""The context that has seen nothing. Never changed."""


class Round:
    """The one dot that a counter's changes share until any of them is shipped.

    Once a copy is out, somebody may reset what it saw; what is counted later must not go with it. So shipping closes.
    """

    __slots__ = ("dot", "fragment", "is_open")

    def __init__(self, dot: Dot, fragment: Store) -> None:
        self.dot = dot
        # What the round's deltas hold: one object for all of them, so that each tells the whole round when shipped.
        self.fragment = fragment
        # Only falls.
        self.is_open = True


class Delta:
    """A state on its own: what one change did, or several joined, or what a peer lacks."""

    __slots__ = ("kind", "settings", "stable", "retired", "_store", "_context", "_dots", "_round")

    def __init__(
        self,
        kind: type[Kind],
        store: Store,
        context: CausalContext | None = None,
        *,
        dots: Sequence[Dot] = (),
        settings: Any = None,
        stable: CausalContext = NOTHING,
        retired: tuple[Retired, ...] = (),
        round: Round | None = None,
    ) -> None:
        self.kind = kind
        self.settings = settings
        # The last cut that was collected where this was made. Who joins it collects that first: a write on ground that
        # was cleared here says nothing of what was cleared.
        self.stable = stable
        # The retirements that were remembered there.
        self.retired = retired
        # Never changed, but by the open round whose fragment it holds.
        self._store = store
        # Made of `_dots` at the first use: most deltas are only passed on.
        self._context = context
        self._dots = dots
        self._round = round

    @property
    def store(self) -> Store:
        if self._round is not None:
            self._round.is_open = False
        return self._store

    @property
    def context(self) -> CausalContext:
        if self._context is None:
            self._context = VersionVector.of(self._dots)
        return self._context

    @property
    def is_empty(self) -> bool:
        """Does it say nothing at all?"""
        return not self.context and kernel.is_empty(self.kind, self._store)

    def join(self, other: "Delta") -> "Delta":
        """Both in one: a buffer of deltas for a peer is their join."""
        require_same(self.kind, self.settings, other.kind, other.settings)
        mine, theirs = self.parts(), other.parts()
        if level(mine.stable) < level(theirs.stable):
            mine, theirs = theirs, mine
        theirs = raised(self.kind, theirs, mine, "one of the two deltas")
        store = kernel.copied(self.kind, mine.store)
        kernel.apply(self.kind, store, kernel.changes(self.kind, store, mine.context, theirs.store, theirs.context))
        stable = mine.stable.copy().merge(theirs.stable)
        retired = mine.retired if stable == mine.stable else theirs.retired
        merged = Parts(self.settings, store, mine.context.copy().merge(theirs.context), stable, retired)
        return Delta.of_parts(self.kind, merged)

    def parts(self) -> Parts:
        return Parts(self.settings, self.store, self.context, self.stable, self.retired)

    def decompose(self) -> list["Delta"]:
        """The smallest deltas whose join this is: one per entry, one per run of dots whose entries are gone."""
        store, gone, result = self.store, self.context, list[Delta]()
        for part, (actor, number), extent in kernel.parts(self.kind, store):
            seen = VersionVector.of_runs([(actor, number, number + extent - 1)] if actor else [])
            result.append(self._with(part, seen))
        gone = gone.minus(kernel.live(self.kind, store))
        for actor in gone.actors:
            for first, last in gone.runs(actor):
                result.append(self._with({}, VersionVector.of_runs([(actor, first, last)])))
        return result

    def delta(self, context: CausalContext) -> "Delta":
        """What a peer that has seen `context` lacks; joining it brings that peer exactly level.

        The context of the answer leaves out what the peer has seen and still counts, and only that: so the peer drops
        what was removed here, without a word about each entry that stands.
        """
        context = Renaming(self.retired).context(context)  # a peer that has not renamed yet asks by the old names
        store = kernel.since(self.kind, self.store, context)
        standing = kernel.live(self.kind, self.store).minus(kernel.live(self.kind, store)).meet(context)
        return self._with(store, self.context.minus(standing))

    def to_bytes(self) -> bytes:
        return encode(self.kind, self.parts())

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Self:
        """A delta (or a whole state) of whatever type it is."""
        kind = kernel.kind_named(open_envelope(encoded)[0])
        parts = decode(kind, encoded)
        return cls.of_parts(kind, parts)

    @classmethod
    def of_parts(cls, kind: type[Kind], parts: Parts) -> Self:
        settings, store, context, stable, retired = parts
        return cls(kind, store, context, settings=settings, stable=stable, retired=retired)

    def digest(self) -> bytes:
        """16 bytes, the same for equal states."""
        return hashlib.blake2b(self.to_bytes(), digest_size=16).digest()

    def _with(self, store: Store, context: CausalContext) -> "Delta":
        """Another one made on the same ground."""
        return Delta.of_parts(self.kind, Parts(self.settings, store, context, self.stable, self.retired))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Delta) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]  # digest() is the key

    def __repr__(self) -> str:
        return f"Delta({self.kind.NAME}, {self._store!r}, {self.context!r})"


def require_same(kind: type[Kind], settings: Any, other_kind: type[Kind], other_settings: Any) -> None:
    if kind.NAME != other_kind.NAME:
        raise MergeMismatch(f"a {other_kind.NAME} can't be merged into a {kind.NAME}")
    if settings != other_settings:
        raise MergeMismatch(f"a {kind.NAME} made with {other_settings!r} can't be merged into one with {settings!r}")
