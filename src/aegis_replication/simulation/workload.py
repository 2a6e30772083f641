"""What do clients ask, and what do they make of the answers? Sessions, retries on other nodes, and a history of it all.

A client behaves as the real one does: it keeps a session, sends a request again under the same sequence until it has an
answer, follows hints to the leader, and when it gives up says honestly whether it knows what became of it.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import msgspec

from aegis_replication import wire
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.simulation.checkers.linearizability import FOREVER, UNKNOWN, Operation
from aegis_replication.simulation.clock import Clock
from aegis_replication.state_machine import commands as ask
from aegis_replication.state_machine.sessions import WINDOW

# fmt: off
NO_EFFECT: Final = frozenset((wire.NOT_LEADER, wire.OVERLOADED, wire.INVALID, wire.FAILED, wire.DROPPED,
                              wire.NOT_AN_INTEGER, wire.REFUSED, wire.DISK_FULL))
# fmt: on
"""Statuses by which a node promises that this request, as sent there, did nothing."""

BEYOND_WINDOW: Final = WINDOW + 10

_decode = msgspec.msgpack.Decoder().decode


class Ask(msgspec.Struct, frozen=True):
    """One request as a client means it, and what it does to each key, as the checker of histories reads it."""

    group: GroupId
    body: Any  # a command or query of the machine
    actions: tuple[tuple[bytes, tuple[Any, ...]], ...]  # (key, action of checkers.linearizability)
    is_query: bool = False
    is_anywhere: bool = False  # a query that any replica may answer
    staleness_ms: int = 0  # and how old its answer may be; 0: linearizable


def _is_unique(asked: Ask) -> bool:
    """Does it carry a value that no other request has? Only such a one is sent without a session."""
    return isinstance(asked.body, ask.Put | ask.CompareAndSet | ask.Batch)


class Session:
    """A client's session in one group."""

    __slots__ = ("is_open", "name", "next_sequence")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.is_open = False
        self.next_sequence = 1


class Pending:
    """A request on its way; without a session it is a query, or a command that must not be sent twice."""

    # fmt: off
    __slots__ = ("asked", "called", "called_ms", "deadline_ms", "number", "open_attempts", "sequence", "session",
                 "since", "turn")
    # fmt: on

    def __init__(
        self, number: int, asked: Ask, session: Session | None, sequence: int, called: int, deadline_ms: float
    ) -> None:
        self.number = number
        self.asked = asked
        self.session = session
        self.sequence = sequence
        self.called = called
        self.called_ms = 0.0
        self.deadline_ms = deadline_ms
        # Rises with each attempt and answer: which of them a timer belongs to.
        self.turn = 0
        # Attempts of which nobody said that they did nothing.
        self.open_attempts = 0
        # Up to which entry of its group everything was acknowledged when it was called; for its reader.
        self.since = 0


class Journal:
    """What all clients asked and were told, in one order of calls and returns."""

    __slots__ = ("acknowledged", "answered", "asked", "operations", "unknown", "_moment")

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        # The request that each of them belongs to.
        self.asked: list[Pending] = []
        # Every request that was answered, and when.
        self.answered: list[tuple[Pending, int]] = []
        self.acknowledged = 0
        self.unknown = 0
        self._moment = 0

    def moment(self) -> int:
        """The next position in the order of calls and returns."""
        self._moment += 1
        return self._moment


