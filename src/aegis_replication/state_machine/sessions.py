"""How is a command that comes twice applied once? Client sessions in the replicated state (thesis §6.3).

Every decision here is taken from the log alone (the entry's commands, order and stamp), so that all replicas take the
same: which sessions exist, which results are remembered, what is refused.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Union

import msgspec
import xxhash

from aegis_replication.errors import IncompatibleVersion, InvalidCommand, ProtocolError, WrongIdentity
from aegis_replication.ids import SessionId
from aegis_replication.log import Entry
from aegis_replication.state_machine.base import (
    INVALID,
    REFUSED,
    SESSION_EXPIRED,
    CommandMachine,
    Failure,
    restoring,
)
from aegis_replication.state_machine.commands import SESSION_BYTES, join_commands

FORMAT_VERSION: Final = 1

WINDOW: Final = 1_024
"""How far a sequence may be above the lowest one its client still waits for: no more results are kept per session."""

SESSIONS_MAX: Final = 10_000
"""One more, and the session that was used least recently is forgotten."""

IDLE_MS: Final = 60 * 60 * 1000
"""A session not used for this long, by the stamps of entries, is forgotten."""

STAMP_LOGICAL_BITS: Final = 16

NOT_THESE_TYPES: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that aren't what was asked for."""

_SEQUENCE_HIGHEST: Final = 2**63 - 1
_SESSIONS_PER_PIECE: Final = 256
_ENCODER = msgspec.msgpack.Encoder()

_Line = tuple[
    SessionId, int, int, list[tuple[Any, ...]]
]  # id, floor, used, (sequence, result) or (sequence, status, detail)


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot's first piece."""

    kind: str
    format_version: int
    sessions: int
    pieces: int  # of sessions; those of the machine follow


def machine_of(piece: bytes) -> tuple[str, int]:
    """Which kind of machine a snapshot is of, and how many sessions, by its first piece. Raises ProtocolError."""
    try:
        head = _HEAD_DECODER.decode(piece)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"not a snapshot's first piece: {error}") from None
    return head.kind, head.sessions


_HEAD_DECODER = msgspec.msgpack.Decoder(_Head)
_LINES_DECODER: msgspec.msgpack.Decoder[list[_Line]] = msgspec.msgpack.Decoder(list[_Line])


class _Session:
    """What is remembered of one client."""

    __slots__ = ("floor", "results", "used")

    def __init__(self, used: int) -> None:
        # Lowest sequence the client may still ask for. Only rises.
        self.floor = 0
        # By sequence. Invariant: floor <= sequence < floor + WINDOW.
        self.results: dict[int, Any] = {}
        # Stamp of the last entry that used it. Only rises.
        self.used = used


