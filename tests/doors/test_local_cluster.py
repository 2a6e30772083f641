"""Is LocalCluster a cluster? Stops, kills, partitions, and what each leaves."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from aegis_replication import InvalidArgument, LocalCluster, OutcomeUnknown, Unavailable
from aegis_replication.errors import ConfigError


async def test_it_begins_with_a_leader_and_ends_with_nobody() -> None:
    async with LocalCluster(3) as cluster:
        assert cluster.leader in ("n1", "n2", "n3")
        assert sorted(cluster.nodes) == ["n1", "n2", "n3"]
        assert sum(node.leader == cluster.leader for node in cluster.nodes.values()) >= 2
        db = cluster.client()
        await db.put("k", "v")

    assert cluster.nodes == {}
    assert cluster.leader is None
    with pytest.raises(Unavailable):
        await db.put("k", "v")


async def test_a_node_in_memory_keeps_its_disk_when_it_is_killed() -> None:
    async with LocalCluster(1) as cluster:
        db = cluster.client(timeout=60)
        await db.put("k", "v")

        await cluster.kill("n1")
        await cluster.start("n1")

        assert await db.count() == 1


async def test_a_stopped_node_catches_up() -> None:
    async with LocalCluster(3) as cluster:
        db = cluster.client(timeout=60)
        follower = next(name for name in cluster.nodes if name != cluster.leader)
        await cluster.stop(follower)
        for number in range(20):
            await db.put(f"k{number}", "v")

        await cluster.start(follower)
        other = next(name for name in cluster.nodes if name not in (follower, cluster.leader))
        await cluster.stop(other)

        assert await db.put("k", "needs the one that was away") == 21
        assert await db.count() == 21


async def test_the_larger_side_of_a_partition_goes_on() -> None:
    async with LocalCluster(5) as cluster:
        db = cluster.client(timeout=60)
        old = str(cluster.leader)
        alone = [old, next(name for name in cluster.nodes if name != old)]

        cluster.partition(alone, [name for name in cluster.nodes if name not in alone])
        await db.put("k", "v")

        assert cluster.leader not in alone
        cluster.heal()
        for name in alone:
            while cluster.nodes[name].leader != cluster.leader:
                await cluster.wait_leader(timeout=60)
                await db.get("k")


async def test_nodes_that_no_side_names_stay_together() -> None:
    async with LocalCluster(3) as cluster:
        old = str(cluster.leader)

        cluster.partition([old])

        assert await cluster.client(timeout=60).put("k", "v") == 1
        assert cluster.leader != old


async def test_without_a_majority_on_any_side_nobody_leads() -> None:
    async with LocalCluster(2) as cluster:
        cluster.partition(["n1"], ["n2"])

        with pytest.raises((Unavailable, OutcomeUnknown)):
            await cluster.client().put("k", "v", timeout=1.0)
        while cluster.leader is not None:  # noqa: ASYNC110 - it notices by itself (CheckQuorum)
            await asyncio.sleep(0.01)
        with pytest.raises(Unavailable, match="no leader among n1, n2"):
            await cluster.wait_leader(timeout=0.1)


async def test_directories_are_below_the_one_given(tmp_path: Path) -> None:
    async with LocalCluster(2, directory=tmp_path) as cluster:
        await cluster.client(timeout=60).put("k", "v")

    assert sorted(os.listdir(tmp_path)) == ["n1", "n2"]
    async with LocalCluster(2, directory=tmp_path) as cluster:
        assert await cluster.client(timeout=60).count() == 1


async def test_fields_of_raft_config_are_passed_on() -> None:
    async with LocalCluster(1, heartbeat_interval=20, election_timeout=(60, 90)) as cluster:
        assert cluster.nodes["n1"].options.config.heartbeat_interval_ms == 20


@pytest.mark.parametrize("size", [0, 10, "3", 1.5])
def test_a_size_that_makes_no_cluster_is_refused(size: Any) -> None:
    with pytest.raises(InvalidArgument, match="give 1 to 9 nodes"):
        LocalCluster(size)


async def test_a_node_that_is_not_there_is_named() -> None:
    async with LocalCluster(1) as cluster:
        with pytest.raises(InvalidArgument, match="no node 'n7' here, only n1"):
            await cluster.stop("n7")
        with pytest.raises(ConfigError, match="runs already"):
            await cluster.start("n1")
        await cluster.stop("n1")
        await cluster.stop("n1")


@pytest.mark.aegis(5)
async def test_the_fixture_takes_what_local_cluster_takes(aegis_cluster: LocalCluster) -> None:
    assert len(aegis_cluster.nodes) == 5


@pytest.mark.aegis(1)
def test_the_blocking_fixture_is_a_cluster_too(aegis_cluster_sync: Any) -> None:
    assert aegis_cluster_sync.client().put("k", "v") == 1