class Client:
    """One client: at most `depth` requests on their way, a pause between them, one session per group."""

    __slots__ = (
        "clock",
        "depth",
        "index",
        "is_patient",
        "journal",
        "last_failure",
        "name",
        "nodes",
        "on_answer",
        "on_called",
        "on_result",
        "pause_ms",
        "pending",
        "send",
        "sessions",
        "site",
        "stopped",
        "timeout_ms",
        "without_session",
        "_choose",
        "_number",
        "_random",
        "_target",
    )

    def __init__(
        self,
        index: int,
        *,
        clock: Clock,
        nodes: Sequence[NodeId],
        send: Callable[[str, str, bytes], None],
        journal: Journal,
        choose: Callable[["Client", Random], Ask] | None,
        on_called: Callable[["Pending"], None],
        on_answer: Callable[["Client", "Pending", Any], None],
        pause_ms: float = 30.0,
        timeout_ms: float = 250.0,
        depth: int = 1,
        without_session: float = 0.0,
        on_result: Callable[[Ask, Any], None] | None = None,
    ) -> None:
        self.index = index
        self.name = f"client {index}"
        self.site = f"#{index}"
        self.clock = clock
        self.nodes = list(nodes)
        self.send = send
        self.journal = journal
        self.on_called = on_called
        self.on_answer = on_answer
        self.on_result = on_result
        self.pause_ms = pause_ms
        self.timeout_ms = timeout_ms
        self.depth = depth
        self.without_session = without_session
        self.stopped = False
        # Gives up only after a long time; for the time after everything has healed.
        self.is_patient = False
        self.sessions: dict[GroupId, Session] = {}
        self.pending: dict[int, Pending] = {}
        # What the last command that failed was answered.
        self.last_failure: Any = None
        self._choose = choose
        self._random = clock.random(f"client {index}")
        self._number = 0
        self._target: dict[GroupId, NodeId] = {}

    def begin(self) -> None:
        """Ask for the first time."""
        for _ in range(self.depth):
            self.clock.after(self._random.random() * 4 * self.pause_ms, self._next)

    def _next(self) -> None:
        if not self.stopped and self._choose is not None and len(self.pending) < self.depth:
            self.ask(self._choose(self, self._random))

    def _next_soon(self) -> None:
        self.clock.after(self._random.expovariate(1.0) * self.pause_ms, self._next)

    def press(self, node: NodeId, count: int) -> None:
        """Ask `count` things at once, all of one node, as long as it answers."""
        if self._choose is not None and not self.stopped:
            for _ in range(count):
                asked = self._choose(self, self._random)
                self._target[asked.group] = node
                self.ask(asked)

    def crash(self) -> None:
        """The client's process ends and another takes its place: sessions are lost, outcomes stay unknown."""
        for waiting in list(self.pending.values()):
            self._give_up(waiting)
        self.sessions.clear()

    # --- asking ---

    def ask(self, asked: Ask, *, timeout_ms: float = 0.0) -> int:
        """Send `asked`, through the group's session if it is a command; the number under which it is pending."""
        self._number += 1
        number = self._number
        deadline_ms = self.clock.now_ms + (timeout_ms or (60_000.0 if self.is_patient else 6 * self.timeout_ms))
        session, sequence = None, 0
        if not asked.is_query and not (_is_unique(asked) and self._random.random() < self.without_session):
            session = self.sessions.get(asked.group)
            if session is None:
                session = self._open(asked.group)
            if self.pending and self._random.random() < 0.01:
                session.next_sequence += BEYOND_WINDOW  # refused at first, and taken once the earlier ones are answered
            sequence = session.next_sequence
            session.next_sequence += 1
        pending = self.pending[number] = Pending(number, asked, session, sequence, self.journal.moment(), deadline_ms)
        pending.called_ms = self.clock.now_ms
        self.on_called(pending)
        self._attempt(number)
        return number

    def _open(self, group: GroupId) -> Session:
        """A new session; its opening is a request like any other."""
        session = self.sessions[group] = Session(self._random.randbytes(ask.SESSION_BYTES))
        self._number += 1
        number = self._number
        self.pending[number] = Pending(number, Ask(group, None, ()), session, 0, 0, self.clock.now_ms + 60_000.0)
        self._attempt(number)
        return session

    def _attempt(self, number: int) -> None:
        """Send it (again), and look after it when its time is up."""
        waiting = self.pending.get(number)
        if waiting is None:
            return
        if self.clock.now_ms >= waiting.deadline_ms:
            self._give_up(waiting)
            return
        session = waiting.session
        if waiting.open_attempts and not waiting.asked.is_query and session is None:
            self._give_up(waiting)  # without a session it must not be sent again, unless it was refused
            return
        if session is not None and not session.is_open:
            if waiting.sequence:
                return  # sent as soon as the session is open
            if waiting.open_attempts:
                # Under another name each time: an earlier opening that comes late must not revive a forgotten session.
                session.name = self._random.randbytes(ask.SESSION_BYTES)
        waiting.turn += 1
        waiting.open_attempts += 1
        group = waiting.asked.group
        target = self._target.get(group)
        if target is None:
            target = self._target[group] = self._random.choice(self.nodes)
        if waiting.asked.is_anywhere:
            target = self._random.choice(self.nodes)
            body = wire.encode_read(waiting.asked.staleness_ms, ask.encode_query(waiting.asked.body))
            packet = wire.encode_request(wire.READ, group, number, body)
        elif waiting.asked.is_query:
            packet = wire.encode_request(wire.QUERY, group, number, ask.encode_query(waiting.asked.body))
        else:
            packet = wire.encode_request(wire.COMMAND, group, number, self._command(waiting))
        self.send(self.site, target, packet)
        self.clock.after(self.timeout_ms * (0.7 + 0.6 * self._random.random()), self._look_after, number, waiting.turn)

    def _command(self, waiting: Pending) -> bytes:
        session, sequence = waiting.session, waiting.sequence
        if session is None:
            return ask.encode_command(ask.NO_SESSION, 0, 0, waiting.asked.body)
        alike = [each.sequence for each in self.pending.values() if each.session is session and each.sequence]
        return ask.encode_command(session.name, sequence, min(alike) if sequence else 0, waiting.asked.body)

    def _look_after(self, number: int, turn: int) -> None:
        waiting = self.pending.get(number)
        if waiting is not None and waiting.turn == turn:  # no answer came
            if not waiting.asked.is_anywhere:
                self._target[waiting.asked.group] = self._random.choice(self.nodes)
            self._attempt(number)

    # --- answers ---

    def receive(self, packet: bytes) -> None:
        """A node's reply arrived."""
        number, status, body = wire.decode_reply(packet[4:])
        waiting = self.pending.get(number)
        if waiting is None:
            return  # an answer to an earlier attempt came first
        if status == wire.OK:
            self._finish(waiting, _decode(body))
        elif status in (wire.NOT_AN_INTEGER, wire.FAILED):
            self.last_failure = _decode(body)
            self._finish(waiting, ("failure", status))
        elif status == wire.SESSION_EXPIRED:
            if self.sessions.get(waiting.asked.group) is waiting.session:
                del self.sessions[waiting.asked.group]
            waiting.open_attempts -= 1
            self._give_up(waiting)
        else:
            if status in NO_EFFECT:
                waiting.open_attempts -= 1
            self._follow(waiting, status, body)

    def _follow(self, waiting: Pending, status: int, body: bytes) -> None:
        """Not here, or not now: ask where we are pointed to, or somewhere else, in a moment."""
        group = waiting.asked.group
        hint = _decode(body)[0] if status == wire.NOT_LEADER else None
        if not waiting.asked.is_anywhere:
            self._target[group] = hint if hint in self.nodes else self._random.choice(self.nodes)
        waiting.turn += 1  # the timer of the attempt that was answered finds another turn
        self.clock.after(2.0 + self._random.random() * 20.0, self._attempt, waiting.number)

    def _finish(self, waiting: Pending, result: Any) -> None:
        del self.pending[waiting.number]
        self._next_soon()
        if waiting.asked.body is None:
            self._opened(waiting)
            return
        returned = self.journal.moment()
        self.journal.acknowledged += 1
        self.journal.answered.append((waiting, returned))
        if not waiting.asked.staleness_ms:  # what may be old is judged by its age
            for key, action, answer in answers(waiting.asked, result):
                self._record(waiting, key, action, returned, answer)
        self.on_answer(self, waiting, result)
        if self.on_result is not None:
            self.on_result(waiting.asked, result)

    def _opened(self, opening: Pending) -> None:
        session = opening.session
        assert session is not None, "an opening without a session"
        session.is_open = True
        for number in [each.number for each in self.pending.values() if each.session is session]:
            self._attempt(number)

    def _give_up(self, waiting: Pending) -> None:
        """Nobody will ask again. If each attempt was refused, nothing happened; else it may have, or still may."""
        del self.pending[waiting.number]
        self._next_soon()
        if waiting.asked.is_query or waiting.asked.body is None or waiting.open_attempts <= 0:
            return
        self.journal.unknown += 1
        for key, action in waiting.asked.actions:
            self._record(waiting, key, action, FOREVER, UNKNOWN)

    def _record(self, waiting: Pending, key: bytes, action: tuple[Any, ...], returned: int, result: Any) -> None:
        text = f"{waiting.asked.group}/{key.decode()}"
        self.journal.operations.append(Operation(self.name, text, action, waiting.called, returned, result))
        self.journal.asked.append(waiting)


