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

RESULT_BYTES_MAX: Final = 32 * 1024 * 1024
"""A session whose client leaves so many bytes of results unacknowledged gets no further command done."""

ALL_RESULT_BYTES_MAX: Final = 256 * 1024 * 1024
"""More in all sessions together, and those that were used least recently are forgotten."""

BOUNDED_BY_BYTES: Final = 2
"""The first format of entries whose commands are held to these two; before it, only numbers are bounded."""

SESSIONS_MAX: Final = 10_000
"""One more, and the session that was used least recently is forgotten."""

IDLE_MS: Final = 60 * 60 * 1000
"""A session not used for this long, by the stamps of entries, is forgotten."""

STAMP_LOGICAL_BITS: Final = 16

NOT_THESE_TYPES: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that aren't what was asked for."""

_LIGHT: Final = frozenset((int, bool, float, type(None)))
_LIGHT_BYTES: Final = 16
"""What is no longer than this when encoded weighs nothing: its number is bounded. These types never are."""

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


_SESSION_DECODER: msgspec.msgpack.Decoder[tuple[int, int, list[tuple[Any, ...]]]] = msgspec.msgpack.Decoder(
    tuple[int, int, list[tuple[Any, ...]]]
)


class _Session:
    """What is remembered of one client."""

    __slots__ = ("bytes", "floor", "results", "used", "weights")

    def __init__(self, used: int) -> None:
        # Lowest sequence the client may still ask for. Only rises.
        self.floor = 0
        # By sequence. Invariant: floor <= sequence < floor + WINDOW.
        self.results: dict[int, Any] = {}
        # Stamp of the last entry that used it. Only rises.
        self.used = used
        # Bytes of each result that isn't light, encoded, and their sum: a function of `results`, in no snapshot.
        self.weights: dict[int, int] = {}
        self.bytes = 0

    def weigh(self, sequence: int) -> int:
        """A result has come: its bytes, the same before and after a snapshot."""
        weight = len(_ENCODER.encode(self.results[sequence]))
        if weight <= _LIGHT_BYTES:
            return 0
        self.weights[sequence] = weight
        self.bytes += weight
        return weight

    def lighten(self, floor: int) -> int:
        """Results below `floor` are gone: how many bytes they were."""
        weights = self.weights
        freed = sum([weights.pop(sequence) for sequence in [known for known in weights if known < floor]])
        self.bytes -= freed
        return freed

    def bytes_from(self, floor: int) -> int:
        """How many bytes it would hold without the results below `floor`."""
        return self.bytes - sum([weight for sequence, weight in self.weights.items() if sequence < floor])


class SessionMachine:
    """The Machine of a group: decodes entries, recognises commands that come again, leaves the rest to `inner`.

    A command is an array [session, sequence, floor, body]. With an empty session it is applied whenever it comes.
    Otherwise sequence 0 with body nil opens the session (result: WINDOW); every other sequence is carried out once,
    in whatever order they arrive, and its result is kept until the client says by `floor` that it has it. Below the
    floor or WINDOW above it, a command is REFUSED; so it is with SESSION_EXPIRED if its session is not known. Neither
    leaves a trace. Also REFUSED is a command of a session that holds too many bytes of results already. The arguments
    but `inner` must be equal on all replicas of a group for ever: they are there for tests.
    """

    # fmt: off
    __slots__ = ("_all_bytes_max", "_bytes_max", "_commands", "_command", "_idle", "_sessions", "_sessions_max",
                 "inner", "result_bytes")
    # fmt: on

    def __init__(
        self,
        inner: CommandMachine,
        *,
        sessions_max: int = SESSIONS_MAX,
        idle_ms: int = IDLE_MS,
        result_bytes_max: int = RESULT_BYTES_MAX,
        all_result_bytes_max: int = ALL_RESULT_BYTES_MAX,
    ) -> None:
        self.inner = inner
        self._bytes_max, self._all_bytes_max = result_bytes_max, all_result_bytes_max
        # Sum of `bytes` over all sessions.
        self.result_bytes = 0
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
        is_bounded, bytes_max = entry.format >= BOUNDED_BY_BYTES, self._bytes_max
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
                if is_bounded and session.bytes >= bytes_max and session.bytes_from(floor) >= bytes_max:
                    results.append(_full(session.bytes, bytes_max))
                    continue
                result = handlers[type(body)](body) if body is not None else _NOTHING_ASKED
                if type(result) is Failure and result.status == REFUSED:
                    results.append(result)
                    continue
                remembered[sequence] = result
                if type(result) not in _LIGHT:
                    self.result_bytes += session.weigh(sequence)
            if floor > lowest:
                session.floor = floor
                if floor - lowest > len(remembered):
                    for old in [known for known in remembered if known < floor]:
                        del remembered[old]
                else:
                    for old in range(lowest, floor):
                        remembered.pop(old, None)
                if session.weights:
                    self.result_bytes -= session.lighten(floor)
            session.used = stamp
            touch(name)
            results.append(result)
            if is_bounded and self.result_bytes > self._all_bytes_max:
                self._forget_heavy()
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
                self._forget_oldest()
        session.used = stamp
        self._sessions.move_to_end(name)
        return WINDOW

    def _forget_idle(self, stamp: int) -> None:
        oldest_kept = stamp - self._idle
        while self._sessions:
            session = next(iter(self._sessions.values()))
            if session.used >= oldest_kept:
                return
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, session = self._sessions.popitem(last=False)
        self.result_bytes -= session.bytes

    def _forget_heavy(self) -> None:
        """Forget sessions until the rest holds no more than it may; not the one that was used last."""
        while self.result_bytes > self._all_bytes_max and len(self._sessions) > 1:
            self._forget_oldest()

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
        return self._restoring(pieces, lambda stream, sessions: restoring(self.inner, stream))

    def _restoring(
        self,
        pieces: Iterable[bytes],
        restore_inner: Callable[[Iterator[bytes], OrderedDict[SessionId, _Session]], Iterator[None]],
    ) -> Iterator[None]:
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
                    sessions[name] = _session_of(floor, used, lines)
                yield
            if len(sessions) != head.sessions:
                raise ProtocolError(f"a snapshot of {head.sessions} sessions has {len(sessions)}")
            yield from restore_inner(stream, sessions)
        except NOT_THESE_TYPES as error:
            raise ProtocolError(f"not a snapshot of a {self.inner.kind} machine: {error}") from None
        self._adopt(sessions)

    def _adopt(self, sessions: OrderedDict[SessionId, _Session]) -> None:
        self._sessions = sessions
        self.result_bytes = sum(session.bytes for session in sessions.values())

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


def _full(held: int, limit: int) -> Failure:
    return Failure(
        REFUSED,
        f"this session holds {held:,} bytes of results that its client hasn't acknowledged, the limit is {limit:,}: "
        "nothing was done",
    )


def write_session(session: _Session) -> bytes:
    """A session as bytes."""
    lines = [_line(sequence, session.results[sequence]) for sequence in sorted(session.results)]
    return _ENCODER.encode((session.floor, session.used, lines))


def read_session(packed: bytes) -> _Session:
    """What `write_session` wrote. Raises MsgspecError for anything else."""
    return _session_of(*_SESSION_DECODER.decode(packed))


def _session_of(floor: int, used: int, lines: list[tuple[Any, ...]]) -> _Session:
    session = _Session(used)
    session.floor = floor
    session.results = {line[0]: line[1] if len(line) == 2 else Failure(*line[1:]) for line in lines}
    for sequence, result in session.results.items():
        if type(result) not in _LIGHT:
            session.weigh(sequence)
    return session


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
