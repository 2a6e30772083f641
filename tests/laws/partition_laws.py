"""What must hold for every partition key and strategy? Each law is a function that raises if it doesn't."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from aegis_replication.errors import CorruptPartitioning, IncompatibleVersion
from aegis_replication.partition import (
    PartitionKey,
    PartitionMap,
    PartitionRange,
    RangeStrategy,
    Strategy,
    strategy_from_bytes,
)

# Few letters and zero bytes: prefixes and escapes are where encodings go wrong.
texts = st.text(alphabet="\x00\x01aé😀\U0010ffff", max_size=5)
raw = st.binary(max_size=5) | st.lists(st.sampled_from([0, 1, 254, 255]), max_size=5).map(bytes)
numbers = (
    st.integers(-300, 300)
    | st.integers(-(1 << 72), 1 << 72)
    | st.builds(lambda power, by: (1 << power) + by, st.integers(0, 90), st.integers(-1, 1))
    | st.builds(lambda power, by: by - (1 << power), st.integers(0, 90), st.integers(-1, 1))
)
times = st.datetimes(timezones=st.sampled_from([UTC])) | st.datetimes(
    min_value=datetime(1960, 1, 1), max_value=datetime(1980, 1, 1), timezones=st.just(UTC)
)
scalars = texts | raw | numbers | st.uuids() | times
values = st.recursive(scalars, lambda inner: st.lists(inner, min_size=1, max_size=3).map(tuple), max_leaves=5)

_KINDS: list[type] = [bytes, str, tuple, int, UUID, datetime]


def kind_of(value: Any) -> int:
    return next(index for index, kind in enumerate(_KINDS) if isinstance(value, kind))


def compare(left: Any, right: Any) -> int:
    """The slow, obvious order of key values: by kind, then as Python orders them."""
    left_kind, right_kind = kind_of(left), kind_of(right)
    if left_kind != right_kind:
        return -1 if left_kind < right_kind else 1
    if isinstance(left, tuple):
        for one, other in zip(left, right):
            if result := compare(one, other):
                return result
        return len(left) - len(right)
    if isinstance(left, UUID):
        left, right = left.bytes, right.bytes
    return (left > right) - (left < right)


def bytes_sort_as_values_do(first: Any, second: Any) -> None:
    one, other = PartitionKey(first), PartitionKey(second)
    expected = compare(first, second)

    assert ((one.encoded > other.encoded) - (one.encoded < other.encoded)) == (expected > 0) - (expected < 0)
    assert (one < other, one == other, one > other) == (expected < 0, expected == 0, expected > 0)
    assert expected != 0 or hash(one) == hash(other)


def bytes_read_back(value: Any) -> None:
    key = PartitionKey(value)

    assert PartitionKey.from_bytes(key.to_bytes()) == key
    assert compare(PartitionKey.from_bytes(key.to_bytes()).value, value) == 0


def a_prefix_range_is_exact(key: tuple[Any, ...], prefix: tuple[Any, ...]) -> None:
    """Even for ("a",) and ("a\\0",), whose bytes begin alike."""
    (part,) = RangeStrategy("id").scan_prefix(*prefix)
    begins = len(key) >= len(prefix) and compare(key[: len(prefix)], prefix) == 0

    assert part.contains(PartitionKey(key)) == begins, f"{key!r} and the prefix {prefix!r}"


def every_key_has_one_range(strategy: Strategy, keys: Sequence[Any], cuts: Sequence[Any]) -> None:
    parts = split_at(PartitionMap(strategy), cuts)
    for key in keys:
        token = strategy.token(key)
        holders = [index for index, part in enumerate(parts.ranges) if part.contains(token)]

        assert holders == [parts.partition_for_key(key)]
        assert token == strategy.token(PartitionKey(key))
    assert parts.ranges[0].start == b""
    assert parts.ranges[-1].end is None
    assert sum(part.size for part in parts.ranges) == 1 << 64


def split_at(parts: PartitionMap, cuts: Sequence[Any]) -> PartitionMap:
    for cut in cuts:
        token = parts.strategy.token(cut)
        if all(part.start != token for part in parts.ranges):
            parts = parts.split(parts.partition_of_token(token), token)
    return parts


def splitting_moves_only_its_own_keys(strategy: Strategy, keys: Sequence[Any], cut: Any) -> None:
    before = PartitionMap(strategy)
    after = split_at(before, [cut])
    grown = len(after) - len(before)
    index = before.partition_for_key(cut)
    for key in keys:
        was, now = before.partition_for_key(key), after.partition_for_key(key)
        assert now == was if was < index else now in (was, was + grown)
    if grown:
        assert after.merge(index).ranges == before.ranges


def a_scan_misses_nothing(
    strategy: Strategy, keys: Sequence[Any], low: Any, high: Any, inclusive: tuple[bool, bool], cuts: Sequence[Any]
) -> None:
    parts = split_at(PartitionMap(strategy), cuts)
    ranges = strategy.scan(low, high, low_inclusive=inclusive[0], high_inclusive=inclusive[1])
    asked = parts.partitions_for_scan(low, high, low_inclusive=inclusive[0], high_inclusive=inclusive[1])
    for key in keys:
        below = low is not None and (compare(key, low) < 0 or (compare(key, low) == 0 and not inclusive[0]))
        above = high is not None and (compare(key, high) > 0 or (compare(key, high) == 0 and not inclusive[1]))
        if not below and not above:
            token = strategy.token(key)
            assert any(part.contains(token) for part in ranges), f"{key!r} is in the scan and in none of its ranges"
            assert parts.partition_for_key(key) in asked
    assert list(ranges) == sorted(ranges, key=lambda part: part.start)
    assert asked == sorted(set(asked))


def a_prefix_scan_misses_nothing(strategy: Strategy, keys: Sequence[tuple[Any, ...]], prefix: tuple[Any, ...]) -> None:
    parts = PartitionMap(strategy)
    ranges = strategy.scan_prefix(*prefix)
    asked = parts.partitions_for_prefix(*prefix)
    for key in keys:
        if len(key) >= len(prefix) and compare(key[: len(prefix)], prefix) == 0:
            assert any(part.contains(strategy.token(key)) for part in ranges)
            assert parts.partition_for_key(key) in asked


def pieces_make_up_the_whole(part: PartitionRange, count: int) -> None:
    pieces = part.split(count)
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = whole.merge(piece)

    assert len(pieces) == count
    assert whole == part
    assert all(left.end == right.start for left, right in pairwise(pieces))


def a_bucket_holds_its_times(strategy: Any, time: datetime) -> None:
    bucket = strategy.bucket_of(time)

    assert bucket.start <= time
    assert bucket.end is None or time < bucket.end
    assert strategy.bucket_range(bucket.number).contains(strategy.token(time))
    if bucket.end is not None:
        assert strategy.bucket_of(bucket.end).number == bucket.number + 1
        assert strategy.bucket_of(bucket.end - timedelta(microseconds=1)).number == bucket.number
    assert strategy.bucket_of(bucket.start).number == bucket.number


def partitionings_read_back(strategy: Strategy, keys: Sequence[Any], cuts: Sequence[Any]) -> None:
    """To an equal one with equal bytes, which gives every key the token and the range that it had."""
    again = strategy_from_bytes(strategy.to_bytes())
    parts = split_at(PartitionMap(strategy), cuts)
    parts_again = PartitionMap.from_bytes(parts.to_bytes())

    assert again == strategy == strategy_from_bytes(parts.to_bytes())
    assert again.to_bytes() == strategy.to_bytes()
    assert again.initial_ranges == strategy.initial_ranges
    assert parts_again == parts
    assert parts_again.to_bytes() == parts.to_bytes()
    for key in keys:
        assert again.token(key) == strategy.token(key), f"{key!r} has another token after the way through bytes"
        assert parts_again.partition_for_key(key) == parts.partition_for_key(key)


def damage_is_a_typed_error(strategy: Strategy, cuts: Sequence[Any], at: int, bit: int) -> None:
    for encoded, read in (
        (strategy.to_bytes(), strategy_from_bytes),
        (split_at(PartitionMap(strategy), cuts).to_bytes(), PartitionMap.from_bytes),
    ):
        damaged = bytearray(encoded)
        damaged[at % len(damaged)] ^= 1 << bit
        refused = 0
        for wrong in (bytes(damaged), encoded[: at % len(encoded)]):
            try:
                read(wrong)
            except (CorruptPartitioning, IncompatibleVersion):
                refused += 1
        assert refused == 2, f"bit {bit} of byte {at % len(damaged)} of {len(damaged)} was not noticed"
