"""Is anything that was acknowledged ever lost to kill -9, or to a power cut?"""

import asyncio
from random import Random

import pytest

from aegis_replication.demo.copies import compare_copies

ROUNDS = 20
SEED = 20261124


async def kill_rounds(cluster, load, seed: int, rounds: int) -> None:
    """A random node, and in every fourth round all of them at once, dies under load and starts again."""
    random = Random(seed)
    for number in range(rounds):
        await load.wait_more(200)
        if number % 4 == 3:
            await asyncio.to_thread(cluster.kill_all)
        else:
            victim = random.choice(sorted(cluster.nodes))
            await asyncio.to_thread(cluster.nodes[victim].kill)
            await load.wait_more(50)  # the others go on without it
        await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(cluster.wait_leader)


async def lost_after_rounds(cluster, loaded, seed: int, rounds: int) -> list[str]:
    cluster.start()
    await asyncio.to_thread(cluster.wait_leader)
    async with loaded(cluster, seed) as load:
        await kill_rounds(cluster, load, seed, rounds)
        await load.wait_more(200)
        load.end()
        lost = await load.find_lost()
    print(f"seed {seed}: {load.acknowledged} acknowledged in {rounds} rounds")
    return lost


def copies_equal_after_stop(cluster) -> bool:
    cluster.wait_caught_up()
    codes = cluster.stop()
    assert set(codes.values()) == {0}, {name: node.last_words() for name, node in cluster.nodes.items()}
    for node in cluster.nodes.values():
        log = node.log_path.read_text(errors="replace")
        assert "Traceback" not in log, log
        assert "stopped by itself" not in log, log
    return compare_copies({name: node.directory for name, node in cluster.nodes.items()}).equal


async def test_nothing_acknowledged_is_lost_in_twenty_rounds_of_kill_9(cluster_of, loaded):
    cluster = cluster_of()

    lost = await lost_after_rounds(cluster, loaded, SEED, ROUNDS)

    assert lost == []
    assert await asyncio.to_thread(copies_equal_after_stop, cluster)


@pytest.mark.parametrize("flushing", ["inline", "aside"])
async def test_nothing_acknowledged_is_lost_to_power_cuts(cluster_of, loaded, flushing):
    cluster = cluster_of(changed="power-cut" if flushing == "inline" else "power-cut,aside")

    lost = await lost_after_rounds(cluster, loaded, SEED + 1, ROUNDS // 2)

    assert lost == []
    assert await asyncio.to_thread(copies_equal_after_stop, cluster)


async def test_a_reply_before_the_flush_loses_writes_to_a_power_cut(cluster_of, loaded):
    """The proof that the test above can fail: the same rounds on nodes that answer before they flush."""
    cluster = cluster_of(changed="power-cut,reply-before-flush")
    cluster.start()
    await asyncio.to_thread(cluster.wait_leader)

    async with loaded(cluster, SEED) as load:
        await load.wait_more(500)
        load.end()
        await asyncio.to_thread(cluster.kill_all)
        await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(cluster.wait_leader)
        lost = await load.find_lost()

    assert lost != []
