"""Is anything stale read around a leader that was stopped (SIGSTOP) with reads in flight, with leases and without?"""

import asyncio
import os
import signal
import time
from bisect import bisect_left

import pytest

from aegis_replication.client.client import Client, connect
from aegis_replication.errors import DeadlineExceeded, OutcomeUnknown, Unavailable

HUNG_SECONDS = 60.0
PAUSES = 4
STALENESS_SECONDS = 0.4


class Readers:
    """One number that only grows, whoever reads it, and what each reader may not miss."""

    def __init__(self, writer: Client, readers: list[Client]) -> None:
        self._writer, self._readers = writer, readers
        self._ending = False
        self.acknowledged = 0
        # When each write was acknowledged, and which: rising both.
        self._times: list[float] = []
        self._values: list[int] = []
        self.reads = 0
        self.stale: list[str] = []

    async def run(self) -> None:
        """Until `end`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write())
            for client in self._readers:
                group.create_task(self._read(client, "leader", None))
                group.create_task(self._read(client, "any", None))
                group.create_task(self._read(client, "any", STALENESS_SECONDS))

    def end(self) -> None:
        """Begin nothing new."""
        self._ending = True

    async def _write(self) -> None:
        number = 0
        while not self._ending:
            number += 1
            try:
                await self._writer.put("number", str(number), timeout=HUNG_SECONDS)
            except OutcomeUnknown:
                continue
            self.acknowledged = number
            self._times.append(time.monotonic())
            self._values.append(number)

    def _least(self, before: float) -> int:
        position = bisect_left(self._times, before)
        return self._values[position - 1] if position else 0

    async def _read(self, client: Client, replica: str, max_staleness: float | None) -> None:
        while not self._ending:
            least = self._least(time.monotonic() - (max_staleness or 0.0))
            try:
                item = await client.get("number", replica=replica, max_staleness=max_staleness, timeout=2.0)
            except (DeadlineExceeded, Unavailable):
                continue
            found = 0 if item is None else int(item.value)
            self.reads += 1
            if found < least:
                self.stale.append(f"{replica}, {max_staleness}: {found} although {least} was acknowledged before")

    async def wait_more(self, count: int) -> None:
        """Until so many more writes were acknowledged."""
        target, deadline = self.acknowledged + count, time.monotonic() + HUNG_SECONDS
        while self.acknowledged < target:
            assert time.monotonic() < deadline, f"hung: {self.acknowledged} of {target} writes were acknowledged"
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("lease", [False, True])
async def test_nothing_stale_is_read_around_a_leader_that_was_stopped(cluster_of, lease):
    cluster = cluster_of()
    cluster.start()
    await asyncio.to_thread(cluster.wait_leader)
    addresses = f"aegis://{cluster.endpoints}"
    writer, *readers = [connect(addresses, timeout=HUNG_SECONDS) for _ in range(4)]
    await writer.put("number", "0")
    await writer.set_lease(lease)
    load = Readers(writer, readers)
    running = asyncio.create_task(load.run())

    try:
        for _ in range(PAUSES):
            await load.wait_more(50)
            leader = await asyncio.to_thread(cluster.wait_leader)
            os.kill(cluster.nodes[leader].pid, signal.SIGSTOP)
            await load.wait_more(50)  # by another leader
            os.kill(cluster.nodes[leader].pid, signal.SIGCONT)
        await load.wait_more(50)
    finally:
        for node in cluster.nodes.values():
            os.kill(node.pid, signal.SIGCONT)
        load.end()
        await asyncio.wait({running}, timeout=HUNG_SECONDS)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        for client in (writer, *readers):
            await client.close()

    print(f"{load.reads} reads beside {load.acknowledged} writes")
    assert load.stale == []
    assert load.reads > 100
