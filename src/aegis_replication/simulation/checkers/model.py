"""What should the key-value machine have answered? A slow, plain twin of it that forgets nothing.

It follows the documented meaning of commands and sessions, not the machine's code: every command that a session sends
has its effect at most once, for ever.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from aegis_replication.log import Entry
from aegis_replication.state_machine import commands as ask
from aegis_replication.state_machine.base import Failure
from aegis_replication.wire import INVALID, NOT_AN_INTEGER, REFUSED, SESSION_EXPIRED

_encode = msgspec.msgpack.Encoder().encode
_plain = msgspec.msgpack.Decoder().decode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, int, int, ask.Command | None]]).decode

Answer = Any
"""A result as plain values (Swap as [succeeded, version]), or ("failure", status)."""


def failure(status: int) -> Answer:
    return ("failure", status)


def plain(result: Any) -> Answer:
    """A machine's result as a model gives it."""
    return failure(result.status) if type(result) is Failure else _plain(_encode(result))


class _ModelSession:
    """All that a session ever asked for."""

    __slots__ = ("answers", "floor", "stamp", "used")

    def __init__(self) -> None:
        self.floor = 0
        self.used = 0  # position of the last command that used it, and its entry's stamp
        self.stamp = 0
        self.answers: dict[int, Answer] = {}


class SessionModel:
    """The sessions around any machine's model: each of their commands has its effect once, at its place in the log."""

    __slots__ = (
        "answers",
        "idle_ms",
        "plain_positions",
        "positions",
        "sessions",
        "sessions_max",
        "_position",
        "_stamp",
    )

    promise: ClassVar[str] = "commands have their effect exactly once"
    """What is broken when the machine answers otherwise."""

    def __init__(self, sessions_max: int, idle_ms: int) -> None:
        self.sessions_max = sessions_max
        self.idle_ms = idle_ms
        # Living sessions; those forgotten are gone.
        self.sessions: dict[bytes, _ModelSession] = {}
        # What became of each command of a session, for ever: (index of its entry, answer).
        self.answers: dict[tuple[bytes, int], tuple[int, Answer]] = {}
        # When each command of a session had its effect, in the order of all effects, and each one without a session, by
        # what it asks (of use only if it differs from all others).
        self.positions: dict[tuple[bytes, int], int] = {}
        self.plain_positions: dict[bytes, int] = {}
        self._position = 0
        self._stamp = 0

    def decode(self, payload: memoryview) -> list[tuple[bytes, int, int, Any]]:
        """The commands of an entry."""
        raise NotImplementedError

    def carry_out(self, body: Any) -> Answer:
        """What the machine makes of a command that is to have its effect now."""
        raise NotImplementedError

    def apply(self, entry: Entry) -> list[Answer]:
        """The answers to the commands of `entry`, in order."""
        self._stamp = entry.stamp
        idle = [name for name, each in self.sessions.items() if each.stamp < entry.stamp - (self.idle_ms << 16)]
        for name in idle:
            del self.sessions[name]
        return [self._command(entry.index, *command) for command in self.decode(entry.payload)]

    def _command(self, index: int, name: bytes, sequence: int, floor: int, body: Any) -> Answer:
        self._position += 1
        if not name:
            self.plain_positions.setdefault(_encode(body), self._position)
            return self.carry_out(body)
        session = self.sessions.get(name)
        if not sequence:
            return self._open(name, session)
        if session is None:
            return failure(SESSION_EXPIRED)
        floor = max(floor, session.floor)
        if not floor <= sequence < floor + 1024:
            return failure(REFUSED)
        if sequence not in session.answers:
            answer = self.carry_out(body)
            if answer == failure(REFUSED):
                return answer
            session.answers[sequence] = answer
            self.answers[name, sequence] = (index, answer)
            self.positions[name, sequence] = self._position
        session.floor, session.used, session.stamp = floor, self._position, self._stamp
        return session.answers[sequence]

    def _open(self, name: bytes, session: _ModelSession | None) -> Answer:
        if session is None:
            session = self.sessions[name] = _ModelSession()
            session.used, session.stamp = self._position, self._stamp
            if len(self.sessions) > self.sessions_max:
                del self.sessions[min(self.sessions, key=lambda each: self.sessions[each].used)]
        session.used, session.stamp = self._position, self._stamp
        return 1024

    def position(self, session: bytes, sequence: int, body: Any) -> int:
        """When a command had its effect, in the order of all effects; 0: never."""
        if session:
            return self.positions.get((session, sequence), 0)
        return self.plain_positions.get(_encode(body), 0)


