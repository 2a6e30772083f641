"""The key-value machine: what does each command do to keys, values and versions?

Values sit in a dict, keys also in a sorted index that only creating and deleting touch: an overwrite costs one dict
store. A key's version is the machine's revision at its last write; the revision rises by one with every command that
wrote something, so it is the same on every replica and says nothing of the log.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import msgspec
from sortedcontainers import SortedList  # type: ignore[import-untyped]

from aegis_replication.errors import IncompatibleVersion, ProtocolError, WrongIdentity
from aegis_replication.log import Entry
from aegis_replication.state_machine.base import INVALID, NOT_AN_INTEGER, Failure
from aegis_replication.state_machine.commands import (
    KEYS_PER_REPLY_MAX,
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
    MachineStats,
    Operation,
    Put,
    Query,
    Range,
    Stats,
    Swap,
    Take,
)
from aegis_replication.state_machine.frozen_map import FrozenMap, FrozenMaps
from aegis_replication.state_machine.limits import INTEGER_HIGHEST, INTEGER_LOWEST, Door, KeyValueLimits

FORMAT_VERSION: Final = 1

PIECE_BYTES: Final = 256 * 1024
"""A snapshot's piece is full when it has passed this: one value may make it larger."""

_INTEGER = re.compile(rb"[+-]?[0-9]{1,19}")

_ENCODER = msgspec.msgpack.Encoder()
_QUERY_DECODER: msgspec.msgpack.Decoder[Query] = msgspec.msgpack.Decoder(Query)

_Stored = tuple[bytes, int]  # value, version: a tuple of two atoms, which the garbage collector soon stops visiting


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot's first piece."""

    kind: str
    format_version: int
    revision: int
    keys: int


_HEAD_DECODER = msgspec.msgpack.Decoder(_Head)
_LINES_DECODER = msgspec.msgpack.Decoder(list[tuple[bytes, bytes, int]])


