"""Where does a call go, and when does it go again? A client against nodes whose every answer the test decides."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from fake_nodes import Connection, FakeCluster
from virtual_time import run

from aegis_replication import wire
from aegis_replication.client import router
from aegis_replication.errors import (
    CommandFailed,
    DeadlineExceeded,
    InvalidArgument,
    InvalidCommand,
    LimitExceeded,
    NotAnInteger,
    OutcomeUnknown,
    Overloaded,
    ProtocolError,
    Refused,
    Unavailable,
)
from aegis_replication.wire import Request


def first(count: int, answer: Any) -> Callable[[Connection, Request], Any]:
    """Answers the first `count` writes with `answer` (or what it returns), then goes on."""
    left = [count]

    def before(connection: Connection, request: Request) -> Any:
        opens = request.kind == wire.COMMAND and request.body[-1:] == b"\xc0"
        if not left[0] or opens:
            return ...
        left[0] -= 1
        return answer(connection, request) if callable(answer) else answer

    return before


# --- finding the leader ---------------------------------------------------------------------------------------------


def test_a_call_reaches_the_leader_wherever_it_begins() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        cluster.lead("c")
        db = cluster.client("a")

        version = await db.put("k", "v")

        assert version == 1
        assert {name for name, _ in cluster.requests} == {"c"}

    run(story())


def test_a_refusal_that_names_the_leader_is_followed_without_asking_around() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        db = cluster.client()
        await db.put("k", "1")
        cluster.lead("b")
        cluster.asked.clear()

        await db.put("k", "2")

        assert [name for name, _ in cluster.requests][-2:] == ["a", "b"]
        assert cluster.asked == []

    run(story())


def test_without_a_hint_everybody_is_asked() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        for node in cluster.nodes.values():
            node.hides_leader = True
        db = cluster.client()
        await db.put("k", "1")
        cluster.lead("c")
        cluster.asked.clear()

        await db.put("k", "2")

        assert sorted(cluster.asked) == ["a", "b", "c"]

    run(story())


def test_hints_that_go_round_in_a_circle_are_given_up() -> None:
    async def story() -> None:
        cluster = FakeCluster("a", "b")
        db = cluster.client()
        await db.put("k", "1")
        cluster.lead(None)
        cluster.nodes["a"].names, cluster.nodes["b"].names = "b", "a"
        waiting = asyncio.ensure_future(db.put("k", "2"))
        await asyncio.sleep(2.0)
        assert len(cluster.requests) < 100

        cluster.lead("b")

        assert await waiting == 2

    run(story())


def test_a_node_that_says_it_leads_and_refuses_all_the_same_is_not_asked_without_a_pause() -> None:
    async def story() -> None:
        cluster = FakeCluster("a", "b")
        db = cluster.client()
        await db.put("k", "1")
        cluster.lead("nobody")
        cluster.nodes["a"].status = lambda: {"addresses": {}, "groups": {"1": {"role": "leader"}}}  # type: ignore[method-assign]

        with pytest.raises(Unavailable, match="nobody"):
            await db.put("k", "2", timeout=1.0)

        assert len(cluster.requests) < 50

    run(story())


def test_an_answer_that_comes_twice_counts_once() -> None:
    async def story() -> None:
        def twice(connection: Connection, request: Request) -> Any:
            connection.answer(request, (wire.OVERLOADED, "full"))
            return wire.OVERLOADED, "full"

        cluster = FakeCluster()
        cluster.before = first(1, twice)
        db = cluster.client()

        await db.put("k", "v")

        assert len(cluster.writes()) == 2

    run(story())


def test_a_call_waits_for_a_leader_until_its_deadline() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        cluster.lead(None)
        db = cluster.client()
        waiting = asyncio.ensure_future(db.put("k", "v", timeout=5.0))
        await asyncio.sleep(4.0)

        cluster.lead("b")

        assert await waiting == 1
        assert len(cluster.writes()) == 1

    run(story())


def test_without_a_leader_a_write_is_known_to_have_had_no_effect() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        cluster.lead(None)
        db = cluster.client()
        loop = asyncio.get_running_loop()
        began = loop.time()

        with pytest.raises(Unavailable, match="put b'k': its time is over"):
            await db.put("k", "v", timeout=3.0)

        assert loop.time() - began == pytest.approx(3.0)
        assert cluster.requests == []

    run(story())


def test_the_error_says_why_nobody_was_reached() -> None:
    async def story() -> None:
        cluster = FakeCluster("a")
        cluster.nodes["a"].crash()
        db = cluster.client("a", "z")

        with pytest.raises(Unavailable, match=r"a can't be reached .*; z can't be reached|z can't .*; a can't"):
            await db.get("k", timeout=1.0)

    run(story())


def test_when_every_node_refuses_us_nothing_is_waited_for() -> None:
    async def story() -> None:
        cluster = FakeCluster("a", "b")
        for node in cluster.nodes.values():
            node.trouble = Refused("this is a port for peers")
        db = cluster.client()
        began = asyncio.get_running_loop().time()

        with pytest.raises(Refused, match="for peers"):
            await db.get("k")

        assert asyncio.get_running_loop().time() == began

    run(story())


def test_nodes_that_the_cluster_names_are_asked_too() -> None:
    async def story() -> None:
        cluster = FakeCluster("a", "b", "c")
        db = cluster.client("a")
        await db.put("k", "v")
        cluster.nodes["a"].crash()
        cluster.lead("c")

        assert (await db.get("k")) is not None

    run(story())


# --- trying again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [wire.OVERLOADED, wire.DROPPED, wire.REFUSED, wire.UNKNOWN])
def test_a_write_goes_again_under_the_same_number(status: int) -> None:
    async def story() -> None:
        cluster = FakeCluster()
        cluster.before = first(2, (status, "not now"))
        db = cluster.client()

        total = await db.increment("n")

        writes = cluster.writes()
        assert total == 1
        assert len(writes) == 3
        assert len({(session, sequence) for session, sequence, _, _ in writes}) == 1

    run(story())


def test_a_write_whose_answer_was_lost_is_not_applied_again() -> None:
    async def story() -> None:
        def lose_the_answer(connection: Connection, request: Request, answer: Any) -> Any:
            if len(cluster.writes()) == 1:
                connection.node.crash()
                cluster.lead("b")
            return answer

        cluster = FakeCluster()
        cluster.after = lose_the_answer
        db = cluster.client()

        total = await db.increment("n")

        assert total == 1
        assert len(cluster.writes()) == 2
        assert (await db.get("n")).value == b"1"  # type: ignore[union-attr]

    run(story())


def test_a_read_goes_again_after_its_connection_was_lost() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        cluster.before = first(1, lambda connection, request: connection.lose("reset"))
        db = cluster.client()

        assert await db.get("k") is None

        assert len(cluster.requests) == 2

    run(story())


def test_pauses_between_attempts_grow_and_stay_bounded() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        times: list[float] = []

        def refuse(connection: Connection, request: Request) -> Any:
            times.append(asyncio.get_running_loop().time())
            return wire.OVERLOADED, "full"

        cluster.before = refuse
        db = cluster.client()

        with pytest.raises(Overloaded, match="its time is over; full"):
            await db.get("k", timeout=10.0)

        pauses = [after - before for before, after in pairwise(times)]
        assert pauses[0] < 0.05
        assert max(pauses) <= router.PAUSE_MAX_SECONDS + 0.001
        assert len(times) < 120

    run(story())


def test_answers_to_some_do_not_hurry_those_that_find_no_room() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        times: list[float] = []

        def refuse_large_ones(connection: Connection, request: Request) -> Any:
            if b"large" in request.body:
                times.append(asyncio.get_running_loop().time())
                return wire.OVERLOADED, "full"
            return ...

        cluster.before = refuse_large_ones
        db = cluster.client()
        waiting = asyncio.ensure_future(db.put("large", "v", timeout=10.0))

        for _ in range(500):
            await db.put("small", "v")
            await asyncio.sleep(0.01)
        during, cluster.before = len(times), lambda connection, request: ...
        await waiting

        assert during < 60
        assert times[-1] - times[0] > 4.0

    run(story())


# --- outcomes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "detail", "error", "text"),
    [
        (wire.INVALID, "not a command", InvalidCommand, "not a command"),
        (wire.FAILED, ["ValueError", "short"], CommandFailed, "ValueError: short"),
        (wire.NOT_AN_INTEGER, "b'x' is no integer", NotAnInteger, "no integer"),
        (99, "?", ProtocolError, "status 99"),
        (wire.FAILED, 5, ProtocolError, "malformed"),
    ],
)
def test_an_answer_that_will_not_change_ends_the_call(
    status: int, detail: Any, error: type[Exception], text: str
) -> None:
    async def story() -> None:
        cluster = FakeCluster()
        cluster.before = first(1, (status, detail))
        db = cluster.client()

        with pytest.raises(error, match=text):
            await db.put("k", "v")

        assert await db.put("k", "v") == 1

    run(story())


def test_a_write_without_any_answer_has_an_unknown_outcome() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        cluster.before = first(1, None)
        db = cluster.client()

        with pytest.raises(OutcomeUnknown, match="put b'k'"):
            await db.put("k", "v", timeout=0.4)

    run(story())


def test_a_write_that_may_have_been_applied_before_has_an_unknown_outcome_although_nobody_leads_now() -> None:
    async def story() -> None:
        def vanish(connection: Connection, request: Request) -> Any:
            cluster.lead(None)
            return wire.UNKNOWN, "the leader lost its office first"

        cluster = FakeCluster()
        cluster.before = first(1, vanish)
        db = cluster.client()

        with pytest.raises(OutcomeUnknown):
            await db.put("k", "v", timeout=2.0)

    run(story())


def test_a_read_without_any_answer_exceeds_its_deadline() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        cluster.before = first(1, None)
        db = cluster.client()

        with pytest.raises(DeadlineExceeded, match="a gave no answer") as caught:
            await db.get("k", timeout=0.4)

        assert isinstance(caught.value, TimeoutError)

    run(story())


def test_a_node_that_stays_silent_is_given_up_for_another() -> None:
    """A stopped process keeps its connections open: only its silence tells, if no other node tells of a later term."""

    async def story() -> None:
        cluster = FakeCluster()
        db = cluster.client()
        await db.increment("n")
        cluster.nodes["a"].is_deaf = True
        cluster.lead("b", term=cluster.term)
        began = asyncio.get_running_loop().time()

        total = await db.increment("n")

        waited = asyncio.get_running_loop().time() - began
        longest = router.SILENT_SECONDS + router.LOST_SECONDS + 2 * router.WATCH_SECONDS + router.ASK_SECONDS
        assert total == 2
        assert router.LOST_SECONDS <= waited <= longest

    run(story())


def test_a_leader_that_is_slow_but_alive_is_not_given_up() -> None:
    async def story() -> None:
        def slowly(connection: Connection, request: Request, answer: Any) -> Any:
            asyncio.get_running_loop().call_later(8.0, connection.answer, request, answer)

        cluster = FakeCluster()
        db = cluster.client()
        await db.put("k", "0")
        cluster.after = slowly

        await db.put("k", "1")

        assert len(cluster.writes()) == 2
        assert len(cluster.asked) > 3  # signs of life

    run(story())


# --- limits and ends ------------------------------------------------------------------------------------------------


def test_a_request_above_the_nodes_limit_is_refused_here_and_harms_no_other() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        db = cluster.client()

        with pytest.raises(LimitExceeded, match="the limit is"):
            await db.put("k", bytes(3 * 1024 * 1024))

        assert await db.put("k", "v") == 1
        assert [sequence for _, sequence, _, _ in cluster.writes()] == [2]
        assert [floor for _, _, floor, _ in cluster.writes()] == [2]

    run(story())


def test_too_many_calls_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        monkeypatch.setattr(router, "CALLS_MAX", 10)
        cluster = FakeCluster()
        db = cluster.client()

        results = await asyncio.gather(*(db.get("k") for _ in range(12)), return_exceptions=True)

        assert [type(each) for each in results].count(Overloaded) == 2
        assert await db.get("k") is None

    run(story())


def test_closing_ends_every_call_and_says_which_may_have_been_applied() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        db = cluster.client()
        await db.put("k", "v")
        cluster.before = lambda connection, request: None
        sent = asyncio.ensure_future(db.put("k", "v"))
        await asyncio.sleep(0.1)
        cluster.nodes["a"].trouble = Unavailable("gone")
        unsent = asyncio.ensure_future(cluster.client("z").put("k", "v"))
        await asyncio.sleep(0.1)

        await db.close()
        await db.close()

        with pytest.raises(OutcomeUnknown, match="closed"):
            await sent
        with pytest.raises(Unavailable, match="closed"):
            await db.put("k", "v")
        unsent.cancel()

    run(story())


def test_a_cancelled_call_leaves_the_others_alone() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        db = cluster.client()
        await db.put("k", "v")
        calls = [asyncio.ensure_future(db.increment("n")) for _ in range(5)]
        await asyncio.sleep(0)

        calls[2].cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        await db.put("k", "v")

        assert isinstance(results[2], asyncio.CancelledError)
        assert sum(isinstance(each, int) for each in results) == 4
        assert cluster.writes()[-1][2] == cluster.writes()[-1][1]  # the floor has passed all of them

    run(story())


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "1", True])
def test_a_timeout_that_is_none_is_refused(timeout: Any) -> None:
    async def story() -> None:
        db = FakeCluster().client()

        with pytest.raises(InvalidArgument, match="timeout"):
            await db.put("k", "v", timeout=timeout)

    run(story())


def test_a_client_that_is_taken_to_another_loop_is_refused_there() -> None:
    cluster = FakeCluster()
    db = cluster.client()

    async def put() -> int:
        return await db.put("k", "v")

    assert run(put()) == 1
    with pytest.raises(InvalidArgument, match="another event loop"):
        run(put())
