"""What must hold for every placement, whatever its nodes and keys? Each law is a function that raises if it doesn't."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from aegis_replication.errors import PlacementError
from aegis_replication.hash import (
    AnchorHash,
    BoundedLoad,
    HashRing,
    JumpHash,
    KetamaRing,
    MaglevHash,
    MultiProbeHash,
    Node,
    RendezvousHash,
    placement_from_bytes,
)

Make = Callable[[Sequence[Node]], Any]

# Small, so that thousands of examples are quick; the laws know nothing of size.
MAKERS: dict[str, Make] = {
    "ring": lambda nodes: HashRing(20, nodes=nodes),
    "ketama": lambda nodes: KetamaRing(nodes=nodes),
    "jump": lambda nodes: JumpHash(nodes=nodes),
    "rendezvous": lambda nodes: RendezvousHash(nodes=nodes),
    "maglev": lambda nodes: MaglevHash(1_009, nodes=nodes),
    "anchor": lambda nodes: AnchorHash(16, nodes=nodes),
    "multi_probe": lambda nodes: MultiProbeHash(5, nodes=nodes),
    "bounded_load": lambda nodes: BoundedLoad(29, 1.25, vnodes=10, nodes=nodes),
}
# Their order of additions is part of what they are.
ORDERED = {"jump", "anchor", "bounded_load"}
WEIGHTED = {"ring", "rendezvous", "maglev", "ketama", "bounded_load"}
# Those in which no key moves between two nodes that stay.
MINIMAL = {"ring", "rendezvous", "jump", "anchor", "multi_probe"}

NAMES = [f"node-{index}" for index in range(8)]
ZONES = ["a", "b", "c"]
keys = st.lists(st.one_of(st.text(max_size=20), st.binary(max_size=20)), min_size=1, max_size=12)
weights = st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0])


@st.composite
def node_lists(draw: st.DrawFn, *, least: int = 1, weighted: bool = False) -> list[Node]:
    ids = draw(st.lists(st.sampled_from(NAMES), min_size=least, max_size=len(NAMES), unique=True))
    return [
        Node(id, draw(weights) if weighted else 1.0, {"zone": draw(st.sampled_from(ZONES)), "host": f"h-{id[-1]}"})
        for id in ids
    ]


def a_batch_is_its_single_lookups(make: Make, nodes: Sequence[Node], looked_up: Sequence[Any]) -> None:
    placement = make(nodes)
    # Long enough for the numpy path, if there is numpy.
    many = [*looked_up, *(f"{index}" for index in range(150))]

    assert placement.get_many(many) == [placement.get_node(key) for key in many]
    assert placement.get_many(looked_up) == [placement.get_node(key) for key in looked_up]


def the_order_of_additions_does_not_matter(make: Make, nodes: Sequence[Node], looked_up: Sequence[Any]) -> None:
    one, other = make(nodes), make(list(reversed(nodes)))

    assert one.get_many(looked_up) == other.get_many(looked_up)
    assert one.to_bytes() == other.to_bytes()


def only_the_newcomer_gains(make: Make, nodes: Sequence[Node], looked_up: Sequence[Any]) -> None:
    *before, newcomer = nodes
    placement = make(before)
    old = placement.get_many(looked_up)

    placement.add_node(newcomer.id, weight=newcomer.weight, labels=newcomer.labels)

    for key, was, now in zip(looked_up, old, placement.get_many(looked_up)):
        assert now in (was, newcomer.id), f"{key!r} moved from {was} to {now} although {newcomer.id} came"


def only_the_leaver_loses(make: Make, nodes: Sequence[Node], leaver: str, looked_up: Sequence[Any]) -> None:
    placement = make(nodes)
    old = placement.get_many(looked_up)

    placement.remove_node(leaver)

    for key, was, now in zip(looked_up, old, placement.get_many(looked_up)):
        assert now != leaver
        assert was in (now, leaver), f"{key!r} moved from {was} to {now} although {leaver} left"


def coming_back_undoes_leaving(make: Make, nodes: Sequence[Node], leaver: Node, looked_up: Sequence[Any]) -> None:
    placement = make(nodes)
    old = placement.get_many(looked_up)

    placement.remove_node(leaver.id)
    placement.add_node(leaver.id, weight=leaver.weight, labels=leaver.labels)

    assert placement.get_many(looked_up) == old


def replicas_are_distinct_and_begin_with_the_primary(
    make: Make, nodes: Sequence[Node], looked_up: Sequence[Any], n: int
) -> None:
    placement = make(nodes)
    for key in looked_up:
        replicas = placement.get_nodes(key, n)

        assert replicas[0] == placement.get_node(key)
        assert len(set(replicas)) == len(replicas) == min(n, len(nodes))
        assert set(replicas) <= {node.id for node in nodes}
        assert bool(replicas.unmet) == (n > len(nodes)), "what is missing must be said, and only then"


def the_backup_takes_over(make: Make, nodes: Sequence[Node], looked_up: Sequence[Any]) -> None:
    """Where removals are minimal by construction, the second replica is the next primary."""
    placement = make(nodes)
    for key in looked_up:
        first, second = placement.get_nodes(key, 2)
        left = placement.copy()
        left.remove_node(first)

        assert left.get_node(key) == second
        assert placement.get_node(key) == first, "a copy shares nothing that changes"


def replicas_spread_as_far_as_they_can(make: Make, nodes: Sequence[Node], looked_up: Sequence[Any], n: int) -> None:
    placement = make(nodes)
    zone_of = {node.id: node.labels["zone"] for node in nodes}
    for key in looked_up:
        replicas = placement.get_nodes(key, n, ("zone", "host"))
        counts = {zone: [zone_of[id] for id in replicas].count(zone) for zone in zone_of.values()}
        sizes = {zone: list(zone_of.values()).count(zone) for zone in counts}

        assert replicas[0] == placement.get_node(key)
        assert len(set(replicas)) == len(replicas) == min(n, len(nodes))
        for count in counts.values():
            for other, other_count in counts.items():
                # A zone may hold two more than another only if the other has no node left to give.
                assert count - other_count <= 1 or other_count == sizes[other], f"{replicas} lie {counts}"
        said = {unmet.label for unmet in replicas.unmet}
        zones_used = len({zone_of[id] for id in replicas})
        assert ("zone" in said) == (zones_used < n)
        assert ("node" in said) == (len(replicas) < n)


def bytes_bring_it_back(make: Make, nodes: Sequence[Node], leaver: str | None, looked_up: Sequence[Any]) -> None:
    placement = make(nodes)
    if leaver is not None and len(nodes) > 1:
        try:
            placement.remove_node(leaver)
        except PlacementError:
            assert placement.algorithm == "jump"
    encoded = placement.to_bytes()

    twin = placement_from_bytes(encoded)

    assert type(twin).algorithm == placement.algorithm
    assert twin.to_bytes() == encoded
    assert twin.get_many(looked_up) == placement.get_many(looked_up)
    # Equal now, and equal after equal changes.
    for each in (placement, twin):
        each.add_node("one-more")
    assert twin.get_many(looked_up) == placement.get_many(looked_up)


def a_plan_covers_every_move(
    make: Make, before: Sequence[Node], after: Sequence[Node], looked_up: Sequence[Any]
) -> None:
    """Exact plans name each moved key's range, and no range of a key that stays."""
    old, new = make(before), make(after)

    plan = old.diff(new)

    assert plan.exact
    for key in looked_up:
        position = old.key_position(key)
        pairs = [
            (move.source, move.target)
            for move in plan.moves
            for part in move.ranges
            if part.start <= position < part.after
        ]
        was, now = old.get_node(key), new.get_node(key)
        assert pairs == ([] if was == now else [(was, now)])
    covered = sum(part.after - part.start for move in plan.moves for part in move.ranges)
    assert abs(covered / (1 << old.position_bits) - plan.moved_fraction) < 1e-9
    # No plan can give the nodes that gain less than they gain.
    gain = {share.node: share.share for share in new.stats().shares}
    for share in old.stats().shares:
        gain[share.node] = gain.get(share.node, 0.0) - share.share
    assert plan.moved_fraction >= sum(max(0.0, each) for each in gain.values()) - 1e-9