def answers(asked: Ask, result: Any) -> list[tuple[bytes, tuple[Any, ...], Any]]:
    """What each key's register answered, given the machine's answer to the whole."""
    body = asked.body
    if isinstance(body, ask.Get | ask.Take):
        values = [result[0] if result is not None else None]
    elif isinstance(body, ask.GetMany):
        values = [item[0] if item is not None else None for item in result]
    elif isinstance(body, ask.Range):
        held = {key: value for key, value, _ in result[0]}
        values = [held.get(key) for key, _ in asked.actions]
    elif isinstance(body, ask.Delete):
        values = [result > 0]
    elif isinstance(body, ask.CompareAndSet):
        values = [result[0]]
    elif isinstance(body, ask.Increment):
        values = ["not an integer" if isinstance(result, tuple) else result]
    else:  # puts, alone or in a batch, and cleared ranges always succeed
        values = [True] * len(asked.actions)
    return [(key, action, value) for (key, action), value in zip(asked.actions, values, strict=True)]


class KeyValueWorkload:
    """Draws requests on a few keys, so that clients meet."""

    __slots__ = ("groups", "is_uniform", "keys", "seen", "skew")

    def __init__(
        self, groups: Sequence[GroupId], key_count: int, *, skew: float = 0.0, is_uniform: bool = False
    ) -> None:
        self.groups = list(groups)
        # Writes are puts of equal length, so that one record of the log fits exactly where another stood.
        self.is_uniform = is_uniform
        # Part of the requests that go to the first group in any case, so that others are nearly idle.
        self.skew = skew
        # Registers hold text, counters mostly numbers; the last register is now and then incremented in vain.
        self.keys = [b"r%d" % number for number in range(key_count)] + [b"n0", b"n1"]
        # The last value that anybody saw of each key: what a comparison expects.
        self.seen: dict[tuple[GroupId, bytes], bytes | None] = {}

    def choose(self, client: Client, random: Random) -> Ask:
        """The next request of `client`."""
        group = self.groups[0] if random.random() < self.skew else random.choice(self.groups)
        key = random.choice(self.keys)
        number = f"{client.index}.{client.journal.moment()}".encode()
        if random.random() < 0.25:  # longer than a sector
            number = number.ljust(random.randint(10, 1500), b"~")
        chance = random.random()
        if chance < 0.28:
            return Ask(group, ask.Get(key), ((key, ("get",)),), is_query=True)
        if chance < 0.33:
            return Ask(group, ask.Range(b"", None, 100), tuple((each, ("get",)) for each in self.keys), is_query=True)
        if chance < 0.36:
            return Ask(
                group, ask.GetMany(tuple(self.keys)), tuple((each, ("get",)) for each in self.keys), is_query=True
            )
        if self.is_uniform:
            value = number[:20].ljust(20, b"~")
            return Ask(group, ask.Put(key, value), ((key, ("put", value)),))
        if key.startswith(b"n") or chance < 0.38:
            by = random.randint(1, 9)
            return Ask(group, ask.Increment(key, by), ((key, ("increment", by)),))
        return self._write(group, key, number, chance, random)

    def _write(self, group: GroupId, key: bytes, value: bytes, chance: float, random: Random) -> Ask:
        if chance < 0.62:
            return Ask(group, ask.Put(key, value), ((key, ("put", value)),))
        if chance < 0.82:
            expected = self.seen.get((group, key))
            if expected is None:
                swap = ask.CompareAndSet(key, value, expect_version=0)
            else:
                swap = ask.CompareAndSet(key, value, expect=expected)
            return Ask(group, swap, ((key, ("cas", value, expected)),))
        if chance < 0.88:
            return Ask(group, ask.Delete(key), ((key, ("delete",)),))
        if chance < 0.92:
            return Ask(group, ask.Take(key), ((key, ("take",)),))
        if chance < 0.94:
            return Ask(group, ask.DeleteRange(key, key + b"\0"), ((key, ("clear",)),))
        other = random.choice([each for each in self.keys if each != key])
        puts = ask.batch([ask.Put(key, value), ask.Put(other, b"7" if other.startswith(b"n") else value)])
        return Ask(group, puts, tuple((put.key, ("put", put.value)) for put in puts.operations))  # type: ignore[union-attr]

    def learn(self, asked: Ask, result: Any) -> None:
        """Remember the values that an answer shows."""
        for key, action, answer in answers(asked, result):
            if action[0] == "get":
                self.seen[asked.group, key] = answer
            elif action[0] == "put":
                self.seen[asked.group, key] = action[1]

    def read_all(self) -> list[Ask]:
        """A read of every key."""
        return [
            Ask(group, ask.Get(key), ((key, ("get",)),), is_query=True) for group in self.groups for key in self.keys
        ]
