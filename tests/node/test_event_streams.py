"""Does a subscriber get every event once and in order, and can it never hold the node up?"""

import asyncio
import gc
import threading
from weakref import ref

import pytest

from aegis_replication.engine.effects import RoleChanged
from aegis_replication.errors import InvalidArgument
from aegis_replication.events import (
    DiskFilled,
    DiskHasRoom,
    EventsMissed,
    LeaderChanged,
    LeadershipGained,
    LeadershipLost,
)
from aegis_replication.node.event_streams import EventStreams

FULL, ROOM = DiskFilled("no room"), DiskHasRoom()


async def test_each_subscriber_gets_all_events_since_it_subscribed_in_order_and_then_the_end() -> None:
    streams = EventStreams()
    streams.tell([ROOM])
    early = streams.subscribe(10)
    streams.tell([FULL])
    late = streams.subscribe(10)
    streams.tell([ROOM])
    streams.close()

    assert [event async for event in early] == [FULL, ROOM]
    assert [event async for event in late] == [ROOM]
    assert [event async for event in streams.subscribe(10)] == []


async def test_a_slow_subscriber_loses_the_oldest_and_is_told_how_many() -> None:
    streams = EventStreams()
    slow = streams.subscribe(3)
    events = [DiskFilled(str(number)) for number in range(10)]

    streams.tell(events[:9])
    first = await anext(slow)
    streams.tell(events[9:])
    streams.close()

    assert first == EventsMissed(6)
    assert [event async for event in slow] == [EventsMissed(1), *events[7:]]


async def test_who_waits_is_woken_by_an_event_and_by_the_end() -> None:
    streams = EventStreams()
    stream = streams.subscribe(3)

    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    streams.tell([FULL])
    async with asyncio.timeout(60):
        first = await waiting
    waiting = asyncio.ensure_future(anext(stream, None))
    await asyncio.sleep(0)
    streams.close()
    async with asyncio.timeout(60):
        last = await waiting

    assert (first, last) == (FULL, None)


async def test_a_wait_that_is_cancelled_loses_nothing() -> None:
    streams = EventStreams()
    stream = streams.subscribe(3)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    streams.tell([FULL])

    assert await anext(stream) == FULL


def test_a_thread_reads_with_a_plain_for() -> None:
    streams = EventStreams()
    stream = streams.subscribe(3)
    got: list[object] = []
    reader = threading.Thread(target=lambda: got.extend(stream))
    reader.start()

    streams.tell([FULL, ROOM])
    streams.close()
    reader.join(60)

    assert got == [FULL, ROOM]


async def test_a_plain_for_on_an_event_loop_is_refused_and_so_is_a_second_reader() -> None:
    stream = EventStreams().subscribe(3)

    with pytest.raises(InvalidArgument, match="use `async for`"):
        next(stream)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    with pytest.raises(InvalidArgument, match="subscribe once for each"):
        await anext(stream)
    waiting.cancel()


@pytest.mark.parametrize("buffer", [0, -1, True, 1.5, "10"])
def test_a_buffer_that_holds_nothing_is_refused(buffer: int) -> None:
    with pytest.raises(InvalidArgument, match=r"buffer = .*: give a number of events, such as 256"):
        EventStreams().subscribe(buffer)


def test_a_stream_that_nobody_holds_is_forgotten() -> None:
    streams = EventStreams()
    stream = ref(streams.subscribe(3))

    gc.collect()

    assert stream() is None
    streams.tell([FULL])


def test_roles_become_what_they_mean_for_a_subscriber() -> None:
    streams = EventStreams()
    stream = streams.subscribe(20)

    for term, role, leader in (
        (1, "follower", "a"),
        (1, "pre-candidate", "a"),
        (2, "candidate", None),
        (2, "leader", "b"),
        (3, "follower", None),
        (3, "follower", "c"),
        (4, "leader", "b"),
        (5, "leader", "b"),
    ):
        streams.on_role_changed(RoleChanged(1, term, role, leader, f"why {term}"))
    streams.close()

    assert list(stream) == [
        LeaderChanged(1, 1, "a"),
        LeaderChanged(1, 2, None),
        LeaderChanged(1, 2, "b"),
        LeadershipGained(1, 2),
        LeadershipLost(1, 2, "why 3"),
        LeaderChanged(1, 3, None),
        LeaderChanged(1, 3, "c"),
        LeaderChanged(1, 4, "b"),
        LeadershipGained(1, 4),
        LeadershipLost(1, 4, "why 5"),
        LeadershipGained(1, 5),
    ]
