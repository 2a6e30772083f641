"""Do replicas spread, and do plans, statistics and explanations say what is so?"""

from collections import Counter
from typing import Any

import pytest

from aegis_replication.errors import (
    InvalidCount,
    SpreadNotMet,
)
from aegis_replication.hash import (
    ALGORITHMS,
    BoundedLoad,
    HashRing,
    MaglevHash,
    Node,
    RendezvousHash,
)

EVERY = sorted(ALGORITHMS)
KEYS = [f"user:{index}" for index in range(2_000)]


def placement(algorithm: str, *nodes: Any) -> Any:
    made: Any = ALGORITHMS[algorithm]
    return made(nodes=nodes or ("n1", "n2", "n3"))


# --- replicas -------------------------------------------------------------------------------------------------------


def zoned() -> HashRing:
    ring = HashRing()
    for index in range(9):
        ring.add_node(f"n{index}", labels={"zone": "abc"[index % 3], "host": f"h{index % 3}{index // 6}"})
    return ring


def test_replicas_lie_in_as_many_zones_as_there_are() -> None:
    ring = zoned()
    zone_of = {node.id: node.labels["zone"] for node in ring.nodes}

    for key in KEYS[:200]:
        three, five = ring.get_nodes(key, 3, ("zone",)), ring.get_nodes(key, 5, ("zone", "host"))

        assert {zone_of[id] for id in three} == {"a", "b", "c"}
        assert three.unmet == ()
        assert sorted(Counter(zone_of[id] for id in five).values()) == [1, 2, 2]
        assert [unmet.label for unmet in five.unmet] == ["zone"]
        assert str(five.unmet[0]).startswith("wanted 5 distinct values of 'zone', found 3")


def test_strict_replicas_are_all_or_nothing() -> None:
    ring = zoned()

    with pytest.raises(SpreadNotMet, match="'zone'") as caught:
        ring.get_nodes("k", 4, ("zone",), strict=True)
    with pytest.raises(SpreadNotMet, match="'node'"):
        ring.get_nodes("k", 10, strict=True)

    assert caught.value.unmet[0].found == 3
    assert len(ring.get_nodes("k", 3, ("zone",), strict=True)) == 3


def test_nodes_without_a_label_never_pass_for_a_spread() -> None:
    ring = HashRing(nodes=["n1", "n2", "n3"])

    replicas = ring.get_nodes("k", 2, ("zone",))

    assert len(replicas) == 2
    assert [(unmet.label, unmet.found) for unmet in replicas.unmet] == [("zone", 1)]


def test_one_spread_label_may_stand_alone() -> None:
    assert zoned().get_nodes("k", 3, "zone") == zoned().get_nodes("k", 3, ("zone",))


# --- plans, statistics, explanations --------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", EVERY)
def test_plan_says_what_really_moves(algorithm: str) -> None:
    before = placement(algorithm, *(f"n{index}" for index in range(5)))
    after = before.copy()
    after.add_node("new")

    plan = before.diff(after)
    keys = [f"key-{index}" for index in range(20_000)]
    moved = Counter(pair for pair in zip(before.get_many(keys), after.get_many(keys)) if pair[0] != pair[1])

    assert plan.moved_fraction == pytest.approx(sum(moved.values()) / len(keys), abs=0.02)
    assert plan.ideal_fraction == pytest.approx(1 / 6)
    received = sum(count for (_, target), count in moved.items() if target == "new")
    assert plan.received["new"] == pytest.approx(received / len(keys), abs=0.02)
    assert sum(plan.sent.values()) == pytest.approx(plan.moved_fraction)
    assert plan.moves == tuple(sorted(plan.moves, key=lambda move: -move.fraction))
    assert plan.exact == (algorithm in ("ring", "ketama", "maglev", "bounded_load"))
    assert before.diff(before).moves == ()


def test_plan_for_replicas_keeps_to_the_ideal() -> None:
    before = RendezvousHash(nodes=[Node(f"n{index}", labels={"zone": "abc"[index % 3]}) for index in range(12)])
    after = before.copy()
    after.add_node("n12", labels={"zone": "a"})

    plan = before.diff(after, replicas=3, spread=("zone",))

    # A fifth node in one of three zones takes a fifth of the third of all replicas that are there.
    assert plan.moved_fraction == pytest.approx(1 / 15, abs=0.01)
    assert set(plan.received) == {"n12"}
    assert all(move.source in {"n0", "n3", "n6", "n9"} for move in plan.moves)


def test_plan_between_algorithms_and_hash_functions_is_estimated() -> None:
    ring, other = HashRing(nodes=["n1", "n2"]), HashRing(nodes=["n1", "n2"], hash_function="blake2b_64")

    assert not ring.diff(other).exact
    assert ring.diff(other).moved_fraction == pytest.approx(0.5, abs=0.05)
    assert not ring.diff(RendezvousHash(nodes=["n1", "n2"])).exact
    assert ring.diff(MaglevHash(nodes=["n1", "n2"])).exact


@pytest.mark.parametrize("algorithm", EVERY)
def test_statistics_agree_with_counting(algorithm: str) -> None:
    made = placement(algorithm, *(f"n{index}" for index in range(5)))
    counted = Counter(made.get_many([f"key-{index}" for index in range(50_000)]))

    stats = made.stats()

    assert stats.algorithm == algorithm
    assert stats.node_count == 5
    for share in stats.shares:
        assert share.share == pytest.approx(counted[share.node] / 50_000, abs=0.02)
        assert share.expected == pytest.approx(0.2)
    assert stats.max_over_mean == pytest.approx(max(share.ratio for share in stats.shares))
    assert stats.table_bytes >= 0


@pytest.mark.parametrize("algorithm", EVERY)
def test_explanation_names_the_node_and_how_it_was_found(algorithm: str) -> None:
    made = placement(algorithm)

    explained = made.explain("user:123")

    assert explained.node == made.get_node("user:123")
    assert [explained.node, *explained.then] == made.get_nodes("user:123", 3)
    assert explained.position == made.key_position("user:123")
    assert str(explained).startswith(f"'user:123' is on {explained.node}\n")
    assert len(explained.steps) >= 2
    assert made.explain(b"\xff").key == "\\xff"


def test_bounded_load_tells_its_partitions_caps_and_loads() -> None:
    bounded = BoundedLoad(nodes=["n1", "n2", "n3"])

    assert bounded.partition_count == 271
    assert set(bounded.caps().values()) == {113}
    assert sum(bounded.load().values()) == 271
    assert bounded.partition_owner(bounded.partition_of("k")) == bounded.get_node("k")
    with pytest.raises(InvalidCount, match="partition"):
        bounded.partition_owner(271)


def test_copies_and_originals_change_apart() -> None:
    for algorithm in EVERY:
        one = placement(algorithm)
        other = one.copy()
        other.add_node("n4")

        assert one.node_count == 3
        assert other.node_count == 4
        assert one != other
        assert one == placement(algorithm)
        assert repr(one).endswith("(n1, n2, n3)")
