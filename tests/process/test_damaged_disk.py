"""Does a node whose log was damaged while it was down become whole again from the others, and say so?"""

import asyncio
import os
import subprocess
import sys
import time

import pytest

from aegis_replication.client.client import connect
from aegis_replication.demo.copies import compare_copies
from aegis_replication.errors import AegisError
from aegis_replication.log import FRAME_HEADER_BYTES
from aegis_replication.storage.inspection import DAMAGE, Inspection
from aegis_replication.storage.records import HEADER_BYTES

HUNG_SECONDS = 60.0


def places_of_entries(directory) -> dict[int, tuple[int, int, int]]:
    """Where the payload of each entry with commands stands: index -> (segment, offset, bytes)."""
    found = {}
    with Inspection(directory) as inspection:
        for record in inspection.records():
            if record.type == "frame" and record.kind == "commands":
                segment, offset = map(int, record.position.split(":"))
                payload = offset + HEADER_BYTES + FRAME_HEADER_BYTES
                found[record.index] = (segment, payload, record.bytes - HEADER_BYTES - FRAME_HEADER_BYTES - 16)
    return found


def spoil(directory, indexes) -> None:
    """Turn bytes in the middle of these entries."""
    places = places_of_entries(directory)
    for index in indexes:
        segment, offset, size = places[index]
        with open(directory / "log" / f"{segment:010}.wal", "r+b") as file:
            file.seek(offset + size // 2)
            before = file.read(3)
            file.seek(offset + size // 2)
            file.write(bytes(byte ^ 0x5A for byte in before))


def from_the_middle(*directories) -> list[int]:
    """Three indexes that all of them hold, well before the end."""
    common = sorted(set.intersection(*(set(places_of_entries(each)) for each in directories)))
    assert len(common) > 20, f"only {len(common)} entries are in all logs"
    middle = len(common) // 2
    return [common[middle - 5], common[middle], common[middle + 3]]


def group_of(cluster, name: str) -> dict:
    return (cluster.status().get(name) or {}).get("groups", {}).get("1", {})


def wait_for(cluster, name: str, is_so, what: str) -> dict:
    deadline = time.monotonic() + HUNG_SECONDS
    while not is_so(group := group_of(cluster, name)):
        assert time.monotonic() < deadline, f"hung: {name} is not {what}: {group}; {cluster.nodes[name].last_words()}"
        time.sleep(0.05)
    return group


def wait_repaired(cluster, name: str, count: int) -> None:
    wait_for(cluster, name, lambda group: group.get("repaired_entries", 0) >= count, "repaired")
    wait_for(cluster, name, lambda group: group.get("damaged_entries") == 0, "whole")


def copies_equal_after_stop(cluster) -> bool:
    cluster.wait_caught_up()
    assert set(cluster.stop().values()) == {0}
    return compare_copies({name: node.directory for name, node in cluster.nodes.items()}).equal


@pytest.mark.parametrize("victim", ["a follower", "the leader"])
async def test_a_damaged_node_repairs_itself_under_load_and_says_so(cluster_of, loaded, victim):
    cluster = cluster_of()
    cluster.start()
    leader = await asyncio.to_thread(cluster.wait_leader)
    name = leader if victim == "the leader" else next(each for each in cluster.nodes if each != leader)
    node = cluster.nodes[name]

    async with loaded(cluster, 5) as load:
        await load.wait_more(400)
        await asyncio.to_thread(node.kill)
        indexes = from_the_middle(node.directory)
        spoil(node.directory, indexes)
        with Inspection(node.directory) as inspection:
            damage = [finding for finding in inspection.verify() if finding.severity == DAMAGE]
        await load.wait_more(100)
        await asyncio.to_thread(node.start)
        await asyncio.to_thread(wait_repaired, cluster, name, 3)
        await load.wait_more(200)
        load.end()
        lost = await load.find_lost()

    assert lost == []
    assert [f"entry {index} of group 1" in finding.message for index, finding in zip(indexes, damage, strict=True)]
    log = node.log_path.read_text()
    for index in indexes:
        assert f"entry {index}, damaged here, came whole from " in log
    assert await asyncio.to_thread(copies_equal_after_stop, cluster)


async def test_with_the_same_entries_damaged_on_two_of_three_the_third_repairs_both(cluster_of, loaded):
    cluster = cluster_of()
    cluster.start()
    await asyncio.to_thread(cluster.wait_leader)
    async with loaded(cluster, 6) as load:
        for name in cluster.nodes:
            await asyncio.to_thread(
                wait_for, cluster, name, lambda group: group.get("applied_index", 0) > 60, "at work"
            )
        await asyncio.to_thread(cluster.kill_all)
        first, second, third = (node.directory for node in cluster.nodes.values())
        indexes = from_the_middle(first, second, third)
        spoil(first, indexes)
        spoil(second, indexes)
        await asyncio.to_thread(cluster.start)
        for name in list(cluster.nodes)[:2]:
            await asyncio.to_thread(wait_repaired, cluster, name, 3)
        await load.wait_more(200)
        load.end()
        lost = await load.find_lost()

    assert lost == []
    assert await asyncio.to_thread(copies_equal_after_stop, cluster)


async def test_what_no_running_node_holds_whole_stops_writes_until_one_does(cluster_of):
    cluster = cluster_of()
    cluster.start()
    await asyncio.to_thread(cluster.wait_leader)
    async with connect(f"aegis://{cluster.endpoints}", timeout=HUNG_SECONDS) as database:
        for number in range(60):
            await database.put(f"key/{number}", b"1" * 40)
        await asyncio.to_thread(cluster.wait_caught_up)
        await asyncio.to_thread(cluster.kill_all)
        (first, one), (second, two), (third, three) = cluster.nodes.items()
        indexes = from_the_middle(one.directory, two.directory, three.directory)
        spoil(one.directory, indexes)
        spoil(two.directory, indexes)

        await asyncio.to_thread(one.start)
        await asyncio.to_thread(two.start)
        said = await asyncio.to_thread(
            wait_for, cluster, first, lambda group: "can't help" in group.get("repair", ""), "waiting"
        )
        with pytest.raises(AegisError):
            await database.put("during", b"2", timeout=2.0)
        still = group_of(cluster, first)
        await asyncio.to_thread(three.start)
        for name in (first, second):
            await asyncio.to_thread(wait_repaired, cluster, name, 3)
        await database.put("after", b"3")
        values = [(await database.get(f"key/{number}")).value for number in range(60)]

    assert said["repair"] == (
        f"entry {indexes[0]} (and 2 more) is damaged on this disk: waiting for {third}; {second} can't help"
    )
    assert still["damaged_entries"] == 3
    assert values == [b"1" * 40] * 60
    assert await asyncio.to_thread(copies_equal_after_stop, cluster)


def aegis(cluster, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aegis_replication.cli.main", *words],
        env={**os.environ, "AEGIS_ENDPOINTS": cluster.endpoints, "AEGIS_CLUSTER": "tests"},
        capture_output=True,
        text=True,
        timeout=HUNG_SECONDS,
        check=False,
    )


async def test_a_log_that_can_not_be_repaired_goes_aside_and_its_node_is_added_anew(cluster_of):
    cluster = cluster_of()
    cluster.start()
    leader = await asyncio.to_thread(cluster.wait_leader)
    name = next(each for each in cluster.nodes if each != leader)
    node = cluster.nodes[name]
    async with connect(f"aegis://{cluster.endpoints}", timeout=HUNG_SECONDS) as database:
        for number in range(60):
            await database.put(f"key/{number}", b"1" * 40)
        await asyncio.to_thread(cluster.wait_caught_up)
        await asyncio.to_thread(node.terminate)
        segment, offset, _ = places_of_entries(node.directory)[from_the_middle(node.directory)[1]]
        path = node.directory / "log" / f"{segment:010}.wal"
        data = bytearray(path.read_bytes())
        data[offset - 600 : offset] = bytes(600)
        path.write_bytes(data)

        refused = await asyncio.to_thread(aegis, cluster, *node.command()[2:])
        kept = await asyncio.to_thread(aegis, cluster, "wal", "set-aside", str(node.directory), "--yes")
        removed = await asyncio.to_thread(aegis, cluster, "node", "remove", name)
        node.join = cluster.nodes[leader].client_address
        await asyncio.to_thread(node.start)
        await asyncio.to_thread(wait_for, cluster, name, lambda group: name in group.get("voters", ()), "a voter")
        await asyncio.to_thread(cluster.wait_caught_up)

    aside = next(node.directory.glob("set-aside-*"))
    assert refused.returncode == 1, refused.stderr
    assert f"{path}: damaged at byte" in refused.stderr
    assert "aegis wal set-aside" in refused.stderr
    assert kept.returncode == 0, kept.stderr
    assert (aside / "log" / path.name).read_bytes() == bytes(data)
    assert removed.returncode == 0, removed.stderr
    assert await asyncio.to_thread(copies_equal_after_stop, cluster)
