"""How does something run on an event loop of its own thread? Start it, hand it coroutines, stop it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from aegis_replication.errors import Unavailable

T = TypeVar("T")


class LoopThread:
    """An event loop that runs in a thread of its own until `stop`; a program may end without stopping it."""

    def __init__(self, name: str, *, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        self.loop: asyncio.AbstractEventLoop
        self._factory = loop_factory
        self._ready = threading.Event()
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Return when the loop runs."""
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._factory) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._ready.set()
        await self._stop.wait()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` there and wait for its result here, in another thread."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("this would wait for itself: call from another thread, or await the async API here")
        try:
            running = asyncio.run_coroutine_threadsafe(work, self.loop)
        except RuntimeError:  # the loop is closed
            work.close()
            raise Unavailable("this was closed: open it anew") from None
        try:
            return running.result()
        except BaseException:  # Ctrl-C here ends the work there, too
            running.cancel()
            raise

    async def crossing(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` there and await its result on the loop here."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def stop(self) -> None:
        """End the loop, and wait until it has ended."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
