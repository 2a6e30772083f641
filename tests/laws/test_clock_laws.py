"""Do clocks keep their laws, whatever happened before? The same laws, tried on mutants: test_clock_mutants.py."""

from collections.abc import Sequence
from typing import Any

import clock_laws as laws
from hypothesis import example, given
from hypothesis import strategies as st

from aegis_replication.vector_clock import DottedVersionVectorSet, VectorClock


@given(three=st.tuples(laws.clocks, laws.clocks, laws.clocks) | st.tuples(laws.vectors, laws.vectors, laws.vectors))
def test_order_is_partial(three: tuple[Any, Any, Any]) -> None:
    laws.order_is_partial(*three)


@given(three=st.tuples(laws.clocks, laws.clocks, laws.clocks) | st.tuples(laws.vectors, laws.vectors, laws.vectors))
def test_merge_is_the_least_upper_bound(three: tuple[Any, Any, Any]) -> None:
    laws.merge_is_the_least_upper_bound(*three)


@given(with_zeros=laws.counts, other=laws.clocks)
def test_zeros_are_as_absent(with_zeros: dict[str, int], other: VectorClock) -> None:
    laws.zeros_are_as_absent(with_zeros, other)


@given(history=laws.histories)
def test_vector_order_is_happened_before(history: Sequence[laws.Step]) -> None:
    laws.vector_order_is_happened_before(history)


@given(one=laws.dots, other=laws.dots)
def test_version_vectors_are_sets_of_dots(one: set[tuple[str, int]], other: set[tuple[str, int]]) -> None:
    laws.vectors_are_sets_of_dots(one, other)


@given(history=laws.histories)
def test_siblings_are_exact(history: Sequence[laws.Step]) -> None:
    laws.siblings_are_exact(history)


@given(history=laws.histories)
def test_tree_order_is_happened_before(history: Sequence[laws.Step]) -> None:
    laws.tree_order_is_happened_before(history)


@given(history=laws.histories)
def test_join_undoes_fork(history: Sequence[laws.Step]) -> None:
    laws.join_undoes_fork(history)


@given(steps=laws.walls)
def test_hybrid_stamps_rise_within_the_bound(steps: Sequence[laws.Step]) -> None:
    laws.hybrid_stamps_rise_within_the_bound(steps)


@given(steps=laws.histories)
def test_lamport_stamps_rise(steps: Sequence[laws.Step]) -> None:
    laws.lamport_stamps_rise(steps)


@given(clock=laws.everything)
def test_clocks_read_back(clock: Any) -> None:
    laws.reads_back(clock)


@given(clock=laws.everything, at=st.integers(0, 500), bit=st.integers(0, 7))
@example(clock=DottedVersionVectorSet({"00¡": (128, ({"": None},))}), at=36, bit=6)  # text as a key becomes a number
def test_a_changed_byte_is_a_typed_error_or_another_clock(clock: Any, at: int, bit: int) -> None:
    laws.a_changed_byte_is_a_typed_error_or_another_clock(clock, at, bit)
