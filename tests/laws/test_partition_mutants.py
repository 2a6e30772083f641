"""Does each law of partitioning notice when the step it guards is left out?"""

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

import partition_laws as laws
import pytest
from hypothesis import find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from aegis_replication.errors import CorruptKey
from aegis_replication.hash import envelope
from aegis_replication.partition import (
    HashStrategy,
    ListStrategy,
    PartitionKey,
    PartitionMap,
    PartitionRange,
    RangeStrategy,
    TimeStrategy,
    calendar,
    encoding,
    ranges,
    strategy,
)

pairs = st.tuples(laws.values, laws.values)


def breaks(law: Callable[..., None], arguments: st.SearchStrategy[Any]) -> bool:
    """Whether some example makes the law fail."""

    def fails(example: tuple[Any, ...]) -> bool:
        try:
            law(*example)
        except (AssertionError, CorruptKey, ValueError):
            return True
        return False

    try:
        find(arguments, fails, settings=settings(max_examples=1_000, database=None, deadline=None), random=Random(1))
    except NoSuchExample:
        return False
    return True


def test_without_a_mutant_the_same_search_finds_nothing() -> None:
    assert not breaks(laws.bytes_sort_as_values_do, pairs)
    assert not breaks(laws.bytes_read_back, st.tuples(laws.values))
    assert not breaks(laws.a_bucket_holds_its_times, st.tuples(st.just(TimeStrategy("at", "day")), laws.times))


def test_zero_bytes_must_be_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_ESCAPED_ZERO", b"\x00")

    assert breaks(laws.bytes_read_back, st.tuples(laws.values))


def test_a_prefix_must_end_with_its_last_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy, "after_composite_prefix", encoding.after_prefix)

    case = st.tuples(st.tuples(laws.texts), st.tuples(laws.texts))
    assert breaks(laws.a_prefix_range_is_exact, case)


def test_composites_must_end_their_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that goes on with low bytes must not sort before the end of a shorter one."""
    monkeypatch.setattr(encoding, "_END", b"")

    composites = st.lists(st.text(alphabet="\x01a", max_size=2), min_size=1, max_size=2).map(tuple)
    assert breaks(laws.bytes_sort_as_values_do, st.tuples(composites, composites))


def test_numbers_must_not_be_their_decimal_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_encode_int", lambda value: b"\x14" + str(value).encode() + b"\x00")

    assert breaks(laws.bytes_sort_as_values_do, st.tuples(laws.numbers, laws.numbers))


def test_negative_numbers_must_be_complemented(monkeypatch: pytest.MonkeyPatch) -> None:
    right = encoding._encode_int

    def wrong(value: int) -> bytes:
        encoded = right(value)
        return encoded if value >= 0 else encoded[:1] + right(-value)[1:]

    monkeypatch.setattr(encoding, "_encode_int", wrong)

    assert breaks(laws.bytes_sort_as_values_do, st.tuples(laws.numbers, laws.numbers))


class HashedRange(RangeStrategy):
    """Compares the hashes of keys with the bounds."""

    def _prefix(self, key: PartitionKey) -> bytes:
        return key.hash_value().to_bytes(8, "big")


def test_a_range_must_compare_keys_and_not_their_hashes() -> None:
    keys = st.lists(st.integers(-50, 50), min_size=1, max_size=5)
    bound = st.integers(-50, 50)
    case = st.tuples(st.just(HashedRange("id", [100])), keys, bound, bound, st.just((True, True)), st.just([]))

    assert breaks(laws.a_scan_misses_nothing, case)


class ModuloHash(HashStrategy):
    def partition_for_key(self, key: Any) -> int:
        return PartitionKey(key).hash_value() % self.partition_count


def test_a_hash_must_choose_by_range_and_not_by_remainder() -> None:
    hashed = ModuloHash("id", 8)

    chosen = {key: hashed.initial_ranges[hashed.partition_for_key(key)] for key in range(100)}

    assert sum(not part.contains(hashed.token(key)) for key, part in chosen.items()) > 50


class FirstListForAll(ListStrategy):
    """Puts what is not listed into partition 0 without a word, but doesn't scan it for that."""

    def _prefix(self, key: PartitionKey) -> bytes:
        return self._ordinals.get(key.encoded, 0).to_bytes(2, "big")


def test_an_unlisted_value_must_not_fall_into_the_first_list() -> None:
    lists = FirstListForAll("id", {"eu": ["de"], "am": ["us"]})
    keys = st.lists(st.sampled_from(["de", "us", "xx"]), min_size=1, max_size=3)
    case = st.tuples(st.just(lists), keys, st.just("x"), st.just("z"), st.just((True, True)), st.just([]))

    assert breaks(laws.a_scan_misses_nothing, case)


def test_time_before_1970_must_be_floored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        calendar._UNITS, "day", (lambda us: int(us / calendar._DAY_US), lambda number: number * calendar._DAY_US)
    )

    early = st.datetimes(min_value=datetime(1960, 1, 1), max_value=datetime(1969, 12, 31), timezones=st.just(UTC))
    assert breaks(laws.a_bucket_holds_its_times, st.tuples(st.just(TimeStrategy("at", "day")), early))


def test_months_must_have_their_true_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calendar, "_month_start", lambda number: number * 30 * calendar._DAY_US)
    monkeypatch.setitem(calendar._UNITS, "month", (calendar._month_number, calendar._month_start))

    assert breaks(laws.a_bucket_holds_its_times, st.tuples(st.just(TimeStrategy("at", "month")), laws.times))


def test_pieces_must_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    def split(self: PartitionRange, count: int) -> tuple[PartitionRange, ...]:
        pieces = whole(self, count)
        # The mistake: the last end becomes inclusive.
        last = pieces[-1]
        return (*pieces[:-1], PartitionRange(last.start, None if last.end is None else last.end + b"\x00"))

    whole = ranges.PartitionRange.split
    monkeypatch.setattr(PartitionRange, "split", split)

    case = st.tuples(st.just(PartitionRange(b"a", b"q")), st.integers(2, 5))
    assert breaks(laws.pieces_make_up_the_whole, case)


def test_the_order_of_lists_must_be_kept_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ListStrategy._settings
    monkeypatch.setattr(ListStrategy, "_settings", lambda self: {k: v and sorted(v) for k, v in right(self).items()})

    lists = ListStrategy("id", {"eu": ["de"], "am": ["us"]})
    assert breaks(laws.partitionings_read_back, st.tuples(st.just(lists), st.just(["de"]), st.just([])))


def test_splits_must_be_kept_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    right = PartitionMap.to_bytes
    monkeypatch.setattr(PartitionMap, "to_bytes", lambda self: right(PartitionMap(self.strategy)))

    split = st.tuples(st.just(RangeStrategy("id")), st.just([1]), st.lists(st.integers(0, 9), min_size=1, max_size=1))
    assert breaks(laws.partitionings_read_back, split)


def test_bytes_must_carry_a_check_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope.xxhash, "xxh3_64_digest", lambda body: bytes(8))

    case = st.tuples(st.just(RangeStrategy("id", [3])), st.just([]), st.integers(0, 100), st.integers(0, 7))
    assert breaks(laws.damage_is_a_typed_error, case)
