"""How do a replica's proposals fare? Counted per batch and per entry, never per command."""

from aegis_replication.histogram import Histogram


class Proposals:
    """What became of the commands that clients sent to this replica."""

    __slots__ = ("durations", "failed", "proposed", "refused")

    def __init__(self) -> None:
        # Put into entries of this node's own.
        self.proposed = 0
        # Of these, the ones whose callers learnt that it came to nothing, or that nobody knows.
        self.failed = 0
        # Turned away before they were in an entry: the disk is full, or another leads now. Those that found no room are
        # counted where it is looked for (`Intake.refused`).
        self.refused = 0
        # From an entry's place in the log to its effect on the machine, in seconds, one observation per entry.
        self.durations = Histogram()
