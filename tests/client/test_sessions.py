"""Is every write applied once, whatever becomes of its packets? The client's half of sessions (thesis §6.3)."""

import asyncio
from random import Random
from typing import Any

import pytest
from fake_nodes import Answer, Connection, FakeCluster
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import run

from aegis_replication import wire
from aegis_replication.client.session import Session
from aegis_replication.errors import InvalidCommand, OutcomeUnknown, Unavailable
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import WINDOW, SessionMachine
from aegis_replication.wire import Request


@given(st.randoms(use_true_random=False), st.integers(1, 20), st.integers(0, 60))
def test_the_floor_is_the_lowest_number_without_an_answer(random: Random, window: int, steps: int) -> None:
    session = Session(b"s" * 16)
    session.open(window)
    waiting: set[int] = set()

    for _ in range(steps):
        if session.has_room and random.random() < 0.6:
            waiting.add(session.take())
        elif waiting:
            answered = random.choice(sorted(waiting))
            waiting.remove(answered)
            session.on_answered(answered)

        assert session.floor == min(waiting, default=session.next_sequence)
        assert session.has_room == (session.next_sequence < session.floor + window)


def test_a_session_is_opened_by_the_first_write_and_never_by_reads() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        db = cluster.client()
        await db.get("k")
        assert cluster.commands() == []

        await asyncio.gather(*(db.put(f"k{number}", "v") for number in range(20)))

        opening = [command for command in cluster.commands() if command[1] == 0]
        assert len(opening) == 1
        assert len(opening[0][0]) == 16
        assert {session for session, *_ in cluster.writes()} == {opening[0][0]}
        assert sorted(sequence for _, sequence, *_ in cluster.writes()) == [*range(1, 21)]

    run(story())


def test_two_clients_have_two_sessions() -> None:
    async def story() -> None:
        cluster = FakeCluster()

        await cluster.client().put("k", "v")
        await cluster.client().put("k", "v")

        assert len({session for session, *_ in cluster.writes()}) == 2

    run(story())


def test_many_calls_are_on_their_way_at_once_but_never_more_than_the_window() -> None:
    async def story() -> None:
        held: list[tuple[Connection, Request, Answer]] = []

        def hold(connection: Connection, request: Request, answer: Answer) -> Answer:
            if not cluster.writes():
                return answer
            held.append((connection, request, answer))
            return None

        cluster = FakeCluster()
        cluster.after = hold
        db = cluster.client()
        calls = [asyncio.ensure_future(db.increment("n")) for _ in range(WINDOW + 100)]
        await asyncio.sleep(0.1)
        assert len(held) == WINDOW

        connection, request, answer = held.pop(0)
        assert answer is not None
        connection.answer(request, answer)
        await asyncio.sleep(0.01)

        assert len(held) == WINDOW
        cluster.after = lambda connection, request, answer: answer
        for connection, request, answer in held:
            assert answer is not None
            connection.answer(request, answer)
        totals = await asyncio.gather(*calls)
        assert sorted(totals) == [*range(1, WINDOW + 101)]

    run(story())


def test_a_write_that_waited_for_room_in_vain_had_no_effect() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        db = cluster.client()
        await db.put("k", "v")
        cluster.after = lambda connection, request, answer: None
        calls = [asyncio.ensure_future(db.increment("n", timeout=0.4)) for _ in range(WINDOW + 5)]

        results = await asyncio.gather(*calls, return_exceptions=True)

        kinds = [type(result) for result in results]
        assert kinds == [OutcomeUnknown] * WINDOW + [Unavailable] * 5

    run(story())


def test_after_the_session_was_forgotten_a_new_write_goes_on_in_another_one() -> None:
    async def story() -> None:
        cluster = FakeCluster(machine=SessionMachine(KeyValueMachine(), idle_ms=1000))
        db = cluster.client()
        await db.put("k", "1")

        cluster.stamp_ms += 5000
        await asyncio.gather(*(db.increment("n") for _ in range(10)))

        assert (await db.get("n")).value == b"10"  # type: ignore[union-attr]
        assert len([command for command in cluster.commands() if command[1] == 0]) == 2

    run(story())


