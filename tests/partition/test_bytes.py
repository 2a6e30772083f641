"""Do bytes of a strategy and of a map say the same on every host, in this version and in the ones to come?"""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
import xxhash

from aegis_replication.errors import CorruptPartitioning, IncompatibleVersion, NotSupported, UnknownHashFunction
from aegis_replication.hash import HashFunction
from aegis_replication.partition import (
    CompositeStrategy,
    HashStrategy,
    ListStrategy,
    PartitionKey,
    PartitionMap,
    RangeStrategy,
    RoundRobinStrategy,
    SlotStrategy,
    Strategy,
    TimeStrategy,
    strategy_from_bytes,
)

LISTS = {"eu": ["fr", "de", b"\x00"], "am": [1, UUID(int=7)], "none": []}

# Written by format version 1; a later program must open them, and one of this version must write them.
GOLDEN: list[tuple[Strategy, str]] = [
    (
        HashStrategy(["country", "user"], 4, hash_function="blake2b_64"),
        "414547530194a46861736892a7636f756e747279a4757365729292ad686173685f66756e6374696f6eaa626c616b6532625f363492aa706172746974696f6e7304c05566a93ac24fd48e",
    ),
    (
        RangeStrategy("id", [-5, 0, 1 << 70]),
        "414547530194a572616e676591a269649192a6626f756e647393c40213fac40114c40b1d09400000000000000000c0fed48ab8b3939b81",
    ),
    (
        RangeStrategy("at", [datetime(2026, 1, 1, tzinfo=UTC)]),
        "414547530194a572616e676591a261749192a6626f756e647391c409408006474846204000c0a3b7a766fda92265",
    ),
    (
        ListStrategy("country", LISTS, default="rest"),
        "414547530194a46c69737491a7636f756e7472799292a764656661756c74a47265737492aa706172746974696f6e739392a2657593c4040100ff00c40402646500c4040266720092a2616d92c4021501c411300000000000000000000000000000000792a46e6f6e6590c085a0a3d32ba28607",
    ),
    (
        ListStrategy("country", LISTS),
        "414547530194a46c69737491a7636f756e7472799292a764656661756c74c092aa706172746974696f6e739392a2657593c4040100ff00c40402646500c4040266720092a2616d92c4021501c411300000000000000000000000000000000792a46e6f6e6590c02dca056b4e15af75",
    ),
    (
        CompositeStrategy(["tenant", "user"], "at", 16),
        "414547530194a9636f6d706f7369746593a674656e616e74a475736572a261749392aa686173685f636f756e740292ad686173685f66756e6374696f6ea7787868335f363492aa706172746974696f6e7310c03a4a940ff635ff49",
    ),
    (
        TimeStrategy("at", "month"),
        "414547530194a474696d6591a261749192a4756e6974a56d6f6e7468c04d26db4a279b9098",
    ),
    (
        TimeStrategy("at", timedelta(minutes=7)),
        "414547530194a474696d6591a261749192a4756e6974ce1908b100c0e4d565cd2f422d26",
    ),
    (
        RoundRobinStrategy(3),
        "414547530194ab726f756e645f726f62696e91a6726f775f69649192aa706172746974696f6e7303c0406f95444d683f9f",
    ),
    (
        SlotStrategy("key", 8),
        "414547530194a5736c6f747391a36b65799192aa706172746974696f6e7308c08fc1da74c44bdeae",
    ),
]
MAP = "414547530194a572616e676591a269649192a6626f756e647391c402150a93c40213fcc402150ac4031601f488d0734236d23e79"


@pytest.mark.parametrize(("strategy", "encoded"), GOLDEN, ids=lambda case: getattr(case, "NAME", ""))
def test_bytes_of_a_strategy_stay_as_they_are(strategy: Strategy, encoded: str) -> None:
    assert strategy.to_bytes().hex() == encoded
    assert strategy_from_bytes(bytes.fromhex(encoded)) == strategy


def test_bytes_of_a_map_stay_as_they_are() -> None:
    parts = PartitionMap(RangeStrategy("id", [10])).split(1, PartitionKey(500)).split(0, PartitionKey(-3))

    assert parts.to_bytes().hex() == MAP
    assert PartitionMap.from_bytes(bytes.fromhex(MAP)) == parts
    assert strategy_from_bytes(bytes.fromhex(MAP)) == parts.strategy


