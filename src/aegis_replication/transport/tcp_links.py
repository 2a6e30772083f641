"""How do packets get to one peer over TCP? Dialing, the handshake, urgent before bulk, and noticing a dead link."""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

import msgspec

from aegis_replication.errors import ProtocolError
from aegis_replication.ids import NodeId
from aegis_replication.transport.tcp import (
    HANDSHAKE_SECONDS,
    NONSENSE,
    PacketBuffer,
    Reporter,
    as_transport,
    parse_address,
    shown,
    take_hello,
    tune_socket,
    wait_set,
    why_not_connected,
)
from aegis_replication.wire import ALIVE, LENGTH, PIECE, PIECE_BYTES, Hello, choose_version, encode_hello

BACKOFF_FIRST_SECONDS: Final = 0.02
BACKOFF_MAX_SECONDS: Final = 1.0
CONNECT_SECONDS: Final = 2.0
SILENT_CHECKS_MAX: Final = 4  # checks without an inbound byte, after which a link is dead
URGENT_BYTES_MAX: Final = 4 * 1024 * 1024  # heartbeats and replies that may wait for one peer
ALIVE_PACKET: Final = LENGTH.pack(1) + bytes([ALIVE])

_PIECE_HEAD_BYTES: Final = 2  # kind, last


class LinkCounts(msgspec.Struct):
    """What became of the packets for one peer."""

    sent: int = 0
    dropped_unreachable: int = 0
    dropped_full: int = 0
    dropped_too_large: int = 0
    connects: int = 0


class Backoff:
    """How long to wait before the next attempt: 20 ms at first, doubled up to a second, give or take half of it."""

    __slots__ = ("_random", "_seconds")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._seconds = BACKOFF_FIRST_SECONDS

    def reset(self) -> None:
        """It went well: the next trouble is a new one."""
        self._seconds = BACKOFF_FIRST_SECONDS

    def next_seconds(self) -> float:
        """The next wait. Spread, so that nodes that lost each other at the same moment don't return in step."""
        seconds, self._seconds = self._seconds, min(2 * self._seconds, BACKOFF_MAX_SECONDS)
        return seconds * (0.5 + self._random.random())


