"""Does each law notice when the step it guards is left out? One mutant per step, run against the very same laws."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

import placement_laws as laws
import pytest
from hypothesis import find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from placement_laws import MAKERS

from aegis_replication.hash import (
    AnchorHash,
    BoundedLoad,
    HashFunction,
    HashRing,
    MaglevHash,
    Node,
    RendezvousHash,
    base,
    maglev,
    plan,
    ring,
    spread,
)
from aegis_replication.hash.anchor import Anchor
from aegis_replication.hash.functions import mix
from aegis_replication.hash.maglev import MaglevTable
from aegis_replication.hash.ring import RingView

Keys = Sequence[Any]
EXAMPLES = 400

# So few positions that virtual nodes collide.
CROWDED = HashFunction("crowded", lambda key: mix(sum(key) + 257 * len(key), 7) >> 58)


def breaks(law: Callable[..., None], arguments: st.SearchStrategy[tuple[Any, ...]]) -> bool:
    """Whether some example makes the law fail."""

    def fails(example: tuple[Any, ...]) -> bool:
        try:
            law(*example)
        except (AssertionError, KeyError, IndexError, ValueError):
            return True
        return False

    try:
        find(arguments, fails, settings=settings(max_examples=EXAMPLES, database=None, deadline=None), random=Random(1))
    except NoSuchExample:
        return False
    return True


def nodes_and_keys(make: laws.Make, *, least: int = 2, weighted: bool = False) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(make), laws.node_lists(least=least, weighted=weighted), laws.keys)


# --- ring -----------------------------------------------------------------------------------------------------------


class LastPointWins(HashRing):
    """Keeps the points in a dict, so that a collision silently replaces another node's point."""

    def _points_of(self, nodes: Mapping[str, Node]) -> Iterator[tuple[int, str, int]]:
        by_position = {point[0]: point for point in super()._points_of(dict(nodes))}
        return iter(by_position.values())


def test_colliding_points_must_not_replace_each_other() -> None:
    def crowded(kind: type[HashRing]) -> laws.Make:
        return lambda nodes: kind(4, nodes=nodes, hash_function=CROWDED)

    assert breaks(laws.the_order_of_additions_does_not_matter, nodes_and_keys(crowded(LastPointWins)))
    assert not breaks(laws.the_order_of_additions_does_not_matter, nodes_and_keys(crowded(HashRing)))
    assert not breaks(laws.only_the_leaver_loses, with_leaver(crowded(HashRing)))


def with_leaver(make: laws.Make) -> st.SearchStrategy[tuple[Any, ...]]:
    return laws.node_lists(least=2).flatmap(
        lambda nodes: st.tuples(st.just(make), st.just(nodes), st.sampled_from([node.id for node in nodes]), laws.keys)
    )


def test_the_circle_must_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    def locate(self: RingView, position: int) -> str:
        index = ring.bisect_left(self.points, position)
        return self.owners[min(index, len(self.points) - 1)]

    monkeypatch.setattr(RingView, "locate", locate)
    monkeypatch.setattr(ring, "_slot_table", lambda points, owners, shift, slot_count: [""] * slot_count)

    few = lambda nodes: HashRing(1, nodes=nodes)  # noqa: E731
    assert breaks(laws.a_plan_covers_every_move, two_lists(few)) or breaks(
        lambda make, nodes, keys: laws.replicas_are_distinct_and_begin_with_the_primary(make, nodes, keys, 1),
        nodes_and_keys(few),
    )


def two_lists(make: laws.Make) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(make), laws.node_lists(), laws.node_lists(), laws.keys)


def test_slots_with_a_boundary_must_be_bisected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "_only_owner", lambda points, owners, first, slot_after: owners[first])
    monkeypatch.setattr(ring, "_SLOTS_PER_POINT", 1)

    law = lambda make, nodes, keys: laws.replicas_are_distinct_and_begin_with_the_primary(make, nodes, keys, 1)  # noqa: E731
    assert breaks(law, nodes_and_keys(MAKERS["ring"]))


class BatchWithoutBisection(HashRing):
    def get_many(self, keys: Any) -> list[str]:
        view = self._view()
        positions = [self.key_position(key) for key in keys]
        return [view.table[position >> view.shift] or view.owners[0] for position in positions]


def test_a_batch_must_bisect_too() -> None:
    make = lambda nodes: BatchWithoutBisection(20, nodes=nodes)  # noqa: E731
    assert breaks(laws.a_batch_is_its_single_lookups, nodes_and_keys(make))


class Modulo(HashRing):
    """Not consistent at all: hash % n."""

    def get_many(self, keys: Any) -> list[str]:
        ids = sorted(node.id for node in self.nodes)
        return [ids[self.key_position(key) % len(ids)] for key in keys]


def test_hash_modulo_n_moves_keys_between_nodes_that_stay() -> None:
    assert breaks(laws.only_the_newcomer_gains, nodes_and_keys(lambda nodes: Modulo(20, nodes=nodes)))


# --- the other algorithms -------------------------------------------------------------------------------------------


class WeightTimesHash(RendezvousHash):
    """The obvious way to weigh, which gives heavier nodes too much."""

    def _node_at(self, view: Any, position: int) -> str:
        weights = view.weights or [1.0] * len(view.ids)
        bids = [mix(position, seed) * weight for seed, weight in zip(view.seeds, weights)]
        return str(view.ids[bids.index(max(bids))])


