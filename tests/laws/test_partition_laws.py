"""Do keys and strategies keep the laws of partitioning, whatever their values?"""

from datetime import UTC, datetime, timedelta
from typing import Any

import partition_laws as laws
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_replication.errors import InvalidBoundary, NoPartition
from aegis_replication.partition import (
    CompositeStrategy,
    HashStrategy,
    ListStrategy,
    PartitionKey,
    PartitionRange,
    RangeStrategy,
    SlotStrategy,
    Strategy,
    TimeStrategy,
)

countries = st.sampled_from(["de", "fr", "us", "br", "jp"])
whole = st.integers(-50, 50)
moments = st.datetimes(min_value=datetime(1969, 11, 1), max_value=datetime(1970, 3, 1), timezones=st.just(UTC))

STRATEGIES: dict[str, tuple[Strategy, st.SearchStrategy[Any]]] = {
    "hash": (HashStrategy("id", 8), whole | laws.texts),
    "range": (RangeStrategy("id", [-20, 0, 7]), whole),
    "range of composites": (RangeStrategy("id", [("de", 3), ("fr", 0)]), st.tuples(countries, whole)),
    "list": (ListStrategy("id", {"eu": ["de", "fr"], "am": ["us", "br"]}, default="rest"), countries),
    "list of numbers": (ListStrategy("id", {"odd": [1, 3, 5], "even": [0, 2, 4]}, default="rest"), st.integers(-3, 9)),
    "list of composites": (ListStrategy("id", {"eu": ["de", "fr"]}, default="rest"), st.tuples(countries, whole)),
    "composite": (CompositeStrategy("country", "n", 8), st.tuples(countries, whole)),
    "time": (TimeStrategy("at", "week"), moments),
    "time of composites": (TimeStrategy("at", "month"), st.tuples(moments, whole)),
    "slots": (SlotStrategy("key", 8), laws.texts),
}
CUTTABLE = sorted(set(STRATEGIES) - {"slots"})


@given(first=laws.values, second=laws.values)
def test_bytes_sort_as_values_do(first: Any, second: Any) -> None:
    laws.bytes_sort_as_values_do(first, second)


@given(value=laws.values)
def test_bytes_read_back(value: Any) -> None:
    laws.bytes_read_back(value)


@given(key=st.lists(laws.scalars, min_size=1, max_size=3).map(tuple), length=st.integers(1, 3), other=laws.scalars)
def test_a_prefix_range_is_exact(key: tuple[Any, ...], length: int, other: Any) -> None:
    laws.a_prefix_range_is_exact(key, key[:length])
    laws.a_prefix_range_is_exact(key, (*key[: length - 1], other))
    if isinstance(key[0], str | bytes):
        zero = "\x00" if isinstance(key[0], str) else b"\x00"
        laws.a_prefix_range_is_exact((key[0] + zero, *key[1:]), key[:1])  # type: ignore[operator]


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@given(case=st.data())
def test_every_key_has_one_range(name: str, case: st.DataObject) -> None:
    strategy, keys = STRATEGIES[name]
    cuts = [] if name == "slots" else case.draw(st.lists(keys, max_size=3))
    laws.every_key_has_one_range(strategy, case.draw(st.lists(keys, min_size=1, max_size=8)), cuts)


@pytest.mark.parametrize("name", CUTTABLE)
@given(case=st.data())
def test_splitting_moves_only_its_own_keys(name: str, case: st.DataObject) -> None:
    strategy, keys = STRATEGIES[name]
    laws.splitting_moves_only_its_own_keys(strategy, case.draw(st.lists(keys, min_size=1, max_size=8)), case.draw(keys))


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@given(case=st.data())
def test_a_scan_misses_nothing(name: str, case: st.DataObject) -> None:
    strategy, keys = STRATEGIES[name]
    low, high = case.draw(st.none() | keys), case.draw(st.none() | keys)
    inclusive = case.draw(st.tuples(st.booleans(), st.booleans()))
    cuts = [] if name == "slots" else case.draw(st.lists(keys, max_size=2))
    laws.a_scan_misses_nothing(strategy, case.draw(st.lists(keys, min_size=1, max_size=8)), low, high, inclusive, cuts)


@pytest.mark.parametrize("name", ["range of composites", "list of composites", "composite", "time of composites"])
@given(case=st.data())
def test_a_prefix_scan_misses_nothing(name: str, case: st.DataObject) -> None:
    strategy, keys = STRATEGIES[name]
    prefix = case.draw(keys)[: case.draw(st.integers(1, 2))]
    laws.a_prefix_scan_misses_nothing(strategy, case.draw(st.lists(keys, min_size=1, max_size=8)), prefix)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@given(case=st.data())
def test_partitionings_read_back(name: str, case: st.DataObject) -> None:
    strategy, keys = STRATEGIES[name]
    cuts = [] if name == "slots" else case.draw(st.lists(keys, max_size=3))
    laws.partitionings_read_back(strategy, case.draw(st.lists(keys, min_size=1, max_size=8)), cuts)


@given(
    lists=st.dictionaries(st.text(max_size=2), st.lists(laws.scalars, max_size=3), max_size=4), default=st.booleans()
)
def test_lists_of_anything_read_back(lists: dict[str, list[Any]], default: bool) -> None:
    try:
        strategy = ListStrategy("id", lists, default="the rest" if default else None)
    except (NoPartition, InvalidBoundary):
        return  # no lists, or a value in two
    laws.partitionings_read_back(strategy, [value for values in lists.values() for value in values], [])


@given(bounds=st.lists(laws.values, max_size=4))
def test_bounds_of_anything_read_back(bounds: list[Any]) -> None:
    try:
        strategy = RangeStrategy("id", sorted(bounds, key=PartitionKey))
    except InvalidBoundary:
        return  # one twice, or of two kinds
    laws.partitionings_read_back(strategy, bounds, [])


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@given(case=st.data(), at=st.integers(0, 300), bit=st.integers(0, 7))
def test_damage_is_a_typed_error(name: str, case: st.DataObject, at: int, bit: int) -> None:
    strategy, keys = STRATEGIES[name]
    cuts = [] if name == "slots" else case.draw(st.lists(keys, max_size=2))
    laws.damage_is_a_typed_error(strategy, cuts, at, bit)


@given(bounds=st.tuples(laws.raw, st.none() | laws.raw), count=st.integers(1, 20))
def test_pieces_make_up_the_whole(bounds: tuple[bytes, bytes | None], count: int) -> None:
    try:
        part = PartitionRange(*bounds)
        part.split(count)
    except InvalidBoundary:
        return  # empty, or too narrow
    laws.pieces_make_up_the_whole(part, count)


@pytest.mark.parametrize("unit", ["hour", "day", "week", "month", "year", timedelta(minutes=7)])
@given(time=laws.times)
def test_a_bucket_holds_its_times(unit: str | timedelta, time: datetime) -> None:
    laws.a_bucket_holds_its_times(TimeStrategy("at", unit), time)
