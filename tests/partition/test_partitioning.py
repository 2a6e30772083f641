"""Do strategies, ranges and maps answer as promised, and do the original's mistakes stay out?"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aegis_replication.errors import (
    InvalidBoundary,
    InvalidCount,
    NoPartition,
    UnorderableKey,
)
from aegis_replication.partition import (
    SLOT_COUNT,
    CompositeStrategy,
    HashStrategy,
    ListStrategy,
    PartitionKey,
    PartitionMap,
    PartitionRange,
    RangeStrategy,
    RoundRobinStrategy,
    SlotStrategy,
    TimeStrategy,
    hash_tag,
    slot_of,
)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


# --- strategies -----------------------------------------------------------------------------------------------------


def test_hash_strategy_is_even_stable_and_in_range() -> None:
    strategy = HashStrategy("id", 16)

    counts = Counter(strategy.partition_for_key(index) for index in range(32_000))

    assert set(counts) == set(range(16))
    assert all(1_800 <= count <= 2_200 for count in counts.values())
    assert (
        strategy.partition_for_row({"id": 7})
        == strategy.partition_for_key(7)
        == strategy.partition_for_key(PartitionKey(7))
    )
    assert len(strategy.initial_ranges) == strategy.partition_count == 16


def test_hash_ranges_and_lookups_never_disagree() -> None:
    """The original looked keys up by remainder while its shards carried ranges: 64 of 1,000 keys agreed."""
    parts = PartitionMap(HashStrategy("id", 16))

    for key in range(1_000):
        token = parts.strategy.token(key)
        assert parts.ranges[parts.partition_for_key(key)].contains(token)
        assert parts.strategy.partition_for_key(key) == parts.partition_for_key(key)


def test_range_strategy_compares_values() -> None:
    """The original compared hashes: 5 with a bound of 100 fell into partition 1."""
    strategy = RangeStrategy("id", [100, 200])

    assert [strategy.partition_for_key(key) for key in (-7, 5, 99, 100, 199, 200, 10**30)] == [0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("bounds", [[2, 1], [1, 1], [1, "2"], ["b", "a"]])
def test_bounds_must_ascend_and_be_of_one_kind(bounds: list[Any]) -> None:
    with pytest.raises(InvalidBoundary, match="bound"):
        RangeStrategy("id", bounds)


def test_list_strategy_matches_numbers_and_refuses_the_rest() -> None:
    """The original never matched numbers, and put what wasn't listed into partition 0 without a word."""
    strict = ListStrategy("n", {"odd": [1, 3], "even": [2, 4]})
    lenient = ListStrategy("n", {"odd": [1, 3], "even": [2, 4]}, default="others")

    assert [strict.partition_name(key) for key in (1, 2, 3, 4)] == ["odd", "even", "odd", "even"]
    with pytest.raises(NoPartition, match=r"5 is in none of the lists odd, even"):
        strict.partition_for_key(5)
    with pytest.raises(NoPartition):
        strict.partition_for_key("1")
    assert lenient.partition_name(5) == "others"
    assert lenient.partition_for_key(5) == 2
    assert strict.scan(5, 5, high_inclusive=True) == ()


def test_lists_must_not_contradict_each_other() -> None:
    with pytest.raises(InvalidBoundary, match="'de' is listed for both 'eu' and 'world'"):
        ListStrategy("c", {"eu": ["de"], "world": ["us", "de"]})
    with pytest.raises(InvalidBoundary, match="both"):
        ListStrategy("c", {"eu": ["de"]}, default="eu")
    with pytest.raises(NoPartition):
        ListStrategy("c", {})


def test_a_new_list_moves_no_row() -> None:
    before = ListStrategy("c", {"eu": ["de"], "am": ["us"]}, default="rest")
    after = ListStrategy("c", {"eu": ["de"], "am": ["us"], "asia": ["jp"]}, default="rest")

    assert all(before.token(key) == after.token(key) for key in ("de", "us", "xx"))
    assert before.token("jp") != after.token("jp")


