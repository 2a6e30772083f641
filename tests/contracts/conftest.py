"""On which event loops are the contracts kept?"""

import asyncio
from collections.abc import Callable, Mapping

import pytest

ON_BOTH_LOOPS = {"test_transport_contract.py"}  # the others don't touch sockets


@pytest.hookimpl(optionalhook=True)  # older pytest-asyncio has no such hook: then on asyncio's loop alone
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in ON_BOTH_LOOPS:
        try:
            import uvloop
        except ImportError:  # not on this platform
            pass
        else:
            factories["uvloop"] = uvloop.new_event_loop
    return factories