def test_what_was_on_its_way_when_the_session_was_forgotten_has_an_unknown_outcome() -> None:
    async def story() -> None:
        def lose_then_forget(connection: Connection, request: Request, answer: Answer) -> Answer:
            if len(cluster.writes()) == 2:
                cluster.stamp_ms += 5000
                connection.lose("reset")
            return answer

        cluster = FakeCluster(machine=SessionMachine(KeyValueMachine(), idle_ms=1000))
        cluster.after = lose_then_forget
        db = cluster.client()
        await db.put("k", "1")

        with pytest.raises(OutcomeUnknown, match="forgotten"):
            await db.increment("n")

        assert await db.increment("n") == 2  # as it happens, it was applied; and once only

    run(story())


def test_a_session_that_cannot_be_opened_fails_who_waits_for_it() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        cluster.before = lambda connection, request: (wire.INVALID, "no sessions here")
        db = cluster.client()

        results = await asyncio.gather(db.put("a", "1"), db.put("b", "1"), return_exceptions=True)

        assert [type(result) for result in results] == [InvalidCommand, InvalidCommand]

    run(story())


def test_opening_goes_on_for_later_writes_when_the_first_one_runs_out_of_time() -> None:
    async def story() -> None:
        cluster = FakeCluster()
        cluster.lead(None)
        db = cluster.client()
        hasty = asyncio.ensure_future(db.put("k", "hasty", timeout=0.5))
        patient = asyncio.ensure_future(db.put("k", "patient", timeout=5.0))
        await asyncio.sleep(1.0)

        cluster.lead("a")

        assert await patient == 1
        with pytest.raises(Unavailable):
            await hasty

    run(story())


@pytest.mark.parametrize("seed", range(40))
def test_no_write_is_lost_or_doubled_whatever_happens_to_packets_and_leaders(seed: int) -> None:
    """Every acknowledged increment counts once, one of unknown outcome once or not at all."""

    async def story() -> None:
        random = Random(seed)

        def before(connection: Connection, request: Request) -> Any:
            match random.randrange(20):
                case 0:
                    return wire.OVERLOADED, "full"
                case 1:
                    return wire.DROPPED, "a later leader's entry took its place"
                case 2:
                    return wire.UNKNOWN, "the leader lost its office first"
                case 3:
                    connection.lose("reset before")
                    return None
                case 4:
                    cluster.lead(random.choice([None, "a", "b", "c"]))
                    asyncio.get_running_loop().call_later(0.3, lambda: cluster.lead(random.choice("abc")))
                    return wire.NOT_LEADER, (None, None)
            return ...

        def after(connection: Connection, request: Request, answer: Answer) -> Answer:
            match random.randrange(20):
                case 0:
                    return wire.UNKNOWN, "stopping"
                case 1:
                    connection.lose("reset after")
                    return None
                case 2 if random.random() < 0.1:
                    return None
                case 3:
                    cluster.stamp_ms += random.choice([1, 10, 200])
            return answer

        cluster = FakeCluster(machine=SessionMachine(KeyValueMachine(), idle_ms=1000))
        cluster.before, cluster.after = before, after
        db = cluster.client(timeout=5.0)

        async def writer(name: str) -> tuple[int, int]:
            known = unknown = 0
            for _ in range(30):
                try:
                    await db.increment(name)
                    known += 1
                except OutcomeUnknown:
                    unknown += 1
                except Unavailable:
                    pass
            return known, unknown

        counts = await asyncio.gather(*(writer(f"n{number}") for number in range(10)))
        cluster.before, cluster.after = (lambda connection, request: ...), (lambda connection, request, answer: answer)
        cluster.lead("a")
        for number, (known, unknown) in enumerate(counts):
            found = await db.get(f"n{number}")
            total = int(found.value) if found else 0
            assert known <= total <= known + unknown, f"seed {seed}: {total} of {known} known, {unknown} unknown"
        assert sum(known for known, _ in counts) > 200

    run(story())
