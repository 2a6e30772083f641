"""How old can what a replica has applied be, at the most? Proofs of it, by this node's own clock (thesis §6.4).

A proof says: every write that was acknowledged before `since_ms` is in the entries up to `index`. It is the answer to
"which index must a read wait for" when the question was asked at `since_ms`; such a fact stays true for ever.
"""

from collections import deque
from typing import Final

from aegis_replication.consensus.lease import CLOCK_ERROR, NEVER
from aegis_replication.ids import LogIndex

_PROOFS_MAX: Final = 64


class Freshness:
    """The proofs of one replica that may still be the best one."""

    __slots__ = ("_applied_since_ms", "_proofs")

    def __init__(self) -> None:
        # Of those not applied yet, oldest first, both fields rising: (since_ms, index).
        self._proofs: deque[tuple[float, LogIndex]] = deque(maxlen=_PROOFS_MAX)
        # The best of those that were applied.
        self._applied_since_ms = NEVER

    def prove(self, since_ms: float, index: LogIndex) -> None:
        """Every write acknowledged before `since_ms` is in the entries up to `index`. One that says less is ignored."""
        proofs = self._proofs
        if since_ms <= (proofs[-1][0] if proofs else self._applied_since_ms):
            return
        if proofs and proofs[-1][1] >= index:
            proofs[-1] = (since_ms, proofs[-1][1])
        else:
            proofs.append((since_ms, index))

    def until_ms(self, age_ms: float, applied: LogIndex) -> float:
        """Until when the state at `applied` holds every write that was acknowledged more than `age_ms` before.

        The node's own clock measures the age; a slow one makes it look younger, so that much is taken off.
        """
        proofs = self._proofs
        while proofs and proofs[0][1] <= applied:
            self._applied_since_ms = proofs.popleft()[0]
        return self._applied_since_ms + age_ms * (1 - CLOCK_ERROR)
