"""Do all eight placements keep the laws of placement, whatever their nodes and keys?"""

import placement_laws as laws
import pytest
from hypothesis import given
from hypothesis import strategies as st
from placement_laws import MAKERS, MINIMAL, NAMES, ORDERED, WEIGHTED

from aegis_replication.hash import Node

EVERY = sorted(MAKERS)
EXACT = ["ring", "ketama", "maglev", "bounded_load"]


@pytest.mark.parametrize("algorithm", EVERY)
@given(case=st.data())
def test_a_batch_is_its_single_lookups(algorithm: str, case: st.DataObject) -> None:
    nodes = case.draw(laws.node_lists(weighted=algorithm in WEIGHTED))
    laws.a_batch_is_its_single_lookups(MAKERS[algorithm], nodes, case.draw(laws.keys))


@pytest.mark.parametrize("algorithm", sorted(set(EVERY) - ORDERED))
@given(case=st.data())
def test_the_order_of_additions_does_not_matter(algorithm: str, case: st.DataObject) -> None:
    nodes = case.draw(laws.node_lists(weighted=algorithm in WEIGHTED))
    laws.the_order_of_additions_does_not_matter(MAKERS[algorithm], nodes, case.draw(laws.keys))


@pytest.mark.parametrize("algorithm", sorted(MINIMAL))
@given(case=st.data())
def test_only_the_newcomer_gains(algorithm: str, case: st.DataObject) -> None:
    nodes = case.draw(laws.node_lists(least=2, weighted=algorithm in WEIGHTED))
    laws.only_the_newcomer_gains(MAKERS[algorithm], nodes, case.draw(laws.keys))


@pytest.mark.parametrize("algorithm", sorted({*MINIMAL, "bounded_load"}))
@given(case=st.data())
def test_only_the_leaver_loses(algorithm: str, case: st.DataObject) -> None:
    nodes = case.draw(laws.node_lists(least=2, weighted=algorithm in WEIGHTED))
    leaver = nodes[-1] if algorithm == "jump" else case.draw(st.sampled_from(nodes))
    laws.only_the_leaver_loses(MAKERS[algorithm], nodes, leaver.id, case.draw(laws.keys))


@pytest.mark.parametrize("algorithm", sorted({*MINIMAL, "maglev", "ketama"}))
@given(case=st.data())
def test_coming_back_undoes_leaving(algorithm: str, case: st.DataObject) -> None:
    nodes = case.draw(laws.node_lists(least=2, weighted=algorithm in WEIGHTED))
    leaver = nodes[-1] if algorithm == "jump" else case.draw(st.sampled_from(nodes))
    laws.coming_back_undoes_leaving(MAKERS[algorithm], nodes, leaver, case.draw(laws.keys))


@pytest.mark.parametrize("algorithm", EVERY)
@given(case=st.data(), n=st.integers(1, 10))
def test_replicas_are_distinct_and_begin_with_the_primary(algorithm: str, case: st.DataObject, n: int) -> None:
    nodes = case.draw(laws.node_lists(weighted=algorithm in WEIGHTED))
    laws.replicas_are_distinct_and_begin_with_the_primary(MAKERS[algorithm], nodes, case.draw(laws.keys), n)


@pytest.mark.parametrize("algorithm", ["ring", "rendezvous"])
@given(case=st.data())
def test_the_backup_takes_over(algorithm: str, case: st.DataObject) -> None:
    nodes = case.draw(laws.node_lists(least=2, weighted=True))
    laws.the_backup_takes_over(MAKERS[algorithm], nodes, case.draw(laws.keys))


@pytest.mark.parametrize("algorithm", EVERY)
@given(case=st.data(), n=st.integers(1, 8))
def test_replicas_spread_as_far_as_they_can(algorithm: str, case: st.DataObject, n: int) -> None:
    nodes = case.draw(laws.node_lists())
    laws.replicas_spread_as_far_as_they_can(MAKERS[algorithm], nodes, case.draw(laws.keys), n)


@pytest.mark.parametrize("algorithm", EVERY)
@given(case=st.data())
def test_bytes_bring_it_back(algorithm: str, case: st.DataObject) -> None:
    nodes = case.draw(laws.node_lists(weighted=algorithm in WEIGHTED))
    leaver = case.draw(st.sampled_from([None, *(node.id for node in nodes)]))
    laws.bytes_bring_it_back(MAKERS[algorithm], nodes, leaver, case.draw(laws.keys))


@pytest.mark.parametrize("algorithm", EXACT)
@given(case=st.data())
def test_a_plan_covers_every_move(algorithm: str, case: st.DataObject) -> None:
    before, after = case.draw(laws.node_lists(weighted=True)), case.draw(laws.node_lists(weighted=True))
    laws.a_plan_covers_every_move(MAKERS[algorithm], before, after, case.draw(laws.keys))


@pytest.mark.parametrize("algorithm", EVERY)
@given(case=st.data())
def test_shares_add_up(algorithm: str, case: st.DataObject) -> None:
    laws.shares_add_up(MAKERS[algorithm], case.draw(laws.node_lists(weighted=algorithm in WEIGHTED)))


@given(steps=laws.changes)
def test_no_node_is_above_its_cap(steps: list[tuple[str, str, float]]) -> None:
    laws.no_node_is_above_its_cap(MAKERS["bounded_load"], steps)


@given(id=st.sampled_from(NAMES[2:]), factor=st.sampled_from([1.5, 2.0, 4.0]), looked_up=laws.keys)
def test_a_heavier_node_only_gains(id: str, factor: float, looked_up: list[str | bytes]) -> None:
    for algorithm in ("ring", "rendezvous"):
        placement = MAKERS[algorithm]([Node(name) for name in NAMES])
        old = placement.get_many(looked_up)

        placement.set_weight(id, factor)

        assert all(now in (was, id) for was, now in zip(old, placement.get_many(looked_up)))
