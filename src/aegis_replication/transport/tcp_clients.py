"""How do clients' requests come in over TCP, and how are too many, too large or malformed ones kept out?"""

import asyncio
import logging
import ssl
from collections import Counter
from typing import Final

import msgspec

from aegis_replication.errors import LimitExceeded, ProtocolError
from aegis_replication.transport.base import ClientHandler
from aegis_replication.transport.tcp import (
    NONSENSE,
    Reporter,
    as_transport,
    check_own,
    descriptors_max,
    encode_refusal,
    listen,
    remote_address,
    shown,
    take_hello,
    tune_socket,
    wait_set,
    why_not_client,
)
from aegis_replication.wire import (
    ADMIN,
    BACKUP,
    COMMAND,
    INVALID,
    LENGTH,
    OK,
    PING,
    REQUEST_FRAME,
    STATUS,
    Hello,
    Request,
    encode_hello,
    encode_reply,
)

DESCRIPTORS_KEPT: Final = 128  # for peers, files of the log and snapshots
SURPLUS_MAX: Final = 64  # callers above the caps that are told so at a time; the others are just closed
CLIENT_DEAD_SECONDS: Final = 30.0  # a client whose machine vanished

_HEAD_BYTES: Final = REQUEST_FRAME.size
_SMALLEST: Final = _HEAD_BYTES - LENGTH.size
_NIL: Final = msgspec.msgpack.encode(None)


class DoorLimits(msgspec.Struct, frozen=True):
    """What one client, one address and all of them together may take. Times are in seconds."""

    connections: int = 8192  # lowered to what the process's limit of open files leaves
    connections_per_address: int = 4096
    requests_in_flight: int = 1024  # per connection: above it nothing more is read (checked after each read)
    reply_bytes_queued: int = 1024 * 1024  # per connection that doesn't read: above it nothing more is read from it
    reply_bytes_max: int = 32 * 1024 * 1024  # and above this it's closed
    handshake: int = 5
    frame: int = 10  # from a packet's first byte to its last
    stalled: int = 30  # replies wait and the client takes nothing
    idle: int = 600  # nothing asked, nothing to answer; our own clients ping long before


_DOOR_LIMITS: Final = DoorLimits()


class DoorStatistics(msgspec.Struct, frozen=True):
    """What a door has seen so far."""

    connections: int  # now, handshake done
    accepted: int
    refused: int  # told why in the handshake
    surplus: int  # over a cap
    garbage: int  # closed for bytes that aren't the protocol
    late: int  # closed by a deadline: handshake, frame, idle
    stalled: int  # closed because replies weren't read


