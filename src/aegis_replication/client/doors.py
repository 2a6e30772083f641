"""How does a client reach nodes of its own program, also when they live on another thread's loop?"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final

from aegis_replication import wire
from aegis_replication.client.links import Dialer
from aegis_replication.errors import LimitExceeded, Unavailable
from aegis_replication.transport.connection import ClientConnection, OnLost, OnReplies
from aegis_replication.transport.memory import MemoryClientDoor

CLIENT_HELLO: Final = wire.Hello("client", wire.PROTOCOL_LOWEST, wire.PROTOCOL_HIGHEST)


class OpenDoor:
    """A node's door in memory, and the loop that it must be used on."""

    __slots__ = ("__weakref__", "door", "loop")

    def __init__(self, door: MemoryClientDoor, loop: asyncio.AbstractEventLoop) -> None:
        self.door, self.loop = door, loop


class DoorDialer:
    """Connects to the doors in `doors` by name; to every other address by `beyond`, if there is one."""

    def __init__(self, doors: Mapping[str, OpenDoor], beyond: Dialer | None = None) -> None:
        self._doors, self._beyond = doors, beyond

    async def dial(self, address: str, *, timeout: float, on_replies: OnReplies, on_lost: OnLost) -> ClientConnection:
        """A connection to the node whose door is called `address`."""
        found = self._doors.get(address)
        if found is None:
            if self._beyond is None:
                raise Unavailable(f"{address} isn't running in this program")
            return await self._beyond.dial(address, timeout=timeout, on_replies=on_replies, on_lost=on_lost)
        if found.loop is asyncio.get_running_loop():
            return await found.door.connect(CLIENT_HELLO, on_replies=on_replies, on_lost=on_lost)
        return await _CrossingConnection(found, on_replies, on_lost).open(timeout)


class _CrossingConnection:
    """A connection whose node lives on another loop: packets cross between them, joined by turns of either."""

    __slots__ = (
        "_far",
        "_far_loop",
        "_found",
        "_is_closed",
        "_near_loop",
        "_on_lost",
        "_on_replies",
        "_waiting",
        "hello",
    )

    def __init__(self, found: OpenDoor, on_replies: OnReplies, on_lost: OnLost) -> None:
        self.hello = found.door.own
        self._found = found
        self._near_loop, self._far_loop = asyncio.get_running_loop(), found.loop
        self._on_replies, self._on_lost = on_replies, on_lost
        self._far: ClientConnection
        self._waiting: list[bytes] = []  # sent since the last turn
        self._is_closed = False

    async def open(self, timeout: float) -> "_CrossingConnection":
        """Connect on the other loop. Raises Unavailable or Refused."""
        connecting: Coroutine[Any, Any, ClientConnection] = self._found.door.connect(
            CLIENT_HELLO, on_replies=self._on_far_replies, on_lost=self._on_far_lost
        )
        try:
            crossing = asyncio.run_coroutine_threadsafe(connecting, self._far_loop)
        except RuntimeError:  # that loop has ended
            connecting.close()
            raise Unavailable(f"{self.hello.node} isn't running any more: start it again") from None
        try:
            async with asyncio.timeout(timeout):
                self._far = await asyncio.wrap_future(crossing)
        except TimeoutError:
            raise Unavailable(f"{self.hello.node} gave no answer within {timeout:g} s: its loop is busy") from None
        return self

    def send(self, packet: bytes) -> None:
        """As ClientConnection."""
        if len(packet) - wire.LENGTH.size > self.hello.limits.request_bytes:
            raise LimitExceeded("a request", len(packet) - wire.LENGTH.size, self.hello.limits.request_bytes)
        if self._is_closed:
            return
        self._waiting.append(packet)
        if len(self._waiting) == 1:
            self._near_loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        packets, self._waiting = self._waiting, []
        if packets and not self._is_closed:
            self._call_far(self._send_far, packets)

    def _call_far(self, what: object, *arguments: object) -> None:
        try:
            self._far_loop.call_soon_threadsafe(what, *arguments)  # type: ignore[arg-type]
        except RuntimeError:  # that loop has ended without a goodbye
            self._near_loop.call_soon(self._lose, f"{self.hello.node} isn't running any more")

    def close(self) -> None:
        """As ClientConnection."""
        if not self._is_closed:
            self._hand_over()
            self._is_closed = True
            self._call_far(self._close_far)

    def _on_near_replies(self, packets: list[bytes]) -> None:
        if not self._is_closed:
            self._on_replies(packets)

    def _lose(self, reason: str) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._on_lost(reason)

    # --- on the node's loop ---

    def _send_far(self, packets: Sequence[bytes]) -> None:
        for packet in packets:
            self._far.send(packet)

    def _close_far(self) -> None:
        self._far.close()

    def _on_far_replies(self, packets: list[bytes]) -> None:
        self._call_near(self._on_near_replies, packets)

    def _on_far_lost(self, reason: str) -> None:
        self._call_near(self._lose, reason)

    def _call_near(self, what: object, *arguments: object) -> None:
        try:
            self._near_loop.call_soon_threadsafe(what, *arguments)  # type: ignore[arg-type]
        except RuntimeError:  # the client's loop has ended: nobody waits
            pass
