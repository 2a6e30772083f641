"""How does a simulated node write its log? As a real one: inline or aside, in order, marked when quiet.

A flush takes its time on the virtual clock: inline it blocks the process, aside other events are handled meanwhile.
"""

from collections.abc import Callable, Sequence
from typing import Any

from aegis_replication.engine.events import Persisted, RoomChanged
from aegis_replication.log import LogWrite
from aegis_replication.storage.backlog import Backlog


class LogWork:
    """What one process of a host does to its log.

    `block` keeps the process from everything else for a while and calls back then; `when_free` calls back with the next
    moment that the process, if it is still the same one, has; `go_on` lets it carry out what a flush allows.
    """

    # fmt: off
    __slots__ = ("_backlog", "_block", "_flushing", "_go_on", "_host", "_is_marked", "_last_write_ms", "_unflushed",
                 "_when_free")
    # fmt: on

    def __init__(
        self, host: Any, *, block: Callable[..., None], when_free: Callable[..., None], go_on: Callable[[], None]
    ) -> None:
        self._host = host
        self._block, self._when_free, self._go_on = block, when_free, go_on
        self._backlog = Backlog(host.storage, self._write_now)
        # Of what was recovered nobody knows whether it is marked.
        self._last_write_ms, self._is_marked = host.clock.now_ms, False
        self._flushing: list[LogWrite] = []  # written, their flush aside is under way
        self._unflushed: list[LogWrite] = []  # written since it began

    @property
    def under_way(self) -> int:
        """How many writes wait for a flush aside."""
        return len(self._flushing) + len(self._unflushed)

    def write(self, writes: list[LogWrite]) -> bool:
        """Write; False when the process is blocked until the flush is over."""
        host = self._host
        self._last_write_ms, self._is_marked = host.clock.now_ms, False
        for write in writes:
            host.trace.note(host.node, "writes", write)
        if host.settings.aside:
            if self._backlog.write(writes):
                self._flush_soon(writes)
            return True
        host.disk.is_awaited = True
        if not self._backlog.write(writes):
            host.disk.end_wait()
            return True
        self._block(host.disk.spent_ms, self._flushed_inline, writes)
        host.disk.spent_ms = 0.0
        return False

    def _write_now(self, writes: Sequence[LogWrite]) -> bool:
        self._host.storage.write(writes, durable=not self._host.settings.aside)
        return True

    def _flushed_inline(self, writes: list[LogWrite]) -> None:
        self._host.disk.end_wait()
        self._persisted(writes)
        self._go_on()

    def _persisted(self, writes: Sequence[LogWrite]) -> None:
        host = self._host
        host.flushes += 1
        for write in writes:
            host.watcher.on_durable(host, write)
            host.engine.handle(Persisted(write.group, write.number))
        host.trace.note(host.node, "has flushed", [write.number for write in writes])

    # --- aside ---

    def _flush_soon(self, writes: Sequence[LogWrite]) -> None:
        self._unflushed.extend(writes)
        if not self._flushing:
            self._flush_aside()

    def _flush_aside(self) -> None:
        """A flush beside the loop: it covers what is written now, and takes a while."""
        host = self._host
        self._flushing, self._unflushed = self._unflushed, []
        handles, position = host.storage.unflushed()
        begun = [host.disk.begin_sync(handle) for handle in handles]
        flush_ms = host.disk.speed.flush_ms(host.disk.random)
        host.clock.after(flush_ms, self._when_free, host.life, self._flushed_aside, begun, position)

    def _flushed_aside(self, begun: list[tuple[int, int]], position: int) -> None:
        host = self._host
        try:
            for sync in begun:
                host.disk.end_sync(sync)
        except OSError as error:
            raise host.storage.fail(str(error)) from error
        host.disk.spent_ms = 0.0
        host.storage.flushed(position)
        flushed, self._flushing = self._flushing, []
        self._persisted(flushed)
        if self._unflushed:
            self._flush_aside()
        self._go_on()

    # --- when there is time ---

    def see_room(self) -> bool:
        """Housekeeping, and what a full disk had no room for before; is there something to do about it?"""
        host = self._host
        host.storage.maintain()
        written = [writes for writes, _ in self._backlog.retry()]
        news = self._backlog.news()
        for writes in written:
            (self._flush_soon if host.settings.aside else self._persisted)(writes)
        if news is not None:
            host.trace.note(host.node, "has room for", news[0])
            host.disk.faults["disk_regained"] += news[0] is None
            host.engine.handle(RoomChanged(*news))
        return bool(written) or news is not None

    def mark_when_quiet(self) -> None:
        """One mark record once nothing was written for a while: it covers the last batch."""
        host = self._host
        if self._is_marked or self._flushing:
            return
        if host.clock.now_ms - self._last_write_ms >= host.settings.mark_ms:
            self._backlog.mark()
            self._is_marked = True
