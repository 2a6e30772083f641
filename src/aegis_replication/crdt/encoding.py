"""How does a state look as bytes? The same for equal states, on every host; a newer version is refused."""

from typing import Any, NamedTuple

from aegis_replication.crdt.kernel import ANCHOR, CausalContext, Kind, Shape, Store, entries, is_empty, kind_named
from aegis_replication.crdt.renaming import RETIRED, Retired, read_retired
from aegis_replication.crdt.values import canonical, read_key
from aegis_replication.errors import InvalidArgument
from aegis_replication.vector_clock import VersionVector
from aegis_replication.vector_clock.codec import actor_id, count, pack, unpack

DEPTH_MAX = 64


class Parts(NamedTuple):
    """What is in the bytes of a state or a delta."""

    settings: Any  # what all replicas of one object share from the start, such as a counter's bound
    store: Store
    context: CausalContext
    stable: CausalContext  # the last cut of a garbage collection
    retired: tuple[Retired, ...] = ()  # the latest, as long as somebody may not have heard of them


def encode(kind: type[Kind], state: Parts) -> bytes:
    """[settings, actors, context, store, stable(, retired)]; dots name their actor by its place among the sorted."""
    actors = sorted(
        {actor for (actor, _), _ in entries(kind, state.store)}.union(state.context.actors, state.stable.actors)
    )
    places = {actor: place for place, actor in enumerate(actors)}
    body = [
        state.settings,
        actors,
        _context_body(state.context, places),
        _store_body(kind, state.store, places),
        _context_body(state.stable, places),
        *([state.retired] if state.retired else []),
    ]
    return pack(kind.NAME, body)


def decode(kind: type[Kind], encoded: bytes) -> Parts:
    """UndecodableBytes: not a state of this kind. IncompatibleVersion: written by a newer program."""
    return unpack(kind.NAME, encoded, lambda body: _read_body(kind, body))


def _context_body(context: CausalContext, places: dict[str, int]) -> list[list[int]]:
    return [[places[actor], *(number for run in context.runs(actor) for number in run)] for actor in context.actors]


def _store_body(kind: type[Kind], store: Store, places: dict[str, int]) -> list[Any]:
    if kind.SHAPE is Shape.FUN:
        return _leaf_body(kind, store, places)
    if kind.SHAPE is Shape.MAP:
        keys = sorted((key for key, leaf in store.items() if leaf), key=canonical)
        return [[key, _leaf_body(kind, store[key], places)] for key in keys]
    fields = []
    for field, child in store.items():
        below = kind_named(field[0])
        if not is_empty(below, child):
            fields.append((canonical(field), [*field, _store_body(below, child, places)]))
    return [body for _, body in sorted(fields, key=lambda pair: pair[0])]


def _leaf_body(kind: type[Kind], leaf: Store, places: dict[str, int]) -> list[Any]:
    body: list[Any] = []
    for actor, number in sorted(leaf):
        body += [places[actor], number, kind.plain_payload(leaf[actor, number])]
    return body


def _read_body(kind: type[Kind], body: Any) -> Parts:
    settings, actors, context, store, stable, *rest = body
    if type(actors) is not list or actors != sorted(set(actors)):
        raise InvalidArgument(f"actors {actors!r}: a sorted list of names expected")
    for actor in actors:
        if type(actor) is not str or (actor != ANCHOR[0] and not actor_id(actor)):
            raise InvalidArgument(f"actor {actor!r}: text expected")
    seen = _read_context(context, actors)
    settings, cut = kind.read_settings(settings), _read_context(stable, actors)
    retired = _read_retired(rest, cut)
    if twice := {each.actor for each in retired}.intersection(actors):
        raise InvalidArgument(f"retired actors {sorted(twice)} still have dots of their own")
    return Parts(settings, _read_store(kind, store, actors, seen, DEPTH_MAX), seen, cut, retired)


def _read_retired(rest: list[Any], stable: CausalContext) -> tuple[Retired, ...]:
    if not rest:
        return ()
    (plain,) = rest
    retired = read_retired(plain)
    if not retired or retired[-1].after != stable.highest(RETIRED):
        raise InvalidArgument(f"retirements {plain!r} don't lead to the cut {stable!r}")
    return retired


def _read_context(body: Any, actors: list[str]) -> CausalContext:
    context = VersionVector()
    for place, *flat in body:
        if not flat or len(flat) % 2:
            raise InvalidArgument(f"runs {flat!r}: pairs of first and last expected")
        for first, last in zip(flat[::2], flat[1::2]):
            context.add_run(actors[count(place)], first, last)
    return context


def _read_store(kind: type[Kind], body: Any, actors: list[str], seen: CausalContext, depth: int) -> Store:
    if kind.SHAPE is Shape.FUN:
        return _read_leaf(kind, body, actors, seen)
    store: Store = {}
    if kind.SHAPE is Shape.MAP:
        for plain_key, leaf in body:
            store[read_key(plain_key)] = _read_leaf(kind, leaf, actors, seen)
        return store
    if not depth:
        raise InvalidArgument(f"maps nested more than {DEPTH_MAX} deep")
    for name, plain_key, child in body:
        below = kind_named(name)
        if not below.IS_RESETTABLE:
            raise InvalidArgument(f"a {name} can't stand in a map")
        store[name, read_key(plain_key)] = _read_store(below, child, actors, seen, depth - 1)
    return store


def _read_leaf(kind: type[Kind], body: Any, actors: list[str], seen: CausalContext) -> Store:
    leaf: Store = {}
    if type(body) is not list or len(body) % 3:
        raise InvalidArgument("dots come as triples of actor, number and payload")
    for place, number, plain in zip(body[::3], body[1::3], body[2::3]):
        dot = (actors[count(place)], count(number, least=1))
        payload = kind.read_payload(plain)
        # A dot outside its context would be taken for unseen at every join, and could never be removed.
        if dot != ANCHOR and (dot not in seen or (dot[0], number + kind.extent(payload) - 1) not in seen):
            raise InvalidArgument(f"dot {dot} is not in the context")
        leaf[dot] = payload
    return leaf
