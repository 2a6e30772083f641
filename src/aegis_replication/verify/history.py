"""In which form is a history of requests kept? JSON lines, one request each, that any program can write or judge.

    {"client": "c1", "key": "r0", "op": "put", "value": "17", "called_ns": 100, "returned_ns": 250, "outcome": "ok"}

`op` is get, put, cas, increment or delete. `value` is what was put, `expect` what a cas compared with (null: the key is
absent), `by` what was added. `called_ns` and `returned_ns` come from one monotonic clock for all clients. `outcome` is
"ok" (then `result`: the value read or null; true or false of a cas or delete; the sum of an increment), "unknown" (it
took effect at any time after its call, or never; no `returned_ns`) or "failed" (it surely had no effect).
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from aegis_replication.errors import InvalidArgument
from aegis_replication.simulation.checkers.linearizability import FOREVER, UNKNOWN, Operation

OPERATIONS_MAX: Final = 5_000_000
LINE_BYTES_MAX: Final = 1024 * 1024

Kind: TypeAlias = Literal["get", "put", "cas", "increment", "delete"]
Outcome: TypeAlias = Literal["ok", "unknown", "failed"]
Result: TypeAlias = bool | int | str | None


class Record(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """One request and its answer: a line of the file."""

    client: str
    key: str
    op: Kind
    called_ns: int
    outcome: Outcome
    returned_ns: int | None = None
    value: str | None = None  # put, cas: the new value
    expect: str | None = None  # cas: what the key must hold; None: it must be absent
    by: int | None = None  # increment
    result: Result = None


class History:
    """What happened, in the order of the answers."""

    __slots__ = ("records",)

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.records: list[Record] = list(records)

    def count(self, outcome: Outcome) -> int:
        """How many ended so."""
        return sum(record.outcome == outcome for record in self.records)

    def operations(self) -> Iterator[Operation]:
        """As the checker takes them; those without effect aren't among them."""
        return (_operation(record) for record in self.records if record.outcome != "failed")

    def longest_stall_ms(self) -> float:
        """The longest time between two answers that followed one another."""
        moments = sorted(record.returned_ns for record in self.records if record.returned_ns is not None)
        return max((after - before for before, after in pairwise(moments)), default=0) / 1e6

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        encode = msgspec.json.Encoder().encode
        unfinished = path.with_name(path.name + ".unfinished")
        with unfinished.open("wb") as file:
            for record in self.records:
                file.write(encode(record) + b"\n")
        unfinished.replace(path)


def load_history(path: Path) -> History:
    """What `History.save` or another program wrote. Raises InvalidArgument, naming the line, for anything else."""
    decode = msgspec.json.Decoder(Record).decode
    history = History()
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                if len(line) > LINE_BYTES_MAX:
                    raise InvalidArgument(f"{path}:{number}: the line is longer than {LINE_BYTES_MAX:,} bytes")
                if not line.strip():
                    continue
                if len(history.records) == OPERATIONS_MAX:
                    raise InvalidArgument(f"{path}:{number}: more than {OPERATIONS_MAX:,} requests: judge it in parts")
                try:
                    record = decode(line)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    raise InvalidArgument(f"{path}:{number}: not a request and its answer: {error}") from None
                if why := _why_wrong(record):
                    raise InvalidArgument(f"{path}:{number}: {why}")
                history.records.append(record)
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}: give a file that `aegis verify --history` wrote") from None
    return history


_NEEDS: Final[dict[Kind, tuple[str, ...]]] = {"put": ("value",), "cas": ("value",), "increment": ("by",)}
_TAKES: Final[dict[Kind, frozenset[str]]] = {
    "get": frozenset(),
    "put": frozenset(("value",)),
    "cas": frozenset(("value", "expect")),
    "increment": frozenset(("by",)),
    "delete": frozenset(),
}
_RESULTS: Final[dict[Kind, tuple[type, ...]]] = {
    "get": (str, type(None)),
    "put": (type(None), bool, int),  # nothing, or a version
    "cas": (bool,),
    "increment": (int,),
    "delete": (bool,),
}


def _why_wrong(record: Record) -> str:
    """What no client can have seen; "" when all fits."""
    for name in _NEEDS.get(record.op, ()):
        if getattr(record, name) is None:
            return f"a {record.op} without `{name}`"
    for name in ("value", "expect", "by"):
        if getattr(record, name) is not None and name not in _TAKES[record.op]:
            return f"a {record.op} with `{name}`, which means nothing there"
    if record.outcome != "ok":
        has_answer = record.result is not None or record.returned_ns is not None
        return f"an answer to a request whose outcome is {record.outcome}" if has_answer else ""
    if record.returned_ns is None:
        return "outcome ok without `returned_ns`: when did the answer come?"
    if record.returned_ns < record.called_ns:
        return f"answered at {record.returned_ns} ns, before it was called at {record.called_ns} ns"
    if record.op == "increment" and isinstance(record.result, bool):
        return "an increment whose `result` is no number"
    if not isinstance(record.result, _RESULTS[record.op]):
        return f"a {record.op} whose `result` is {record.result!r}"
    return ""


def _operation(record: Record) -> Operation:
    is_answered = record.outcome == "ok"
    returned = record.returned_ns if is_answered and record.returned_ns is not None else FOREVER
    result: Any = _answer(record) if is_answered else UNKNOWN
    return Operation(record.client, record.key, _action(record), record.called_ns, returned, result)


def _action(record: Record) -> tuple[Any, ...]:
    match record.op:
        case "put":
            return ("put", _bytes(record.value))
        case "cas":
            return ("cas", _bytes(record.value), _bytes(record.expect))
        case "increment":
            return ("increment", record.by)
        case _:
            return (record.op,)


def _answer(record: Record) -> Any:
    if record.op == "get":
        return _bytes(record.result if isinstance(record.result, str) else None)
    return True if record.op == "put" else record.result


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
