"""What should a user's own machine have answered? Another instance of it, which gets every command once."""

from collections.abc import Callable
from typing import Any, ClassVar, Union

import msgspec

from aegis_replication.errors import InvariantBroken
from aegis_replication.ids import LogIndex
from aegis_replication.log import Entry
from aegis_replication.simulation.checkers.model import Answer, SessionModel, failure, plain
from aegis_replication.state_machine.user_machine import UserMachine
from aegis_replication.wire import INVALID


class Query(msgspec.Struct, frozen=True):
    """A query that was answered: the state it shows is that after some entry of [since, until]."""

    body: bytes
    answer: Answer
    since: LogIndex  # everything that was acknowledged when it was asked
    until: LogIndex  # everything that was committed when it was answered


class UserModel(SessionModel):
    """Behind the model's sessions, the user's class itself."""

    __slots__ = ("_decode", "_entries", "_make", "_queries", "machine")

    promise: ClassVar[str] = (
        "machines agree (does a command depend on time, chance or anything else beside state and arguments?)"
    )

    def __init__(self, make: Callable[[], UserMachine], sessions_max: int, idle_ms: int) -> None:
        super().__init__(sessions_max, idle_ms)
        self._make = make
        self.machine = make()
        body: Any = Union[(*self.machine.handlers, None)]
        command: Any = tuple[bytes, int, int, body]
        self._decode: msgspec.msgpack.Decoder[list[tuple[bytes, int, int, Any]]] = msgspec.msgpack.Decoder(
            list[command]
        )
        self._entries: list[Entry] = []
        self._queries: list[Query] = []

    def decode(self, payload: memoryview) -> list[tuple[bytes, int, int, Any]]:
        return self._decode.decode(payload)

    def apply(self, entry: Entry) -> list[Answer]:
        self._entries.append(entry)
        self.machine.begin(entry)
        return super().apply(entry)

    def carry_out(self, body: Any) -> Answer:
        return failure(INVALID) if body is None else plain(self.machine.handlers[type(body)](body))

    def on_query(self, query: Query) -> None:
        """Judged at the end, when all states are gone through once more."""
        self._queries.append(query)

    def check_queries(self) -> None:
        """Each query shows a state that the machine was in between its call and its return."""
        twin = UserModel(self._make, self.sessions_max, self.idle_ms)
        waiting = sorted(self._queries, key=lambda query: query.since)
        first = 0  # the state now is that after entries [first, entry.index)
        for entry in self._entries:
            waiting = twin._without_explained(waiting, first, entry.index - 1)
            twin.apply(entry)
            first = entry.index
        waiting = twin._without_explained(waiting, first, 2**63)
        if waiting:
            query = waiting[0]
            raise InvariantBroken(
                "queries show a state between call and return",
                f"{query.body!r:.200} was answered {query.answer!r:.200}; no state after entries {query.since} to "
                f"{query.until} gives that",
            )

    def _without_explained(self, queries: list[Query], first: LogIndex, last: LogIndex) -> list[Query]:
        return [
            query
            for query in queries
            if query.since > last or query.until < first or plain(self.machine.query(query.body)) != query.answer
        ]