def test_composite_strategy_keeps_a_customers_rows_together_and_sorted() -> None:
    strategy = CompositeStrategy("customer", "at", 16)
    keys = [("alice", at) for at in (3, -1, 20, 7)]

    tokens = sorted((strategy.token(key), key[1]) for key in keys)

    assert [at for _, at in tokens] == [-1, 3, 7, 20]
    assert len({strategy.partition_for_key(key) for key in keys}) == 1
    assert len({strategy.partition_for_key((f"customer-{index}", 1)) for index in range(200)}) == 16
    assert len(strategy.scan_prefix("alice")) == 1
    assert len(PartitionMap(strategy).partitions_for_prefix("alice")) == 1
    assert PartitionMap(strategy).partitions_for_scan(("alice", 0), ("alice", 9)) == [
        strategy.partition_for_key(keys[0])
    ]
    for wrong in ("alice", ("alice",), ("alice", 1, 2)):
        with pytest.raises(UnorderableKey, match="customer, at"):
            strategy.token(wrong)
    with pytest.raises(UnorderableKey):
        CompositeStrategy([], "at")


def test_round_robin_really_takes_turns() -> None:
    """The original's was a hash."""
    strategy = RoundRobinStrategy(4, first=1)

    turns = [strategy.next_partition() for _ in range(9)]
    tokens = [strategy.next_token(f"row-{index}") for index in range(8)]

    assert turns == [1, 2, 3, 0, 1, 2, 3, 0, 1]
    parts = PartitionMap(strategy)
    assert [parts.partition_of_token(token) for token in tokens] == [2, 3, 0, 1, 2, 3, 0, 1]
    assert len(set(tokens)) == 8
    with pytest.raises(NoPartition, match="next_token"):
        strategy.token("k")
    assert parts.partitions_for_scan("a", "b") == [0, 1, 2, 3]
    assert parts.partitions_for_scan("a", "a", high_inclusive=True) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("unit", "time", "start", "end"),
    [
        ("hour", utc(2026, 3, 1, 23, 59), utc(2026, 3, 1, 23), utc(2026, 3, 2)),
        ("day", utc(1969, 12, 31, 23), utc(1969, 12, 31), utc(1970, 1, 1)),
        ("week", utc(2024, 2, 29), utc(2024, 2, 26), utc(2024, 3, 4)),
        ("week", utc(1970, 1, 1), utc(1969, 12, 29), utc(1970, 1, 5)),
        ("month", utc(2024, 2, 29, 12), utc(2024, 2, 1), utc(2024, 3, 1)),
        ("month", utc(1900, 2, 28), utc(1900, 2, 1), utc(1900, 3, 1)),
        ("month", utc(2025, 12, 31), utc(2025, 12, 1), utc(2026, 1, 1)),
        ("year", utc(2024, 12, 31, 23, 59, 59), utc(2024, 1, 1), utc(2025, 1, 1)),
        ("year", utc(1, 6, 1), utc(1, 1, 1), utc(2, 1, 1)),
        (timedelta(minutes=15), utc(1969, 12, 31, 23, 50), utc(1969, 12, 31, 23, 45), utc(1970, 1, 1)),
    ],
)
def test_time_buckets_follow_the_calendar(unit: Any, time: datetime, start: datetime, end: datetime) -> None:
    """The original's months had 30 days and its years 365, and times before 1970 went wrong."""
    bucket = TimeStrategy("at", unit).bucket_of(time)

    assert (bucket.start, bucket.end) == (start, end)


def test_the_last_times_have_a_bucket_too() -> None:
    latest = datetime.max.replace(tzinfo=UTC)

    for unit in ("hour", "day", "week", "month", "year"):
        strategy = TimeStrategy("at", unit)
        bucket = strategy.bucket_of(latest)

        assert bucket.end is None
        assert strategy.bucket_range(bucket.number).contains(strategy.token(latest))
        with pytest.raises(InvalidCount, match="9999"):
            strategy.bucket(bucket.number + 1)
        with pytest.raises(InvalidCount, match="9999"):
            strategy.bucket(-(10**9))


