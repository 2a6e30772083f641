"""Who flushes: this process itself, or a helper beside it? Decided by how long flushes take, with hysteresis."""

from collections import deque
from typing import Final, Literal, TypeAlias

from aegis_replication.histogram import Histogram

FlushMode: TypeAlias = Literal["inline", "aside"]

LIMIT_MS: Final = 2.0
"""While 99 of 100 flushes are shorter, waiting for them costs an event loop less than handing them over."""

_WINDOW: Final = 1024
_ENOUGH: Final = 1000  # flushes before the 99th percentile means anything
_CALM: Final = 1024  # short flushes in a row of windows before the first return to inline; doubles with each return
_CALM_MAX: Final = 65_536


class FlushPolicy:
    """Told of each flush, it says how the next one is to be done. It has no clock and does nothing itself."""

    __slots__ = (
        "_calm_needed",
        "_over",
        "_since_change",
        "_window",
        "can_change",
        "count",
        "durations",
        "mode",
        "stall_ms",
    )

    def __init__(self, *, stall_ms: float = 150.0, can_change: bool = True) -> None:
        # How long one inline flush may hold up the loop before it changes the mode by itself.
        self.stall_ms = stall_ms
        # False where there is no helper to change to.
        self.can_change = can_change
        self.mode: FlushMode = "inline"
        # Flushes so far.
        self.count = 0
        # How long they took, in seconds.
        self.durations = Histogram()
        self._window: deque[float] = deque()
        # How many of the window are longer than the limit.
        self._over = 0
        self._since_change = 0
        self._calm_needed = _CALM

    def record(self, elapsed_ms: float) -> str | None:
        """One flush took so long; the reason when that changes the mode, for the log."""
        window = self._window
        self.count += 1
        self.durations.observe(elapsed_ms / 1000.0)
        self._since_change += 1
        window.append(elapsed_ms)
        if elapsed_ms > LIMIT_MS:
            self._over += 1
        if len(window) > _WINDOW and window.popleft() > LIMIT_MS:
            self._over -= 1
        if not self.can_change:
            return None
        if self.mode == "inline":
            if elapsed_ms > self.stall_ms:
                return self._change("aside", f"a flush took {elapsed_ms:.0f} ms (limit {self.stall_ms:.0f} ms)")
            if len(window) >= _ENOUGH and self._over * 100 > len(window):
                return self._change("aside", f"p99 of {len(window)} flushes is above {LIMIT_MS:.0f} ms")
        elif self._since_change >= self._calm_needed and self._over * 100 <= len(window):
            self._calm_needed = min(2 * self._calm_needed, _CALM_MAX)
            return self._change("inline", f"p99 of the last {len(window)} flushes is below {LIMIT_MS:.0f} ms")
        return None

    def _change(self, mode: FlushMode, why: str) -> str:
        why = f"flushing {mode} from now on, {self.mode} until now: {why}"
        self.mode = mode
        self._window.clear()
        self._over = self._since_change = 0
        return why

    def stay_inline(self) -> None:
        """There is nobody to flush aside: inline it is, however long it takes."""
        self.mode, self.can_change = "inline", False

    def percentiles_ms(self) -> tuple[float, float]:
        """Median and 99th percentile of the last flushes; zeros when there was none."""
        if not self._window:
            return 0.0, 0.0
        ordered = sorted(self._window)
        return ordered[len(ordered) // 2], ordered[min(len(ordered) * 99 // 100, len(ordered) - 1)]
