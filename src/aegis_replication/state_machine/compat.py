"""How do the original crate's commands look here? Its `Command` and `CommandResult` over the key-value machine.

A layer for code that comes from there. New code uses the classes of `commands`: they know versions, ranges, batches.
"""

from enum import Enum
from typing import Any, NoReturn

import msgspec

from aegis_replication.errors import AegisError, InvalidCommand
from aegis_replication.state_machine import commands as ask

EXPECTED = "expected"
"""The key of `metadata` that holds what a compare-and-swap expects; without it, it expects that there is no value."""


class CommandType(Enum):
    """The original's kinds of commands. Only the first five are carried out here; the others are refused."""

    GET = "Get"
    SET = "Set"
    DELETE = "Delete"
    COMPARE_AND_SWAP = "CompareAndSwap"
    INCREMENT = "Increment"
    SQL_EXECUTE = "SqlExecute"
    DOCUMENT_INSERT = "DocumentInsert"
    DOCUMENT_UPDATE = "DocumentUpdate"
    DOCUMENT_DELETE = "DocumentDelete"
    GRAPH_CREATE_NODE = "GraphCreateNode"
    GRAPH_DELETE_NODE = "GraphDeleteNode"
    GRAPH_CREATE_EDGE = "GraphCreateEdge"
    GRAPH_DELETE_EDGE = "GraphDeleteEdge"
    TRANSACTION_BEGIN = "TransactionBegin"
    TRANSACTION_COMMIT = "TransactionCommit"
    TRANSACTION_ROLLBACK = "TransactionRollback"
    CUSTOM = "Custom"


_OFFERED = frozenset(list(CommandType)[:5])
_INSTEAD = {
    "Sql": "no SQL is carried out here: derive a StateMachine whose @command methods do what the statements did",
    "Doc": "there are no documents here: store them as values under their ids (Command.set)",
    "Gra": "there is no graph here: derive a StateMachine that keeps nodes and edges",
    "Tra": "a transaction isn't begun by a command of the log: use commands.Batch, which is all or nothing",
    "Cus": "derive a StateMachine: each @command method is a command of your own, with typed arguments",
}


class Command(msgspec.Struct, frozen=True):
    """One command in the original's form. A type that isn't offered raises InvalidCommand, which says what is."""

    command_type: CommandType
    key: str
    value: bytes | None = None
    metadata: dict[str, str] = {}

    def __post_init__(self) -> None:
        if self.command_type not in _OFFERED:
            _refuse(self.command_type)
        if self.command_type in (CommandType.SET, CommandType.COMPARE_AND_SWAP) and self.value is None:
            raise InvalidCommand(f"{self.command_type.value} of {self.key!r} needs a value")

    # --- makers ---

    @classmethod
    def get(cls, key: str) -> "Command":
        return cls(CommandType.GET, key)

    @classmethod
    def set(cls, key: str, value: bytes) -> "Command":
        return cls(CommandType.SET, key, value)

    @classmethod
    def delete(cls, key: str) -> "Command":
        return cls(CommandType.DELETE, key)

    @classmethod
    def compare_and_swap(cls, key: str, expected: str | None, value: bytes) -> "Command":
        """Set `key` if it holds `expected` (None: if it is absent)."""
        return cls(CommandType.COMPARE_AND_SWAP, key, value, {} if expected is None else {EXPECTED: expected})

    @classmethod
    def increment(cls, key: str) -> "Command":
        """Add 1 to the decimal number in `key` (absent: 0)."""
        return cls(CommandType.INCREMENT, key)

    @classmethod
    def sql(cls, *_: Any, **__: Any) -> NoReturn:
        _refuse(CommandType.SQL_EXECUTE)

    @classmethod
    def document_insert(cls, *_: Any, **__: Any) -> NoReturn:
        _refuse(CommandType.DOCUMENT_INSERT)

    @classmethod
    def document_update(cls, *_: Any, **__: Any) -> NoReturn:
        _refuse(CommandType.DOCUMENT_UPDATE)

    @classmethod
    def document_delete(cls, *_: Any, **__: Any) -> NoReturn:
        _refuse(CommandType.DOCUMENT_DELETE)

    @classmethod
    def graph_create_node(cls, *_: Any, **__: Any) -> NoReturn:
        _refuse(CommandType.GRAPH_CREATE_NODE)

    @classmethod
    def graph_create_edge(cls, *_: Any, **__: Any) -> NoReturn:
        _refuse(CommandType.GRAPH_CREATE_EDGE)

    @classmethod
    def tx_begin(cls, *_: Any, **__: Any) -> NoReturn:
        _refuse(CommandType.TRANSACTION_BEGIN)

    @classmethod
    def tx_commit(cls, *_: Any, **__: Any) -> NoReturn:
        _refuse(CommandType.TRANSACTION_COMMIT)

    @classmethod
    def tx_rollback(cls, *_: Any, **__: Any) -> NoReturn:
        _refuse(CommandType.TRANSACTION_ROLLBACK)

    # --- what it is here ---

    @property
    def is_write(self) -> bool:
        return self.command_type is not CommandType.GET

    def native(self) -> Any:
        """The command of the key-value machine that does this; for a get, its query."""
        key = self.key.encode()
        match self.command_type:
            case CommandType.GET:
                return ask.Get(key)
            case CommandType.SET:
                return ask.Put(key, self.value or b"")
            case CommandType.DELETE:
                return ask.Take(key)
            case CommandType.INCREMENT:
                return ask.Increment(key)
        if EXPECTED in self.metadata:
            return ask.CompareAndSet(key, self.value, expect=self.metadata[EXPECTED].encode())
        return ask.CompareAndSet(key, self.value, expect_version=0)

    def to_bytes(self) -> bytes:
        """JSON; the value is base64, not the original's array of numbers."""
        return msgspec.json.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Command":
        """What `to_bytes` wrote; raises InvalidCommand for anything else."""
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, ValueError) as error:
            raise InvalidCommand(f"not a command: {error}") from None


class CommandResult(msgspec.Struct, frozen=True):
    """A command's outcome in the original's form, without `applied_index`: nobody is told positions in the log."""

    success: bool
    value: bytes | None = None
    error: str | None = None

    @classmethod
    def of(cls, command: Command, result: Any) -> "CommandResult":
        """From what the machine answered to `command.native()`: its result, or the error that came instead of one."""
        if isinstance(result, AegisError):
            return cls(False, error=str(result))
        match command.command_type:
            case CommandType.GET | CommandType.DELETE:
                return cls(True, result[0] if isinstance(result, tuple) else getattr(result, "value", None))
            case CommandType.COMPARE_AND_SWAP:
                return cls(True, b"true" if result.succeeded else b"false")
            case CommandType.INCREMENT:
                return cls(True, b"%d" % result)
        return cls(True)


def _refuse(command_type: CommandType) -> NoReturn:
    raise InvalidCommand(f"{command_type.value} is not offered: {_INSTEAD[command_type.value[:3]]}")
