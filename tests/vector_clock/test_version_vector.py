"""Does a version vector claim exactly the dots it saw?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_replication.errors import InvalidArgument, UndecodableBytes
from aegis_replication.vector_clock import Ordering, VersionVector

dots = st.sets(st.tuples(st.sampled_from("abc"), st.integers(1, 12)), max_size=20)


def vector(of: set[tuple[str, int]]) -> VersionVector:
    result = VersionVector()
    for dot in of:
        result.add(dot)
    return result


@given(one=dots, other=dots)
def test_each_operation_is_the_operation_on_sets(one: set[tuple[str, int]], other: set[tuple[str, int]]) -> None:
    left, right = vector(one), vector(other)

    assert list(left.dots()) == sorted(one)
    assert len(left) == len(one)
    assert set(left.copy().merge(right).dots()) == one | other
    assert set(left.minus(right).dots()) == one - other
    assert set(left.missing(right).dots()) == other - one
    assert set(left.meet(right).dots()) == one & other
    assert set(left.without(other).dots()) == one - other
    assert left.covers(right) == (one >= other) == (right <= left)
    assert (left > right) == (one > other)
    assert (left == right) == (one == other)
    assert all((dot in left) == (dot in one) for dot in one | other)


@given(found=dots)
def test_equal_sets_are_equal_vectors_bytes_and_json(found: set[tuple[str, int]]) -> None:
    forward, backward = VersionVector.of(sorted(found)), VersionVector.of(sorted(found, reverse=True))

    assert forward == backward
    assert forward.to_bytes() == backward.to_bytes()
    assert hash(forward) == hash(backward)
    assert VersionVector.from_bytes(forward.to_bytes()) == forward
    assert VersionVector.from_json(forward.to_json()) == forward


@given(found=dots)
def test_renaming_renames_each_dot(found: set[tuple[str, int]]) -> None:
    seen = VersionVector.of(found)

    seen.rename("a", "b", 20)

    assert set(seen.dots()) == {("b", number + 20) if actor == "a" else (actor, number) for actor, number in found}


def test_gaps_are_exceptions_until_they_are_filled() -> None:
    seen = VersionVector({"a": 2})

    seen.add(("a", 5))
    seen.add(("a", 7))
    before = (seen.exceptions(), seen.missing_ranges(), seen.prefix("a"), seen.highest("a"), seen.gap_count)
    seen.add_run("a", 3, 6)

    assert before == ([("a", 3), ("a", 4), ("a", 6)], {"a": [(3, 4), (6, 6)]}, 2, 7, 2)
    assert seen == VersionVector({"a": 7})
    assert seen.gap_count == 0


def test_two_events_of_one_actor_are_two_dots() -> None:
    """A known bug elsewhere: two events before a sync gave the same dot."""
    seen = VersionVector()

    dots = [seen.event("a"), seen.event("a")]

    assert dots == [("a", 1), ("a", 2)]


def test_merging_never_claims_an_unseen_dot() -> None:
    """A known bug elsewhere: taking the maximum of dots claimed all below."""
    one, other = VersionVector({"a": 1}), VersionVector(dots=[("a", 9)])

    one.sync(other)

    assert ("a", 9) in one
    assert ("a", 5) not in one
    assert one.to_clock().to_dict() == {"a": 1}
    assert one.event("a") == ("a", 10)


def test_compare_has_four_outcomes() -> None:
    one, other = VersionVector({"a": 2}), VersionVector(dots=[("a", 2)])

    assert one.compare(other) is Ordering.AFTER
    assert other.compare(one) is Ordering.BEFORE
    assert one.compare(one.copy()) is Ordering.EQUAL
    assert one.compare(VersionVector({"b": 1})) is Ordering.CONCURRENT


@pytest.mark.parametrize("run", [("", 1, 1), ("a", 0, 1), ("a", 3, 2), ("a", 1, 2**63), ("a", True, 2)])
def test_a_run_out_of_range_is_refused(run: tuple[str, int, int]) -> None:
    with pytest.raises(InvalidArgument):
        VersionVector().add_run(*run)


@pytest.mark.parametrize("text", ['[["a",[1]]]', '[["a",[]]]', '[["a",[2,1]]]', '{"a":1}', "[", '[["a",[1,"2"]]]'])
def test_json_of_anything_else_is_one_typed_error(text: str) -> None:
    with pytest.raises(UndecodableBytes):
        VersionVector.from_json(text)


def test_a_vector_that_is_a_key_cannot_change() -> None:
    seen = VersionVector({"a": 1})
    hash(seen)

    with pytest.raises(InvalidArgument, match="change a copy"):
        seen.event("a")
