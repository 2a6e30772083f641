"""What happened in a simulated run? A digest of all of it, and the last of it for each site, to tell as a story."""

from collections import deque
from collections.abc import Callable, Mapping
from struct import Struct as Layout
from typing import Any
from zlib import crc32

from xxhash import xxh3_128

from aegis_replication.consensus.messages import AppendEntries, InstallSnapshot
from aegis_replication.log import Entry, LogWrite
from aegis_replication.simulation.clock import Clock

_MOMENT = Layout("<dI")


class Trace:
    """Notes of everything that crosses a border: packets, flushes, faults, requests, replies.

    The digest depends on nothing but the seed and the code: equal digests mean that two runs did the same.
    """

    __slots__ = ("_clock", "_digest", "_from_step", "_listener", "_remembered", "_stories")

    def __init__(self, clock: Clock, *, remembered: int = 60) -> None:
        self._clock = clock
        self._digest = xxh3_128()
        self._remembered = remembered
        self._listener: Callable[[str], Any] | None = None
        self._from_step = 0
        # The last notes of each site: (step, time, what, detail), rendered only if somebody asks.
        self._stories: dict[str, deque[tuple[int, float, str, Any]]] = {}

    def note(self, site: str, what: str, detail: Any = None, *, mark: bytes = b"") -> None:
        """Remember that `what` happened at `site`; `mark` is what of the detail goes into the digest."""
        clock = self._clock
        self._digest.update(_MOMENT.pack(clock.now_ms, crc32(mark)))
        self._digest.update(f"{site} {what}".encode())
        story = self._stories.get(site)
        if story is None:
            story = self._stories[site] = deque(maxlen=self._remembered)
        story.append((clock.steps, clock.now_ms, what, detail))
        if self._listener is not None and clock.steps >= self._from_step:
            self._listener(_line(clock.now_ms, site, what, detail))

    def tell(self, listener: Callable[[str], Any], *, from_step: int) -> None:
        """Call `listener` with every note from that step on, as a line."""
        self._listener, self._from_step = listener, from_step

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def story(self, site: str | None = None, *, last: int = 40) -> list[str]:
        """The last notes, oldest first, of one site or of all of them together."""
        chosen: Mapping[str, deque[tuple[int, float, str, Any]]]
        chosen = self._stories if site is None else {site: self._stories.get(site, deque())}
        notes = [(step, now_ms, name, what, of) for name, each in chosen.items() for step, now_ms, what, of in each]
        notes.sort(key=lambda note: note[:2])  # stable: within a step and site they stay in order
        return [_line(now_ms, name, what, of) for _, now_ms, name, what, of in notes[-last:]]


def _line(now_ms: float, site: str, what: str, detail: Any) -> str:
    return f"{now_ms:12.3f} ms  {site:<8} {what} {describe(detail)}".rstrip()


def describe(detail: Any, width: int = 180) -> str:
    """A value in one line, without the bytes that nobody reads."""
    if detail is None:
        return ""
    if isinstance(detail, tuple):
        text = " ".join(describe(part) for part in detail)
    elif isinstance(detail, AppendEntries):
        text = (
            f"AppendEntries(term={detail.term}, previous={_id(detail.previous)}, commit={detail.commit}, "
            f"round={detail.round}, {_span(detail.entries)})"
        )
    elif isinstance(detail, InstallSnapshot):
        after = detail.offset + len(detail.data)
        span = f"[{detail.offset}, {after}) of {detail.total_bytes}"
        text = f"InstallSnapshot(term={detail.term}, at={_id(detail.meta.id)}, bytes={span})"
    elif isinstance(detail, LogWrite):
        parts = [f"number={detail.number}"]
        if detail.snapshot is not None:
            parts.append(f"snapshot={_id(detail.snapshot.id)}{' reset' if detail.reset else ''}")
        if detail.hard_state is not None:
            parts.append(f"term={detail.hard_state.term} voted_for={detail.hard_state.voted_for}")
        if detail.entries:
            parts.append(_span(detail.entries))
        text = f"LogWrite({', '.join(parts)})"
    else:
        text = detail if isinstance(detail, str) else repr(detail)
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _id(entry: tuple[int, int]) -> str:
    return f"{entry[0]}:{entry[1]}"


def _span(entries: tuple[Entry, ...]) -> str:
    if not entries:
        return "no entries"
    return f"entries {_id(entries[0].id)}..{_id(entries[-1].id)}"
