"""Clusters of real processes, and a load that knows what was acknowledged. The only tests on the real clock: they wait
for what they can see, with deadlines so generous that missing one means "hung", and assert on no duration.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from aegis_replication.client.client import Client, connect
from aegis_replication.errors import OutcomeUnknown
from aegis_replication.processes import LocalProcesses, free_ports

HUNG_SECONDS = 60.0
LAUNCHER = Path(__file__).with_name("launch_node.py")

ClusterOf = Callable[..., LocalProcesses]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.process)


@pytest.fixture
def cluster_of(tmp_path: Path) -> Iterator[ClusterOf]:
    """Makes a cluster that is not started; `changed` names test-only changes (launch_node.py). Killed at the end."""
    made: list[LocalProcesses] = []

    def make(
        *,
        changed: str = "",
        options: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
        count: int = 3,
        http: bool = False,
    ) -> LocalProcesses:
        launcher = [*prefix, sys.executable, str(LAUNCHER)]
        ports = free_ports(3 * count if http else 2 * count)
        cluster = LocalProcesses(
            tmp_path / f"cluster{len(made)}",
            count=count,
            ports=ports[: 2 * count],
            http_ports=ports[2 * count :],
            options=("--cluster", "tests", *options),
            environment={"AEGIS_TEST_NODE": changed},
            launcher=launcher,
        )
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.kill_all()


class Load:
    """Tasks that write all the time, each its own keys, and remember every answer.

    Each task also counts up one number, so that a write applied twice is seen as well as one that is lost.
    """

    def __init__(self, database: Client, seed: int, tasks: int = 16) -> None:
        self._database = database
        self._random = Random(seed)
        self._tasks = tasks
        self._ending = False
        self.written: dict[bytes, bytes] = {}
        # By task: what the number must hold at least and at most (a write of unknown outcome leaves both open).
        self.least = [0] * tasks
        self.most = [0] * tasks
        self.troubles: list[str] = []
        self.acknowledged = 0

    async def run(self) -> None:
        """Until `end`."""
        async with asyncio.TaskGroup() as group:
            for task in range(self._tasks):
                group.create_task(self._write(task))

    def end(self) -> None:
        """Begin nothing new."""
        self._ending = True

    async def _write(self, task: int) -> None:
        number = 0
        while not self._ending:
            number += 1
            key, value = b"%d/%d" % (task, number), self._random.randbytes(64)
            try:
                await self._database.put(key, value, timeout=HUNG_SECONDS)
            except OutcomeUnknown:
                continue
            self.written[key] = value
            self.acknowledged += 1
            try:
                count = await self._database.increment(b"count/%d" % task, timeout=HUNG_SECONDS)
            except OutcomeUnknown:
                self.most[task] += 1
                continue
            self.acknowledged += 1
            self.most[task] += 1
            if not self.least[task] < count <= self.most[task]:
                self.troubles.append(f"count/{task} is {count}, must be in ({self.least[task]}, {self.most[task]}]")
            self.least[task] = self.most[task] = count

    async def wait_more(self, count: int) -> None:
        """Until so many more writes were acknowledged."""
        target, deadline = self.acknowledged + count, time.monotonic() + HUNG_SECONDS
        while self.acknowledged < target:
            assert time.monotonic() < deadline, f"hung: {self.acknowledged} of {target} writes were acknowledged"
            await asyncio.sleep(0.01)

    async def find_lost(self) -> list[str]:
        """What was acknowledged and isn't there, by linearizable reads."""
        keys = sorted(self.written)
        lost = list(self.troubles)
        for first in range(0, len(keys), 500):
            part = keys[first : first + 500]
            for key, item in zip(part, await self._database.get_many(part, timeout=HUNG_SECONDS), strict=True):
                if item is None or item.value != self.written[key]:
                    lost.append(f"{key!r} is {'gone' if item is None else 'another'}")
        for task in range(self._tasks):
            item = await self._database.get(b"count/%d" % task, timeout=HUNG_SECONDS)
            count = int(item.value) if item is not None else 0
            if not self.least[task] <= count <= self.most[task]:
                lost.append(f"count/{task} is {count}, must be in [{self.least[task]}, {self.most[task]}]")
        return lost


@pytest.fixture
def loaded() -> Callable[..., object]:
    """`async with loaded(cluster, seed) as load`: writes go on while the block runs."""

    @asynccontextmanager
    async def run(cluster: LocalProcesses, seed: int) -> AsyncIterator[Load]:
        async with connect(f"aegis://{cluster.endpoints}", timeout=HUNG_SECONDS) as database:
            load = Load(database, seed)
            running = asyncio.create_task(load.run())
            try:
                yield load
            finally:
                load.end()
                await asyncio.wait({running}, timeout=2 * HUNG_SECONDS)
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    return run