class SessionMachine:
    """The Machine of a group: decodes entries, recognises commands that come again, leaves the rest to `inner`.

    A command is an array [session, sequence, floor, body]. With an empty session it is applied whenever it comes.
    Otherwise sequence 0 with body nil opens the session (result: WINDOW); every other sequence is carried out once,
    in whatever order they arrive, and its result is kept until the client says by `floor` that it has it. Below the
    floor or WINDOW above it, a command is REFUSED; so it is with SESSION_EXPIRED if its session is not known. Neither
    leaves a trace. `sessions_max` and `idle_ms` must be equal on all replicas of a group for ever: they are
    arguments for tests.
    """

    __slots__ = ("_commands", "_command", "_idle", "_sessions", "_sessions_max", "inner")

    def __init__(self, inner: CommandMachine, *, sessions_max: int = SESSIONS_MAX, idle_ms: int = IDLE_MS) -> None:
        self.inner = inner
        self._sessions_max = sessions_max
        self._idle = idle_ms << STAMP_LOGICAL_BITS
        # The least recently used comes first. Invariant: `used` rises along it.
        self._sessions: OrderedDict[SessionId, _Session] = OrderedDict()
        body: Any = Union[(*inner.handlers, None)]
        command: Any = tuple[bytes, int, int, body]
        # One command, for the door; a whole entry, decoded in C at one go.
        self._command: msgspec.msgpack.Decoder[tuple[bytes, int, int, Any]] = msgspec.msgpack.Decoder(command)
        self._commands: Callable[[memoryview], list[tuple[bytes, int, int, Any]]] = msgspec.msgpack.Decoder(
            list[command]
        ).decode

    @property
    def session_count(self) -> int:
        return len(self._sessions)

    # --- at the door ---

    def check(self, command: bytes) -> None:
        try:
            session, sequence, floor, body = self._command.decode(command)
        except NOT_THESE_TYPES as error:
            raise InvalidCommand(f"not a command of this {self.inner.kind} machine: {error}") from None
        if body is None or session:
            _check_session(session, sequence, floor, body)
        if body is not None:
            self.inner.check(body)

    def join(self, commands: Sequence[bytes]) -> bytes:
        return join_commands(commands)

    # --- commands ---

    def apply(self, entry: Entry) -> Sequence[Any]:
        commands = self._decode(entry)
        self._forget_idle(entry.stamp)
        self.inner.begin(entry)
        # The one loop that every write passes through, on every node: locals, and no call but the handler's.
        handlers, stamp = self.inner.handlers, entry.stamp
        find, touch = self._sessions.get, self._sessions.move_to_end
        results: list[Any] = []
        for name, sequence, floor, body in commands:
            if not name:
                results.append(handlers[type(body)](body) if body is not None else _NOTHING_ASKED)
                continue
            session = find(name)
            if session is None or not sequence:
                results.append(self._open(name, session, stamp) if not sequence else _EXPIRED)
                continue
            lowest = session.floor
            if floor < lowest:  # sent before one that came earlier
                floor = lowest
            if not floor <= sequence < floor + WINDOW:
                results.append(_refused(sequence, floor))
                continue
            remembered = session.results
            if sequence in remembered:
                result = remembered[sequence]
            else:
                result = handlers[type(body)](body) if body is not None else _NOTHING_ASKED
                if type(result) is Failure and result.status == REFUSED:
                    results.append(result)
                    continue
                remembered[sequence] = result
            if floor > lowest:
                session.floor = floor
                if floor - lowest > len(remembered):
                    for old in [known for known in remembered if known < floor]:
                        del remembered[old]
                else:
                    for old in range(lowest, floor):
                        remembered.pop(old, None)
            session.used = stamp
            touch(name)
            results.append(result)
        return results

    def _decode(self, entry: Entry) -> list[tuple[bytes, int, int, Any]]:
        try:
            return self._commands(entry.payload)
        except NOT_THESE_TYPES as error:
            raise IncompatibleVersion(
                f"entry {entry.term}:{entry.index} holds a command that this {self.inner.kind} machine doesn't know "
                f"({error}): run the version that wrote it, or a newer one"
            ) from None

    def _open(self, name: SessionId, session: _Session | None, stamp: int) -> int:
        if session is None:
            session = self._sessions[name] = _Session(stamp)
            if len(self._sessions) > self._sessions_max:
                self._sessions.popitem(last=False)
        session.used = stamp
        self._sessions.move_to_end(name)
        return WINDOW

    def _forget_idle(self, stamp: int) -> None:
        oldest_kept = stamp - self._idle
        while self._sessions:
            name, session = next(iter(self._sessions.items()))
            if session.used >= oldest_kept:
                return
            del self._sessions[name]

    # --- queries and snapshots ---

    def query(self, query: bytes) -> Any:
        return self.inner.query(query)

    def freeze(self) -> Iterator[bytes]:
        table = [(name, each.floor, each.used, each.results.copy()) for name, each in self._sessions.items()]
        return self._pieces(table, self.inner.freeze())

    def _pieces(
        self, table: list[tuple[SessionId, int, int, dict[int, Any]]], inner: Iterator[bytes]
    ) -> Iterator[bytes]:
        parts = range(0, len(table), _SESSIONS_PER_PIECE)
        yield _ENCODER.encode(_Head(self.inner.kind, FORMAT_VERSION, len(table), len(parts)))
        for first in parts:
            yield _ENCODER.encode(
                [
                    (name, floor, used, [_line(sequence, results[sequence]) for sequence in sorted(results)])
                    for name, floor, used, results in table[first : first + _SESSIONS_PER_PIECE]
                ]
            )
        yield from inner

    def restore(self, pieces: Iterable[bytes]) -> None:
        for _ in self.restoring(pieces):
            pass

    def restoring(self, pieces: Iterable[bytes]) -> Iterator[None]:
        stream = iter(pieces)
        try:
            head = _HEAD_DECODER.decode(next(stream, b""))
            if head.kind != self.inner.kind:
                raise WrongIdentity(
                    f"a snapshot of a {head.kind!r} machine, for a {self.inner.kind!r}: start this node with the former"
                )
            if head.format_version != FORMAT_VERSION:
                raise IncompatibleVersion(
                    f"a session table of format {head.format_version}: this program knows {FORMAT_VERSION}"
                )
            sessions: OrderedDict[SessionId, _Session] = OrderedDict()
            for _ in range(head.pieces):
                for name, floor, used, lines in _LINES_DECODER.decode(next(stream, b"")):
                    session = sessions[name] = _Session(used)
                    session.floor = floor
                    session.results = {line[0]: line[1] if len(line) == 2 else Failure(*line[1:]) for line in lines}
                yield
            if len(sessions) != head.sessions:
                raise ProtocolError(f"a snapshot of {head.sessions} sessions has {len(sessions)}")
            yield from restoring(self.inner, stream)
        except NOT_THESE_TYPES as error:
            raise ProtocolError(f"not a snapshot of a {self.inner.kind} machine: {error}") from None
        self._sessions = sessions

    def digest(self) -> str:
        summed = xxhash.xxh3_64()
        for piece in self.freeze():
            summed.update(piece)
        return summed.hexdigest()


_EXPIRED = Failure(SESSION_EXPIRED, "this session is not known (any more): nothing was done; open a new one")
_NOTHING_ASKED = Failure(INVALID, "nothing to do: only sequence 0 has no body")


def _refused(sequence: int, floor: int) -> Failure:
    window = f"[{floor}, {floor + WINDOW}), the window of its session"
    return Failure(REFUSED, f"sequence {sequence} is not in {window}: nothing was done")


def _line(sequence: int, result: Any) -> tuple[Any, ...]:
    return (sequence, *result) if type(result) is Failure else (sequence, result)


def _check_session(session: bytes, sequence: int, floor: int, body: Any) -> None:
    if len(session) != SESSION_BYTES:
        raise InvalidCommand(f"a session of {len(session)} bytes: give {SESSION_BYTES} random ones, or none and a body")
    if not 0 <= floor <= sequence <= _SEQUENCE_HIGHEST:
        raise InvalidCommand(f"sequence {sequence}, floor {floor}: give 0 <= floor <= sequence < 2**63")
    if (body is None) != (sequence == 0):
        which = "without" if body is None else "with"
        raise InvalidCommand(f"sequence {sequence} {which} a body: 0, and only 0, opens a session and has none")
