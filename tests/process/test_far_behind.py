"""Does a follower far behind catch up beside the work, and cost neither the leader's office nor its memory?"""

import asyncio
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from aegis_replication.client.client import connect
from aegis_replication.errors import OutcomeUnknown

HUNG_SECONDS = 120.0
MEBIBYTE = 1024 * 1024
WRITES = 50_000
VALUE_BYTES = 1_400
TASKS = 200

SETTINGS = {
    # So long that an election would mean a leader silent for a second: other work on the machine doesn't do that.
    "AEGIS_RAFT__ELECTION_TIMEOUT_MIN": "1000",
    "AEGIS_RAFT__ELECTION_TIMEOUT_MAX": "2000",
    "AEGIS_RAFT__HEARTBEAT_INTERVAL": "100",
    # So that the state is in a snapshot, and the log before it gone, long before all is written.
    "AEGIS_RAFT__SNAPSHOT_LOG_BYTES": str(8 * MEBIBYTE),
    "AEGIS_RAFT__SNAPSHOT_BYTES_PER_SECOND": str(16 * MEBIBYTE),
}
# What a leader may hold of a transfer beside its state: a window of chunks, log, and what Python is slow to give back.
GROWTH_BYTES_MAX = 48 * MEBIBYTE


def started(cluster_of):
    cluster = cluster_of()
    for node in cluster.nodes.values():
        node.environment.update(SETTINGS)
    cluster.start()
    return cluster, cluster.wait_leader()


async def fill(cluster) -> None:
    """Fifty thousand keys of 64 MiB in all, while a follower is down."""
    numbers = iter(range(WRITES))

    async def write(database) -> None:
        for number in numbers:
            with suppress(OutcomeUnknown):
                await database.put(b"large/%d" % number, b"%d" % number * (VALUE_BYTES // 5), timeout=HUNG_SECONDS)

    async with connect(f"aegis://{cluster.endpoints}", timeout=HUNG_SECONDS) as database:
        await asyncio.gather(*(write(database) for _ in range(TASKS)))


def count_peak_anew(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def resident_bytes(pid: int, what: str = "VmRSS") -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} says nothing of its memory")


def group_of(cluster, name: str) -> dict:
    answer = cluster.status([name], timeout=HUNG_SECONDS)[name]
    return answer["groups"]["1"] if answer else {"applied_index": 0, "snapshot_index": 0}


async def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + HUNG_SECONDS
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, f"hung: {what}"
        await asyncio.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the leader's memory in /proc")
async def test_a_follower_far_behind_catches_up_beside_the_work(cluster_of, loaded):
    cluster, leader = await asyncio.to_thread(started, cluster_of)
    late = next(name for name in cluster.nodes if name != leader)
    had = group_of(cluster, late)["applied_index"]
    await asyncio.to_thread(cluster.nodes[late].kill)
    await fill(cluster)
    before = group_of(cluster, leader)
    assert before["last_index"] - before["log_entries_in_memory"] > had, "its log is still whole: nothing to be sent"
    pid = cluster.nodes[leader].pid

    async with loaded(cluster, 1) as load:
        await load.wait_more(500)
        resident, goal = resident_bytes(pid), group_of(cluster, leader)["committed_index"]
        count_peak_anew(pid)
        cluster.nodes[late].start()
        served = load.acknowledged
        await wait_until(lambda: group_of(cluster, late)["applied_index"] >= goal, f"{late} is not at {goal}")
        served = load.acknowledged - served
        peak = resident_bytes(pid, "VmHWM")
        after = group_of(cluster, leader)
        load.end()
        lost = await load.find_lost()

    growth = peak - resident
    print(f"{served} writes meanwhile; the leader grew by {growth / MEBIBYTE:.1f} MiB")
    assert lost == []
    assert group_of(cluster, late)["snapshot_index"] > had, "it came by log alone"
    assert (after["role"], after["term"]) == ("leader", before["term"]), "heartbeats stood still for an election"
    assert served > 500, f"only {served} writes were served meanwhile"
    assert growth < GROWTH_BYTES_MAX, f"the leader grew by {growth:,} bytes"


async def test_a_receiver_killed_in_the_middle_goes_on_with_what_it_has(cluster_of):
    cluster, leader = await asyncio.to_thread(started, cluster_of)
    late = next(name for name in cluster.nodes if name != leader)
    node = cluster.nodes[late]
    await asyncio.to_thread(node.kill)
    await fill(cluster)

    def received_bytes() -> int:
        return sum(path.stat().st_size for path in (node.directory / "snapshots").glob("*.part"))

    node.start()
    await wait_until(lambda: received_bytes() > 20 * MEBIBYTE, f"{late} is sent nothing")
    await asyncio.to_thread(node.kill)
    held = received_bytes()
    node.start()
    await asyncio.to_thread(cluster.wait_caught_up, timeout=HUNG_SECONDS)

    said = [line for line in node.log_path.read_text().splitlines() if "goes on with" in line]
    assert len(said) == 1, said
    kept = int(said[0].rpartition(": ")[2].split()[0])
    assert held - MEBIBYTE < kept <= held, f"{kept:,} of {held:,} bytes were not sent again"
    async with connect(f"aegis://{cluster.endpoints}", timeout=HUNG_SECONDS) as database:
        assert await database.count(prefix="large/") == WRITES
