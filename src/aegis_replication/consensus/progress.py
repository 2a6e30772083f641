"""What does a leader know of one follower? (Raft Figure 2, "Volatile state on leaders"; thesis §10.2.1.)"""

from collections import deque
from enum import Enum

from aegis_replication.ids import LogIndex


class Stance(Enum):
    """How a leader talks to a follower."""

    PROBE = "probe"  # where do the logs meet? One append at a time
    REPLICATE = "replicate"  # they meet: appends follow each other without waiting for answers
    SNAPSHOT = "snapshot"  # what it lacks is no longer in the log: its state is sent instead


PROBE, REPLICATE, SNAPSHOT = Stance.PROBE, Stance.REPLICATE, Stance.SNAPSHOT


class Progress:
    """One follower as its leader sees it."""

    __slots__ = (
        "goal",
        "goal_ms",
        "heard_ms",
        "in_flight",
        "in_flight_bytes",
        "incarnation",
        "is_level",
        "is_probing",
        "is_searching",
        "match",
        "moved_ms",
        "next",
        "round",
        "stance",
    )

    def __init__(self, next_index: LogIndex, now_ms: float) -> None:
        self.stance = PROBE
        # Highest index known durable there. Only rises. Invariant: match < next.
        self.match: LogIndex = 0
        # The next entry to send: the one guess in all of this.
        self.next: LogIndex = next_index
        # PROBE: an append is on its way and nothing has come back. Cleared by its answer, or by time.
        self.is_probing = False
        # PROBE: the last one was refused and the next may be, so that it carries no entries.
        self.is_searching = False
        # REPLICATE: appends sent and not acknowledged, oldest first: (last index, bytes).
        self.in_flight: deque[tuple[LogIndex, int]] = deque()
        self.in_flight_bytes = 0
        # When anything last came from there.
        self.heard_ms = now_ms
        # When something last moved: an ack rose, a probe or the first append of a window left, a chunk was taken.
        self.moved_ms = now_ms
        # Highest round it has answered in this term. Only rises.
        self.round = 0
        # Of its data directory, as the configuration had it when this began; 0: not known then.
        self.incarnation = 0
        # A round of catching up: where the log ended when it began, and when that was (thesis §4.2.1).
        self.goal: LogIndex = next_index
        self.goal_ms = now_ms
        # Did the last round take no longer than an election timeout? Then counting on it costs no more than that.
        self.is_level = False

    def look(self, last_index: LogIndex, now_ms: float, patience_ms: float) -> None:
        """Is it level with the log? Called at each heartbeat: ends a round, begins the next (thesis §4.2.1)."""
        is_in_time = now_ms - self.goal_ms <= patience_ms and now_ms - self.heard_ms <= patience_ms
        if self.match >= self.goal:
            self.is_level = is_in_time
            self.goal, self.goal_ms = last_index, now_ms
        elif not is_in_time:
            self.is_level = False

    def sent(self, last_index: LogIndex, size_bytes: int, now_ms: float) -> None:
        """An append with entries up to `last_index` has left."""
        if self.stance is PROBE:
            self.is_probing = True
            self.moved_ms = now_ms
            return
        if not self.in_flight:
            self.moved_ms = now_ms
        self.in_flight.append((last_index, size_bytes))
        self.in_flight_bytes += size_bytes
        self.next = last_index + 1

    def acknowledge(self, matched: LogIndex, now_ms: float) -> bool:
        """Everything up to `matched` is durable there; says whether that is news. An old ack changes nothing."""
        is_news = matched > self.match
        if is_news:
            self.match = matched
            self.moved_ms = now_ms
        if self.stance is REPLICATE:
            in_flight = self.in_flight
            while in_flight and in_flight[0][0] <= matched:
                self.in_flight_bytes -= in_flight.popleft()[1]
        elif self.stance is PROBE and (is_news or 0 < self.next - 1 <= matched):
            self.replicate(now_ms)
        if self.next <= matched:  # while a snapshot is on its way, too: an earlier append may be acknowledged then
            self.next = matched + 1
        return is_news

    def has_stalled(self, now_ms: float, patience_ms: float) -> bool:
        """Has nothing moved for so long that what is on its way must be taken for lost?"""
        is_waiting = bool(self.in_flight) or self.stance is SNAPSHOT
        return is_waiting and now_ms - self.moved_ms >= patience_ms

    def probe(self, next_index: LogIndex, now_ms: float, *, is_searching: bool = False) -> None:
        """Ask again from `next_index`; whatever was on its way counts as lost."""
        self._turn(PROBE, now_ms)
        self.next = max(next_index, self.match + 1)
        self.is_searching = is_searching

    def replicate(self, now_ms: float) -> None:
        """The logs meet at `match`: stream from there."""
        self._turn(REPLICATE, now_ms)
        self.next = self.match + 1

    def snapshot(self, now_ms: float) -> None:
        """What it lacks is gone from the log."""
        self._turn(SNAPSHOT, now_ms)

    def _turn(self, stance: Stance, now_ms: float) -> None:
        self.stance = stance
        self.is_probing = self.is_searching = False
        self.in_flight.clear()
        self.in_flight_bytes = 0
        self.moved_ms = now_ms