def test_another_process_with_another_hash_seed_places_keys_alike() -> None:
    parts = PartitionMap(CompositeStrategy("country", "at", 8))
    code = (
        "import sys; from aegis_replication.partition import PartitionMap\n"
        "parts = PartitionMap.from_bytes(bytes.fromhex(sys.argv[1]))\n"
        "print([parts.partition_for_key((name, 7)) for name in 'abcdefgh'], parts.to_bytes().hex() == sys.argv[1])"
    )

    answer = subprocess.run(
        [sys.executable, "-c", code, parts.to_bytes().hex()],
        env=os.environ | {"PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout.strip() == f"{[parts.partition_for_key((name, 7)) for name in 'abcdefgh']} True"


def test_equal_strategies_are_equal_and_hash_alike() -> None:
    one = ListStrategy("c", {"eu": ["fr", "de"], "am": ["us"]})
    same = ListStrategy(["c"], {"eu": ["de", "fr"], "am": ["us"]})
    turned = ListStrategy("c", {"am": ["us"], "eu": ["de", "fr"]})

    assert one == same
    assert hash(one) == hash(same)
    assert one.to_bytes() == same.to_bytes()
    assert one != turned  # the order of lists is part of the tokens
    assert HashStrategy("id", 8) != HashStrategy("id", 16)
    assert HashStrategy("id", 8) != HashStrategy("id", 8, hash_function="xxh64")
    assert TimeStrategy("at", "hour") != TimeStrategy("at", timedelta(hours=1, microseconds=1))
    assert PartitionMap(one) == PartitionMap(same)
    assert hash(PartitionMap(one)) == hash(PartitionMap(same))
    assert PartitionMap(RangeStrategy("id")).split(0, PartitionKey(1)) != PartitionMap(RangeStrategy("id"))


def test_a_hash_function_of_ones_own_is_named_and_given_again() -> None:
    own = HashFunction("length", len)
    strategy = HashStrategy("id", 4, hash_function=own)

    with pytest.raises(UnknownHashFunction, match="'length'"):
        strategy_from_bytes(strategy.to_bytes())

    assert strategy_from_bytes(strategy.to_bytes(), hash_functions=[own]) == strategy
    assert PartitionMap.from_bytes(PartitionMap(strategy).to_bytes(), hash_functions=[own]).strategy == strategy


def test_bytes_of_a_newer_version_are_refused_naming_both() -> None:
    newer = bytearray(RangeStrategy("id").to_bytes())
    newer[4] = 2

    with pytest.raises(IncompatibleVersion, match="version 2, this program reads version 1"):
        strategy_from_bytes(bytes(newer))


def forged(*body: object) -> bytes:
    sealed = b"AEGS\x01" + msgspec.msgpack.encode(body)
    return sealed + xxhash.xxh3_64_digest(sealed)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"AEGS",
        b"AEGP\x01" + bytes(20),
        forged("modulo", ["id"], [], None),
        forged("hash", ["id"], [["partitions", 0], ["hash_function", "xxh3_64"]], None),
        forged("hash", ["id"], [["partitions", 4]], None),
        forged("hash", ["id"], [["hash_function", "xxh3_64"], ["partitions", 4], ["salt", 1]], None),
        forged("hash", [], [["hash_function", "xxh3_64"], ["partitions", 4]], None),
        forged("hash", ["id"], [["partitions", 4], ["hash_function", "xxh3_64"]], None),  # not as sorted
        forged("range", ["id"], [["bounds", [PartitionKey(2).encoded, PartitionKey(1).encoded]]], None),
        forged("range", ["id"], [["bounds", [b"\xff"]]], None),
        forged("range", ["id"], [["bounds", "abc"]], None),
        forged("time", ["at"], [["unit", 0]], None),
        forged("time", ["at"], [["unit", "fortnight"]], None),
        forged("time", ["at"], [["unit", []]], None),
        forged("round_robin", ["column"], [["partitions", 4]], None),
        forged("slots", ["key"], [["partitions", 20_000]], None),
        forged("list", ["c"], [["default", None], ["partitions", [["eu", [b"\x00"]]]]], None),
    ],
)
def test_bytes_that_are_no_partitioning_are_one_typed_error(encoded: bytes) -> None:
    with pytest.raises(CorruptPartitioning):
        strategy_from_bytes(encoded)


@pytest.mark.parametrize("cuts", [None, [b""], [b"b", b"a"], [b"a", b"a"]])
def test_ranges_that_overlap_or_are_missing_are_one_typed_error(cuts: object) -> None:
    with pytest.raises(CorruptPartitioning):
        PartitionMap.from_bytes(forged("range", ["id"], [["bounds", []]], cuts))


def test_a_cut_through_a_slot_is_refused_from_bytes_too() -> None:
    with pytest.raises(CorruptPartitioning, match="cuts a slot"):
        PartitionMap.from_bytes(forged("slots", ["key"], [["partitions", 2]], [b"\x20\x00\x01"]))


def test_a_strategy_of_ones_own_has_no_bytes_and_says_so() -> None:
    class Everything(Strategy):
        def _prefix(self, key: PartitionKey) -> bytes:
            return b""

    own = Everything("id", PartitionMap(RangeStrategy("id")).ranges)

    with pytest.raises(NotSupported, match="Everything has no byte form"):
        own.to_bytes()
    assert own == own
    assert own != Everything("id", own.initial_ranges)
