"""Does a vector clock tell before, after, equal and concurrent, whatever zeros and order of nodes it was made with?"""

from typing import Any

import msgspec
import pytest

from aegis_replication.errors import IncompatibleVersion, InvalidArgument, UndecodableBytes, UnencodableValue
from aegis_replication.vector_clock import Ordering, VectorClock, VersionedValue


def test_increment_counts_per_node() -> None:
    clock = VectorClock()

    clock.increment("a").increment("a").increment("b", 3)

    assert clock.to_dict() == {"a": 2, "b": 3}
    assert (clock.max_value, clock.sum, clock.nodes, len(clock), clock.is_empty) == (3, 5, ["a", "b"], 2, False)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": 1}, {"a": 2}, Ordering.BEFORE),
        ({"a": 2}, {"a": 1}, Ordering.AFTER),
        ({"a": 1}, {"a": 1}, Ordering.EQUAL),
        ({"a": 1}, {"b": 1}, Ordering.CONCURRENT),
        ({}, {}, Ordering.EQUAL),
        ({}, {"a": 1}, Ordering.BEFORE),
        # A known bug elsewhere: zero entries made these Equal one way and After the other, and Concurrent.
        ({"a": 1, "b": 0}, {"a": 1, "c": 5}, Ordering.BEFORE),
        ({"a": 1, "c": 5}, {"a": 1, "b": 0}, Ordering.AFTER),
        ({"a": 1, "b": 0}, {"a": 1}, Ordering.EQUAL),
    ],
)
def test_compare_has_four_outcomes(one: dict[str, int], other: dict[str, int], expected: Ordering) -> None:
    left, right = VectorClock(one), VectorClock(other)

    assert left.compare(right) is expected
    assert (left < right, left > right, left == right) == (
        expected is Ordering.BEFORE,
        expected is Ordering.AFTER,
        expected is Ordering.EQUAL,
    )
    assert (left <= right) == (expected in (Ordering.BEFORE, Ordering.EQUAL))
    assert (left >= right) == (expected in (Ordering.AFTER, Ordering.EQUAL))
    assert left.is_concurrent_with(right) == (expected is Ordering.CONCURRENT)
    assert left.happened_before(right) == right.happened_after(left) == right.dominates(left) == (left < right)


def test_a_count_of_zero_is_no_entry() -> None:
    clock = VectorClock({"a": 1, "b": 0})

    clock.set("a", 0)

    assert clock == VectorClock()
    assert hash(VectorClock({"b": 0})) == hash(VectorClock())
    assert VectorClock({"b": 0}).to_bytes() == VectorClock().to_bytes()


def test_merge_learns_and_meet_keeps_what_both_know() -> None:
    one, other = VectorClock({"a": 3, "b": 1}), VectorClock({"b": 2, "c": 1})

    merged = one.merged(other)

    assert merged.to_dict() == {"a": 3, "b": 2, "c": 1}
    assert one.meet(other).to_dict() == {"b": 1}
    assert merged.difference(one) == {"b": (2, 2), "c": (1, 1)}
    assert one.to_dict() == {"a": 3, "b": 1}


def test_prune_forgets_only_retired_nodes_below_the_stable_cut() -> None:
    clock = VectorClock({"old": 3, "gone": 2, "here": 5})

    pruned = clock.prune(["old", "gone", "stranger"], stable=VectorClock({"old": 3, "gone": 1, "here": 5}))

    assert pruned == ["old"]
    assert clock.to_dict() == {"gone": 2, "here": 5}


def test_a_clock_that_is_a_key_cannot_change() -> None:
    clock = VectorClock({"a": 1})
    seen = {clock: "first"}

    with pytest.raises(InvalidArgument, match="change a copy"):
        clock.increment("a")
    moved = clock.copy().increment("a")

    assert seen[VectorClock({"a": 1})] == "first"
    assert moved > clock


def test_reset_and_remove_forget() -> None:
    clock = VectorClock({"a": 1, "b": 2})

    assert clock.remove("b") == 2
    assert clock.remove("b") == 0
    clock.reset()

    assert clock.is_empty


def test_bytes_and_json_round_trip_and_do_not_depend_on_the_order_of_making() -> None:
    one, other = VectorClock({"a": 1, "ü": 2}), VectorClock({"ü": 2, "a": 1})

    assert one.to_bytes() == other.to_bytes()
    assert VectorClock.from_bytes(one.to_bytes()) == one
    assert VectorClock.from_json(one.to_json()) == one
    assert one.to_json() == '{"a":1,"ü":2}'


