"""Which event loop does a command run on?"""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any, TypeVar

from aegis_replication.errors import ConfigError

Result = TypeVar("Result")


def run(main: Coroutine[Any, Any, Result], loop: str = "asyncio", *, handles_signals: bool = False) -> Result:
    """Run `main` to its end on "uvloop", "asyncio" or the better of the two that is here ("auto").

    SIGTERM ends it as Ctrl-C does, unless it sees to its signals itself.
    """
    try:
        factory = loop_factory(loop)
    except ConfigError:
        main.close()
        raise
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main if handles_signals else _until_sigterm(main))


async def _until_sigterm(main: Coroutine[Any, Any, Result]) -> Result:
    task = asyncio.current_task()
    assert task is not None, "runs as a task"
    was_asked = False

    def on_sigterm() -> None:
        nonlocal was_asked
        was_asked = True
        task.cancel()

    if threading.current_thread() is threading.main_thread() and sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_sigterm)
    try:
        return await main
    except asyncio.CancelledError:
        if was_asked:
            raise KeyboardInterrupt from None
        raise


def loop_factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes that loop. Raises ConfigError when uvloop is asked for and isn't installed."""
    if loop == "asyncio":
        return None
    if find_spec("uvloop") is None:
        if loop == "uvloop":
            raise ConfigError(
                "node.loop = 'uvloop': not installed: python -m pip install 'aegis-replication[fast]', or take asyncio"
            )
        return None
    from uvloop import new_event_loop

    return new_event_loop
