"""How do states join, come apart and tell what another lacks? The one kernel below all types: dots, stores, context.

A *state* is a store of dots (one per write that still counts) and a context (all dots that were ever seen). A dot in
the context and not in the store was overwritten or removed: so no tombstones. Join keeps what both stores have, and
what one has and the other has never seen (Almeida, Shoker, Baquero 2018). A delta is a small state of the same kind.

Stores have three shapes. FUN: dot -> payload. MAP: key -> leaf, a leaf being dot -> payload; leaves are shared between
states and never changed. FIELDS: (kind, key) -> a store of that kind, owned; an empty one counts as absent.
"""

import enum
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final, TypeAlias

from aegis_replication.errors import ActorReused, InvalidArgument
from aegis_replication.vector_clock import Dot, VersionVector

Store: TypeAlias = dict[Any, Any]
Changes: TypeAlias = dict[Any, Any]
"""What a join changes in a store, found before anything is touched: by dot, key or field; GONE for what goes."""

CausalContext = VersionVector

ANCHOR: Final[Dot] = ("", 1)
"""The dot of a write without an actor. It is in no context: never removed, never replaced but by its better."""

GONE: Final = None


class Shape(enum.Enum):
    FUN = 1
    MAP = 2
    FIELDS = 3


class Kind:
    """What the kernel must know of a type: its shape, and the rules for its payloads."""

    __slots__ = ()
    NAME: ClassVar[str] = ""
    SHAPE: ClassVar[Shape] = Shape.FUN
    # May it stand in a map that removes by reset? Only if each write has a dot of its own.
    IS_RESETTABLE: ClassVar[bool] = True

    @classmethod
    def resolve(cls, dot: Dot, mine: Any, theirs: Any) -> Any:
        """The payload of a dot that both have. Only one actor writes a dot, so they differ, be it in type alone, only
        by a reused actor."""
        if mine == theirs and _typed(mine) == _typed(theirs):
            return mine
        raise ActorReused(*dot, f"{mine!r} here and {theirs!r} there")

    @staticmethod
    def extent(payload: Any) -> int:
        """How many dots in a row the entry stands for."""
        return 1

    @staticmethod
    def plain_payload(payload: Any) -> Any:
        """The payload as it is written to bytes."""
        return payload

    @staticmethod
    def read_payload(plain: Any) -> Any:
        """The payload from what was read; ValueError or TypeError if it is none."""
        raise NotImplementedError

    @classmethod
    def read_settings(cls, plain: Any) -> Any:
        """What all replicas of one object share from the start, from what was read."""
        if plain is not None:
            raise InvalidArgument(f"a {cls.NAME} has no settings, found {plain!r}")
        return None

    @classmethod
    def has_content(cls, store: Store) -> bool:
        """Is there anything to see, or only what waits to be collected? Decides whether a key of a map is there."""
        return bool(store)

    @classmethod
    def collect_store(cls, store: Store, cut: CausalContext) -> int:
        """Drops and folds what is below a stable cut, in place; how many dots went."""
        return 0


def _typed(payload: Any) -> Any:
    return [*map(type, payload)] if type(payload) is tuple else type(payload)


KINDS: Final[dict[str, type[Kind]]] = {}
"""Every type by its name in bytes."""


def kind_named(name: Any) -> type[Kind]:
    if type(name) is not str or name not in KINDS:
        raise InvalidArgument(f"there is no replicated type {name!r}: known are {', '.join(sorted(KINDS))}")
    return KINDS[name]


# --- join -----------------------------------------------------------------------------------------------------------


def changes(
    kind: type[Kind],
    mine: Store,
    my_context: CausalContext,
    theirs: Store,
    their_context: CausalContext,
    find: Callable[[Dot], Any] | None = None,
) -> Changes:
    """What `mine` must change to be the join. Touches nothing, so that an error leaves all as it was.

    `find(dot)` is the key that holds a dot; with it a small delta costs what it holds, not what `mine` holds.
    """
    if kind.SHAPE is Shape.FUN:
        return _fun_changes(kind, mine, my_context, theirs, their_context)
    if kind.SHAPE is Shape.MAP:
        result = _map_changes(kind, mine, my_context, theirs, their_context, find)
    else:
        result = {}
        for field, child in theirs.items():
            found = changes(kind_named(field[0]), mine.get(field, {}), my_context, child, their_context)
            if found:
                result[field] = found
    left = _keys_to_check(mine, theirs, their_context, find)
    if kind.SHAPE is Shape.MAP:
        return result | _lost(mine, left, their_context)
    for field in left:
        if lost := changes(kind_named(field[0]), mine[field], my_context, {}, their_context):
            result[field] = lost
    return result


