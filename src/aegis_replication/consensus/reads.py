"""Which reads wait until the leader knows that it still leads? (Raft §8; thesis §6.4.)"""

from collections import deque

from aegis_replication.ids import LogIndex


class ReadQueue:
    """Reads of one leader in one term: first waiting for a round of contact, then for its confirmation.

    One round serves all reads that wait when it starts: the commit index then is at least what it was when each came.
    """

    __slots__ = ("_rounds", "waiting")

    def __init__(self) -> None:
        # Tickets that no round serves yet.
        self.waiting: list[int] = []
        # Rounds sent and not yet confirmed, oldest first: (round, commit index when it started, tickets).
        self._rounds: deque[tuple[int, LogIndex, list[int]]] = deque()

    def add(self, ticket: int) -> None:
        """A read has come; the next round serves it."""
        self.waiting.append(ticket)

    def start(self, round_: int, commit_index: LogIndex) -> None:
        """Round `round_` is sent now and serves everything that waits."""
        self._rounds.append((round_, commit_index, self.waiting))
        self.waiting = []

    def confirm(self, round_: int) -> list[tuple[int, LogIndex]]:
        """A majority has answered `round_` or a later one: the reads served, with the index to be applied first."""
        confirmed: list[tuple[int, LogIndex]] = []
        rounds = self._rounds
        while rounds and rounds[0][0] <= round_:
            _, index, tickets = rounds.popleft()
            confirmed += [(ticket, index) for ticket in tickets]
        return confirmed

    @property
    def is_confirming(self) -> bool:
        """Has a round been sent that isn't confirmed yet?"""
        return bool(self._rounds)

    def __len__(self) -> int:
        return len(self.waiting) + sum(len(tickets) for _, _, tickets in self._rounds)
