"""Which sequence may the next write carry, and up to where has every answer come? A client's session."""

from aegis_replication.ids import SessionId


class Session:
    """The numbers of one session: no clock, no network. Sequence 0 opens it, writes count from 1."""

    __slots__ = ("_answered", "_window", "floor", "id", "is_open", "next_sequence")

    def __init__(self, session: SessionId) -> None:
        self.id = session
        self.is_open = False  # known to the cluster, as far as we know
        self.next_sequence = 1
        # Lowest sequence that still waits for its answer. Only rises. Invariant: 1 <= floor <= next_sequence.
        self.floor = 1
        # Answered ones above the floor. Invariant: each is in (floor, next_sequence).
        self._answered: set[int] = set()
        self._window = 0

    def open(self, window: int) -> None:
        """The cluster knows the session now, and remembers `window` results."""
        assert window > 0, f"a session with a window of {window}"
        self.is_open, self._window = True, window

    def expire(self) -> None:
        """The cluster has forgotten it."""
        self.is_open = False

    @property
    def has_room(self) -> bool:
        """May another write be sent before an answer comes?"""
        return self.next_sequence < self.floor + self._window

    def take(self) -> int:
        """The sequence of a new write."""
        assert self.has_room, f"sequence {self.next_sequence} is beyond the window that begins at {self.floor}"
        sequence = self.next_sequence
        self.next_sequence += 1
        return sequence

    def on_answered(self, sequence: int) -> None:
        """Nobody waits for `sequence` any more."""
        if sequence != self.floor:
            self._answered.add(sequence)
            return
        answered, floor = self._answered, sequence + 1
        while answered and floor in answered:
            answered.remove(floor)
            floor += 1
        self.floor = floor