class KeyValueModel(SessionModel):
    """The state of keys and values after each entry, from the documented meaning of each command."""

    __slots__ = ("history", "items", "revision")

    def __init__(self, sessions_max: int, idle_ms: int) -> None:
        super().__init__(sessions_max, idle_ms)
        self.items: dict[bytes, tuple[bytes, int]] = {}
        self.revision = 0
        # Each key's values over time: (index of the entry, value and version or None), oldest first.
        self.history: dict[bytes, list[tuple[int, tuple[bytes, int] | None]]] = {}

    def decode(self, payload: memoryview) -> list[tuple[bytes, int, int, Any]]:
        return _decode(payload)

    def apply(self, entry: Entry) -> list[Answer]:
        before = dict(self.items)
        answers = super().apply(entry)
        for key in before.keys() | self.items.keys():
            if before.get(key) != self.items.get(key):
                self.history.setdefault(key, []).append((entry.index, self.items.get(key)))
        return answers

    def at(self, index: int, key: bytes) -> tuple[bytes, int] | None:
        """What `key` held after entry `index`."""
        found = None
        for changed, value in reversed(self.history.get(key, ())):
            if changed <= index:
                found = value
                break
        return found

    # --- commands ---

    def carry_out(self, body: Any) -> Answer:
        if body is None:
            return failure(INVALID)
        items, revision = dict(self.items), self.revision
        answer, wrote = self._operation(body, revision + 1)
        if wrote:
            self.revision = revision + 1
        else:
            self.items = items
        return answer

    def _operation(self, body: Any, version: int) -> tuple[Answer, bool]:
        """Its answer, and whether it wrote; what it wrote counts only then."""
        items = self.items
        match body:
            case ask.Put(key, value):
                items[key] = (value, version)
                return version, True
            case ask.Delete(key):
                gone = items.pop(key, None)
                return (gone[1] if gone else 0), gone is not None
            case ask.Take(key):
                gone = items.pop(key, None)
                return (list(gone) if gone else None), gone is not None
            case ask.CompareAndSet(key, value, expect, expect_version):
                if not _as_expected(items.get(key), expect, expect_version):
                    return [False, items[key][1] if key in items else 0], False
                if value is None:
                    return [True, 0], items.pop(key, None) is not None
                items[key] = (value, version)
                return [True, version], True
            case ask.Increment(key, by):
                return self._increment(key, by, version)
            case ask.DeleteRange(start, end, limit):
                keys = sorted(key for key in items if key >= start and (end is None or key < end))
                keys = keys[:limit] if limit else keys
                for key in keys:
                    del items[key]
                return len(keys), bool(keys)
            case ask.Batch(operations, conditions):
                return self._batch(operations, conditions, version)
        raise AssertionError(f"the model knows no {body!r}")

    def _increment(self, key: bytes, by: int, version: int) -> tuple[Answer, bool]:
        held = self.items.get(key)
        try:
            number = int(held[0].decode("ascii")) if held else 0
        except ValueError:
            return failure(NOT_AN_INTEGER), False
        number += by
        self.items[key] = (b"%d" % number, version)
        return number, True

    def _batch(self, operations: Sequence[Any], conditions: Sequence[Any], version: int) -> tuple[Answer, bool]:
        for position, condition in enumerate(conditions):
            if not _as_expected(self.items.get(condition.key), condition.expect, condition.expect_version):
                return [False, [], position], False
        answers, wrote = [], False
        for position, operation in enumerate(operations):
            answer, changed = self._operation(operation, version)
            if answer == failure(NOT_AN_INTEGER):
                return answer, False
            if isinstance(operation, ask.CompareAndSet) and not answer[0]:
                return [False, [], len(conditions) + position], False
            answers.append(answer)
            wrote = wrote or changed
        return [True, answers, None], wrote


def _as_expected(held: tuple[bytes, int] | None, expect: bytes | None, expect_version: int | None) -> bool:
    if expect is not None and (held is None or held[0] != expect):
        return False
    return expect_version is None or expect_version == (held[1] if held else 0)
