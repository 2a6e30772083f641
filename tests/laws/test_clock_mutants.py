"""Does each law of clocks notice when the step it guards is left out?"""

from collections.abc import Callable
from random import Random
from typing import Any, TypeAlias

import clock_laws as laws
import pytest
from hypothesis import Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from aegis_replication.errors import AegisError
from aegis_replication.vector_clock import (
    HybridLogicalClock,
    HybridTimestamp,
    IntervalTreeClock,
    LamportClock,
    VectorClock,
    VersionVector,
    dotted,
    interval_tree,
)

Entry: TypeAlias = tuple[int, tuple[Any, ...]]

# Any counterexample will do, so none is shrunk.
SEARCH = settings(max_examples=400, database=None, deadline=None, phases=[Phase.generate])
three_clocks = st.tuples(laws.clocks, laws.clocks, laws.clocks)
two_sets = st.tuples(laws.dots, laws.dots)
history = st.tuples(laws.histories)
walls = st.tuples(laws.walls)


def breaks(law: Callable[..., None], arguments: st.SearchStrategy[Any]) -> bool:
    """Whether some example makes the law fail."""

    def fails(example: tuple[Any, ...]) -> bool:
        try:
            law(*example)
        except (AssertionError, AegisError):
            return True
        return False

    try:
        find(arguments, fails, settings=SEARCH, random=Random(1))
    except NoSuchExample:
        return False
    return True


def test_without_a_mutant_the_same_search_finds_nothing() -> None:
    assert not breaks(laws.merge_is_the_least_upper_bound, three_clocks)
    assert not breaks(laws.vectors_are_sets_of_dots, two_sets)
    assert not breaks(laws.siblings_are_exact, history)
    assert not breaks(laws.tree_order_is_happened_before, history)
    assert not breaks(laws.hybrid_stamps_rise_within_the_bound, walls)


def test_a_merge_must_keep_the_higher_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def merge(self: VectorClock, other: VectorClock) -> VectorClock:
        self._counts.update(other._counts)
        return self

    monkeypatch.setattr(VectorClock, "merge", merge)

    assert breaks(laws.merge_is_the_least_upper_bound, three_clocks)
    assert breaks(laws.vector_order_is_happened_before, history)


def test_a_receive_must_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VectorClock, "merge", lambda self, other: self)

    assert breaks(laws.vector_order_is_happened_before, history)


def test_zeros_must_be_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(self: VectorClock, node: str, count: int) -> None:
        self._counts[node] = count

    monkeypatch.setattr(VectorClock, "set", keep)

    assert breaks(laws.zeros_are_as_absent, st.tuples(laws.counts, laws.clocks))


def test_dots_must_not_be_their_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(self: VersionVector, actor: str, found: list[tuple[int, int]]) -> None:
        self._prefix[actor] = max((last for _, last in found), default=0)

    monkeypatch.setattr(VersionVector, "_replace", replace)

    assert breaks(laws.vectors_are_sets_of_dots, two_sets)


def test_a_sync_must_drop_what_one_side_has_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dotted, "_merged", lambda one, other: max(one, other, key=lambda entry: entry[0]))

    assert breaks(laws.siblings_are_exact, history)


def test_a_sync_must_keep_what_one_side_never_knew(monkeypatch: pytest.MonkeyPatch) -> None:
    def merged(one: Entry, other: Entry) -> Entry:
        """Takes a lower count for older values, as version vectors with servers' names do."""
        return max(one, other, key=lambda entry: (entry[0], -len(entry[1])))

    monkeypatch.setattr(dotted, "_merged", merged)

    assert breaks(laws.siblings_are_exact, history)


def test_a_tree_must_be_compared_from_its_base(monkeypatch: pytest.MonkeyPatch) -> None:
    right = interval_tree._leq
    monkeypatch.setattr(interval_tree, "_leq", lambda one, one_base, other, base: right(one, 0, other, 0))

    assert breaks(laws.tree_order_is_happened_before, history)


def test_a_fork_must_share_what_it_owned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IntervalTreeClock, "fork", lambda self: (self, self))

    assert breaks(laws.tree_order_is_happened_before, history)
    assert breaks(laws.join_undoes_fork, history)


def test_an_event_must_not_fill_what_others_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interval_tree, "_fill", lambda identity, events: interval_tree._highest(events))

    assert breaks(laws.tree_order_is_happened_before, history)


def test_a_full_counter_must_not_start_anew_in_its_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    advance = HybridLogicalClock._advance

    def advancing(self: HybridLogicalClock, now_ms: int, remote_ms: int, *rest: Any) -> HybridTimestamp:
        latest_ms = max(now_ms, self.read().physical_ms, remote_ms)
        stamp = advance(self, now_ms, remote_ms, *rest)
        if stamp.physical_ms > latest_ms:
            self._physical_ms = latest_ms
        return self.read()

    monkeypatch.setattr(HybridLogicalClock, "_advance", advancing)

    assert breaks(laws.hybrid_stamps_rise_within_the_bound, walls)


def test_a_restarted_clock_must_stand_above_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(node: str, kept: dict[str, int]) -> HybridLogicalClock:
        clock = resumed(node, kept)
        clock._physical_ms, clock._logical = 0, 0
        return clock

    resumed = laws.hybrid
    monkeypatch.setattr(laws, "hybrid", forgetful)

    assert breaks(laws.hybrid_stamps_rise_within_the_bound, walls)


def test_a_stamp_must_wait_for_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(node: str, kept: dict[str, int]) -> HybridLogicalClock:
        clock = resumed(node, kept)
        clock._persist = lambda bound_ms: None
        return clock

    resumed = laws.hybrid
    monkeypatch.setattr(laws, "hybrid", late)

    assert breaks(laws.hybrid_stamps_rise_within_the_bound, walls)


def test_a_stamp_beyond_the_bound_must_not_be_absorbed(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(node: str, kept: dict[str, int]) -> HybridLogicalClock:
        clock = resumed(node, kept)
        clock.max_offset_ms = 10 * laws.MAX_OFFSET_MS
        return clock

    resumed = laws.hybrid
    monkeypatch.setattr(laws, "hybrid", trusting)

    assert breaks(laws.hybrid_stamps_rise_within_the_bound, walls)


def test_a_lamport_receive_must_take_the_higher_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LamportClock, "receive", lambda self, remote: self.tick())

    assert breaks(laws.lamport_stamps_rise, history)