def shares_add_up(make: Make, nodes: Sequence[Node]) -> None:
    stats = make(nodes).stats(sample_count=64)

    assert abs(sum(share.share for share in stats.shares) - 1.0) < 1e-9
    assert abs(sum(share.expected for share in stats.shares) - 1.0) < 1e-9
    assert stats.min_over_mean <= 1.0 + 1e-9
    assert stats.max_over_mean >= 1.0 - 1e-9


def no_node_is_above_its_cap(make: Make, steps: Sequence[tuple[str, str, float]]) -> None:
    placement = make([Node(NAMES[0]), Node(NAMES[1])])
    for verb, id, weight in steps:
        change(placement, verb, id, weight)
        caps = placement.caps()
        for node, load in placement.load().items():
            assert load <= caps[node], f"{node} holds {load} of {caps[node]} after {verb} {id}"
        assert sum(placement.load().values()) == placement.partition_count


def change(placement: Any, verb: str, id: str, weight: float) -> None:
    """One change, if it is possible."""
    if verb == "add" and id not in placement:
        placement.add_node(id, weight=weight)
    elif verb == "remove" and id in placement and len(placement) > 1:
        placement.remove_node(id)
    elif verb == "weigh" and id in placement:
        placement.set_weight(id, weight)


changes = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "weigh"]), st.sampled_from(NAMES), weights), min_size=1, max_size=8
)


def share_of_keys(placement: Any, key_count: int) -> Mapping[str, float]:
    """The fraction of `key_count` keys that each node has, over the fraction that its weight asks for."""
    found = placement.get_many([f"key-{index}" for index in range(key_count)])
    total = sum(node.weight for node in placement.nodes)
    return {node.id: found.count(node.id) / key_count / (node.weight / total) for node in placement.nodes}
