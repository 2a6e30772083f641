"""Does a client find the new leader while the old one is silent, and leave a slow one in peace?"""

import asyncio
from typing import Any

import pytest
from fake_nodes import Connection, FakeCluster
from virtual_time import run

from aegis_replication.client import doubt
from aegis_replication.client.doubt import PATIENCE_MAX_SECONDS, PATIENCE_MIN_SECONDS, Patience


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_silent_leader_is_left_as_soon_as_another_says_that_it_leads() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        db = cluster.client()
        await db.increment("n")
        cluster.nodes["a"].is_deaf = True
        asyncio.get_running_loop().call_later(0.2, cluster.lead, "b")
        began = now()

        total = await db.increment("n")

        assert total == 2
        assert 0.2 <= now() - began <= 0.3

    run(story())


def test_a_write_that_the_silent_leader_has_applied_is_not_applied_again() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        db = cluster.client()
        await db.increment("n")
        cluster.after = lambda connection, request, answer: answer if connection.node.name == "b" else None
        asyncio.get_running_loop().call_later(0.2, cluster.lead, "b")

        total = await db.increment("n")

        sent = [node for node, _ in cluster.requests]
        assert total == 2
        assert sent[-2:] == ["a", "b"]

    run(story())


def test_reads_that_wait_move_too() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        db = cluster.client()
        await db.put("k", "v")
        cluster.nodes["a"].is_deaf = True
        cluster.lead("c")
        began = now()

        found = await asyncio.gather(*(db.get("k") for _ in range(20)))

        assert [item.value for item in found if item] == [b"v"] * 20
        assert now() - began <= 0.3

    run(story())


def test_nodes_that_are_silent_as_well_do_not_hold_up_the_search() -> None:
    async def story() -> None:
        cluster = FakeCluster("a", "b", "c", "d", "e")
        db = cluster.client()
        await db.increment("n")
        for name in "abc":
            cluster.nodes[name].is_deaf = True
        cluster.nodes["d"].hides_leader = True
        cluster.lead("e")
        began = now()

        await db.increment("n")

        assert now() - began <= 0.4

    run(story())


def test_a_node_that_still_believes_in_an_earlier_term_is_not_followed() -> None:
    async def story() -> None:
        def slowly(connection: Connection, request: Any, answer: Any) -> Any:
            asyncio.get_running_loop().call_later(0.9, connection.answer, request, answer)

        cluster = FakeCluster()
        cluster.term = 5
        db = cluster.client()
        await db.put("k", "0")
        cluster.after = slowly
        cluster.nodes["b"].claims = 4

        await db.put("k", "1")

        assert "b" in cluster.asked
        assert {node for node, _ in cluster.requests} == {"a"}

    run(story())


def test_a_leader_that_is_slow_to_all_is_left_in_peace() -> None:
    """Doubt adapts: once answers are known to take long, they are waited for before anybody is asked."""

    async def story() -> None:
        def slowly(connection: Connection, request: Any, answer: Any) -> Any:
            asyncio.get_running_loop().call_later(0.6, connection.answer, request, answer)

        cluster = FakeCluster()
        db = cluster.client()
        await db.put("k", "0")
        cluster.after = slowly
        for number in range(12):
            await db.put("k", str(number))
        cluster.asked.clear()

        for number in range(12):
            await db.put("k", str(number))

        assert cluster.asked == []

    run(story())


def test_questions_become_rare_when_nobody_knows_a_successor() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        db = cluster.client(timeout=30.0)
        await db.put("k", "0")
        cluster.asked.clear()
        cluster.before = lambda connection, request: None

        with pytest.raises(Exception, match="unknown"):
            await db.put("k", "1", timeout=2.0)

        assert 5 <= len(cluster.asked) <= 40

    run(story())


def test_a_client_that_waits_for_nothing_asks_nobody() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        db = cluster.client()
        await db.put("k", "0")
        cluster.asked.clear()
        cluster.nodes["a"].is_deaf = True

        await asyncio.sleep(60.0)

        assert cluster.asked == []

    run(story())


def test_a_leader_that_speaks_again_keeps_its_calls() -> None:
    async def story() -> None:
        def late(connection: Connection, request: Any, answer: Any) -> Any:
            asyncio.get_running_loop().call_later(0.15, connection.answer, request, answer)

        cluster = FakeCluster()
        db = cluster.client()
        await db.increment("n")
        cluster.after = late

        total = await db.increment("n")

        assert total == 2
        assert {node for node, _ in cluster.requests} == {"a"}

    run(story())


def test_a_stopped_node_does_not_hold_up_a_client_that_looks_for_the_leader() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        cluster.nodes["a"].is_deaf = True
        cluster.lead(None)
        asyncio.get_running_loop().call_later(0.3, cluster.lead, "b")
        began = now()

        await cluster.client().put("k", "v")

        assert now() - began < 0.3 + doubt.ANSWER_SECONDS / 2

    run(story())


def test_patience_follows_the_usual_time_of_an_answer_within_its_bounds() -> None:
    patience = Patience()
    waits = [patience.seconds]

    for number in range(1, 31):
        patience.begin(number, 0.0)
        patience.end(0.2 if number % 2 else 0.1)
    waits.append(patience.seconds)
    patience.begin(31, 0.0)
    patience.end(60.0)
    waits.append(patience.seconds)

    assert waits[0] == PATIENCE_MIN_SECONDS
    assert 0.2 < waits[1] < 0.6
    assert waits[2] == PATIENCE_MAX_SECONDS