class KeyValueMachine:
    """A sorted map from bytes to bytes with versions, behind one group's log (wrap it in SessionMachine)."""

    __slots__ = ("_door", "_frozen", "_items", "_keys", "_queries", "_revision", "handlers", "kind")

    def __init__(self, limits: KeyValueLimits | None = None) -> None:
        self.kind = "key-value"
        self._door = Door(limits or KeyValueLimits())
        # The state. Invariant: _keys holds exactly the keys of _items.
        self._items: dict[bytes, _Stored] = {}
        self._keys: Any = SortedList()
        # The copies of the state that are being written to snapshots, told of each key before it changes.
        self._frozen = FrozenMaps()
        # How many write commands took effect. Only rises. Invariant: no item's version is higher.
        self._revision = 0
        self.handlers: Mapping[type, Callable[[Any], Any]] = {
            Put: self._put,
            Delete: self._delete,
            Take: self._take,
            CompareAndSet: self._compare_and_set,
            Increment: self._increment,
            DeleteRange: self._delete_range,
            Batch: self._batch,
        }
        self._queries: dict[type, Callable[[Any], Any]] = {
            Get: self._get,
            GetMany: self._get_many,
            Range: self._range,
            Keys: self._range_keys,
            Count: self._count,
            Stats: self._stats,
        }

    def __len__(self) -> int:
        return len(self._items)

    @property
    def revision(self) -> int:
        return self._revision

    def check(self, command: Any) -> None:
        self._door.check(command)

    def begin(self, entry: Entry) -> None:
        pass  # nothing here depends on time

    # --- commands ---

    def _put(self, command: Put) -> int:
        key = command.key
        self._revision = revision = self._revision + 1
        items = self._items
        if self._frozen:
            self._frozen.keep(key)
        if key not in items:
            self._keys.add(key)
        items[key] = (command.value, revision)
        return revision

    def _delete(self, command: Delete) -> int:
        if self._frozen:
            self._frozen.keep(command.key, is_leaving=True)
        stored = self._items.pop(command.key, None)
        if stored is None:
            return 0
        self._keys.remove(command.key)
        self._revision += 1
        return stored[1]

    def _take(self, command: Take) -> _Stored | None:
        if self._frozen:
            self._frozen.keep(command.key, is_leaving=True)
        stored = self._items.pop(command.key, None)
        if stored is not None:
            self._keys.remove(command.key)
            self._revision += 1
        return stored

    def _compare_and_set(self, command: CompareAndSet) -> Swap:
        key, value = command.key, command.value
        if not self._holds(command):
            return Swap(False, self._version(key))
        if value is not None:
            return Swap(True, self._put(Put(key, value)))
        self._delete(Delete(key))
        return Swap(True, 0)

    def _holds(self, condition: CompareAndSet | Condition) -> bool:
        value, version = self._items.get(condition.key, (None, 0))
        return (condition.expect is None or condition.expect == value) and (
            condition.expect_version is None or condition.expect_version == version
        )

    def _version(self, key: bytes) -> int:
        stored = self._items.get(key)
        return stored[1] if stored is not None else 0

    def _increment(self, command: Increment) -> int | Failure:
        text = self._items[command.key][0] if command.key in self._items else b"0"
        total = int(text) + command.by if _INTEGER.fullmatch(text) else None
        if total is None or not INTEGER_LOWEST <= total <= INTEGER_HIGHEST:
            return Failure(
                NOT_AN_INTEGER,
                f"{_shown(command.key)} holds {_shown(text)}: no 64-bit integer comes of adding {command.by}",
            )
        self._put(Put(command.key, b"%d" % total))
        return total

    def _delete_range(self, command: DeleteRange) -> int:
        first, after = self._positions(command.start, command.end)
        if command.limit:
            after = min(after, first + command.limit)
        if first >= after:
            return 0
        for key in self._keys[first:after]:
            if self._frozen:
                self._frozen.keep(key, is_leaving=True)
            del self._items[key]
        del self._keys[first:after]
        self._revision += 1
        return after - first

    def _batch(self, command: Batch) -> BatchResult | Failure:
        for position, condition in enumerate(command.conditions):
            if not self._holds(condition):
                return BatchResult(False, (), position)
        before = self._revision
        wrote = False
        results: list[Any] = []
        undo: list[tuple[bytes, _Stored | None]] = []
        for operation in command.operations:
            for key in self._touched(operation):
                undo.append((key, self._items.get(key)))
            self._revision = before  # so that every operation writes with the same version, one above
            result = self.handlers[type(operation)](operation)
            wrote = wrote or self._revision > before
            if type(result) is Failure or (type(result) is Swap and not result.succeeded):
                self._undo(undo)  # and the revision is what it was, as what fails writes nothing
                failed = len(command.conditions) + len(results)
                return result if type(result) is Failure else BatchResult(False, (), failed)
            results.append(result)
        self._revision = before + wrote
        return BatchResult(True, tuple(results))

    def _touched(self, operation: Operation) -> Iterable[bytes]:
        if type(operation) is not DeleteRange:
            return (operation.key,)  # type: ignore[union-attr]
        first, after = self._positions(operation.start, operation.end)
        keys: list[bytes] = self._keys[first:after]
        return keys

    def _undo(self, undo: list[tuple[bytes, _Stored | None]]) -> None:
        for key, stored in reversed(undo):
            if stored is not None:
                if key not in self._items:
                    self._keys.add(key)
                self._items[key] = stored
            elif self._items.pop(key, None) is not None:
                self._keys.remove(key)

    # --- queries ---

    def query(self, query: bytes) -> Any:
        try:
            asked = _QUERY_DECODER.decode(query)
        except msgspec.MsgspecError as error:
            return Failure(INVALID, f"not a query of the key-value machine: {error}")
        return self._queries[type(asked)](asked)

    def _get(self, query: Get) -> _Stored | None:
        return self._items.get(query.key)

    def _get_many(self, query: GetMany) -> list[_Stored | None] | Failure:
        if len(query.keys) > KEYS_PER_REPLY_MAX:
            return Failure(INVALID, f"{len(query.keys):,} keys at once: ask for at most {KEYS_PER_REPLY_MAX:,}")
        found: list[_Stored | None] = []
        size = 0
        for key in query.keys:
            stored = self._items.get(key)
            found.append(stored)
            size += len(stored[0]) if stored is not None else 0
            if size >= REPLY_BYTES_MAX:
                break
        return found

    def _range(self, query: Range) -> Any:
        if refusal := _refuse_limit(query.limit):
            return refusal
        lines: list[tuple[bytes, bytes, int]] = []
        size = 0
        keys = self._keys.irange(query.start, query.end, (True, False))
        for key in islice(keys, query.limit):
            value, version = self._items[key]
            lines.append((key, value, version))
            size += len(key) + len(value)
            if size >= REPLY_BYTES_MAX:
                break
        else:
            if len(lines) < query.limit:
                return lines, None
        return lines, self._cursor(lines[-1][0], query.end)

    def _range_keys(self, query: Keys) -> Any:
        if refusal := _refuse_limit(query.limit):
            return refusal
        keys: list[bytes] = []
        size = 0
        for key in islice(self._keys.irange(query.start, query.end, (True, False)), query.limit):
            keys.append(key)
            size += len(key)
            if size >= REPLY_BYTES_MAX:
                break
        else:
            if len(keys) < query.limit:
                return keys, None
        return keys, self._cursor(keys[-1], query.end)

    def _cursor(self, last: bytes, end: bytes | None) -> bytes | None:
        """Where to go on after `last`: the key just behind it; None if nothing of the range is left now."""
        following = last + b"\0"
        first, after = self._positions(following, end)
        return following if first < after else None

    def _count(self, query: Count) -> int:
        first, after = self._positions(query.start, query.end)
        return max(after - first, 0)

    def _stats(self, query: Stats) -> MachineStats:
        return MachineStats(len(self._items), self._revision)

    def _positions(self, start: bytes, end: bytes | None) -> tuple[int, int]:
        """Where [start, end) begins and ends in the order of keys."""
        first = self._keys.bisect_left(start)
        after = self._keys.bisect_left(end) if end is not None else len(self._keys)
        return first, after

    # --- snapshots ---

    def freeze(self) -> Iterator[bytes]:
        # Nothing is copied now: pieces are made from the living state, and what is overwritten before its turn is kept.
        head = _Head("key-value", FORMAT_VERSION, self._revision, len(self._items))
        return _pieces(head, self._frozen.freeze(self._items, self._keys))

    def restore(self, pieces: Iterable[bytes]) -> None:
        for _ in self.restoring(pieces):
            pass

    def restoring(self, pieces: Iterable[bytes]) -> Iterator[None]:
        stream = iter(pieces)
        head = _HEAD_DECODER.decode(next(stream, b""))
        if head.kind != self.kind:
            raise WrongIdentity(
                f"a snapshot of a {head.kind!r} machine, for a {self.kind!r}: start this node with the former"
            )
        if head.format_version != FORMAT_VERSION:
            raise IncompatibleVersion(
                f"a key-value snapshot of format {head.format_version}: this program knows {FORMAT_VERSION}"
            )
        items: dict[bytes, _Stored] = {}
        for piece in stream:
            for key, value, version in _LINES_DECODER.decode(piece):
                items[key] = (value, version)
            yield
        if len(items) != head.keys:
            raise ProtocolError(f"a key-value snapshot of {head.keys} keys has {len(items)}")
        self._items, self._keys, self._revision = items, SortedList(items), head.revision
        self._frozen = FrozenMaps()  # copies of the former state go on with that: nobody changes it any more


def _pieces(head: _Head, frozen: FrozenMap) -> Iterator[bytes]:
    yield _ENCODER.encode(head)
    for lines in frozen.pieces(PIECE_BYTES):
        yield _ENCODER.encode(lines)


def _refuse_limit(limit: int) -> Failure | None:
    if 1 <= limit <= KEYS_PER_REPLY_MAX:
        return None
    return Failure(INVALID, f"limit = {limit}: give 1 to {KEYS_PER_REPLY_MAX:,} and go on with the cursor")


def _shown(data: bytes) -> str:
    return repr(data if len(data) <= 40 else data[:40] + b"...")