class TcpClientDoor:
    """A node's port for clients.

    `own` names the node and cluster and the limits that clients are told; `listen` is "host:port".
    """

    def __init__(
        self,
        own: Hello,
        *,
        listen: str,
        peer_address: str = "",
        limits: DoorLimits = _DOOR_LIMITS,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.own = check_own(msgspec.structs.replace(own, role="client"))
        self.limits = limits
        self.address = listen  # where it really listens, once started
        self.peer_address = peer_address  # for a peer that comes here by mistake
        self.counts: Counter[str] = Counter()
        self.per_address: Counter[str] = Counter()
        self.handler: ClientHandler
        self.report: Reporter
        self.connections: dict[int, _ClientProtocol] = {}  # handshake done
        self.everyone: set[_ClientProtocol] = set()  # with those that still shake hands or are turned away
        self.surplus_now = 0  # of these: over a cap, waiting to be told so
        self.emptied = asyncio.Event()  # nobody is connected
        self.emptied.set()
        self._context = context
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_connection = 1

    async def start(self, handler: ClientHandler) -> None:
        """Listen. Raises ConfigError when the address can't be had."""
        loop = asyncio.get_running_loop()
        self.handler = handler
        self.report = Reporter(f"node={self.own.node} door=clients", loop.time)
        self._server, self.address = await listen(
            lambda: _ClientProtocol(self), self.address, what="client address", backlog=1024, context=self._context
        )
        self._timer = loop.call_later(1.0, self._each_second, loop)

    def reply(self, connection: int, packets: bytes) -> None:
        """Send reply packets to a client; dropped when it is gone. One write per call."""
        protocol = self.connections.get(connection)
        if protocol is not None:
            protocol.reply(packets)

    def statistics(self) -> DoorStatistics:
        """A picture of now."""
        counts = {name: self.counts[name] for name in DoorStatistics.__struct_fields__ if name != "connections"}
        return DoorStatistics(connections=len(self.connections), **counts)

    async def stop(self) -> None:
        """Close everything."""
        if self._timer is not None:
            self._timer.cancel()
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for protocol in list(self.everyone):
            protocol.close()
        await wait_set(self.emptied, 1.0)
        for protocol in list(self.everyone):
            protocol.transport.abort()
        await asyncio.sleep(0)

    @property
    def is_open(self) -> bool:
        """Does it take connections?"""
        return self._server is not None

    def check_deadlines(self) -> None:
        """One second of everybody's deadlines has passed.

        They are counted in calls, not read from a clock: after a pause of this process nobody is late at once.
        """
        for protocol in list(self.everyone):
            protocol.on_second()

    def admit(self, protocol: "_ClientProtocol") -> int:
        """The number of a connection whose handshake is done."""
        number = self._next_connection
        self._next_connection += 1
        self.connections[number] = protocol
        self.counts["accepted"] += 1
        return number

    def why_full(self, address: str) -> str:
        """Why one more connection from `address` is too many; "" when it isn't."""
        connections_max = min(self.limits.connections, max(16, descriptors_max() - DESCRIPTORS_KEPT))
        if len(self.everyone) - self.surplus_now >= connections_max:
            return f"{self.own.node} has {connections_max} connections, its limit: try another node, or later"
        if self.per_address[address] >= self.limits.connections_per_address:
            return (
                f"{self.own.node} has {self.limits.connections_per_address} connections from your address, "
                "its limit for one: share connections"
            )
        return ""

    def _each_second(self, loop: asyncio.AbstractEventLoop) -> None:
        self.check_deadlines()
        self._timer = loop.call_later(1.0, self._each_second, loop)


class _ClientProtocol(asyncio.Protocol):
    """One client's connection: handshake, then requests in and replies out."""

    # fmt: off
    __slots__ = ("transport", "_door", "_address", "_number", "_surplus", "_closed", "_tail", "_needed",
                 "_packet_bytes_max", "_in_flight", "_is_write_paused", "_is_read_paused", "_has_read",
                 "_quiet_seconds", "_frame_seconds", "_stalled_seconds", "_queued_bytes")
    # fmt: on

    transport: asyncio.Transport

    def __init__(self, door: TcpClientDoor) -> None:
        self._door = door
        self._address = "?"
        self._number = 0  # 0 until the handshake is done
        self._surplus = ""  # why it's one too many; it's told so and closed
        self._closed = False  # by us or by the client: nothing is handled any more
        self._tail = bytearray()  # the start of a packet that isn't complete yet
        self._needed = 0  # how long `_tail` must be before another look is worth it
        self._packet_bytes_max = door.own.limits.request_bytes
        self._in_flight = 0  # requests handed over and not yet answered
        self._is_write_paused = False  # the client doesn't take its replies
        self._is_read_paused = False
        self._has_read = False  # since the last second
        self._quiet_seconds = 0  # without a byte
        self._frame_seconds = 0  # since the packet in `_tail` began
        self._stalled_seconds = 0
        self._queued_bytes = 0  # replies that waited a second ago, while it takes none

    # --- its life ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        door = self._door
        self.transport = transport = as_transport(transport)
        self._address = remote_address(transport)
        if not door.is_open:
            self._closed = True
            transport.abort()
            return
        self._surplus = door.why_full(self._address)
        door.everyone.add(self)
        door.emptied.clear()
        if self._surplus:
            door.surplus_now += 1
            door.counts["surplus"] += 1
            door.report.on_change("surplus", f"turned {self._address} away: {self._surplus}")
            if door.surplus_now > SURPLUS_MAX:
                self.close()
            return
        door.per_address[self._address] += 1
        tune_socket(transport, dead_seconds=CLIENT_DEAD_SECONDS)
        transport.set_write_buffer_limits(high=door.limits.reply_bytes_queued)

    def connection_lost(self, error: Exception | None) -> None:
        self._leave()
        door = self._door
        if self not in door.everyone:
            return
        door.everyone.discard(self)
        if not door.everyone:
            door.emptied.set()
        if self._surplus:
            door.surplus_now -= 1
            return
        door.per_address[self._address] -= 1
        if not door.per_address[self._address]:
            del door.per_address[self._address]

    def close(self) -> None:
        """Sends what waits, then closes; nothing that comes meanwhile is handled."""
        self._leave()
        self.transport.close()

    def _leave(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._tail.clear()
        if self._number:
            del self._door.connections[self._number]
            self._door.handler.on_client_gone(self._number)

    def on_second(self) -> None:
        """Deadlines, counted in seconds that the door lets pass."""
        if self._closed:
            self._stalled_seconds += 1
            if self._stalled_seconds > self._door.limits.handshake:
                self.transport.abort()  # it doesn't take our last words
            return
        limits = self._door.limits
        self._quiet_seconds = 0 if self._has_read else self._quiet_seconds + 1
        self._has_read = False
        if not self._number:
            self._frame_seconds += 1
            if self._frame_seconds >= limits.handshake or self._surplus:
                self._end("late", f"no handshake within {limits.handshake} s")
        elif self._is_write_paused:
            queued = self.transport.get_write_buffer_size()
            self._stalled_seconds = 0 if queued < self._queued_bytes else self._stalled_seconds + 1
            self._queued_bytes = queued
            if self._stalled_seconds >= limits.stalled:
                self._end("stalled", f"takes no replies for {limits.stalled} s")
        elif self._tail and not self._is_read_paused:
            self._frame_seconds += 1
            if self._frame_seconds >= limits.frame:
                self._end("late", f"a packet that isn't complete after {limits.frame} s")
        elif self._quiet_seconds >= limits.idle and not self._in_flight:
            self._end("late", f"idle for {limits.idle} s")

    def _end(self, why: str, text: str) -> None:
        self._door.counts[why] += 1
        self._door.report.sometimes(why, f"closed {self._address}: {text}", logging.INFO)
        self._leave()
        self.transport.abort()

    # --- requests in ---

    def data_received(self, data: bytes) -> None:
        self._has_read = True
        if self._closed:
            return
        if self._tail or not self._number:
            tail = self._tail
            tail += data
            if not self._number and not self._shake_hands():
                return
            if len(tail) < self._needed or not tail:
                return
            data = bytes(tail)
            tail.clear()
        # Everything per request is in this loop: it runs for each command that the cluster takes.
        unpack, make, limit = REQUEST_FRAME.unpack_from, tuple.__new__, self._packet_bytes_max
        requests: list[Request] = []
        position, end, trouble = 0, len(data), None
        while end - position >= _HEAD_BYTES:
            size, kind, group, request = unpack(data, position)
            if not (_SMALLEST <= size <= limit and COMMAND <= kind <= STATUS):
                if kind == PING and size == _SMALLEST:
                    self.transport.write(encode_reply(request, OK, _NIL))
                    position += _HEAD_BYTES
                    continue
                if not (ADMIN <= kind <= BACKUP and _SMALLEST <= size <= limit):
                    trouble = self._trouble(size, kind, request)
                    break
            after = position + 4 + size
            if after > end:
                break
            requests.append(make(Request, (kind, group, request, data[position + _HEAD_BYTES : after])))
            position = after
        if position:
            self._frame_seconds = 0
        if position < end and not trouble:
            trouble = self._keep_tail(data, position)
        if requests:
            self._in_flight += len(requests)
            self._door.handler.on_requests(self._number, requests)
            if self._in_flight > self._door.limits.requests_in_flight:
                self._pause_or_resume()
        if trouble and not self._closed:
            self._on_nonsense(trouble)

    def _keep_tail(self, data: bytes, position: int) -> Exception | None:
        """Keeps the start of a packet, once its length is known to be allowed; else says what is wrong with it."""
        self._needed = _HEAD_BYTES
        if len(data) - position >= LENGTH.size:
            (size,) = LENGTH.unpack_from(data, position)
            if not _SMALLEST <= size <= self._packet_bytes_max:
                return self._trouble(size, PING, None)
            self._needed = LENGTH.size + size
        self._tail += memoryview(data)[position:]
        return None

    def _trouble(self, size: int, kind: int, request: int | None) -> Exception:
        """Why a packet's head can't be a request. A client whose request is too large is told so."""
        if size > self._packet_bytes_max:
            error = LimitExceeded("a request", size, self._packet_bytes_max)
            if request is not None and (COMMAND <= kind <= STATUS or ADMIN <= kind <= BACKUP):
                self.transport.write(encode_reply(request, INVALID, msgspec.msgpack.encode(str(error))))
            return error
        return ProtocolError(f"a packet of kind {kind} with {size} bytes is no request")

    def _shake_hands(self) -> bool:
        """Is the handshake done? Answers it; refuses with a reason or closes at nonsense."""
        door = self._door
        try:
            hello = take_hello(self._tail)
        except NONSENSE as error:
            self._on_nonsense(error)
            return False
        if hello is None:
            return False
        reason = self._surplus or why_not_client(door.own, hello, door.peer_address)
        if reason:
            door.counts["refused"] += not self._surplus
            door.report.on_change("refused", f"refused {shown(hello.role)} from {self._address}: {reason}")
            self.transport.write(encode_refusal(door.own, reason))
            self.close()
            return False
        self.transport.write(encode_hello(door.own))
        self._frame_seconds = self._needed = 0
        self._number = door.admit(self)
        return True

    def _on_nonsense(self, error: Exception) -> None:
        self._door.counts["garbage"] += 1
        self._door.report.sometimes("garbage", f"closed {self._address}: {error}")
        self.close()

    # --- replies out ---

    def reply(self, packets: bytes) -> None:
        """Sends joined reply packets; what they answer is no longer in flight."""
        self.transport.write(packets)
        unpack = LENGTH.unpack_from
        position, end, count = 0, len(packets), 0
        while position < end:
            position += 4 + unpack(packets, position)[0]
            count += 1
        self._in_flight -= count
        if self._is_write_paused and self.transport.get_write_buffer_size() > self._door.limits.reply_bytes_max:
            self._end("stalled", f"more than {self._door.limits.reply_bytes_max:,} bytes of replies wait for it")
        elif self._is_read_paused:
            self._pause_or_resume()

    def pause_writing(self) -> None:
        self._is_write_paused = True
        self._stalled_seconds = self._queued_bytes = 0
        self._pause_or_resume()

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self._pause_or_resume()

    def _pause_or_resume(self) -> None:
        """Nothing more is read from a client that has too much in flight or doesn't take its replies."""
        if self._closed:
            return
        limit = self._door.limits.requests_in_flight
        if not self._is_read_paused and (self._is_write_paused or self._in_flight > limit):
            self._is_read_paused = True
            self.transport.pause_reading()
        elif self._is_read_paused and not self._is_write_paused and self._in_flight <= limit // 2:
            self._is_read_paused = False
            self.transport.resume_reading()
