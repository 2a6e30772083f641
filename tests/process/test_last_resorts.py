"""Do a backup under load and the recovery of a lone survivor bring real clusters back, by the commands alone?"""

import asyncio
import json
import shutil
import subprocess
import sys

from aegis_replication.cli import endings
from aegis_replication.client.client import connect
from aegis_replication.processes import LocalProcesses, NodeProcess, ask_status, free_ports

KEYS = 200


def aegis(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aegis_replication.cli.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120.0, stdin=subprocess.DEVNULL)


def done(*words: str) -> dict:
    ran = aegis(*words, "-o", "json")
    assert ran.returncode == endings.OK, ran.stderr
    return json.loads(ran.stdout)


async def _fill(endpoints: str, first: int) -> None:
    async with connect(f"aegis://{endpoints}", timeout=60.0) as database:
        await asyncio.gather(*(database.put(f"key/{n:04}", f"value {n}") for n in range(first, first + KEYS)))


async def _all(endpoints: str) -> dict[bytes, bytes]:
    async with connect(f"aegis://{endpoints}", timeout=60.0) as database:
        return {item.key: item.value async for item in database.scan(prefix="key/")}


def expected(count: int) -> dict[bytes, bytes]:
    return {f"key/{n:04}".encode(): f"value {n}".encode() for n in range(count)}


def founder(cluster: LocalProcesses, name: str, directory, *options: str) -> NodeProcess:
    """A node that starts on a directory which already knows that it is the only voter."""
    client, peer = (f"127.0.0.1:{port}" for port in free_ports(2))
    any_node = next(iter(cluster.nodes.values()))
    return NodeProcess(
        name,
        directory,
        client_address=client,
        peer_address=peer,
        peers={name: peer},
        options=options,
        environment=any_node.environment,
        launcher=any_node.launcher,
    )


def grow_to_three(cluster: LocalProcesses, names: tuple[str, str]) -> None:
    for name in names:
        cluster.add(name).start()
    asyncio.run(_until_voters(cluster, 3))
    cluster.wait_caught_up()


async def _until_voters(cluster: LocalProcesses, count: int) -> None:
    async with asyncio.timeout(60.0), connect(f"aegis://{cluster.endpoints}", timeout=60.0) as database:
        while sum(row.role == "voter" for row in (await database.members()).members) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def test_a_backup_under_load_becomes_a_new_cluster_of_three(cluster_of, tmp_path):
    old = cluster_of()
    old.start()
    old.wait_leader()
    asyncio.run(_fill(old.endpoints, 0))

    async def back_up_under_load() -> int:
        """How many writes were acknowledged before the backup was asked for, with more going on all the while."""
        acknowledged = 0
        over = asyncio.Event()

        async def load() -> None:
            nonlocal acknowledged
            async with connect(f"aegis://{old.endpoints}", timeout=60.0) as database:
                while not over.is_set():
                    await database.put(f"load/{acknowledged:06}", "x")
                    acknowledged += 1

        loading = asyncio.create_task(load())
        async with asyncio.timeout(60.0):
            while acknowledged < 50:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        before = acknowledged
        ran = await asyncio.to_thread(aegis, "backup", tmp_path / "made", "--endpoints", old.endpoints)
        assert ran.returncode == endings.OK, ran.stderr
        over.set()
        await loading
        return before

    before = asyncio.run(back_up_under_load())
    old.kill_all()
    shown = done("snapshot", "inspect", tmp_path / "made")
    new = cluster_of(count=1, options=())
    node = new.nodes["n1"] = founder(new, "n1", tmp_path / "cluster1" / "n1", "--cluster", "again")
    restored = done(
        "snapshot", "restore", tmp_path / "made", "--data", node.directory, "--name", "n1", "--cluster", "again"
    )
    new.start()
    new.wait_leader()
    grow_to_three(new, ("n2", "n3"))

    async def loaded() -> set[bytes]:
        async with connect(f"aegis://{new.endpoints}", timeout=60.0) as database:
            return {item.key async for item in database.scan(prefix="load/")}

    assert (shown["type"], shown["cluster"], shown["machine"]) == ("backup", "tests", "key-value")
    assert shown["keys"] >= KEYS + before
    assert restored["cluster"] == "again"
    assert asyncio.run(_all(new.endpoints)) == expected(KEYS)
    assert {f"load/{n:06}".encode() for n in range(before)} <= asyncio.run(loaded())
    refused = aegis(
        "snapshot", "restore", tmp_path / "made", "--data", node.directory, "--name", "n1", "--cluster", "x"
    )
    assert refused.returncode == endings.ERROR
    assert "never restored over it" in refused.stderr


def test_one_survivor_of_three_is_recovered_and_grows_to_three_again(cluster_of):
    cluster = cluster_of()
    cluster.start()
    cluster.wait_leader()
    asyncio.run(_fill(cluster.endpoints, 0))
    cluster.wait_caught_up()
    running = aegis("cluster", "recover", cluster.nodes["n2"].directory, "--unsafe", "--yes")
    cluster.kill_all()
    for name in ("n1", "n3"):
        shutil.rmtree(cluster.nodes.pop(name).directory)
    survivor = cluster.nodes["n2"]

    asked = aegis("cluster", "recover", survivor.directory, "--unsafe")
    looked = done("cluster", "recover", survivor.directory)
    recovered = aegis("cluster", "recover", survivor.directory, "--unsafe", "--yes", "-o", "json")
    cluster.start()
    cluster.wait_leader()
    grow_to_three(cluster, ("n4", "n5"))

    assert running.returncode == endings.ERROR
    assert "in use by process" in running.stderr
    assert asked.returncode == endings.USAGE
    assert "--yes" in asked.stderr
    assert looked[0]["voters"] == ["n1", "n2", "n3"]
    assert "is lost, also if it was acknowledged" in recovered.stderr
    assert json.loads(recovered.stdout)["removed"] == ["n1", "n3"]
    assert asyncio.run(_all(cluster.endpoints)) == expected(KEYS)
    for node in cluster.nodes.values():  # also those that came later know what was done
        told = ask_status(node.client_address)["groups"]["1"]["interventions"]
        assert [(each["what"], each["node"]) for each in told] == [("recovered", "n2")], node.node
    assert "recovered on n2" in aegis("status", "--endpoints", survivor.client_address).stderr
