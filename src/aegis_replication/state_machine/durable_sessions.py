"""How does a machine on a disk of its own carry out each command once, whenever it crashes? (thesis §5.2, §6.3)

The sessions are kept in the machine's own state, in the same transaction as the effects and the position: what a crash
takes away it takes away together, and the log gives it back together.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import msgspec

from aegis_replication.errors import StorageError
from aegis_replication.ids import SessionId
from aegis_replication.log import Entry, EntryId
from aegis_replication.state_machine.base import CommandMachine, DurableCommandMachine, SessionRows
from aegis_replication.state_machine.sessions import (
    IDLE_MS,
    SESSIONS_MAX,
    SessionMachine,
    read_session,
    write_session,
)

_Row = tuple[int, int, bytes]  # stamp of its last use, its rank among those of that stamp, the session

_encode = msgspec.msgpack.Encoder().encode
_ROW: msgspec.msgpack.Decoder[_Row] = msgspec.msgpack.Decoder(_Row)


class DurableSessionMachine(SessionMachine):
    """SessionMachine around a machine that keeps its own state: a DurableMachine."""

    __slots__ = ("_stored", "own")

    def __init__(self, own: DurableCommandMachine, *, sessions_max: int = SESSIONS_MAX, idle_ms: int = IDLE_MS) -> None:
        super().__init__(cast(CommandMachine, own), sessions_max=sessions_max, idle_ms=idle_ms)
        self.own = own
        # The sessions of which the machine keeps a row.
        self._stored: set[SessionId] = set()

    def open(self) -> EntryId:
        term, index = self.own.open()
        try:
            rows = [(*_ROW.decode(row), name) for name, row in self.own.sessions()]
            rows.sort(key=lambda row: row[:2])
            self._adopt(OrderedDict((name, read_session(packed)) for _, _, packed, name in rows))
        except msgspec.MsgspecError as error:
            raise StorageError(
                f"the {self.inner.kind} machine's own state at entry {index} holds a session that can't be read "
                f"({error}): restore this node from its peers, under a new name"
            ) from None
        self._stored = set(self._sessions)
        return EntryId(term, index)

    def apply(self, entry: Entry) -> Sequence[Any]:
        results = super().apply(entry)
        self.own.commit(entry.term, entry.index, self._changed_rows(entry.stamp))
        return results

    def _changed_rows(self, stamp: int) -> dict[SessionId, bytes | None]:
        """What the entry of that stamp made of sessions. Those that it used are the last ones, in the order of use."""
        used: list[SessionId] = []
        for name in reversed(self._sessions):
            if self._sessions[name].used != stamp:
                break
            used.append(name)
        rows: dict[SessionId, bytes | None] = {
            name: _encode((stamp, rank, write_session(self._sessions[name])))
            for rank, name in enumerate(reversed(used))
        }
        self._stored.update(used)
        if len(self._stored) > len(self._sessions):
            gone = [name for name in self._stored if name not in self._sessions]
            self._stored.difference_update(gone)
            rows.update(dict.fromkeys(gone))
        return rows

    def sync(self, position: EntryId) -> None:
        self.own.sync(position.term, position.index)

    def restore_at(self, pieces: Iterable[bytes], position: EntryId) -> None:
        def restore_own(stream: Iterator[bytes], sessions: OrderedDict[SessionId, Any]) -> Iterator[None]:
            rows: SessionRows = {
                name: _encode((session.used, rank, write_session(session)))
                for rank, (name, session) in enumerate(sessions.items())
            }
            self.own.restore_at(stream, position.term, position.index, rows)
            return iter(())

        for _ in self._restoring(pieces, restore_own):
            pass
        self._stored = set(self._sessions)

    def restore(self, pieces: Iterable[bytes]) -> None:
        raise AssertionError("a state on a disk of its own comes with a position: restore_at")

    def close(self) -> None:
        self.own.close()
