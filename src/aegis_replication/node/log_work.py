"""How does a node write its log without waiting longer than it must? Inline or aside, in order, marked when quiet."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from aegis_replication.engine.events import RoomChanged
from aegis_replication.errors import DiskFailed
from aegis_replication.log import LogWrite
from aegis_replication.node.clock import now_seconds
from aegis_replication.storage.backlog import Backlog
from aegis_replication.storage.base import Storage
from aegis_replication.storage.flush import Flusher

log = logging.getLogger("aegis.node")

_PAUSE_SECONDS = 0.001  # between two steps of housekeeping: each may take as long as a flush
_FULL_PAUSE_SECONDS = 0.5  # between two looks whether a full disk has room again


class LogWork:
    """Everything that a running node does to its log.

    `on_flushed(writes)` is told, in order, of writes whose flush ended later; `on_failed(error)` is called once, and
    nothing more is written after it. `on_room(event)` is told when the disk becomes full and when it has room again:
    what it had taken before, and had no room for, waits here and is written then.
    """

    def __init__(
        self,
        storage: Storage,
        loop: asyncio.AbstractEventLoop,
        *,
        quiet_ms: float,
        stall_ms: float,
        on_flushed: Callable[[Sequence[LogWrite]], None],
        on_failed: Callable[[BaseException], None],
        on_room: Callable[[RoomChanged], None],
    ) -> None:
        self._storage, self._loop = storage, loop
        self._flusher = Flusher(storage, stall_ms=stall_ms)
        self._quiet_seconds = quiet_ms / 1000.0
        self._on_flushed, self._on_failed, self._on_room = on_flushed, on_failed, on_room
        self._backlog = Backlog(storage, self._write)
        self._last_write = now_seconds()
        # Nothing was written since the last mark record; of what was recovered nobody knows.
        self._is_marked = False
        self._is_maintaining = False
        self._is_open = True
        # Written and being flushed aside; written while that goes on. Both empty while flushes are inline.
        self._flushing: Sequence[LogWrite] = ()
        self._unflushed: list[LogWrite] = []

    def write(self, writes: Sequence[LogWrite]) -> bool:
        """Write; True when it is on disk already, False when a flush aside will say so later. Raises DiskFailed."""
        self._last_write = now_seconds()
        self._is_marked = False
        self._maintain_soon()
        try:
            return self._backlog.write(writes)
        finally:
            self._tell_room()

    def _write(self, writes: Sequence[LogWrite]) -> bool:
        if self._flusher.inline and not self._flushing:
            self._storage.write(writes, durable=True)
            self._flusher.measured((now_seconds() - self._last_write) * 1000.0)
            return True
        self._storage.write(writes, durable=False)
        self._unflushed.extend(writes)
        if not self._flushing:
            self._flush_aside()
        return False

    def _tell_room(self) -> None:
        was_full = self._backlog.is_full
        news = self._backlog.news()
        if news is None:
            return
        room_bytes, why = news
        if why and not was_full:
            log.warning("node=%s: %s; writes are refused until then, reads go on", self._storage.identity.node, why)
        elif not why:
            log.info("node=%s: the disk has room again: writes go on", self._storage.identity.node)
        self._on_room(RoomChanged(room_bytes, why))

    def _flush_aside(self) -> None:
        self._flushing, self._unflushed = self._unflushed, []
        self._flusher.start(self._loop, self._on_flush_ended)

    def _on_flush_ended(self, error: DiskFailed | None) -> None:
        if not self._is_open:
            return
        if error is not None:
            self._on_failed(error)
            return
        flushed, self._flushing = self._flushing, ()
        if self._unflushed:
            self._flush_aside()
        self._on_flushed(flushed)

    # --- when there is time ---

    @property
    def mark_due(self) -> float:
        """When `mark_when_quiet` has something to do, on the node's clock; infinity when it has not.

        Not while a flush goes on aside, however long: whoever slept until then would wake again and again for nothing.
        """
        is_busy = self._flushing or self._backlog
        return float("inf") if self._is_marked or is_busy else self._last_write + self._quiet_seconds

    def mark_when_quiet(self) -> None:
        """One mark record once nothing was written for a while: it covers the last batch. Raises DiskFailed."""
        if not self._flushing and now_seconds() >= self.mark_due:
            self._is_marked = True
            if not self._backlog.mark():  # the next write is marked, then
                self._maintain_soon()
                self._tell_room()

    def _maintain_soon(self) -> None:
        if not self._is_maintaining:
            self._is_maintaining = True
            self._loop.call_soon(self._maintain)

    def _maintain(self) -> None:
        """Housekeeping, a step at a time."""
        self._is_maintaining = False
        if not self._is_open:
            return
        try:
            pause = _PAUSE_SECONDS if self._storage.maintain() else 0.0
            for writes, is_durable in self._backlog.retry():
                if is_durable:
                    self._on_flushed(writes)
            self._tell_room()
        except Exception as error:
            self._on_failed(error)
            return
        if not pause and (self._backlog or self._backlog.is_full):
            pause = _FULL_PAUSE_SECONDS
        if pause:
            self._is_maintaining = True
            self._loop.call_later(pause, self._maintain)

    def close(self) -> None:
        """End the flush helper; what it was doing is told to nobody."""
        self._is_open = False
        self._flusher.close()
