"""How long is it since? The clock of deadlines and leases: it never jumps, and goes on while the machine sleeps."""

import time
from collections.abc import Callable
from typing import Final


def _choose() -> Callable[[], float]:
    """CLOCK_BOOTTIME where there is one: the monotonic clock of Linux stands still while the machine is suspended.

    A leader that was suspended would otherwise believe in a lease that has long been over. Elsewhere (macOS, Windows)
    the monotonic clock must do, which on both goes on in sleep as far as their documentation says.
    """
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    if boottime is not None:
        read = time.clock_gettime
        try:
            read(boottime)
        except OSError:
            return time.monotonic
        return lambda: read(boottime)
    return time.monotonic


now_seconds: Final[Callable[[], float]] = _choose()
"""Seconds since some moment before this process began."""


def now_ms() -> float:
    """The same in milliseconds."""
    return now_seconds() * 1000.0
