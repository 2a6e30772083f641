"""Does each command do to keys, values and versions what its docstring says?"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from aegis_replication.errors import (
    IncompatibleVersion,
    InvalidArgument,
    InvalidCommand,
    LimitExceeded,
    ProtocolError,
    WrongIdentity,
)
from aegis_replication.state_machine import key_value
from aegis_replication.state_machine.base import INVALID, NOT_AN_INTEGER, Failure
from aegis_replication.state_machine.commands import (
    REPLY_BYTES_MAX,
    Batch,
    BatchResult,
    CompareAndSet,
    Condition,
    Count,
    Delete,
    DeleteRange,
    Get,
    GetMany,
    Increment,
    Keys,
    KeyValue,
    MachineStats,
    Page,
    Put,
    Range,
    Stats,
    Swap,
    Take,
    decode_result,
    encode_query,
    prefix_end,
)
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.limits import KeyValueLimits


@pytest.fixture
def machine() -> KeyValueMachine:
    return KeyValueMachine()


def do(machine: KeyValueMachine, *commands: Any) -> list[Any]:
    """Each command checked and carried out; its results."""
    results = []
    for command in commands:
        machine.check(command)
        results.append(machine.handlers[type(command)](command))
    return results


def ask(machine: KeyValueMachine, query: Any) -> Any:
    """The query's result as a client gets it."""
    result = machine.query(encode_query(query))
    return result if type(result) is Failure else decode_result(type(query), msgspec.msgpack.encode(result))


def contents(machine: KeyValueMachine) -> dict[bytes, tuple[bytes, int]]:
    page = ask(machine, Range(limit=10_000))
    assert page.cursor is None
    return {line.key: (line.value, line.version) for line in page.items}


def filled(machine: KeyValueMachine, *keys: bytes) -> KeyValueMachine:
    do(machine, *[Put(key, b"v-" + key) for key in keys])
    return machine


# --- single commands ---


def test_a_put_sets_the_value_and_answers_its_version(machine: KeyValueMachine) -> None:
    results = do(machine, Put(b"a", b"1"), Put(b"b", b"2"), Put(b"a", b"3"))

    assert results == [1, 2, 3]
    assert contents(machine) == {b"a": (b"3", 3), b"b": (b"2", 2)}


def test_a_delete_answers_the_version_that_was_there_and_counts_only_if_there_was_one(machine: KeyValueMachine) -> None:
    filled(machine, b"a")

    assert do(machine, Delete(b"a"), Delete(b"a"), Delete(b"never")) == [1, 0, 0]
    assert machine.revision == 2
    assert contents(machine) == {}


def test_a_key_that_comes_back_gets_a_version_it_never_had(machine: KeyValueMachine) -> None:
    results = do(machine, Put(b"a", b"1"), Delete(b"a"), Put(b"a", b"1"))

    assert results == [1, 1, 3]


def test_take_answers_what_it_removed(machine: KeyValueMachine) -> None:
    filled(machine, b"a")

    assert do(machine, Take(b"a"), Take(b"a")) == [(b"v-a", 1), None]
    assert (len(machine), machine.revision) == (0, 2)


@pytest.mark.parametrize(
    ("command", "result", "after"),
    [
        (CompareAndSet(b"a", b"new", expect=b"v-a"), Swap(True, 2), (b"new", 2)),
        (CompareAndSet(b"a", b"new", expect=b"other"), Swap(False, 1), (b"v-a", 1)),
        (CompareAndSet(b"a", b"new", expect=b""), Swap(False, 1), (b"v-a", 1)),
        (CompareAndSet(b"a", b"new", expect_version=1), Swap(True, 2), (b"new", 2)),
        (CompareAndSet(b"a", b"new", expect_version=0), Swap(False, 1), (b"v-a", 1)),
        (CompareAndSet(b"a", b"new", expect=b"v-a", expect_version=2), Swap(False, 1), (b"v-a", 1)),
        (CompareAndSet(b"a", None, expect=b"v-a"), Swap(True, 0), None),
        (CompareAndSet(b"a", None, expect=b"other"), Swap(False, 1), (b"v-a", 1)),
    ],
)
def test_compare_and_set_of_a_present_key(
    machine: KeyValueMachine, command: CompareAndSet, result: Swap, after: tuple[bytes, int] | None
) -> None:
    filled(machine, b"a")

    assert do(machine, command) == [result]
    assert contents(machine).get(b"a") == after


