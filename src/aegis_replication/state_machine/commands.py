"""What can be asked of the key-value machine? Its commands and queries, their results, and all of them as bytes.

A command or query is a msgpack array whose first element is its tag; results carry no tag, as the caller knows what
it asked. Tags are part of the format for ever: never reuse one.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

from aegis_replication.errors import InvalidArgument
from aegis_replication.ids import SessionId

SESSION_BYTES = 16

NO_SESSION: SessionId = b""
"""Stands in a command that isn't to be recognised when it comes twice."""


class _Message(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """An array with a tag in front; one element too many is an error, so that a newer form is never half understood."""


# --- commands -------------------------------------------------------------------------------------------------------


class Put(_Message, frozen=True, tag=1):
    """Set `key` to `value`. Result: the key's new version."""

    key: bytes
    value: bytes


class Delete(_Message, frozen=True, tag=2):
    """Remove `key`. Result: the version it had, 0 if there was none."""

    key: bytes


class Take(_Message, frozen=True, tag=3):
    """Remove `key` and answer what was there. Result: Item, or None."""

    key: bytes


class CompareAndSet(_Message, frozen=True, tag=4):
    """Set `key` to `value` (None: remove it) if it now holds `expect` and has version `expect_version` (0: is absent).

    At least one of the two must be given; None means "not asked". Result: Swap.
    """

    key: bytes
    value: bytes | None
    expect: bytes | None = None
    expect_version: int | None = None


class Increment(_Message, frozen=True, tag=5):
    """Add `by` to the decimal integer in `key` (absent: 0). Result: the sum, a signed 64-bit number.

    Anything else in the key, or a sum beyond 64 bits, answers NOT_AN_INTEGER and leaves it as it was.
    """

    key: bytes
    by: int = 1


class DeleteRange(_Message, frozen=True, tag=6):
    """Remove the keys of [start, end) (end None: to the last), the first `limit` of them (0: all). Result: how many."""

    start: bytes
    end: bytes | None = None
    limit: int = 0


class Condition(_Message, frozen=True):
    """What must hold of `key` for a batch to be carried out; read like CompareAndSet's two expectations."""

    key: bytes
    expect: bytes | None = None
    expect_version: int | None = None


Operation: TypeAlias = Put | Delete | Take | CompareAndSet | Increment | DeleteRange


class Batch(_Message, frozen=True, tag=7):
    """All operations in this order, or none of them; every key written gets the same version. Result: BatchResult.

    Nothing is done if a condition doesn't hold, if a CompareAndSet among the operations fails, or (answered as
    NOT_AN_INTEGER) if an Increment does.
    """

    operations: tuple[Operation, ...]
    conditions: tuple[Condition, ...] = ()


Command: TypeAlias = Operation | Batch

# --- queries --------------------------------------------------------------------------------------------------------


class Get(_Message, frozen=True, tag=33):
    """Result: Item, or None."""

    key: bytes


class GetMany(_Message, frozen=True, tag=34):
    """Result: one Item or None per key, in order; may end early at REPLY_BYTES_MAX: ask again for the rest."""

    keys: tuple[bytes, ...]


class Range(_Message, frozen=True, tag=35):
    """Keys and values of [start, end) (end None: to the last). Result: Page, of `limit` lines or REPLY_BYTES_MAX."""

    start: bytes = b""
    end: bytes | None = None
    limit: int = 1_000


class Keys(_Message, frozen=True, tag=36):
    """The keys alone of [start, end). Result: KeyPage, cut likewise."""

    start: bytes = b""
    end: bytes | None = None
    limit: int = 1_000


class Count(_Message, frozen=True, tag=37):
    """How many keys [start, end) has. Result: int."""

    start: bytes = b""
    end: bytes | None = None


class Stats(_Message, frozen=True, tag=38):
    """Result: MachineStats."""


Query: TypeAlias = Get | GetMany | Range | Keys | Count | Stats

KEYS_PER_REPLY_MAX = 10_000
"""No `limit` and no GetMany may be higher."""

REPLY_BYTES_MAX = 1024 * 1024
"""A reply with several values ends after the one that passes this."""

OPERATIONS_PER_BATCH_MAX = 10_000

# --- results --------------------------------------------------------------------------------------------------------


class _Result(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An array without a tag; a later version may add elements at its end."""


class Item(_Result, frozen=True):
    """A value and the version of the write that put it there."""

    value: bytes
    version: int


class KeyValue(_Result, frozen=True):
    """One line of a range."""

    key: bytes
    value: bytes
    version: int


class Page(_Result, frozen=True):
    """Part of a range; `cursor` is the `start` of the next part, None after the last."""

    items: tuple[KeyValue, ...]
    cursor: bytes | None


class KeyPage(_Result, frozen=True):
    """Part of a range's keys; `cursor` as in Page."""

    keys: tuple[bytes, ...]
    cursor: bytes | None


class Swap(_Result, frozen=True):
    """Did the comparison hold, and the key's version now (0: it is absent)."""

    succeeded: bool
    version: int

    def __bool__(self) -> bool:
        return self.succeeded


class BatchResult(_Result, frozen=True):
    """`results` of all operations; or none and the one that `failed`, counted from 0, conditions first."""

    succeeded: bool
    results: tuple[Any, ...] = ()
    failed: int | None = None

    def __bool__(self) -> bool:
        return self.succeeded


class MachineStats(_Result, frozen=True):
    """How many keys there are, and the machine's revision: how many write commands took effect so far."""

    keys: int
    revision: int


_RESULTS: dict[type, Any] = {
    Put: int,
    Delete: int,
    Take: Item | None,
    CompareAndSet: Swap,
    Increment: int,
    DeleteRange: int,
    Batch: BatchResult,
    Get: Item | None,
    GetMany: tuple[Item | None, ...],
    Range: Page,
    Keys: KeyPage,
    Count: int,
    Stats: MachineStats,
}
_RESULT_DECODERS = {asked: msgspec.msgpack.Decoder(result) for asked, result in _RESULTS.items()}

# --- bytes ----------------------------------------------------------------------------------------------------------

_ENCODER = msgspec.msgpack.Encoder()
_encode = _ENCODER.encode
_ARRAY_OF_MANY = b"\xdd"  # msgpack's array32


def encode_command(session: SessionId, sequence: int, floor: int, command: Any) -> bytes:
    """One command as a client sends it; `floor` is the lowest sequence whose answer the client still waits for."""
    return _encode((session, sequence, floor, command))


def encode_open(session: SessionId) -> bytes:
    """The command that opens a session, or changes nothing if it is open. Result: the window (see SessionMachine)."""
    return _encode((session, 0, 0, None))


def encode_query(query: Any) -> bytes:
    """One query as a client sends it."""
    return _encode(query)


def decode_result(asked: type, body: bytes) -> Any:
    """The result of a key-value command or query of type `asked`, from the body of an OK reply."""
    return _RESULT_DECODERS[asked].decode(body)


def join_commands(commands: Sequence[bytes]) -> bytes:
    """The payload of one entry: an array of the commands' bytes as they came."""
    return b"".join((_ARRAY_OF_MANY, len(commands).to_bytes(4, "big"), *commands))


def prefix_end(prefix: bytes) -> bytes | None:
    """The first key after all keys that begin with `prefix`: the `end` of their range (None: there is none)."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


def text_key(key: bytes | str) -> bytes:
    """`key` as the machine stores it: text as UTF-8. Raises InvalidArgument for anything else."""
    if isinstance(key, str):
        return key.encode()
    if isinstance(key, bytes):
        return key
    raise InvalidArgument(f"key {key!r} is a {type(key).__name__}: give bytes or text")


def batch(operations: Iterable[Operation], conditions: Iterable[Condition] = ()) -> Batch:
    """A Batch of any iterables."""
    return Batch(tuple(operations), tuple(conditions))
