"""Which reads wait until the leader knows that it still leads? (Raft §8; thesis §6.4.)"""

from collections import deque
from typing import TypeAlias

from aegis_replication.ids import LogIndex, NodeId

Ticket: TypeAlias = int | tuple[NodeId, int]
"""A read of this node's own clients, or a follower's question (who, its number)."""

_IDLE_ROUNDS_MAX = 8  # that serve no read, waiting for confirmation: a leader that nobody answers must not pile them up


class ReadQueue:
    """Reads of one leader in one term: first waiting for a round of contact, then for its confirmation.

    One round serves all reads that wait when it starts: the commit index then is at least what it was when each came.
    """

    __slots__ = ("_rounds", "proof", "waiting")

    def __init__(self) -> None:
        # Tickets that no round serves yet.
        self.waiting: list[Ticket] = []
        # Rounds sent and not yet confirmed, oldest first: (round, commit index and time when it started, tickets).
        self._rounds: deque[tuple[int, LogIndex, float, list[Ticket]]] = deque()
        # Of the last round confirmed: when it started, and the commit index then.
        self.proof: tuple[float, LogIndex] = (float("-inf"), 0)

    def add(self, ticket: Ticket) -> None:
        """A read has come; the next round serves it."""
        self.waiting.append(ticket)

    def start(self, round_: int, commit_index: LogIndex, now_ms: float = 0.0) -> None:
        """Round `round_` is sent now and serves everything that waits."""
        if self.waiting or len(self._rounds) < _IDLE_ROUNDS_MAX:
            self._rounds.append((round_, commit_index, now_ms, self.waiting))
            self.waiting = []

    def confirm(self, round_: int) -> list[tuple[Ticket, LogIndex]]:
        """A majority has answered `round_` or a later one: the reads served, with the index to be applied first."""
        confirmed: list[tuple[Ticket, LogIndex]] = []
        rounds = self._rounds
        while rounds and rounds[0][0] <= round_:
            _, index, started_ms, tickets = rounds.popleft()
            self.proof = (started_ms, index)
            confirmed += [(ticket, index) for ticket in tickets]
        return confirmed

    @property
    def is_confirming(self) -> bool:
        """Has a round been sent that isn't confirmed yet?"""
        return bool(self._rounds)

    def __len__(self) -> int:
        return len(self.waiting) + sum(len(tickets) for _, _, _, tickets in self._rounds)