@pytest.mark.parametrize(
    ("command", "result", "after"),
    [
        (CompareAndSet(b"a", b"new", expect_version=0), Swap(True, 1), (b"new", 1)),
        (CompareAndSet(b"a", b"new", expect=b""), Swap(False, 0), None),
        (CompareAndSet(b"a", b"new", expect_version=1), Swap(False, 0), None),
        (CompareAndSet(b"a", None, expect_version=0), Swap(True, 0), None),
    ],
)
def test_compare_and_set_of_an_absent_key(
    machine: KeyValueMachine, command: CompareAndSet, result: Swap, after: tuple[bytes, int] | None
) -> None:
    assert do(machine, command) == [result]
    assert contents(machine).get(b"a") == after


def test_a_comparison_that_fails_leaves_the_revision_alone(machine: KeyValueMachine) -> None:
    filled(machine, b"a")

    do(machine, CompareAndSet(b"a", b"new", expect=b"other"), CompareAndSet(b"b", None, expect_version=0))

    assert machine.revision == 1


def test_an_increment_counts_in_decimal_text_from_zero(machine: KeyValueMachine) -> None:
    results = do(machine, Increment(b"n"), Increment(b"n", 41), Increment(b"n", -50))

    assert results == [1, 42, -8]
    assert contents(machine) == {b"n": (b"-8", 3)}


@pytest.mark.parametrize("text", [b"7", b"+7", b"007", b"-0"])
def test_an_increment_reads_what_is_a_decimal_integer(machine: KeyValueMachine, text: bytes) -> None:
    do(machine, Put(b"n", text))

    assert do(machine, Increment(b"n")) == [int(text) + 1]


@pytest.mark.parametrize(
    "text", [b"", b"x", b"1_0", b" 7", b"7\n", b"0x1", b"1.0", b"--1", "٣".encode(), b"1" * 20, b"9223372036854775807"]
)
def test_an_increment_of_anything_else_is_refused_and_changes_nothing(machine: KeyValueMachine, text: bytes) -> None:
    do(machine, Put(b"n", text))

    [result] = do(machine, Increment(b"n"))

    assert type(result) is Failure
    assert result.status == NOT_AN_INTEGER
    assert contents(machine) == {b"n": (text, 1)}
    assert machine.revision == 1


def test_delete_range_removes_from_start_up_to_but_without_end(machine: KeyValueMachine) -> None:
    filled(machine, b"a", b"b", b"c", b"d")

    assert do(machine, DeleteRange(b"b", b"d"), DeleteRange(b"b", b"d")) == [2, 0]
    assert set(contents(machine)) == {b"a", b"d"}
    assert machine.revision == 5  # one for the range, none for the range that was empty


def test_delete_range_takes_a_limit_and_an_open_end(machine: KeyValueMachine) -> None:
    filled(machine, b"a", b"b", b"c", b"d")

    assert do(machine, DeleteRange(b"a", None, 3), DeleteRange(b""), DeleteRange(b"z", b"a")) == [3, 1, 0]
    assert len(machine) == 0


# --- batches ---


def test_a_batch_does_all_its_operations_under_one_version(machine: KeyValueMachine) -> None:
    filled(machine, b"a", b"b")

    [result] = do(
        machine,
        Batch(
            (
                Put(b"c", b"3"),
                Delete(b"a"),
                Increment(b"n"),
                CompareAndSet(b"c", b"4", expect=b"3"),
                Take(b"b"),
                DeleteRange(b"x"),
            ),
            (Condition(b"a", expect_version=1), Condition(b"z", expect_version=0)),
        ),
    )

    assert result == BatchResult(True, (3, 1, 1, Swap(True, 3), (b"v-b", 2), 0))
    assert contents(machine) == {b"c": (b"4", 3), b"n": (b"1", 3)}
    assert machine.revision == 3


def test_a_batch_without_effect_leaves_the_revision_alone(machine: KeyValueMachine) -> None:
    assert do(machine, Batch((Delete(b"a"),)), Batch(())) == [BatchResult(True, (0,)), BatchResult(True, ())]
    assert machine.revision == 0


@pytest.mark.parametrize(
    ("batch", "failed"),
    [
        (Batch((Put(b"a", b"x"),), (Condition(b"b", expect=b"v-b"), Condition(b"a", expect=b"no"))), 1),
        (Batch((Put(b"a", b"x"), CompareAndSet(b"b", b"x", expect=b"no"))), 1),
        (Batch((DeleteRange(b""), Put(b"z", b"x"), CompareAndSet(b"a", b"x", expect=b"v-a"))), 2),
        (
            Batch(
                (Put(b"a", b"x"), Delete(b"a"), CompareAndSet(b"b", b"", expect_version=9)), (Condition(b"a", b"v-a"),)
            ),
            3,
        ),
    ],
)
def test_a_batch_that_fails_anywhere_leaves_everything_as_it_was(
    machine: KeyValueMachine, batch: Batch, failed: int
) -> None:
    filled(machine, b"a", b"b")
    before = list(machine.freeze())

    assert do(machine, batch) == [BatchResult(False, (), failed)]
    assert list(machine.freeze()) == before
    assert contents(machine) == {b"a": (b"v-a", 1), b"b": (b"v-b", 2)}


