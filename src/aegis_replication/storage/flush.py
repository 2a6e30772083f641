"""How is the log flushed without holding up the event loop for long? Inline while the disk is fast, else by a helper.

Never by a thread: one that waits for a flush gets the interpreter back late when the loop is busy, a process doesn't.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from aegis_replication.errors import DiskFailed
from aegis_replication.storage import flush_helper
from aegis_replication.storage.base import Storage

log = logging.getLogger("aegis.storage")

Done = Callable[[DiskFailed | None], None]


def can_flush_aside() -> bool:
    """Does this system pass descriptors between processes?"""
    return hasattr(socket, "send_fds") and sys.platform != "win32"


class HelperProcess:
    """A process that flushes descriptors. Ask with `request`, wait until `fileno` is readable, then take `finished`."""

    __slots__ = ("_channel", "_number", "_process", "_reaper", "_received", "_waiting")

    def __init__(self) -> None:
        """Start it; raises OSError where no process can be started."""
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            # Isolated and without site: no start-up files, nothing imported from its own directory.
            command = [sys.executable, "-I", "-S", flush_helper.__file__, str(theirs.fileno())]
            try:
                self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
            except OSError:
                self._channel.close()
                raise
        self._channel.setblocking(False)
        self._number = 0
        self._reaper: threading.Thread | None = None
        self._waiting: set[int] = set()
        self._received = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """Readable when a flush has finished, or the helper has died."""
        return self._channel.fileno()

    def request(self, descriptors: Sequence[int]) -> int:
        """Have all of them flushed; the request's number. Raises DiskFailed when the helper is gone."""
        assert 0 < len(descriptors) <= flush_helper.DESCRIPTORS_MAX, f"{len(descriptors)} descriptors in one request"
        self._number += 1
        try:
            socket.send_fds(self._channel, [flush_helper.REQUEST.pack(self._number)], descriptors)
        except OSError as error:
            raise DiskFailed(f"the flush helper (process {self.pid}) can't be asked: {error}") from error
        self._waiting.add(self._number)
        return self._number

    def finished(self) -> list[tuple[int, int]]:
        """(number, errno or 0) of each flush that has ended since the last call.

        Raises DiskFailed when the helper died with a flush under way: an error it met may have been told to it alone.
        """
        while True:
            try:
                data = self._channel.recv(4096)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                raise DiskFailed(f"the flush helper (process {self.pid}) died: what it flushed is not known")
            self._received += data
        size = flush_helper.ANSWER.size
        whole = len(self._received) // size * size
        answers = list(flush_helper.ANSWER.iter_unpack(self._received[:whole]))
        self._received = self._received[whole:]
        self._waiting.difference_update(number for number, _ in answers)
        return answers

    def close(self) -> None:
        """End the helper: its socket's end is its own. One that hangs in a flush is killed, and nobody waits for it."""
        self._channel.close()
        if self._process.poll() is None:
            self._reaper = threading.Thread(target=self._reap, name=f"reap-{self.pid}", daemon=True)
            self._reaper.start()

    def _reap(self) -> None:
        try:
            self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Flusher:
    """What a node asks about each flush: how to do it, and to do it aside."""

    __slots__ = ("_done", "_helper", "_loop", "_policy", "_position", "_started", "_storage")

    def __init__(self, storage: Storage, *, stall_ms: float) -> None:
        self._storage = storage
        self._policy = storage.flushes
        self._policy.stall_ms = stall_ms
        self._policy.can_change = self._policy.can_change and can_flush_aside()
        self._helper: HelperProcess | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # The flush under way: who is told, up to which position it counts, when it began.
        self._done: Done | None = None
        self._position = 0
        self._started = 0.0

    @property
    def inline(self) -> bool:
        """Is the next flush to be done within `write`?"""
        return self._policy.mode == "inline"

    @property
    def waiting_seconds(self) -> float:
        """For how long the flush under way has gone on; 0 when there is none."""
        return 0.0 if self._done is None else time.monotonic() - self._started

    def measured(self, elapsed_ms: float) -> float:
        """An inline flush took so long; the same number if it held up the loop for too long, else 0."""
        self._record(elapsed_ms)
        return elapsed_ms if elapsed_ms > self._policy.stall_ms else 0.0

    def _record(self, elapsed_ms: float) -> None:
        change = self._policy.record(elapsed_ms)
        if change is not None:
            log.warning("node=%s: %s", self._storage.identity.node, change)

    def start(self, loop: asyncio.AbstractEventLoop, done: Done) -> None:
        """Flush all written so far, aside; `done(None)` or `done(error)` is called from the loop. One at a time."""
        assert self._done is None, "a flush is under way already"
        descriptors, self._position = self._storage.unflushed()
        self._done, self._started = done, time.monotonic()
        if not descriptors:  # flushed meanwhile, by a mark or by housekeeping
            loop.call_soon(self._end, None)
            return
        if self._helper is None and not self._start_helper(loop):
            loop.call_soon(self._end, self._flush_here())
            return
        assert self._helper is not None, "there is no helper"
        try:
            self._helper.request(descriptors)
        except DiskFailed as error:
            loop.call_soon(self._end, self._storage.fail(str(error)))

    def _start_helper(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Is there a helper now? Where none can be started, flushes stay inline: late replies are better than none."""
        try:
            self._helper, self._loop = HelperProcess(), loop
        except OSError as error:
            self._policy.stay_inline()
            node = self._storage.identity.node
            log.error("node=%s: no process to flush beside the node: %s; flushing inline", node, error)
            return False
        loop.add_reader(self._helper.fileno(), self._on_readable)
        return True

    def _flush_here(self) -> DiskFailed | None:
        try:
            self._storage.flush()
        except DiskFailed as error:
            return error
        return None

    def _on_readable(self) -> None:
        assert self._helper is not None, "there is no helper"
        try:
            answers = self._helper.finished()
        except DiskFailed as error:
            self._forget_helper()
            if self._done is not None:
                self._end(self._storage.fail(str(error)))
            return
        for _, error_number in answers:
            if error_number:
                self._end(self._storage.fail(f"the disk refused to flush the log: {os.strerror(error_number)}"))
            else:
                self._end(None)

    def _end(self, error: DiskFailed | None) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        if error is None:
            self._record((time.monotonic() - self._started) * 1000.0)
            self._storage.flushed(self._position)
        done(error)

    def _forget_helper(self) -> None:
        if self._helper is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._helper.fileno())
            self._helper.close()
            self._helper = None

    def close(self) -> None:
        """End the helper, if there is one."""
        self._done = None
        self._forget_helper()