def test_rendezvous_weights_must_go_through_the_logarithm() -> None:
    nodes = [Node("n1"), Node("n2"), Node("n3", 2.0)]

    exact = laws.share_of_keys(RendezvousHash(nodes=nodes), 20_000)
    mutant = laws.share_of_keys(WeightTimesHash(nodes=nodes), 20_000)

    assert all(0.96 < ratio < 1.04 for ratio in exact.values()), exact
    assert not all(0.96 < ratio < 1.04 for ratio in mutant.values()), mutant


class InOrderOfArrival(MaglevHash):
    def _build(self, snapshot: Any) -> MaglevTable:
        nodes = list(snapshot.nodes.values())
        slots = maglev._fill(nodes, [self._digest(node.id.encode()) for node in nodes], self._table_size)
        return MaglevTable(slots, len(nodes))


def test_maglev_must_fill_in_the_order_of_names() -> None:
    make = lambda nodes: InOrderOfArrival(1_009, nodes=nodes)  # noqa: E731
    assert breaks(laws.the_order_of_additions_does_not_matter, nodes_and_keys(make))


def test_anchor_must_redraw_among_those_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(self: Anchor, position: int) -> int:
        bucket = position % len(self.size_when_removed)
        if self.size_when_removed[bucket]:
            # Left out: the draw among the buckets that were in use when this one went, and the way from there.
            bucket = self.working[mix(position, bucket) % sum(map(bool, self.names))]
        return bucket

    monkeypatch.setattr(Anchor, "lookup", lookup)

    assert breaks(laws.only_the_leaver_loses, with_leaver(MAKERS["anchor"]))


class WithoutItsPast(AnchorHash):
    """Forgets in which order nodes left."""

    def _history_to_list(self, history: Any) -> list[Any]:
        return [sorted(history.buckets.items()), sorted(history.unused)]


def test_anchor_bytes_must_hold_the_order_of_removals() -> None:
    placement = WithoutItsPast(16, nodes=[f"n{index}" for index in range(8)])
    for id in ("n2", "n5", "n1"):
        placement.remove_node(id)

    twin = AnchorHash.from_bytes(placement.to_bytes())

    keys = [f"key-{index}" for index in range(200)]
    assert twin.get_many(keys) != placement.get_many(keys)
    assert AnchorHash.from_bytes(AnchorHash.to_bytes(placement)).to_bytes() == AnchorHash.to_bytes(twin)


class FromScratch(BoundedLoad):
    """Forgets the present assignment at each change."""

    def _reassigned(self, nodes: dict[str, Node], old: Sequence[str], added: set[str]) -> tuple[str, ...]:
        return super()._reassigned(nodes, (), set())


def test_bounded_load_must_start_from_what_stands() -> None:
    make = lambda nodes: FromScratch(29, 1.05, vnodes=10, nodes=nodes)  # noqa: E731
    assert breaks(laws.only_the_leaver_loses, with_leaver(make))


class Unbounded(BoundedLoad):
    """Enforces no cap, but still says what it would be."""

    def _reassigned(self, nodes: dict[str, Node], old: Sequence[str], added: set[str]) -> tuple[str, ...]:
        ring = self._ring_of(nodes)
        return tuple(next(self._preference(ring, partition)) for partition in range(self.partition_count))


def test_bounded_load_must_keep_its_caps() -> None:
    make = lambda nodes: Unbounded(29, 1.25, vnodes=10, nodes=nodes)  # noqa: E731
    assert breaks(laws.no_node_is_above_its_cap, st.tuples(st.just(make), laws.changes))


# --- replicas, plans, bytes, copies ---------------------------------------------------------------------------------


def test_replicas_must_look_at_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "_spread_out", lambda candidates, nodes, n, labels: spread._first(candidates, n))

    law = lambda make, nodes, keys: laws.replicas_spread_as_far_as_they_can(make, nodes, keys, 2)  # noqa: E731
    assert breaks(law, nodes_and_keys(MAKERS["ring"]))


def test_what_is_not_met_must_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "_unmet", lambda chosen, nodes, n, labels: ())

    law = lambda make, nodes, keys: laws.replicas_spread_as_far_as_they_can(make, nodes, keys, 4)  # noqa: E731
    assert breaks(law, nodes_and_keys(MAKERS["ring"]))


def test_a_plan_must_look_beyond_the_last_point(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = plan._exact
    monkeypatch.setattr(plan, "_exact", lambda cuts, bits: iter(list(whole(cuts, bits))[:-1]))

    assert breaks(laws.a_plan_covers_every_move, two_lists(lambda nodes: HashRing(1, nodes=nodes)))


def test_bytes_must_have_one_order_of_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base.PlacementBase, "_canonical_nodes", lambda self, nodes: nodes.values())

    assert breaks(laws.the_order_of_additions_does_not_matter, nodes_and_keys(MAKERS["ring"]))


class ChangedInPlace(HashRing):
    """Shares its nodes with copies and changes them where they are."""

    def remove_node(self, id: str) -> None:
        del self._snapshot.nodes[id]
        self._snapshot.view = None


def test_a_change_must_not_reach_copies() -> None:
    assert breaks(laws.the_backup_takes_over, nodes_and_keys(lambda nodes: ChangedInPlace(20, nodes=nodes)))


# --- the control: the real ones break nothing -----------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ring", "rendezvous", "anchor"])
def test_without_a_mutant_the_same_search_finds_nothing(algorithm: str) -> None:
    assert not breaks(laws.only_the_leaver_loses, with_leaver(MAKERS[algorithm]))
    assert not breaks(laws.a_batch_is_its_single_lookups, nodes_and_keys(MAKERS[algorithm]))
