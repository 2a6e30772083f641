"""What happened lately? The last events of a node, as values, for the story that a broken invariant tells."""

from collections import deque

from aegis_replication.engine.events import Event


class Recorder:
    """A ring of the last `limit` events with the time each came at; with limit 0 it remembers nothing."""

    __slots__ = ("_events", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._events: deque[tuple[float, Event]] = deque(maxlen=max(limit, 1))

    def record(self, now_ms: float, event: Event) -> None:
        """Remember one event."""
        self._events.append((now_ms, event))

    def story(self, width: int = 200) -> list[str]:
        """One line per remembered event, oldest first, bytes shortened."""
        return [f"{now_ms:12.1f} ms  {_brief(event, width)}" for now_ms, event in self._events]


def _brief(event: Event, width: int) -> str:
    text = repr(event)
    return text if len(text) <= width else f"{text[: width - 3]}..."
