"""Who answers a read that any replica may answer? Against nodes whose every answer the test decides."""

import asyncio
from random import Random

import pytest
from fake_nodes import FakeCluster
from virtual_time import run

from aegis_replication import wire
from aegis_replication.client.client import Client
from aegis_replication.client.replicas import PATIENCE_SECONDS
from aegis_replication.errors import DeadlineExceeded, InvalidArgument, InvalidCommand, Unavailable


def reads(cluster: FakeCluster) -> list[tuple[str, int]]:
    """Who was asked to read, and how old the answer might be in ms."""
    return [
        (name, wire.decode_read(request.body)[0]) for name, request in cluster.requests if request.kind == wire.READ
    ]


def client_of(cluster: FakeCluster, *, seed: int = 1, timeout: float = 10.0) -> Client:
    return Client(cluster, [*cluster.nodes], timeout=timeout, random=Random(seed))


def test_a_read_at_any_replica_asks_one_and_stays_with_it() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        db = client_of(cluster)
        await db.put("k", "v")

        found = [await db.get("k", replica="any") for _ in range(5)]

        assert [item and item.value for item in found] == [b"v"] * 5
        assert len(reads(cluster)) == 5
        assert len({name for name, _ in reads(cluster)}) == 1

    run(story())


def test_different_clients_choose_different_replicas() -> None:
    async def story() -> None:
        cluster = FakeCluster()

        for seed in range(20):
            await client_of(cluster, seed=seed).get("k", replica="any")

        assert {name for name, _ in reads(cluster)} == {"a", "b", "c"}

    run(story())


def test_a_bound_travels_in_milliseconds_and_goes_to_any_replica() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        db = client_of(cluster)

        await db.get("k", max_staleness=1.5)
        await db.get_many(["k"], max_staleness=0.001)
        await db.list(replica="any")
        await db.count(max_staleness=2)

        assert [bound for _, bound in reads(cluster)] == [1500, 1, 0, 2000]

    run(story())


@pytest.mark.parametrize("refusal", [(wire.NOT_LEADER, (None, None)), (wire.DROPPED, "gone"), (wire.OVERLOADED, "x")])
def test_a_replica_that_can_not_answer_is_left_for_another(refusal: tuple[int, object]) -> None:
    async def story() -> None:
        cluster = FakeCluster()
        db = client_of(cluster)
        await db.get("k", replica="any")
        chosen = reads(cluster)[0][0]
        cluster.nodes[chosen].read_refusal = refusal

        await db.get("k", replica="any")
        await db.get("k", replica="any")

        names = [name for name, _ in reads(cluster)]
        assert names[1] == chosen
        assert names[2] != chosen
        assert names[3] == names[2], "it stays with the one that answers"

    run(story())


def test_a_replica_that_is_silent_is_left_for_another() -> None:
    """A stopped process keeps its connections."""

    async def story() -> None:
        cluster = FakeCluster()
        db = client_of(cluster)
        await db.get("k", replica="any")
        chosen = reads(cluster)[0][0]
        cluster.nodes[chosen].is_deaf = True
        began = asyncio.get_running_loop().time()

        await db.get("k", replica="any")

        assert reads(cluster)[-1][0] != chosen
        assert asyncio.get_running_loop().time() - began < 2 * PATIENCE_SECONDS

    run(story())


def test_a_replica_whose_connection_breaks_is_left_for_another() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        db = client_of(cluster)
        await db.get("k", replica="any")
        chosen = reads(cluster)[0][0]
        cluster.nodes[chosen].is_deaf = True
        waiting = asyncio.create_task(db.get("k", replica="any"))
        await asyncio.sleep(0.1)

        cluster.nodes[chosen].crash()
        await waiting

        assert reads(cluster)[-1][0] != chosen

    run(story())


def test_a_read_without_an_answer_ends_in_time() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        for node in cluster.nodes.values():
            node.read_refusal = (wire.NOT_LEADER, (None, None))
        db = client_of(cluster, timeout=3.0)
        began = asyncio.get_running_loop().time()

        with pytest.raises(DeadlineExceeded, match="knows no leader"):
            await db.get("k", replica="any")

        assert asyncio.get_running_loop().time() - began == pytest.approx(3.0, abs=0.01)

    run(story())


def test_a_read_that_reached_nobody_says_so() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        for node in cluster.nodes.values():
            node.crash()
        db = client_of(cluster, timeout=1.0)

        with pytest.raises(Unavailable, match="can't be reached"):
            await db.get("k", replica="any")

    run(story())


def test_a_query_that_the_machine_refuses_is_not_asked_elsewhere() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        for node in cluster.nodes.values():
            node.read_refusal = (wire.INVALID, "no such query")
        db = client_of(cluster)

        with pytest.raises(InvalidCommand, match="no such query"):
            await db.get("k", replica="any")

        assert len(reads(cluster)) == 1

    run(story())


def test_closing_ends_the_reads_that_wait() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        for node in cluster.nodes.values():
            node.is_deaf = True
        db = client_of(cluster)
        waiting = asyncio.create_task(db.get("k", replica="any"))
        await asyncio.sleep(0.1)

        await db.close()

        with pytest.raises(Unavailable, match="closed"):
            await waiting

    run(story())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"replica": "nearest"}, "give 'leader' or 'any'"),
        ({"max_staleness": 0}, "give seconds, 0.001 to 86,400"),
        ({"max_staleness": -1.0}, "give seconds"),
        ({"max_staleness": float("nan")}, "give seconds"),
        ({"max_staleness": 1e9}, "give seconds"),
        ({"max_staleness": "1"}, "give seconds"),
        ({"max_staleness": True}, "give seconds"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_sent(options: dict[str, object], says: str) -> None:
    async def story() -> None:
        cluster = FakeCluster()

        with pytest.raises(InvalidArgument, match=says):
            await client_of(cluster).get("k", **options)  # type: ignore[arg-type]

        assert cluster.requests == []

    run(story())
