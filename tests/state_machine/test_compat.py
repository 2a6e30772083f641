"""Do the original's commands mean here what they meant there, and are the others refused with a way out?"""

from typing import Any

import pytest

from aegis_replication.errors import InvalidCommand, NotAnInteger
from aegis_replication.state_machine.commands import encode_query
from aegis_replication.state_machine.compat import Command, CommandResult, CommandType
from aegis_replication.state_machine.key_value import KeyValueMachine


def do(machine: KeyValueMachine, command: Command) -> CommandResult:
    """The command as a node carries it out, its result as the original gives it."""
    native = command.native()
    if not command.is_write:
        return CommandResult.of(command, machine.query(encode_query(native)))
    machine.check(native)
    return CommandResult.of(command, machine.handlers[type(native)](native))


@pytest.fixture
def machine() -> KeyValueMachine:
    return KeyValueMachine()


def test_set_get_and_delete_answer_values(machine: KeyValueMachine) -> None:
    assert do(machine, Command.set("a", b"1")) == CommandResult(True)
    assert do(machine, Command.get("a")) == CommandResult(True, b"1")
    assert do(machine, Command.delete("a")) == CommandResult(True, b"1")
    assert do(machine, Command.delete("a")) == CommandResult(True)
    assert do(machine, Command.get("a")) == CommandResult(True)


def test_compare_and_swap_answers_true_or_false(machine: KeyValueMachine) -> None:
    assert do(machine, Command.compare_and_swap("a", None, b"1")).value == b"true"
    assert do(machine, Command.compare_and_swap("a", None, b"2")).value == b"false"
    assert do(machine, Command.compare_and_swap("a", "1", b"2")).value == b"true"
    assert do(machine, Command.compare_and_swap("a", "1", b"3")).value == b"false"
    assert do(machine, Command.get("a")).value == b"2"


def test_increment_counts_from_zero_in_text(machine: KeyValueMachine) -> None:
    assert [do(machine, Command.increment("n")).value for _ in range(3)] == [b"1", b"2", b"3"]


def test_an_error_becomes_a_result_that_says_so() -> None:
    assert CommandResult.of(Command.increment("n"), NotAnInteger("n holds x")) == CommandResult(
        False, None, "n holds x"
    )


@pytest.mark.parametrize(
    "command",
    [Command.get("a"), Command.set("ä", b"\x00\xff"), Command.compare_and_swap("a", "1", b"2"), Command.increment("n")],
)
def test_a_command_comes_back_from_its_bytes(command: Command) -> None:
    assert Command.from_bytes(command.to_bytes()) == command


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b'{"command_type": "Set", "key": "a"}', b'{"command_type": "SqlExecute", "key": ""}'],
)
def test_bytes_that_are_no_command_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidCommand):
        Command.from_bytes(data)


@pytest.mark.parametrize("command_type", list(CommandType)[5:])
def test_the_other_kinds_are_refused_with_what_to_use_instead(command_type: CommandType) -> None:
    with pytest.raises(InvalidCommand, match=f"{command_type.value} is not offered: "):
        Command(command_type, "a", b"")


@pytest.mark.parametrize(
    "maker",
    [
        Command.sql,
        Command.document_insert,
        Command.document_update,
        Command.document_delete,
        Command.graph_create_node,
        Command.graph_create_edge,
        Command.tx_begin,
        Command.tx_commit,
        Command.tx_rollback,
    ],
)
def test_their_makers_are_there_and_refuse(maker: Any) -> None:
    with pytest.raises(InvalidCommand, match="is not offered"):
        maker("anything", 1)
