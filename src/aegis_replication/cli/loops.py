"""Which event loop does a command run on?"""

import asyncio
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any, TypeVar

from aegis_replication.errors import ConfigError

Result = TypeVar("Result")


def run(main: Coroutine[Any, Any, Result], loop: str = "asyncio") -> Result:
    """Run `main` to its end on "uvloop", "asyncio" or the better of the two that is here ("auto")."""
    try:
        factory = loop_factory(loop)
    except ConfigError:
        main.close()
        raise
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


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