def test_a_batch_whose_increment_fails_says_so_and_leaves_everything_as_it_was(machine: KeyValueMachine) -> None:
    filled(machine, b"a", b"b")
    before = list(machine.freeze())

    [result] = do(machine, Batch((Delete(b"a"), Increment(b"n"), Take(b"b"), Put(b"b", b""), Increment(b"b"))))

    assert result.status == NOT_AN_INTEGER
    assert list(machine.freeze()) == before
    assert do(machine, Put(b"c", b"")) == [3]


# --- queries ---


def test_get_and_get_many_answer_values_with_versions(machine: KeyValueMachine) -> None:
    filled(machine, b"a", b"b")

    assert ask(machine, Get(b"b")).version == 2
    assert ask(machine, Get(b"z")) is None
    assert [item and item.value for item in ask(machine, GetMany((b"b", b"z", b"a")))] == [b"v-b", None, b"v-a"]


def test_a_range_is_in_order_and_goes_on_at_its_cursor(machine: KeyValueMachine) -> None:
    filled(machine, b"d", b"b", b"a", b"c", b"b\0")

    first = ask(machine, Range(b"a", b"d", limit=2))
    second = ask(machine, Range(first.cursor, b"d", limit=2))

    assert first == Page((KeyValue(b"a", b"v-a", 3), KeyValue(b"b", b"v-b", 2)), b"b\0")
    assert second == Page((KeyValue(b"b\0", b"v-b\0", 5), KeyValue(b"c", b"v-c", 4)), None)


def test_a_range_of_keys_only_and_a_count_see_the_same_keys(machine: KeyValueMachine) -> None:
    filled(machine, b"a", b"b", b"c")

    page = ask(machine, Keys(b"a", b"c", limit=1))

    assert (page.keys, page.cursor) == ((b"a",), b"a\0")
    assert ask(machine, Keys(b"a", b"c")).keys == (b"a", b"b")
    assert [ask(machine, Count(*ends)) for ends in [(b"", None), (b"a", b"c"), (b"b", b"a")]] == [3, 2, 0]


def test_replies_end_after_the_value_that_passes_the_limit_and_the_rest_can_be_asked_for(
    machine: KeyValueMachine,
) -> None:
    value = b"x" * (REPLY_BYTES_MAX // 2)
    do(machine, *[Put(key, value) for key in (b"a", b"b", b"c")])

    page = ask(machine, Range())
    several = ask(machine, GetMany((b"a", b"b", b"c")))

    assert [line.key for line in page.items] == [b"a", b"b"]
    assert [line.key for line in ask(machine, Range(page.cursor)).items] == [b"c"]
    assert len(several) == 2


@pytest.mark.parametrize("query", [Range(limit=0), Range(limit=10_001), Keys(limit=-1), GetMany((b"",) * 10_001)])
def test_a_query_out_of_bounds_is_answered_as_invalid(machine: KeyValueMachine, query: Any) -> None:
    assert ask(machine, query).status == INVALID


@pytest.mark.parametrize("query", [b"", b"\xc1", b"\x90", b"\x91\x01", b"\x92\x21\xa1a", b"\x93\x21\xc4\x00\xc4\x00"])
def test_bytes_that_are_no_query_are_answered_as_invalid(machine: KeyValueMachine, query: bytes) -> None:
    assert machine.query(query).status == INVALID


def test_stats_counts_keys_and_writes(machine: KeyValueMachine) -> None:
    filled(machine, b"a", b"b")
    do(machine, Delete(b"a"))

    assert ask(machine, Stats()) == MachineStats(keys=1, revision=3)


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"a", b"b"), (b"a\xff", b"b"), (b"", None), (b"\xff\xff", None), (b"a\xfe", b"a\xff")]
)
def test_the_end_of_a_prefix_is_the_first_key_after_it(prefix: bytes, end: bytes | None) -> None:
    assert prefix_end(prefix) == end


# --- at the door ---


