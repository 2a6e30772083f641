"""Which key-value commands are let in? Sizes and arguments, looked at before a command is logged, never after."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from aegis_replication.errors import InvalidArgument, InvalidCommand, LimitExceeded
from aegis_replication.state_machine.commands import (
    OPERATIONS_PER_BATCH_MAX,
    Batch,
    CompareAndSet,
    Condition,
    Delete,
    DeleteRange,
    Increment,
    Put,
    Take,
)

VALUE_BYTES_HIGHEST: Final = 8 * 1024 * 1024
KEY_BYTES_HIGHEST: Final = 64 * 1024

INTEGER_LOWEST: Final = -(2**63)
INTEGER_HIGHEST: Final = 2**63 - 1


class KeyValueLimits(msgspec.Struct, frozen=True):
    """How large a key and a value may be. Nodes may differ for a while: the leader's limits decide."""

    key_bytes: int = KEY_BYTES_HIGHEST
    value_bytes: int = 1024 * 1024

    def __post_init__(self) -> None:
        for name, highest in (("key_bytes", KEY_BYTES_HIGHEST), ("value_bytes", VALUE_BYTES_HIGHEST)):
            if not 1 <= getattr(self, name) <= highest:
                raise InvalidArgument(f"{name} = {getattr(self, name):,}: give 1 to {highest:,} bytes")


class Door:
    """Checks commands against limits; raises InvalidCommand or LimitExceeded."""

    __slots__ = ("_checks", "_limits")

    def __init__(self, limits: KeyValueLimits) -> None:
        self._limits = limits
        self._checks: dict[type, Callable[[Any], None]] = {
            Put: self._check_put,
            Delete: self._check_key,
            Take: self._check_key,
            CompareAndSet: self._check_compare_and_set,
            Increment: self._check_increment,
            DeleteRange: self._check_delete_range,
            Batch: self._check_batch,
        }

    def check(self, command: Any) -> None:
        self._checks[type(command)](command)

    def _check_key(self, command: Any) -> None:
        if len(command.key) > self._limits.key_bytes:
            raise LimitExceeded("a key", len(command.key), self._limits.key_bytes)

    def _check_put(self, command: Put) -> None:
        self._check_key(command)
        self._check_value(command.value)

    def _check_value(self, value: bytes) -> None:
        if len(value) > self._limits.value_bytes:
            raise LimitExceeded("a value", len(value), self._limits.value_bytes)

    def _check_compare_and_set(self, command: CompareAndSet) -> None:
        self._check_condition(command)
        if command.value is not None:
            self._check_value(command.value)

    def _check_condition(self, condition: CompareAndSet | Condition) -> None:
        self._check_key(condition)
        if condition.expect is None and condition.expect_version is None:
            raise InvalidCommand("a comparison without anything to compare: give expect or expect_version (0: absent)")
        if condition.expect_version is not None and condition.expect_version < 0:
            raise InvalidCommand(f"expect_version = {condition.expect_version}: versions begin at 1, 0 means absent")

    def _check_increment(self, command: Increment) -> None:
        self._check_key(command)
        if not INTEGER_LOWEST <= command.by <= INTEGER_HIGHEST:
            raise InvalidCommand(f"an increment by {command.by}: give a signed 64-bit number")

    def _check_delete_range(self, command: DeleteRange) -> None:
        if command.limit < 0:
            raise InvalidCommand(f"limit = {command.limit}: give 0 (all) or more")

    def _check_batch(self, command: Batch) -> None:
        count = len(command.operations) + len(command.conditions)
        if count > OPERATIONS_PER_BATCH_MAX:
            raise LimitExceeded("a batch", count, OPERATIONS_PER_BATCH_MAX, "operations and conditions")
        for condition in command.conditions:
            self._check_condition(condition)
        for operation in command.operations:
            self._checks[type(operation)](operation)
