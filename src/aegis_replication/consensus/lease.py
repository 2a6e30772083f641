"""Until when can nobody else lead? A lease on leadership, by clocks that may drift (thesis §6.4.1).

A voter that has heard a leader helps nobody else into office for `lease_ms` (`Member.holds_votes`). So a leader that a
majority has heard is alone for at least that long, counted from when it *sent* what they heard: it can't know when it
came. Only rates of clocks matter here, never what time they show.
"""

from collections import deque
from typing import Final

CLOCK_ERROR: Final = 0.1
"""No node's clock runs more than a tenth too fast or too slow: far more than quartz and its corrections ever do."""

SAFE_PART: Final = (1 - CLOCK_ERROR) / (1 + CLOCK_ERROR)
"""The part of `lease_ms` that a leader's clock may count, be it as slow as can be and the voters' as fast."""

NEVER: Final = float("-inf")

_ROUNDS_MAX = 1024


class Lease:
    """One leader's lease in one term: which of its rounds a majority has answered, and when that one was sent."""

    __slots__ = ("_first_round", "_rounds", "_since_ms", "is_given_up")

    def __init__(self) -> None:
        # Rounds sent and not yet answered by a majority, oldest first: (round, when it was sent).
        self._rounds: deque[tuple[int, float]] = deque(maxlen=_ROUNDS_MAX)
        # When the newest round was sent that a majority has answered. Only rises, unless a configuration is appended.
        self._since_ms = NEVER
        # Earlier rounds were answered under another configuration and don't count.
        self._first_round = 0
        # Somebody was asked to take over: another may lead at any time, for the rest of this term.
        self.is_given_up = False

    def sent(self, round_: int, now_ms: float) -> None:
        """Round `round_` is being sent: `now_ms` is no later than its first message leaves."""
        self._rounds.append((round_, now_ms))

    def answered(self, round_: int) -> None:
        """A majority that knows of the lease has answered `round_` or a later one."""
        rounds = self._rounds
        while rounds and rounds[0][0] <= round_:
            number, sent_ms = rounds.popleft()
            if number >= self._first_round:
                self._since_ms = sent_ms

    def start_over(self, first_round: int) -> None:
        """A configuration was appended: other voters may decide now, and only rounds from `first_round` on ask them."""
        self._since_ms = NEVER
        self._first_round = first_round

    def give_up(self) -> None:
        """Somebody is asked to take over (thesis §3.10): no lease any more in this term."""
        self.is_given_up = True

    def until_ms(self, lease_ms: float) -> float:
        """Until when this leader is alone, on its own clock."""
        return NEVER if self.is_given_up or not lease_ms else self._since_ms + lease_ms * SAFE_PART
