"""Who waits for a snapshot to carry away, and which one holds all that was acknowledged before they asked?"""

from typing import Final

from aegis_replication import wire
from aegis_replication.consensus.node import Raft
from aegis_replication.engine.replies import Caller, answer, reply_error
from aegis_replication.errors import Overloaded
from aegis_replication.ids import LogIndex
from aegis_replication.log import Kind, SnapshotMeta

WAITING_MAX: Final = 16
"""So many may wait for a snapshot of one group; the next is told to ask again."""


class Backups:
    """The requests for a backup of one group. Only its leader has any."""

    __slots__ = ("_raft", "_waiting")

    def __init__(self, raft: Raft) -> None:
        self._raft = raft
        # By the entry that a snapshot must hold.
        self._waiting: list[tuple[LogIndex, Caller]] = []

    @property
    def is_waited_for(self) -> bool:
        return bool(self._waiting)

    def begin(self, caller: Caller, replies: list[tuple[int, bytes]]) -> None:
        """An empty entry marks the moment: once it is committed this replica led, and all before it was applied."""
        if len(self._waiting) >= WAITING_MAX:
            what = f"{WAITING_MAX} requests for a backup wait already: ask again later"
            replies.append(reply_error(caller, wire.OVERLOADED, what))
            return
        try:
            entry = self._raft.propose(Kind.NO_OP, b"")
        except Overloaded as error:
            replies.append(reply_error(caller, wire.OVERLOADED, str(error)))
            return
        self._waiting.append((entry.index, caller))

    def look(self, applied: LogIndex, saved: SnapshotMeta | None, replies: list[tuple[int, bytes]]) -> bool:
        """Tell those whom the snapshot on disk serves which one it is; does the state now serve others?"""
        index = saved.index if saved is not None else 0
        served = [caller for wanted, caller in self._waiting if wanted <= index]
        if served and saved is not None:
            answer(served, [(saved.term, saved.index)] * len(served), replies)
            self._waiting = [each for each in self._waiting if each[0] > index]
        return any(wanted <= applied for wanted, _ in self._waiting)

    def fail(self, replies: list[tuple[int, bytes]]) -> None:
        """A snapshot could not be saved: whoever waits may ask again."""
        why = "the leader could not write a snapshot (its log says why): is its disk full?"
        replies.extend(reply_error(caller, wire.DROPPED, why) for _, caller in self._waiting)
        self._waiting = []

    def give_up(self) -> list[Caller]:
        """This replica no longer leads: who is to ask elsewhere."""
        callers = [caller for _, caller in self._waiting]
        self._waiting = []
        return callers