def apply(kind: type[Kind], store: Store, found: Changes) -> None:
    """Makes the changes that `changes` found."""
    if kind.SHAPE is Shape.FIELDS:
        for field, below in found.items():
            apply(kind_named(field[0]), store.setdefault(field, {}), below)
    else:
        gone = [key for key, value in found.items() if value is GONE]
        for key in gone:
            del store[key]
        if gone:
            store.update((key, value) for key, value in found.items() if value is not GONE)
        else:
            store.update(found)


def _fun_changes(
    kind: type[Kind], mine: Store, my_context: CausalContext, theirs: Store, their_context: CausalContext
) -> Changes:
    result: Changes = {}
    for dot, payload in theirs.items():
        if dot in mine:
            own = mine[dot]
            if own is not payload and (joined := kind.resolve(dot, own, payload)) is not own:
                result[dot] = joined
        elif dot not in my_context:
            result[dot] = payload
    if their_context:
        few = len(their_context) < len(mine)
        for dot in their_context.dots() if few else mine:
            if dot in mine and dot not in theirs and dot in their_context:
                result[dot] = GONE
    return result


def _map_changes(
    kind: type[Kind],
    mine: Store,
    my_context: CausalContext,
    theirs: Store,
    their_context: CausalContext,
    find: Callable[[Dot], Any] | None,
) -> Changes:
    """The keys of `theirs` alone. The inner loop of every merge: most leaves are equal, or one dot that is new."""
    result: Changes = {}
    gone_here: list[Dot] = []
    own_of, prefix_of, has_gaps = mine.get, my_context.prefixes.get, my_context.gap_count > 0
    their_prefix_of, they_have_gaps = their_context.prefixes.get, their_context.gap_count > 0
    for key, leaf in theirs.items():
        own = own_of(key)
        if own is None:
            for actor, number in leaf:
                if number <= prefix_of(actor, 0) or (has_gaps and (actor, number) in my_context):
                    gone_here += [dot for dot in leaf if dot in my_context]
                    leaf = {dot: payload for dot, payload in leaf.items() if dot not in my_context}
                    break
            if leaf:
                result[key] = leaf
        elif own is not leaf and own != leaf:
            if len(own) == len(leaf) == 1 and not has_gaps and not they_have_gaps:
                (dot,), (their_dot,) = own, leaf
                if dot != their_dot:
                    is_new_here = their_dot[1] > prefix_of(their_dot[0], 0)
                    if dot[1] > their_prefix_of(dot[0], 0):
                        if is_new_here:
                            result[key] = own | leaf
                    else:
                        result[key] = leaf if is_new_here else GONE
                    if not is_new_here:
                        gone_here.append(their_dot)
                    continue
            joined = _joined_leaf(kind, own, my_context, leaf, their_context)
            if joined != own:
                result[key] = joined or GONE
            if len(leaf) > 1 or len(own) > 1 or leaf.keys() != own.keys():
                gone_here += [dot for dot in leaf if dot not in own and dot in my_context]
    if gone_here:
        _require_gone(mine, gone_here, find)
    return result


def _lost(mine: Store, keys: list[Any], their_context: CausalContext) -> Changes:
    """What goes under keys that they no longer have."""
    result: Changes = {}
    prefix_of, has_gaps = their_context.prefixes.get, their_context.gap_count > 0
    for key in keys:
        leaf = mine[key]
        for actor, number in leaf:
            if number <= prefix_of(actor, 0) or (has_gaps and (actor, number) in their_context):
                kept = {dot: payload for dot, payload in leaf.items() if dot not in their_context}
                result[key] = kept or GONE
                break
    return result


