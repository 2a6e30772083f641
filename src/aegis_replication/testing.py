"""What does a test of your own need? pytest fixtures: a cluster of real nodes, in memory, gone after the test."""

from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

MARK = "aegis"
TIMEOUT_SECONDS = 60.0  # of clients: a test says "hung", it doesn't measure a busy machine


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", f"{MARK}(size=3, **options): what aegis_cluster is made with, as LocalCluster takes it"
    )


def check_durable_machine(make: Any, commands: Any) -> None:
    """Put your DurableCommandMachine through its contract; AssertionError says which sentence doesn't hold.

    `make(name)` gives a machine, not opened yet, on the storage of that name: the same for the same name, whoever used
    it before. `commands` are two dozen or more that change the state, each doing something else if it came twice.
    """
    from aegis_replication.state_machine.conformance import check_durable_machine as check

    check(make, commands)


def _options(request: pytest.FixtureRequest) -> tuple[tuple[Any, ...], dict[str, Any]]:
    mark = request.node.get_closest_marker(MARK)
    args, options = (mark.args, mark.kwargs) if mark is not None else ((), {})
    return args, {"timeout": TIMEOUT_SECONDS, **options}


if find_spec("pytest_asyncio") is not None:
    from pytest_asyncio import fixture as async_fixture

    @async_fixture(name="aegis_cluster")
    async def started_cluster(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
        """A LocalCluster of three nodes with a leader; `@pytest.mark.aegis(5, seed=1)` makes another."""
        from aegis_replication.local import LocalCluster  # not before it is needed: every pytest run loads this file

        args, options = _options(request)
        async with LocalCluster(*args, **options) as cluster:
            yield cluster

else:

    @pytest.fixture(name="aegis_cluster")
    def missing_cluster() -> None:
        """Says what is missing."""
        raise pytest.UsageError(
            "aegis_cluster needs pytest-asyncio: python -m pip install pytest-asyncio, or use aegis_cluster_sync"
        )


@pytest.fixture
def aegis_cluster_sync(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The same for tests that block: a LocalCluster of aegis_replication.sync."""
    from aegis_replication.sync import LocalCluster

    args, options = _options(request)
    with LocalCluster(*args, **options) as cluster:
        yield cluster
