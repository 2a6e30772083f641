"""Who is told what changes on a node? Subscribers, each with a buffer of its own; the node waits for none of them."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterable
from typing import Final, Self
from weakref import WeakSet

from aegis_replication.engine.effects import RoleChanged
from aegis_replication.errors import InvalidArgument
from aegis_replication.events import (
    EventsMissed,
    LeaderChanged,
    LeadershipGained,
    LeadershipLost,
    NodeEvent,
)
from aegis_replication.ids import GroupId, NodeId, Term

BUFFER: Final = 256
"""So many events wait for a subscriber; one more, and the oldest is dropped."""


class EventStream:
    """The events of one node from the subscription on, for one reader: `async for`, or plain `for` in another thread.

    Ends when the node stops, after what is buffered. Closing it, or dropping the last reference, ends the subscription.
    """

    def __init__(self, buffer: int) -> None:
        self._buffer = buffer
        self._condition = threading.Condition()  # held for a few instructions only
        self._events: deque[NodeEvent] = deque()
        self._missed = 0
        self._is_closed = False
        self._waiter: asyncio.Future[None] | None = None

    def push(self, events: Iterable[NodeEvent]) -> None:
        """Take events, dropping the oldest when there is no room; wakes the reader."""
        with self._condition:
            if self._is_closed:
                return
            for event in events:
                if len(self._events) == self._buffer:
                    self._events.popleft()
                    self._missed += 1
                self._events.append(event)
            self._wake()

    def close(self) -> None:
        """Take no more; the reader gets what is buffered, then the end."""
        with self._condition:
            self._is_closed = True
            self._wake()

    def _wake(self) -> None:
        self._condition.notify_all()
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            try:
                waiter.get_loop().call_soon_threadsafe(_finish, waiter)
            except RuntimeError:
                pass  # the reader's loop is closed: nobody reads any more

    def _next(self) -> NodeEvent | None:
        """The next one, if it is there."""
        if self._missed:
            missed, self._missed = self._missed, 0
            return EventsMissed(missed)
        return self._events.popleft() if self._events else None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> NodeEvent:
        while True:
            with self._condition:
                if (event := self._next()) is not None:
                    return event
                if self._is_closed:
                    raise StopAsyncIteration
                if self._waiter is not None:
                    raise InvalidArgument("another task waits for this stream already: subscribe once for each")
                waiter = self._waiter = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                with self._condition:
                    if self._waiter is waiter:
                        self._waiter = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> NodeEvent:
        if _is_in_loop():
            raise InvalidArgument("this would block the event loop: use `async for`")
        with self._condition:
            while True:
                if (event := self._next()) is not None:
                    return event
                if self._is_closed:
                    raise StopIteration
                self._condition.wait()


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _finish(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


class EventStreams:
    """The subscribers of one node, and what they were told last."""

    def __init__(self) -> None:
        self._streams: WeakSet[EventStream] = WeakSet()
        # By group: the term that this node leads in (0: none), and whom it takes for the leader.
        self._known: dict[GroupId, tuple[Term, NodeId | None]] = {}
        self._is_over = False

    def subscribe(self, buffer: int) -> EventStream:
        """A stream of what happens from now on. Raises InvalidArgument for a buffer that holds nothing."""
        if type(buffer) is not int or buffer < 1:
            raise InvalidArgument(f"buffer = {buffer!r}: give a number of events, such as {BUFFER}")
        stream = EventStream(buffer)
        if self._is_over:
            stream.close()
        self._streams.add(stream)
        return stream

    def tell(self, events: Iterable[NodeEvent]) -> None:
        """Pass events on."""
        for stream in list(self._streams):
            stream.push(events)

    def on_role_changed(self, change: RoleChanged) -> None:
        """Pass on what a change of role means for a subscriber, if anything."""
        led, leader = self._known.get(change.group, (0, None))
        leads = change.term if change.role == "leader" else 0
        self._known[change.group] = (leads, change.leader)
        events: list[NodeEvent] = []
        if led and leads != led:
            events.append(LeadershipLost(change.group, led, change.why))
        if change.leader != leader:
            events.append(LeaderChanged(change.group, change.term, change.leader))
        if leads and leads != led:
            events.append(LeadershipGained(change.group, leads))
        if events:
            self.tell(events)

    def close(self) -> None:
        """The node stops: no stream gets anything more."""
        self._is_over = True
        for stream in list(self._streams):
            stream.close()
