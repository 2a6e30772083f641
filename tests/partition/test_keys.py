"""Do keys have one order and one byte form, and are they taken from rows as they are?"""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from aegis_replication.errors import (
    CorruptKey,
    InvalidKey,
    MissingColumn,
    UnorderableKey,
)
from aegis_replication.hash.functions import key_bytes
from aegis_replication.partition import (
    KeyExtractor,
    PartitionKey,
)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


# --- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (b"foo\x00bar", "01 666f6f00ff626172 00"),
        ("F\u00d4O\u0000bar", "02 46c3944f00ff626172 00"),
        (("foo\x00bar", ()), None),
        (0, "14"),
        (1, "15 01"),
        (-5551212, "11 ab4b93"),
        (255, "15 ff"),
        (256, "16 0100"),
        (-1, "13 fe"),
        (1 << 64, "1d 09 010000000000000000"),
        (-(1 << 64), "0b f6 feffffffffffffffff"),
        (("a", 1), "05 02 61 00 15 01 00"),
        (UUID(int=1), "30 00000000000000000000000000000001"),
        (utc(1970, 1, 1), "40 8000000000000000"),
    ],
)
def test_keys_have_the_published_bytes(value: Any, encoded: str | None) -> None:
    """The FoundationDB tuple layer's own examples, and times behind them."""
    if encoded is None:
        with pytest.raises(UnorderableKey):
            PartitionKey(value)
        return
    assert PartitionKey(value).to_bytes() == bytes.fromhex(encoded)
    assert PartitionKey.from_bytes(bytes.fromhex(encoded)).value == value


@pytest.mark.parametrize(
    "value",
    [1.5, float("nan"), True, None, datetime(2026, 1, 1), date(2026, 1, 1), (), ["a"], ("a", None), {"a": 1}, "\ud800",
     bytearray(b"x"), 1 << 3000, object()],
)  # fmt: skip
def test_values_without_one_order_are_refused(value: Any) -> None:
    with pytest.raises(UnorderableKey):
        PartitionKey(value)


def test_deep_nesting_is_refused_both_ways() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = (deep,)

    with pytest.raises(UnorderableKey, match="16 levels"):
        PartitionKey(deep)
    with pytest.raises(CorruptKey):
        PartitionKey.from_bytes(b"\x05" * 1000)


@pytest.mark.parametrize(
    "encoded",
    ["", "02", "02 61", "15", "16 00 01", "15 00", "30 01", "40 00", "ff", "14 14", "05", "05 00", "05 02 61 00",
     "02 ff 00", "1d 01 05", "1d", "40 ffffffffffffffff", "00", "0b ff"],
)  # fmt: skip
def test_bytes_that_are_no_key_are_refused(encoded: str) -> None:
    with pytest.raises(CorruptKey):
        PartitionKey.from_bytes(bytes.fromhex(encoded))


def test_composite_keys_are_unambiguous() -> None:
    """The original joined the parts, so that these were one key."""
    pairs = [(("a", "bc"), ("ab", "c")), (("a",), "a"), (("a", ("b",)), ("a", "b")), ((1, 23), (12, 3)), ("1", 1)]

    for left, right in pairs:
        assert PartitionKey(left).to_bytes() != PartitionKey(right).to_bytes()
        assert PartitionKey(left) != PartitionKey(right)


def test_numbers_sort_as_numbers() -> None:
    """The original's number keys were not ordered."""
    numbers = [-(1 << 70), -70_000, -256, -255, -2, -1, 0, 1, 2, 10, 255, 256, 70_000, 1 << 70]

    assert sorted(numbers, key=lambda number: PartitionKey(number).to_bytes()) == numbers


def test_hash_value_is_the_same_on_every_platform() -> None:
    """The original's depended on the width of a machine word."""
    assert PartitionKey("user-1").hash_value() == 12_771_005_641_955_241_096
    assert PartitionKey(7).hash_value() != PartitionKey("7").hash_value()
    assert PartitionKey("user-1").hash_value("blake2b_64") != PartitionKey("user-1").hash_value()


def test_equal_instants_are_one_key() -> None:
    east = timezone(timedelta(hours=2))

    assert PartitionKey(datetime(2026, 1, 1, 2, tzinfo=east)) == PartitionKey(utc(2026, 1, 1))


def test_keys_can_be_members_of_sets() -> None:
    assert len({PartitionKey("a"), PartitionKey("a"), PartitionKey(("a",))}) == 2
    assert repr(PartitionKey(("a", 1))) == "PartitionKey(('a', 1))"
    assert PartitionKey(("a", 1)).first == "a"
    with pytest.raises(InvalidKey):
        key_bytes(PartitionKey("a"))  # type: ignore[arg-type]


# --- taking keys from rows ------------------------------------------------------------------------------------------


def test_one_column_gives_a_plain_key_and_several_a_composite() -> None:
    row = {"country": "de", "user": 7, "name": None}

    assert KeyExtractor("user").extract(row) == PartitionKey(7)
    assert KeyExtractor(["country", "user"]).extract(row) == PartitionKey(("de", 7))
    assert KeyExtractor(["country", "city"]).extract(row) is None
    assert KeyExtractor(["name"]).extract(row) is None
    with pytest.raises(MissingColumn, match="city"):
        KeyExtractor(["country", "city"]).require(row)


def test_a_number_stays_a_number() -> None:
    """The original made text of it here and a number in its query analyser, which put them on different shards."""
    assert KeyExtractor("id").require({"id": 123}) == PartitionKey(123)
    assert KeyExtractor("id").require({"id": 123}) != PartitionKey("123")


def test_declared_types_are_held() -> None:
    typed = KeyExtractor(["id"], types={"id": int})

    assert typed.require({"id": 5}) == PartitionKey(5)
    for wrong in ("5", True, 5.0):
        with pytest.raises(MissingColumn, match="id holds"):
            typed.require({"id": wrong})
    with pytest.raises(MissingColumn, match="other"):
        KeyExtractor("id", types={"other": int})
    with pytest.raises(MissingColumn, match="at least one"):
        KeyExtractor([])