def _require_gone(mine: Store, dots: list[Dot], find: Callable[[Dot], Any] | None) -> None:
    """What the other side keeps under one key and this side has seen must have gone here, not stand under another."""
    if find is None:
        standing = {dot for leaf in mine.values() for dot in leaf}
        twice = [dot for dot in dots if dot in standing]
    else:
        twice = [dot for dot in dots if find(dot) is not None]
    if twice:
        raise ActorReused(*min(twice), "it stands under one key here and under another there")


def _joined_leaf(
    kind: type[Kind], mine: Store, my_context: CausalContext, theirs: Store, their_context: CausalContext
) -> Store:
    result = {}
    for dot, payload in mine.items():
        if dot in theirs:
            result[dot] = kind.resolve(dot, payload, theirs[dot])
        elif dot not in their_context:
            result[dot] = payload
    for dot, payload in theirs.items():
        if dot not in mine and dot not in my_context:
            result[dot] = payload
    return result


def _keys_to_check(
    mine: Store, theirs: Store, their_context: CausalContext, find: Callable[[Dot], Any] | None
) -> list[Any]:
    """The keys that only `mine` has and of which `their_context` may have seen dots go."""
    if not their_context:
        return []
    if find is not None and len(their_context) < len(mine):
        found = {find(dot): None for dot in their_context.dots()}
        return [key for key in found if key is not None and key not in theirs]
    return [key for key in mine if key not in theirs]


# --- views of a state -----------------------------------------------------------------------------------------------


def entries(kind: type[Kind], store: Store) -> Iterator[tuple[Dot, int]]:
    """Each dot in the store, with how many in a row it stands for."""
    if kind.SHAPE is Shape.FUN:
        for dot, payload in store.items():
            yield dot, kind.extent(payload)
    elif kind.SHAPE is Shape.MAP:
        for leaf in store.values():
            for dot in leaf:
                yield dot, 1
    else:
        for field, child in store.items():
            yield from entries(kind_named(field[0]), child)


def live(kind: type[Kind], store: Store) -> CausalContext:
    """The dots of all entries."""
    return VersionVector.of_runs(
        (actor, number, number + extent - 1) for (actor, number), extent in entries(kind, store) if actor
    )


def copied(kind: type[Kind], store: Store) -> Store:
    """A store of one's own. Leaves are shared: they never change."""
    if kind.SHAPE is Shape.FIELDS:
        return {field: copied(kind_named(field[0]), child) for field, child in store.items() if child}
    return dict(store)


def cleared(kind: type[Kind], store: Store) -> None:
    """Empties the store in place, and the stores in it, which others may hold."""
    if kind.SHAPE is Shape.FIELDS:
        for field, child in store.items():
            cleared(kind_named(field[0]), child)
    else:
        store.clear()


def is_empty(kind: type[Kind], store: Store) -> bool:
    if kind.SHAPE is Shape.FIELDS:
        return all(is_empty(kind_named(field[0]), child) for field, child in store.items())
    return not any(store.values()) if kind.SHAPE is Shape.MAP else not store


def since(kind: type[Kind], store: Store, context: CausalContext) -> Store:
    """The entries whose dots `context` hasn't."""
    if kind.SHAPE is Shape.FUN:
        return {dot: payload for dot, payload in store.items() if dot not in context}
    result = {}
    for key, below in store.items():
        if kind.SHAPE is Shape.FIELDS:
            found = since(kind_named(key[0]), below, context)
        else:
            found = {dot: payload for dot, payload in below.items() if dot not in context}
        if found:
            result[key] = found
    return result


def parts(kind: type[Kind], store: Store) -> Iterator[tuple[Store, Dot, int]]:
    """One store for each entry, with its dot and how many in a row that stands for."""
    if kind.SHAPE is Shape.FUN:
        for dot, payload in store.items():
            yield {dot: payload}, dot, kind.extent(payload)
    elif kind.SHAPE is Shape.MAP:
        for key, leaf in store.items():
            for dot, payload in leaf.items():
                yield {key: {dot: payload}}, dot, 1
    else:
        for field, child in store.items():
            for part, dot, extent in parts(kind_named(field[0]), child):
                yield {field: part}, dot, extent
