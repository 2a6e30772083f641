"""Are nodes upgraded one by one under load, and nothing is lost? The program before is this one, held to its format."""

import asyncio
import time

from aegis_replication.demo.copies import compare_copies
from aegis_replication.errors import Unavailable
from aegis_replication.log import FORMAT_HIGHEST
from aegis_replication.processes import LocalProcesses, NodeProcess, ask_status

HUNG_SECONDS = 60.0
SEED = 20261124
HELD_BACK = "AEGIS_RAFT__FORMAT_HIGHEST"
BEFORE = str(FORMAT_HIGHEST - 1)


async def until(what: str, is_true) -> None:
    deadline = time.monotonic() + HUNG_SECONDS
    while not await asyncio.to_thread(is_true):
        assert time.monotonic() < deadline, f"hung: {what}"
        await asyncio.sleep(0.02)


def group_of(node: NodeProcess) -> dict:
    """Once it answers: others may lead and serve while it still starts."""
    deadline = time.monotonic() + HUNG_SECONDS
    while True:
        try:
            return ask_status(node.client_address)["groups"]["1"]
        except Unavailable:
            assert time.monotonic() < deadline, f"hung: {node.client_address} does not answer"
            time.sleep(0.02)


def formats(cluster: LocalProcesses) -> set[int]:
    return {group_of(node)["format"] for node in cluster.nodes.values()}


def has_applied(node: NodeProcess, index: int) -> bool:
    try:
        return ask_status(node.client_address)["groups"]["1"]["applied_index"] >= index
    except Unavailable:
        return False


def upgrade(cluster: LocalProcesses, name: str) -> None:
    node = cluster.nodes[name]
    node.terminate()
    del node.environment[HELD_BACK]
    reached = group_of(cluster.nodes[cluster.wait_leader()])["committed_index"]
    node.start()
    deadline = time.monotonic() + HUNG_SECONDS
    while not has_applied(node, reached):
        assert time.monotonic() < deadline, f"hung: {name} catches up"
        time.sleep(0.02)


def refused(node: NodeProcess) -> str:
    """Start it as the program before; what it says when it ends by itself."""
    node.environment[HELD_BACK] = BEFORE
    said = node.log_path.stat().st_size if node.log_path.exists() else 0
    node.start()
    assert node.process is not None
    assert node.process.wait(HUNG_SECONDS) == 1
    del node.environment[HELD_BACK]
    return node.log_path.read_bytes()[said:].decode().splitlines()[-1]


async def test_three_nodes_are_upgraded_one_by_one_under_load_and_there_is_no_way_back(cluster_of, loaded):
    cluster = cluster_of()
    for node in cluster.nodes.values():
        node.environment[HELD_BACK] = BEFORE
    await asyncio.to_thread(cluster.start)
    await asyncio.to_thread(cluster.wait_leader)

    async with loaded(cluster, SEED) as load:
        for name in sorted(cluster.nodes):
            await load.wait_more(200)
            assert await asyncio.to_thread(formats, cluster) == {FORMAT_HIGHEST - 1}, f"before {name} can do more"
            await asyncio.to_thread(upgrade, cluster, name)
        await until("all write the new format", lambda: formats(cluster) == {FORMAT_HIGHEST})
        index = (await asyncio.to_thread(group_of, cluster.nodes["n1"]))["configuration_index"]
        await load.wait_more(200)

        await asyncio.to_thread(cluster.nodes["n3"].kill)
        said = await asyncio.to_thread(refused, cluster.nodes["n3"])
        joining = cluster.add("n4")
        said_joining = await asyncio.to_thread(refused, joining)
        await asyncio.to_thread(cluster.forget, "n4")

        await load.wait_more(200)
        await asyncio.to_thread(cluster.nodes["n3"].start)
        await until("n3 is back", lambda: has_applied(cluster.nodes["n3"], index))
        load.end()
        lost = await load.find_lost()

    print(f"seed {SEED}: {load.acknowledged} acknowledged")
    assert lost == []
    assert f"writes format {FORMAT_HIGHEST}, this node may use formats up to {BEFORE}" in said
    assert f"writes format {FORMAT_HIGHEST}, this node may use formats up to {BEFORE}" in said_joining
    shown = await asyncio.to_thread(group_of, cluster.nodes["n3"])
    assert (shown["format"], shown["configuration_index"]) == (FORMAT_HIGHEST, index), "raised once"
    await asyncio.to_thread(cluster.wait_caught_up)
    assert set((await asyncio.to_thread(cluster.stop)).values()) == {0}
    assert compare_copies({name: node.directory for name, node in cluster.nodes.items()}).equal