class PeerLink:
    """The connection that this node dials to one peer, for its own packets; the peer's come by one that the peer dials.

    Two connections per pair of nodes instead of a shared one: neither side has to decide which of two simultaneous
    dials survives, and each direction fails and recovers by itself.
    """

    # fmt: off
    __slots__ = ("own", "peer", "address", "report", "counts", "queue_bytes_max", "hello", "_backoff", "_context",
                 "_on_up", "_on_down", "_on_heard", "_why_not", "_protocol", "_transport", "_is_paused", "_urgent",
                 "_urgent_bytes", "_bulk", "_bulk_bytes", "_cut", "_packet_bytes_max", "_retry", "_task")
    # fmt: on

    def __init__(
        self,
        own: Hello,
        peer: NodeId,
        address: str,
        *,
        report: Reporter,
        random: Random,
        queue_bytes_max: int,
        on_up: Callable[[Hello], None],
        on_down: Callable[[NodeId], None],
        on_heard: Callable[[Hello], None],
        why_not: Callable[[Hello], str | None],
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.own = msgspec.structs.replace(own, target=peer)
        self.peer = peer
        self.address = address
        self.report = report
        self.counts = LinkCounts()
        self.queue_bytes_max = queue_bytes_max
        self.hello: Hello | None = None  # the peer's, while the link is up
        self._backoff = Backoff(random)
        self._context = context
        self._on_up = on_up
        self._on_down = on_down
        self._on_heard = on_heard
        self._why_not = why_not
        self._protocol: _Outbound | None = None  # connected, perhaps still shaking hands
        self._transport: asyncio.Transport | None = None  # only while the link is up
        self._is_paused = False  # the socket is full: everything else waits below
        self._urgent: deque[bytes] = deque()
        self._urgent_bytes = 0
        self._bulk: deque[bytes] = deque()
        self._bulk_bytes = 0
        self._cut = 0  # how much of the first bulk packet has gone out in pieces
        self._packet_bytes_max = 0  # what the peer takes
        self._retry = asyncio.Event()  # dial now, whatever the backoff says
        self._task: asyncio.Task[None] | None = None

    # --- sending ---

    def send(self, packet: bytes, *, bulk: bool) -> None:
        """Writes one packet at once, or keeps it until the socket takes more; dropped when there is no room for it."""
        transport = self._transport
        if transport is None:
            self.counts.dropped_unreachable += 1
            return
        if len(packet) > PIECE_BYTES:
            if len(packet) > self._packet_bytes_max:
                self.counts.dropped_too_large += 1
                self.report.on_change(
                    self.peer,
                    f"peer={self.peer}: a packet of {len(packet):,} bytes was dropped, it takes "
                    f"{self._packet_bytes_max:,}: set the same value limit on all nodes",
                )
                return
            bulk = True  # only bulk packets can be cut, and only they are ever that large
        elif not self._is_paused:  # then nothing waits: `_pump` stops only at a full socket
            self.counts.sent += 1
            transport.write(packet)
            return
        if bulk:
            if self._bulk_bytes + len(packet) > self.queue_bytes_max:
                self.counts.dropped_full += 1
                return
            self._bulk.append(packet)
            self._bulk_bytes += len(packet)
        else:
            if self._urgent_bytes + len(packet) > URGENT_BYTES_MAX:
                self.counts.dropped_full += 1
                return
            self._urgent.append(packet)
            self._urgent_bytes += len(packet)
        self.counts.sent += 1
        if not self._is_paused:
            self._pump(transport)

    @property
    def queued_bytes(self) -> int:
        """How much waits for this peer."""
        return self._bulk_bytes - self._cut + self._urgent_bytes

    def _pump(self, transport: asyncio.Transport) -> None:
        """Writes what waits until the socket is full: all that is urgent, then bulk by 256 KiB at most."""
        while not self._is_paused and self._transport is transport:
            if self._urgent:
                packets = b"".join(self._urgent)
                self._urgent.clear()
                self._urgent_bytes = 0
                transport.write(packets)
            elif self._bulk:
                transport.write(self._next_bulk())
            else:
                return

    def _next_bulk(self) -> bytes:
        packet = self._bulk[0]
        if len(packet) > PIECE_BYTES:
            first = max(self._cut, LENGTH.size)  # the packet's own length isn't needed: the last piece ends it
            after = min(first + PIECE_BYTES - _PIECE_HEAD_BYTES, len(packet))
            is_last = after == len(packet)
            self._cut = 0 if is_last else after
            if is_last:
                self._bulk.popleft()
                self._bulk_bytes -= len(packet)
            head = LENGTH.pack(after - first + _PIECE_HEAD_BYTES) + bytes([PIECE, is_last])
            return b"".join((head, memoryview(packet)[first:after]))
        packets, size = [], 0
        while self._bulk and size + len(self._bulk[0]) <= PIECE_BYTES:
            packets.append(self._bulk.popleft())
            size += len(packets[-1])
        self._bulk_bytes -= size
        return b"".join(packets)

    # --- its life ---

    def start(self) -> None:
        """Begin to dial, and go on until `stop`."""
        self._task = asyncio.get_running_loop().create_task(self._keep_connected(), name=f"link to {self.peer}")

    async def stop(self) -> None:
        """Close, without a last report to anyone."""
        task, self._task = self._task, None
        if task is None:
            return
        protocol = self._protocol
        self._forget()
        task.cancel()
        await asyncio.wait([task])
        if protocol is not None:
            await protocol.end()

    def retry_now(self) -> None:
        """The peer is there: dial at once if the link is down."""
        if self._transport is None:
            self._retry.set()

    def move(self, address: str) -> None:
        """The peer lives elsewhere now."""
        if address != self.address:
            self.address = address
            self.drop(f"moved to {address}")

    def drop(self, reason: str) -> None:
        """Gives this connection up and dials a new one."""
        self._retry.set()
        if self._protocol is not None:
            self._protocol.lose(reason)

    def check_alive(self) -> None:
        """Called at a steady pace: asks for a sign of life, and gives up a link that gave none for several calls.

        Calls are counted, not time: after a pause of this process nobody is dead at once.
        """
        if self._protocol is not None and self._transport is not None:
            self._protocol.check_alive(can_write=not self._is_paused)

    async def _keep_connected(self) -> None:
        while True:
            self._retry.clear()
            if await self._connect_once() >= BACKOFF_MAX_SECONDS:  # one that never holds is not dialed in a rush
                self._backoff.reset()
            await wait_set(self._retry, self._backoff.next_seconds())
            if self._retry.is_set():
                self._backoff.reset()

    async def _connect_once(self) -> float:
        """Dials, shakes hands and waits for the connection's end. How many seconds it was up in between."""
        loop = asyncio.get_running_loop()
        host, port = parse_address(self.address, what=f"address of peer {self.peer}")
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, protocol = await loop.create_connection(partial(_Outbound, self), host, port, ssl=self._context)
        except TimeoutError:
            self._say(f"can't be reached at {self.address}: no answer within {CONNECT_SECONDS:.0f} s", logging.INFO)
            return 0.0
        except OSError as error:
            self._say(f"can't be reached at {self.address}: {why_not_connected(error)}", logging.INFO)
            return 0.0
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await protocol.shaken.wait()
        except TimeoutError:
            protocol.lose(f"no handshake within {HANDSHAKE_SECONDS:.0f} s")
        up_since = loop.time()
        await protocol.ended.wait()
        return loop.time() - up_since if protocol.was_up else 0.0

    def _say(self, text: str, level: int = logging.WARNING) -> None:
        self.report.on_change(self.peer, f"peer={self.peer}: {text}", level)

    # --- what the connection tells ---

    def on_dialed(self, protocol: "_Outbound") -> None:
        """Connected; the handshake is under way."""
        self._protocol = protocol

    def on_shaken(self, protocol: "_Outbound", hello: Hello) -> str:
        """The peer's handshake came: up, or the reason why not."""
        if hello.refusal:
            if (hello.role, hello.cluster, hello.node) == ("peer", self.own.cluster, self.peer):
                self._on_heard(hello)
            self._say(f"{self.address} refused this node: {hello.refusal[:512]!r}")
            return "refused"
        if reason := self._why_wrong(hello):
            self._say(f"{self.address} was given up: {reason}")
            return reason
        self.report.settled(self.peer)
        self.report.say(f"peer={self.peer}: connected to {self.address}")
        self.counts.connects += 1
        self._packet_bytes_max = min(hello.limits.packet_bytes, self.own.limits.packet_bytes)
        self._transport = protocol.transport
        self.hello = hello
        self._on_up(hello)
        return ""

    def _why_wrong(self, hello: Hello) -> str:
        own = self.own
        if hello.role != "peer":
            return f"it is not a port for peers (role {shown(hello.role)}): use the peer address of {self.peer}"
        if hello.cluster != own.cluster:
            return f"it belongs to cluster {shown(hello.cluster)}, this node to {shown(own.cluster)}"
        if hello.node != self.peer:
            return f"it is {shown(hello.node)}, not {self.peer}: check the address of {self.peer}"
        try:
            choose_version(own, hello)
        except ProtocolError as error:
            return str(error)
        return self._why_not(hello) or ""

    def on_lost(self, protocol: "_Outbound", reason: str) -> None:
        """The connection ended; whatever waited for it is dropped, its sender will send it anew."""
        if protocol is not self._protocol:
            return
        was_up = self._transport is not None
        self._forget()
        if was_up:
            self.report.say(f"peer={self.peer}: lost: {reason}")
            self._on_down(self.peer)

    def _forget(self) -> None:
        self._protocol = self._transport = self.hello = None
        self._is_paused = False
        self._urgent.clear()
        self._bulk.clear()
        self._urgent_bytes = self._bulk_bytes = self._cut = 0

    def on_full(self, protocol: "_Outbound") -> None:
        """The socket takes no more."""
        if protocol is self._protocol:
            self._is_paused = True

    def on_room(self, protocol: "_Outbound") -> None:
        """The socket takes more."""
        if protocol is self._protocol:
            self._is_paused = False
            if self._transport is not None:
                self._pump(self._transport)


class _Outbound(asyncio.Protocol):
    """One dialed connection: our handshake and packets out, the peer's handshake and signs of life in."""

    __slots__ = (
        "transport",
        "shaken",
        "ended",
        "was_up",
        "_link",
        "_hello_bytes",
        "_packets",
        "_silent_checks",
        "_why",
    )

    transport: asyncio.Transport

    def __init__(self, link: PeerLink) -> None:
        self.shaken = asyncio.Event()  # up, or ended
        self.ended = asyncio.Event()
        self.was_up = False
        self._link = link
        self._hello_bytes = bytearray()
        self._packets = PacketBuffer()
        self._silent_checks = 0
        self._why = ""  # the reason of the end, when it's ours

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = as_transport(transport)
        tune_socket(transport, dead_seconds=CONNECT_SECONDS)
        # Nothing waits inside the loop's transport: there, urgent packets could not overtake it.
        transport.set_write_buffer_limits(high=0)
        self._link.on_dialed(self)
        transport.write(encode_hello(self._link.own))

    def data_received(self, data: bytes) -> None:
        if self._why:
            return
        self._silent_checks = 0
        try:
            if not self.was_up:
                self._hello_bytes += data
                hello = take_hello(self._hello_bytes)
                if hello is None:
                    return
                if why := self._link.on_shaken(self, hello):
                    self.lose(why)
                    return
                self.was_up = True
                self.shaken.set()
                data = bytes(self._hello_bytes)
            for packet in self._packets.take(data, 1):
                if packet[0] != ALIVE:
                    raise ProtocolError(f"packet kind {packet[0]} came where only signs of life are sent")
        except NONSENSE as error:
            self._link.report.sometimes(self._link.peer, f"peer={self._link.peer}: {error}")
            self.lose(str(error))

    def check_alive(self, *, can_write: bool) -> None:
        """One more check without a byte, unless one came meanwhile."""
        self._silent_checks += 1
        if self._silent_checks > SILENT_CHECKS_MAX:
            self.lose(f"no sign of life for {SILENT_CHECKS_MAX} checks")
        elif can_write:
            self.transport.write(ALIVE_PACKET)

    def lose(self, reason: str) -> None:
        """Ends the connection now; what it still holds is thrown away."""
        self._why = self._why or reason
        self.transport.abort()
        self._link.on_lost(self, self._why)

    async def end(self) -> None:
        """Sends what the socket still takes, then closes."""
        self.transport.close()
        try:
            async with asyncio.timeout(1.0):
                await self.ended.wait()
        except TimeoutError:
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._link.on_lost(self, self._why or (str(error) if error else "closed by the peer"))
        self.shaken.set()
        self.ended.set()

    def pause_writing(self) -> None:
        self._link.on_full(self)

    def resume_writing(self) -> None:
        self._link.on_room(self)