@pytest.mark.parametrize("node", ["", None, -1, 1.5, True, "x" * 201, "\ud800"])
def test_a_node_without_a_name_is_refused(node: object) -> None:
    with pytest.raises(InvalidArgument, match="actor id"):
        VectorClock().increment(node)  # type: ignore[arg-type]


@pytest.mark.parametrize("by", [0, -1, 1.0, True, 2**63])
def test_an_increment_is_a_positive_whole_number(by: object) -> None:
    with pytest.raises(InvalidArgument, match="increment"):
        VectorClock().increment("a", by)  # type: ignore[arg-type]


def test_a_full_counter_is_refused() -> None:
    clock = VectorClock({"a": 2**63 - 1})

    with pytest.raises(InvalidArgument, match="limit"):
        clock.increment("a")


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\xff",
        b"\x01",
        VectorClock({"a": 1}).to_bytes()[:-1],
        msgspec.msgpack.encode([1, "LamportClock", []]),
        msgspec.msgpack.encode([1, "VectorClock", [["a", -1]]]),
        msgspec.msgpack.encode([1, "VectorClock", [["a"]]]),
        msgspec.msgpack.encode([1, "VectorClock", 7]),
        msgspec.msgpack.encode([True, "VectorClock", []]),
    ],
)
def test_bytes_of_anything_else_are_one_typed_error(encoded: bytes) -> None:
    with pytest.raises(UndecodableBytes):
        VectorClock.from_bytes(encoded)


def test_bytes_from_a_newer_version_are_refused_naming_both() -> None:
    newer = msgspec.msgpack.encode([2, "VectorClock", []])

    with pytest.raises(IncompatibleVersion, match="version 2, this program reads up to 1"):
        VectorClock.from_bytes(newer)


def test_a_versioned_value_is_ordered_by_its_clock_alone() -> None:
    first = VersionedValue("x", VectorClock({"a": 1}), timestamp_ms=900)
    second = VersionedValue("y", VectorClock({"a": 2}), timestamp_ms=100)
    beside = VersionedValue("z", VectorClock({"b": 1}))

    assert first.happened_before(second)
    assert second.happened_after(first)
    assert first.is_concurrent_with(beside)
    assert first.compare(second) is Ordering.BEFORE
    assert VersionedValue.from_bytes(second.to_bytes()) == second
    assert VersionedValue.from_json(second.to_json()) == second


def test_equal_versioned_values_have_equal_bytes_and_hashes() -> None:
    """However their dicts were filled; and a value without a hash doesn't stand in the way."""
    one = VersionedValue({"x": 1, "y": [2]}, VectorClock({"a": 1}))
    other = VersionedValue({"y": [2], "x": 1}, VectorClock({"a": 1}))

    assert one == other
    assert (one.to_bytes(), one.to_json(), hash(one)) == (other.to_bytes(), other.to_json(), hash(other))


@pytest.mark.parametrize(
    ("value", "path", "carriers"),
    [
        ((1, 2), "value", "bytes, JSON"),
        ({"a": [0, {3}]}, "value['a'][1]", "bytes, JSON"),
        ([float("nan")], "value[0]", "bytes, JSON"),
        ([2**64], "value[0]", "bytes, JSON"),
        (["\ud800"], "value[0]", "bytes, JSON"),
        ({(): 1}, "value", "bytes, JSON"),
        ([b"raw"], "value[0]", "JSON"),
        ([float("inf")], "value[0]", "JSON"),
        ({"a": {True: 1}}, "value['a']", "JSON"),
    ],
)
def test_a_value_that_would_come_back_changed_is_refused_by_its_path(value: Any, path: str, carriers: str) -> None:
    versioned = VersionedValue(value, VectorClock())
    refused: list[UnencodableValue] = []

    for write in (versioned.to_bytes, versioned.to_json):
        try:
            write()
        except UnencodableValue as error:
            refused.append(error)

    assert {error.path for error in refused} == {path}
    assert ", ".join(error.carrier for error in refused) == carriers


def test_nesting_is_bounded_by_a_typed_error() -> None:
    value: Any = "leaf"
    for _ in range(64):
        value = [value]

    assert VersionedValue.from_bytes(VersionedValue(value, VectorClock()).to_bytes()).value == value
    with pytest.raises(UnencodableValue, match="64 deep"):
        VersionedValue([value], VectorClock()).to_bytes()


def test_a_versioned_value_needs_a_clock_and_a_time_that_can_be_written() -> None:
    with pytest.raises(InvalidArgument, match="timestamp_ms -1"):
        VersionedValue("x", VectorClock(), timestamp_ms=-1)
    with pytest.raises(InvalidArgument, match="give a VectorClock"):
        VersionedValue("x", {"a": 1})  # type: ignore[arg-type]
