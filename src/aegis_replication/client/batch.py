"""How are several writes gathered that happen together or not at all?"""

from collections.abc import Awaitable, Callable
from typing import Any, Self

from aegis_replication.client.arguments import value_bytes
from aegis_replication.errors import InvalidArgument
from aegis_replication.state_machine.commands import (
    BatchResult,
    Condition,
    Delete,
    DeleteRange,
    Increment,
    Operation,
    Put,
    prefix_end,
    text_key,
)


class WriteBatch:
    """Operations on keys, and conditions under which they happen: all of them at one point in time, or none.

    >>> batch = db.batch().require("a", expect_version=3).put("a", "1").delete("b")  # doctest: +SKIP
    >>> done = await batch.commit()  # doctest: +SKIP
    """

    __slots__ = ("_conditions", "_operations", "_write")

    def __init__(self, write: Callable[..., Awaitable[BatchResult]]) -> None:
        self._write = write
        self._operations: list[Operation] = []
        self._conditions: list[Condition] = []

    def __len__(self) -> int:
        return len(self._operations)

    def require(
        self, key: bytes | str, *, expect: bytes | str | None = None, expect_version: int | None = None
    ) -> Self:
        """Nothing happens unless `key` holds `expect`, or has version `expect_version` (0: is absent)."""
        if expect is None and expect_version is None:
            raise InvalidArgument("nothing to compare with: give expect=, or expect_version= (0: the key is absent)")
        self._conditions.append(
            Condition(text_key(key), None if expect is None else value_bytes(expect), expect_version)
        )
        return self

    def put(self, key: bytes | str, value: bytes | str) -> Self:
        """Set `key` to `value`."""
        self._operations.append(Put(text_key(key), value_bytes(value)))
        return self

    def delete(self, key: bytes | str) -> Self:
        """Remove `key`."""
        self._operations.append(Delete(text_key(key)))
        return self

    def increment(self, key: bytes | str, by: int = 1) -> Self:
        """Add `by` to the decimal integer in `key`."""
        self._operations.append(Increment(text_key(key), by))
        return self

    def delete_prefix(self, prefix: bytes | str) -> Self:
        """Remove all keys with `prefix`."""
        first = text_key(prefix)
        self._operations.append(DeleteRange(first, prefix_end(first)))
        return self

    async def commit(self, *, timeout: float | None = None) -> BatchResult:
        """Do it. The result is true if all was done; `results` has one per operation."""
        options: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        return await self._write(self._operations, self._conditions, **options)
