"""How does long work say how far it is? What a terminal, a log and a test each make of it."""

import sys
import time
from collections.abc import Callable
from typing import Protocol

_PAUSE_SECONDS = 0.5


class Progress(Protocol):
    """Where long work reports. Phases follow one another; lines may come at any time."""

    def begin(self, what: str, total: int) -> None:
        """A phase of `total` steps begins (0: not known)."""

    def update(self, done: int) -> None:
        """So many steps of the phase are done. Cheap enough for ten calls a second, not for each step."""

    def end(self) -> None:
        """The phase is over."""

    def say(self, line: str) -> None:
        """Something happened."""

    def close(self) -> None:
        """Nothing more comes."""


class PlainProgress:
    """Lines on stderr: one per tenth of a phase, but not more than two a second."""

    def __init__(self, write: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write or (lambda line: print(line, file=sys.stderr, flush=True))
        self._clock = clock
        self._what = ""
        self._total = self._tenths = self._done = 0
        self._began = self._said = 0.0

    def begin(self, what: str, total: int) -> None:
        self._what, self._total, self._tenths, self._done = what, total, 0, 0
        self._began = self._said = self._clock()

    def update(self, done: int) -> None:
        self._done = done
        tenths = 10 * done // self._total if self._total else 0
        if self._tenths < tenths < 10 and self._clock() - self._said >= _PAUSE_SECONDS:
            self._tenths, self._said = tenths, self._clock()
            self._write(f"{self._what}: {done:,} of {self._total:,} ({10 * tenths} %){self._rate(done)}")

    def end(self) -> None:
        self._write(f"{self._what}: {self._done:,} in {self._clock() - self._began:.1f} s{self._rate(self._done)}")

    def say(self, line: str) -> None:
        self._write(line)

    def close(self) -> None:
        pass

    def _rate(self, done: int) -> str:
        seconds = self._clock() - self._began
        return f", {rate_text(done / seconds)}" if seconds > 0.05 else ""


def rate_text(per_second: float) -> str:
    """Such as "62,000/s" or "0.4/s"."""
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"
