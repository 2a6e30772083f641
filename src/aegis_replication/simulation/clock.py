"""What time is it in a simulated run? Virtual milliseconds, what comes next, and one seeded Random for each concern."""

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any


class NodeClock:
    """What a node's own clock shows: it runs at its own rate, from its own beginning, and never jumps."""

    __slots__ = ("_base_ms", "_clock", "_since_ms", "rate")

    def __init__(self, clock: "Clock", base_ms: float = 0.0, rate: float = 1.0) -> None:
        self._clock = clock
        # Shown milliseconds per virtual one, since `_since_ms`, when it showed `_base_ms`.
        self.rate = rate
        self._since_ms = clock.now_ms
        self._base_ms = base_ms

    @property
    def now_ms(self) -> float:
        return self._base_ms + (self._clock.now_ms - self._since_ms) * self.rate

    def set_rate(self, rate: float) -> None:
        """Run faster or slower from now on."""
        self._base_ms, self._since_ms, self.rate = self.now_ms, self._clock.now_ms, rate

    def at(self, shown_ms: float) -> float:
        """The virtual time when it will show `shown_ms`, or a hair later."""
        return self._since_ms + (shown_ms - self._base_ms) / self.rate + 1e-6


def drawn_clock(clock: "Clock", node: str, error: float) -> NodeClock:
    """A clock for `node`, with its own beginning, and a rate up to `error` too fast or slow."""
    random = clock.random(f"clock {node}")
    return NodeClock(clock, 1e6 * random.random(), 1.0 + error * random.uniform(-1.0, 1.0))


class Clock:
    """Virtual time: nothing waits, each step jumps to the next thing that was asked for."""

    __slots__ = ("seed", "now_ms", "steps", "_queue", "_asked")

    def __init__(self, seed: int) -> None:
        self.seed = seed
        # Only rises; the time of the step being taken.
        self.now_ms = 0.0
        # How many steps were taken so far: a position in the run, exact where a time is not.
        self.steps = 0
        # Heap of (when, order of asking, action, arguments): equal times keep the order in which they were asked for.
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._asked = 0

    def random(self, concern: str) -> Random:
        """A generator for one concern, so that a new draw in one place leaves the others as they were."""
        return Random(f"{self.seed}/{concern}")  # text seeds go through SHA-512, never through hash()

    def at(self, when_ms: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action(*arguments)` at `when_ms`, or now if that is past."""
        self._asked += 1
        heappush(self._queue, (max(when_ms, self.now_ms), self._asked, action, arguments))

    def after(self, delay_ms: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action(*arguments)` in `delay_ms`."""
        self._asked += 1
        heappush(self._queue, (self.now_ms + max(delay_ms, 0.0), self._asked, action, arguments))

    @property
    def next_ms(self) -> float | None:
        """When the next step is due; None when nothing was asked for."""
        return self._queue[0][0] if self._queue else None

    def step(self) -> bool:
        """Take the next step; False when there is none."""
        if not self._queue:
            return False
        self.now_ms, _, action, arguments = heappop(self._queue)
        self.steps += 1
        action(*arguments)
        return True

    def run_until(self, when_ms: float) -> None:
        """Take every step that is due up to and including `when_ms`."""
        queue = self._queue
        while queue and queue[0][0] <= when_ms:
            self.step()
        self.now_ms = max(self.now_ms, when_ms)


class Agenda:
    """What somebody plans on a clock for as long as they are at it: once that is over, nothing of it happens."""

    __slots__ = ("_clock", "is_over")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.is_over = False

    def later(self, delay_ms: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action(*arguments)` in `delay_ms`, unless it is over by then."""
        self._clock.after(delay_ms, self._unless_over, action, arguments)

    def _unless_over(self, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if not self.is_over:
            action(*arguments)