@pytest.mark.parametrize(
    "make",
    [
        lambda key: Put(key, b""),
        Delete,
        Take,
        Increment,
        lambda key: CompareAndSet(key, None, b""),
        lambda key: Batch((Delete(key),)),
        lambda key: Batch((), (Condition(key, b""),)),
    ],
)
def test_a_key_over_its_limit_is_refused_and_one_at_it_is_not(make: Callable[[bytes], Any]) -> None:
    machine = KeyValueMachine(KeyValueLimits(key_bytes=10, value_bytes=10))

    machine.check(make(b"k" * 10))

    with pytest.raises(LimitExceeded, match="a key has 11 bytes, the limit is 10"):
        machine.check(make(b"k" * 11))


@pytest.mark.parametrize(
    "make",
    [
        lambda value: Put(b"", value),
        lambda value: CompareAndSet(b"", value, b""),
        lambda value: Batch((Put(b"", value),)),
    ],
)
def test_a_value_over_its_limit_is_refused_and_one_at_it_is_not(make: Callable[[bytes], Any]) -> None:
    machine = KeyValueMachine(KeyValueLimits(value_bytes=10))

    machine.check(make(b"v" * 10))

    with pytest.raises(LimitExceeded, match="a value has 11 bytes, the limit is 10"):
        machine.check(make(b"v" * 11))


@pytest.mark.parametrize(
    "command",
    [
        CompareAndSet(b"a", b""),
        CompareAndSet(b"a", b"", expect_version=-1),
        Batch((), (Condition(b"a"),)),
        Batch((CompareAndSet(b"a", b""),)),
        Increment(b"a", 2**63),
        DeleteRange(b"", None, -1),
    ],
)
def test_a_command_that_makes_no_sense_is_refused_at_the_door(machine: KeyValueMachine, command: Any) -> None:
    with pytest.raises(InvalidCommand):
        machine.check(command)


def test_a_batch_over_its_limit_is_refused(machine: KeyValueMachine) -> None:
    with pytest.raises(LimitExceeded, match="operations"):
        machine.check(Batch((Delete(b""),) * 10_001))


@pytest.mark.parametrize("limits", [{"value_bytes": 8 * 1024 * 1024 + 1}, {"value_bytes": 0}, {"key_bytes": 65_537}])
def test_limits_have_limits(limits: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(limits))):
        KeyValueLimits(**limits)


# --- snapshots ---


def test_equal_states_freeze_to_equal_pieces_whatever_their_past() -> None:
    one, other = KeyValueMachine(), KeyValueMachine()

    do(one, Put(b"x", b""), Delete(b"x"), Put(b"b", b"2"), Put(b"a", b"1"))
    do(other, Put(b"a", b""), Put(b"b", b""), CompareAndSet(b"b", b"2", expect=b""), Put(b"a", b"1"))

    assert list(one.freeze()) == list(other.freeze())


def test_states_that_differ_in_a_version_or_the_revision_alone_freeze_differently() -> None:
    one, other = KeyValueMachine(), KeyValueMachine()

    do(one, Put(b"a", b""), Delete(b"a"))
    do(other, Put(b"a", b""), Delete(b"a"), Put(b"a", b""), Delete(b"a"))

    assert list(one.freeze()) != list(other.freeze())


def test_pieces_are_bounded_and_made_as_they_are_pulled(machine: KeyValueMachine) -> None:
    do(machine, *[Put(b"%05d" % number, b"v" * 1000) for number in range(1000)])

    pieces = list(machine.freeze())

    assert len(pieces) >= 4
    assert max(map(len, pieces)) <= key_value.PIECE_BYTES + 2000


def test_a_frozen_state_does_not_see_later_writes(machine: KeyValueMachine) -> None:
    do(machine, *[Put(b"%05d" % number, b"v" * 1000) for number in range(1000)])
    expected = list(machine.freeze())

    pulled = []
    for piece in machine.freeze():
        pulled.append(piece)
        do(machine, DeleteRange(b"", None, 100), Put(b"zz", b""), Put(b"00999", b"changed"))

    assert pulled == expected


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([], msgspec.DecodeError),
        ([b"\x94\xa5other\x01\x01\x00"], WrongIdentity),
        ([b"\x94\xa9key-value\x02\x01\x00"], IncompatibleVersion),
        ([b"\x94\xa9key-value\x01\x01\x01"], ProtocolError),
        ([b"\x94\xa9key-value\x01\x01\x01", b"\x91\x01"], msgspec.DecodeError),
    ],
)
def test_a_snapshot_that_is_not_one_is_refused_and_the_state_stays(
    machine: KeyValueMachine, pieces: list[bytes], error: type[Exception]
) -> None:
    filled(machine, b"a")

    with pytest.raises(error):
        machine.restore(pieces)

    assert contents(machine) == {b"a": (b"v-a", 1)}