@pytest.mark.parametrize("unit", [timedelta(0), timedelta(seconds=-1), "fortnight", ""])
def test_time_units_must_be_some_time(unit: Any) -> None:
    """The original's Custom(0) panicked."""
    with pytest.raises(InvalidCount):
        TimeStrategy("at", unit)


def test_time_partitions_are_cut_at_buckets() -> None:
    strategy = TimeStrategy("at", "month")
    parts = PartitionMap(strategy, strategy.ranges_between(utc(2026, 1, 15), utc(2026, 3, 2)))

    assert len(parts) == 5
    days = utc(2025, 12, 31), utc(2026, 1, 1), utc(2026, 3, 31), utc(2026, 4, 1)
    assert [parts.partition_for_key(day) for day in days] == [0, 1, 3, 4]
    assert parts.partitions_for_scan(utc(2026, 1, 20), utc(2026, 2, 1)) == [1]
    assert parts.partitions_for_scan(utc(2026, 1, 20), utc(2026, 2, 1), high_inclusive=True) == [1, 2]
    assert parts.partitions_for_scan(utc(2026, 3, 1)) == [3, 4]
    with pytest.raises(InvalidBoundary):
        strategy.ranges_between(utc(2026, 2, 1), utc(2026, 1, 1))
    with pytest.raises(InvalidBoundary, match="buckets"):
        TimeStrategy("at", timedelta(seconds=1)).ranges_between(utc(2026, 1, 1), utc(2027, 1, 1))
    with pytest.raises(UnorderableKey, match="doesn't begin with a time"):
        strategy.token("2026-01-01")


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        ("123456789", 0x31C3),
        ("foo", 12182),
        ("bar", 5061),
        ("hello", 866),
        ("{user1000}.following", 3443),
        ("{user1000}.followers", 3443),
        ("foo{}{bar}", 8363),
        ("foo{{bar}}zap", 4015),
        ("foo{bar}{zap}", 5061),
        ("", 0),
    ],
)
def test_slots_are_those_of_redis_cluster(key: str, slot: int) -> None:
    strategy = SlotStrategy("key", 16)

    assert slot_of(key) == slot_of(key.encode()) == slot
    assert strategy.slot_range(slot).contains(strategy.token(key))
    assert slot in strategy.slots_in(strategy.initial_ranges[strategy.partition_for_key(key)])


def test_slot_partitions_are_whole_slots() -> None:
    strategy = SlotStrategy("key", 3)
    parts = PartitionMap(strategy)

    assert [len(strategy.slots_in(part)) for part in parts.ranges] == [5461, 5461, 5462]
    assert hash_tag("a{b}c") == b"b"
    assert len(parts.split(0, strategy.slot_range(100).start)) == 4
    with pytest.raises(InvalidBoundary, match="cuts a slot"):
        parts.split(strategy.partition_for_key("foo"), strategy.token("foo"))
    with pytest.raises(UnorderableKey, match="no slot"):
        strategy.token(7)
    with pytest.raises(InvalidCount):
        strategy.slot_range(SLOT_COUNT)


@pytest.mark.parametrize("make", [HashStrategy, SlotStrategy, RoundRobinStrategy])
def test_no_partitions_are_refused(make: Any) -> None:
    """The original divided by zero."""
    for count in (0, -1, True, 10**9):
        with pytest.raises(InvalidCount):
            make(count) if make is RoundRobinStrategy else make("id", count)


# --- ranges and maps ------------------------------------------------------------------------------------------------


def test_ranges_may_be_given_with_either_end_inclusive() -> None:
    closed = PartitionRange.between(b"b", b"d", end_inclusive=True)
    opened = PartitionRange.between(b"b", b"d", start_inclusive=False)

    assert [closed.contains(token) for token in (b"a", b"b", b"d", b"d\x00")] == [False, True, True, False]
    assert [opened.contains(token) for token in (b"b", b"b\x00", b"d")] == [False, True, False]
    assert PartitionRange.full().contains(b"")
    assert PartitionRange.full().size == 1 << 64
    assert PartitionRange.between(None, b"b").contains(b"")
    assert PartitionRange(b"a", b"c").overlaps(PartitionRange(b"b"))
    assert not PartitionRange(b"a", b"b").overlaps(PartitionRange(b"b"))


