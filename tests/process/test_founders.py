"""Do founders whose directories are new leave a cluster alone that one of them still holds?"""

import asyncio
import time

from aegis_replication.client.client import connect
from aegis_replication.errors import Unavailable
from aegis_replication.processes import LocalProcesses, NodeProcess, ask_status

HUNG_SECONDS = 60.0


def status_of(node: NodeProcess) -> dict:
    deadline = time.monotonic() + HUNG_SECONDS
    while True:
        try:
            return ask_status(node.client_address)
        except Unavailable:
            assert time.monotonic() < deadline, f"hung: {node.client_address} does not answer"
            time.sleep(0.02)


def wait_founding(node: NodeProcess, word: str) -> str:
    deadline = time.monotonic() + HUNG_SECONDS
    while word not in (said := status_of(node)["founding"]):
        assert time.monotonic() < deadline, f"hung: {node.client_address} says {said!r}"
        time.sleep(0.02)
    return said


def watch(cluster: LocalProcesses, seconds: float) -> set[str | None]:
    """Whom any node took for the leader, over many election timeouts."""
    seen: set[str | None] = set()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        seen.update(status_of(node)["groups"]["1"]["leader"] for node in cluster.nodes.values())
    return seen


async def value(cluster: LocalProcesses) -> bytes:
    async with connect(cluster.endpoints) as database:
        found = await database.get("kept", timeout=HUNG_SECONDS)
        assert found is not None
        return found.value


async def test_a_majority_on_new_directories_elects_nobody_and_gives_way_when_the_old_ones_are_back(cluster_of):
    cluster = cluster_of()
    await asyncio.to_thread(cluster.start)
    await asyncio.to_thread(cluster.wait_leader)
    async with connect(cluster.endpoints) as database:
        await database.put("kept", "1", timeout=HUNG_SECONDS)
    await asyncio.to_thread(cluster.wait_caught_up)
    await asyncio.to_thread(cluster.stop)

    wiped = [cluster.nodes[name] for name in ("n1", "n2")]
    for node in wiped:
        node.directory.rename(node.directory.with_name(f"{node.directory.name}-away"))
    for node in cluster.nodes.values():
        await asyncio.to_thread(node.start)
    said = [await asyncio.to_thread(wait_founding, node, "n3") for node in wiped]
    led = await asyncio.to_thread(watch, cluster, 3.0)
    groups = [(await asyncio.to_thread(status_of, node))["groups"]["1"] for node in wiped]
    for node in cluster.nodes.values():
        await asyncio.to_thread(node.kill)

    assert all("n3 held entries of this cluster already" in each for each in said)
    assert led == {None}
    assert [group["last_index"] for group in groups] == [1, 1]

    for node in wiped:
        node.directory.rename(node.directory.with_name(f"{node.directory.name}-new"))
        node.directory.with_name(f"{node.directory.name}-away").rename(node.directory)
    for node in cluster.nodes.values():
        await asyncio.to_thread(node.start)
    await asyncio.to_thread(cluster.wait_leader)
    assert await value(cluster) == b"1"
