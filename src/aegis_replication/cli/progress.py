"""How does long work look on a terminal? A bar on stderr; plain lines where stderr isn't one."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aegis_replication.demo.progress import PlainProgress, Progress, rate_text


@contextmanager
def progress() -> Iterator[Progress]:
    """Where to report while the block runs."""
    shown: Progress = BarProgress() if sys.stderr.isatty() else PlainProgress()
    try:
        yield shown
    finally:
        shown.close()


def follow(shown: Progress, what: str) -> Callable[[int, int], None]:
    """A phase for work that tells (done, total), and perhaps another total when it had to begin anew."""
    begun = 0

    def told(done: int, total: int) -> None:
        nonlocal begun
        if begun != total:
            begun = total
            shown.begin(what, total)
        shown.update(done)

    return told


class BarProgress:
    """A rich bar with count, rate and the time that is left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr, highlight=False),
        )
        self._rich.start()
        self._task = self._rich.add_task("", visible=False, rate="")

    def begin(self, what: str, total: int) -> None:
        self._task = self._rich.add_task(what, total=total or None, rate="")

    def update(self, done: int) -> None:
        elapsed = self._rich.tasks[self._task].elapsed or 0.0
        rate = rate_text(done / elapsed) if elapsed > 0.2 else ""
        self._rich.update(self._task, completed=done, rate=rate)

    def end(self) -> None:
        self._rich.stop_task(self._task)

    def say(self, line: str) -> None:
        self._rich.console.print(line, markup=False, soft_wrap=True)

    def close(self) -> None:
        self._rich.stop()