def test_every_token_is_in_exactly_one_piece() -> None:
    """The original's split made the last end inclusive, and its top hash value was in no shard."""
    pieces = PartitionRange.full().split(4)

    assert [piece.size for piece in pieces] == [1 << 62] * 4
    for token in (b"", b"\x00", b"\x40" + bytes(7), b"\xff" * 8, b"\xff" * 40):
        assert sum(piece.contains(token) for piece in pieces) == 1
    assert PartitionRange(b"a", b"b").split(1) == (PartitionRange(b"a", b"b"),)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: PartitionRange(b"b", b"b"),
        lambda: PartitionRange(b"c", b"b"),
        lambda: PartitionRange(b"a", b"b").split_at(b"a"),
        lambda: PartitionRange(b"a", b"b").split_at(b"b"),
        lambda: PartitionRange(b"a", b"a\x00").split(2),
        lambda: PartitionRange(b"a", b"b").merge(PartitionRange(b"c", b"d")),
        lambda: PartitionRange(b"a", b"c").merge(PartitionRange(b"b", b"d")),
        lambda: PartitionMap(RangeStrategy(), []),
        lambda: PartitionMap(RangeStrategy(), [PartitionRange(b"a")]),
        lambda: PartitionMap(RangeStrategy(), [PartitionRange(b"", b"m"), PartitionRange(b"n")]),
        lambda: PartitionMap(RangeStrategy(), [PartitionRange(b"", b"m"), PartitionRange(b"l")]),
        lambda: PartitionMap(RangeStrategy(), [PartitionRange(b"", b"m"), PartitionRange(b"m", b"z")]),
        lambda: PartitionMap(RangeStrategy(), [PartitionRange(), PartitionRange(b"m")]),
        lambda: PartitionMap(RangeStrategy()).merge(0),
        lambda: PartitionMap(HashStrategy("id", 2)).split(1, b"\x01"),
    ],
)
def test_boundaries_that_cannot_be_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidBoundary):
        wrong()


def test_maps_split_and_merge_without_changing() -> None:
    parts = PartitionMap(HashStrategy("id", 4))

    split = parts.split_evenly(1)
    at_key = parts.split(parts.partition_for_key("user-1"), PartitionKey("user-1"))

    assert (len(parts), len(split), len(at_key)) == (4, 5, 5)
    assert split.merge(1).ranges == parts.ranges
    assert at_key.range_for_key("user-1").start == parts.strategy.token("user-1")
    assert repr(split) == "PartitionMap(HashStrategy, 5 ranges)"
    for wrong in (-1, 4, True):
        with pytest.raises(InvalidCount):
            parts.split_evenly(wrong)
    with pytest.raises(InvalidCount):
        parts.split_evenly(0, 1)


def test_scans_ask_only_who_may_know() -> None:
    ranged = PartitionMap(RangeStrategy("id", [10, 20, 30]))
    listed = PartitionMap(ListStrategy("c", {"eu": ["de", "fr"], "am": ["us"]}, default="rest"))
    hashed = PartitionMap(HashStrategy("id", 4))

    assert ranged.partitions_for_scan(12, 20) == [1]
    assert ranged.partitions_for_scan(12, 20, high_inclusive=True) == [1, 2]
    assert ranged.partitions_for_scan(high=5) == [0]
    assert ranged.partitions_for_scan(25) == [2, 3]
    assert ranged.partitions_for_scan(9, 3) == ranged.partitions_for_scan(9, 9) == []
    assert listed.partitions_for_scan("us", "us", high_inclusive=True) == [1]
    assert listed.partitions_for_scan("dd", "df") == [0, 2]
    assert len(hashed.partitions_for_scan(7, 7, high_inclusive=True)) == 1
    assert hashed.partitions_for_scan(7, 9) == [0, 1, 2, 3]
    with pytest.raises(UnorderableKey):
        hashed.partitions_for_prefix()
