"""Does a full disk cost a node more than its writes? Reads go on, and with room writes do, in the same process."""

import asyncio

import pytest

from aegis_replication.client.client import connect
from aegis_replication.errors import DiskFull, OutcomeUnknown

HUNG_SECONDS = 60.0


def fill(cluster, name: str) -> None:
    directory = cluster.nodes[name].directory
    directory.with_name(f"full-{name}").touch()


def make_room(cluster, name: str) -> None:
    directory = cluster.nodes[name].directory
    directory.with_name(f"full-{name}").unlink()


@pytest.mark.parametrize("changed", ["full-disk", "full-disk,aside"])
async def test_with_every_disk_full_reads_go_on_and_writes_follow_as_soon_as_there_is_room(cluster_of, changed):
    cluster = cluster_of(changed=changed)
    cluster.start()
    await asyncio.to_thread(cluster.wait_leader)
    await asyncio.to_thread(cluster.wait_caught_up)  # all of them: one that is still beginning needs room for its files
    processes = {name: node.pid for name, node in cluster.nodes.items()}
    async with connect(f"aegis://{cluster.endpoints}", timeout=HUNG_SECONDS) as database:
        await database.put("before", b"1")

        for name in cluster.nodes:
            fill(cluster, name)
        with pytest.raises((DiskFull, OutcomeUnknown)):  # it was in the log already when that found no room
            await database.put("first", b"2", timeout=2.0)
        with pytest.raises(DiskFull, match=r"takes no writes: .* is full .*: make room on it.*reads go on"):
            await database.put("during", b"3", timeout=2.0)
        read = await database.get("before")
        shown = cluster.status()
        for name in cluster.nodes:
            make_room(cluster, name)
        await database.put("after", b"4")

        assert read.value == b"1"
        assert any("is full" in status["disk"]["full"] for status in shown.values() if status)
        assert (await database.get("after")).value == b"4"
        assert {name: node.pid for name, node in cluster.nodes.items() if node.is_running} == processes


async def test_a_leader_whose_disk_is_full_lets_another_lead_and_comes_back_by_itself(cluster_of):
    cluster = cluster_of(changed="full-disk")
    cluster.start()
    leader = await asyncio.to_thread(cluster.wait_leader)
    async with connect(f"aegis://{cluster.endpoints}", timeout=HUNG_SECONDS) as database:
        await database.put("before", b"1")

        fill(cluster, leader)
        for number in range(20):
            await database.put(f"during/{number}", b"2")
        follower_of = await asyncio.to_thread(cluster.wait_leader)
        make_room(cluster, leader)
        await asyncio.to_thread(cluster.wait_caught_up)

        assert follower_of != leader
        assert (await database.get("during/19")).value == b"2"
    assert cluster.nodes[leader].is_running
    assert "writes are refused until then, reads go on" in cluster.nodes[leader].log_path.read_text()
