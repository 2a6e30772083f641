"""How often did something take how long? Counts in fixed buckets: one addition per observation, nothing kept of it."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

SHORT_SECONDS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
)
"""For what a disk, a commit or an event loop takes."""

LONG_SECONDS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
"""For what is done beside the work."""


class Histogram:
    """Observations counted by the first bound that they don't exceed; those above all bounds, too."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SHORT_SECONDS) -> None:
        assert list(bounds) == sorted(set(bounds)), f"bounds must rise: {bounds}"
        self.bounds = tuple(bounds)
        # One for each bound, not cumulative, and the last one for what is above all of them.
        self.counts = [0] * (len(bounds) + 1)
        # The sum of all observations.
        self.total = 0.0

    def observe(self, value: float) -> None:
        """It was `value`."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many observations there were."""
        return sum(self.counts)

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """For each bound, and infinity at last, how many observations don't exceed it."""
        so_far = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts):
            so_far += count
            yield bound, so_far
