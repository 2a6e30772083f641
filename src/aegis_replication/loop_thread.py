"""How does something run on an event loop of its own thread? Start it, hand it coroutines, stop it."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

from aegis_replication.errors import Unavailable

T = TypeVar("T")

ITEMS_AT_A_TIME: Final = 256


class LoopThread:
    """An event loop that runs in a thread of its own until `stop`; a program may end without stopping it."""

    def __init__(self, name: str, *, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        self.loop: asyncio.AbstractEventLoop
        self._factory = loop_factory
        self._ready = threading.Event()
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_alive(self) -> bool:
        """Does it run? Not after `stop`, nor in a process that was forked from the one that started it."""
        return self._thread.is_alive()

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
        if not self.is_alive:
            work.close()
            raise Unavailable("its thread has ended, by a stop or in a fork of the process: open it anew")
        running = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return running.result()
        except BaseException:  # Ctrl-C here ends the work there, too
            running.cancel()
            raise

    def look(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call what doesn't wait, but belongs to the loop all the same."""

        async def there() -> T:
            return function(*args, **kwargs)

        return self.call(there())

    def each(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Items of an asynchronous generator one by one, fetched many at a time."""
        assert isinstance(items, AsyncGenerator), f"{items!r} can't be closed early"
        try:
            while taken := self.call(_some(items)):
                yield from taken
        finally:
            self.call(items.aclose())

    async def crossing(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` there and await its result on the loop here."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def stop(self) -> None:
        """End the loop, and wait until it has ended."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()


async def _some(items: AsyncIterator[T]) -> list[T]:
    """The next items; none after the last."""
    taken: list[T] = []
    async for item in items:
        taken.append(item)
        if len(taken) == ITEMS_AT_A_TIME:
            break
    return taken


_background: LoopThread | None = None
_background_lock = threading.Lock()


def background() -> LoopThread:
    """The thread that all blocking callers share; after a fork, which leaves threads behind, another one."""
    global _background
    with _background_lock:
        if _background is None or not _background.is_alive:
            _background = LoopThread("aegis-sync")
            _background.start()
        return _background
