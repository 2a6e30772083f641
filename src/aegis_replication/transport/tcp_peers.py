"""How do a node's packets reach its peers over TCP, and how is it known whose packets come in?"""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Final

import msgspec

from aegis_replication.errors import ConfigError, ProtocolError
from aegis_replication.ids import NodeId
from aegis_replication.transport.base import PeerHandler
from aegis_replication.transport.tcp import (
    HANDSHAKE_SECONDS,
    NONSENSE,
    PacketBuffer,
    Reporter,
    as_transport,
    check_own,
    encode_refusal,
    listen,
    parse_address,
    remote_address,
    shown,
    take_hello,
    tune_socket,
    wait_set,
    why_not_listed,
    why_not_peer,
)
from aegis_replication.transport.tcp_links import ALIVE_PACKET, CONNECT_SECONDS, SILENT_CHECKS_MAX, PeerLink
from aegis_replication.wire import (
    ALIVE,
    APPEND,
    ENTRIES_LACKED,
    ENTRY_FOUND,
    INSTALL_SNAPSHOT,
    PIECE,
    PIECE_BYTES,
    REQUEST_VOTE,
    Hello,
    encode_hello,
)

CHECK_SECONDS: Final = 0.5
STRANGERS_MAX: Final = 64  # connections that haven't shaken hands yet
SMALL_PACKET_BYTES: Final = 4096  # votes, replies: whatever isn't an append or a snapshot
ANSWER_BYTES_MAX: Final = 64 * 1024  # signs of life that a peer doesn't take

_LARGE_KINDS: Final = frozenset((APPEND, INSTALL_SNAPSHOT, ENTRY_FOUND, PIECE))


class PeerStatistics(msgspec.Struct, frozen=True):
    """What a transport has seen so far; by peer where packets are concerned."""

    connected: tuple[NodeId, ...]
    queued_bytes: dict[NodeId, int]
    sent: dict[NodeId, int]
    dropped_unreachable: dict[NodeId, int]
    dropped_full: dict[NodeId, int]
    dropped_too_large: dict[NodeId, int]
    received: int
    refused: int  # callers told why in the handshake
    replaced: int  # connections that gave way to a newer one of the same peer
    garbage: int  # closed for bytes that aren't the protocol
    late: int  # closed without a handshake in time, or without a sign of life


class TcpPeerTransport:
    """Packets between nodes over TCP. Keeps the contract `PeerTransport`.

    `own` names the node, its cluster, incarnation, limits and where its clients connect. `peers` maps the others' ids
    to "host:port" (this node's own line may be in it). When `send` returns, the packet is the system's unless the
    peer's socket is full: nothing waits for the end of a turn of the loop.
    """

    def __init__(
        self,
        own: Hello,
        peers: Mapping[NodeId, str],
        *,
        listen: str,
        random: Random,
        queue_bytes: int = 0,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """`queue_bytes` may wait for one peer before bulk packets are dropped; by default, two of the largest."""
        self.own = check_own(msgspec.structs.replace(own, role="peer"))
        self.address = listen  # where it really listens, once started
        self.counts: Counter[str] = Counter()
        self.handler: PeerHandler
        self.report: Reporter
        self.inbound: dict[NodeId, _Inbound] = {}  # the newest connection that each peer dialed
        self.strangers: dict[_Inbound, None] = {}  # no handshake yet; the oldest first
        self.leaving: set[_Inbound] = set()  # told why not, or replaced; their last bytes are on the way
        self.emptied = asyncio.Event()
        self._random = random
        self._queue_bytes = queue_bytes or 2 * own.limits.packet_bytes
        self._context = context
        self._links: dict[NodeId, PeerLink] = {}
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        self._peers: dict[NodeId, str] = {}
        for peer, address in peers.items():
            parse_address(address, what=f"address of peer {peer}")
        self.set_peers(peers)

    async def start(self, handler: PeerHandler) -> None:
        """Listen and dial every peer for ever. Raises ConfigError when the address can't be had."""
        loop = asyncio.get_running_loop()
        self.handler = handler
        self.report = Reporter(f"node={self.own.node} port=peers", loop.time)
        self._server, self.address = await listen(
            lambda: _Inbound(self), self.address, what="peer address", backlog=128, context=self._context
        )
        self.set_peers(self._peers, configuration=self.own.configuration, has_log=self.own.has_log)
        self._timer = loop.call_later(CHECK_SECONDS, self._check_often, loop)

    def set_peers(self, peers: Mapping[NodeId, str], *, configuration: int = 0, has_log: bool = False) -> None:
        """Who the peers are from now on, and where. One that is no longer listed is cut off and refused.

        One whose address is "" may call, and isn't called; one whose address makes no sense is reported, and likewise.
        """
        listed = {peer: address for peer, address in peers.items() if peer != self.own.node}
        wanted = {peer: address for peer, address in listed.items() if address and self._makes_sense(peer, address)}
        self._peers = listed
        self.own = msgspec.structs.replace(self.own, configuration=configuration, has_log=has_log)
        for link in self._links.values():
            link.own = msgspec.structs.replace(link.own, configuration=configuration, has_log=has_log)
        if self._server is None:
            return
        for peer in list(self.inbound.keys() - listed.keys()):
            self.inbound[peer].leave()
        for peer in self._links.keys() - wanted.keys():
            was_up = self._links[peer].hello is not None
            task = asyncio.get_running_loop().create_task(self._links.pop(peer).stop())
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
            if was_up:
                self.handler.on_peer_down(peer)
        for peer, address in wanted.items():
            if peer in self._links:
                self._links[peer].move(address)
            else:
                self._links[peer] = link = self._make_link(peer, address)
                link.start()

    def _makes_sense(self, peer: NodeId, address: str) -> bool:
        """Can `address` be dialed? What others say of themselves must not end this node."""
        try:
            parse_address(address, what=f"address of peer {peer}")
        except ConfigError as error:
            if self._server is not None:
                self.report.on_change(peer, f"peer={peer}: {error}")
            return False
        return True

    def _make_link(self, peer: NodeId, address: str) -> PeerLink:
        return PeerLink(
            self.own,
            peer,
            address,
            report=self.report,
            random=self._random,
            queue_bytes_max=self._queue_bytes,
            on_up=self.handler.on_peer_up,
            on_down=self.handler.on_peer_down,
            on_heard=self.handler.on_peer_heard,
            why_not=self.handler.why_not_peer,
            context=self._context,
        )

    def send(self, target: NodeId, packet: bytes, *, bulk: bool) -> None:
        """Hand over one packet (length first); dropped and counted when it can't go."""
        link = self._links.get(target)
        if link is None:
            self.counts["to_nobody"] += 1
        else:
            link.send(packet, bulk=bulk)

    def connected(self) -> set[NodeId]:
        """Who can be reached now."""
        return {peer for peer, link in self._links.items() if link.hello is not None}

    def statistics(self) -> PeerStatistics:
        """A picture of now."""
        links = sorted(self._links.items())
        return PeerStatistics(
            connected=tuple(sorted(self.connected())),
            queued_bytes={peer: link.queued_bytes for peer, link in links},
            sent={peer: link.counts.sent for peer, link in links},
            dropped_unreachable={peer: link.counts.dropped_unreachable for peer, link in links},
            dropped_full={peer: link.counts.dropped_full for peer, link in links},
            dropped_too_large={peer: link.counts.dropped_too_large for peer, link in links},
            **{name: self.counts[name] for name in ("received", "refused", "replaced", "garbage", "late")},
        )

    async def stop(self) -> None:
        """Close everything; the handler hears nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for inbound in [*self.inbound.values(), *self.strangers]:
            inbound.leave()
        await asyncio.gather(*(link.stop() for link in self._links.values()), *self._stopping)
        self._links.clear()
        if self.leaving:
            self.emptied.clear()
            await wait_set(self.emptied, 1.0)
        for inbound in list(self.leaving):
            inbound.transport.abort()
        await asyncio.sleep(0)

    # --- who calls ---

    @property
    def is_open(self) -> bool:
        """Does it take connections?"""
        return self._server is not None

    def check_alive(self) -> None:
        """Every half a second: deadlines of handshakes, and signs of life in both directions."""
        for link in self._links.values():
            link.check_alive()
        for inbound in [*self.inbound.values(), *self.strangers, *self.leaving]:
            inbound.check_alive()

    def _check_often(self, loop: asyncio.AbstractEventLoop) -> None:
        self.check_alive()
        self._timer = loop.call_later(CHECK_SECONDS, self._check_often, loop)

    def on_stranger(self, inbound: "_Inbound") -> None:
        """Somebody connected. When too many say nothing, the oldest goes: a peer's handshake takes one round trip."""
        self.strangers[inbound] = None
        if len(self.strangers) > STRANGERS_MAX:
            oldest = next(iter(self.strangers))
            self.on_late(oldest, f"more than {STRANGERS_MAX} connections without a handshake")

    def on_late(self, inbound: "_Inbound", text: str) -> None:
        """A deadline passed."""
        self.counts["late"] += 1
        self.report.sometimes("late", f"closed {inbound.who}: {text}", logging.INFO)
        inbound.abort()

    def why_not(self, hello: Hello) -> str:
        """Why the caller gets no connection; "" when it does."""
        reason = why_not_peer(self.own, hello)
        if reason:
            return reason
        verdict = self.handler.why_not_peer(hello)
        return why_not_listed(self.own, hello, self._peers) if verdict is None else verdict

    def on_refused(self, inbound: "_Inbound", hello: Hello, reason: str) -> None:
        """The caller was told why not."""
        self.counts["refused"] += 1
        subject = f"refused {hello.node}" if hello.node in self._peers else "refused"
        self.report.on_change(subject, f"refused {shown(hello.node)} from {inbound.who}: {reason}")

    def on_accepted(self, inbound: "_Inbound", hello: Hello) -> None:
        """A peer dialed: its newest connection is the one that counts."""
        self.strangers.pop(inbound, None)
        old = self.inbound.get(hello.node)
        if old is not None:
            self.counts["replaced"] += 1
            if old.incarnation != hello.incarnation:
                self.report.sometimes(
                    f"{hello.node} twice",
                    f"peer={hello.node}: connected anew as incarnation {hello.incarnation & 2**64 - 1:016x}, before it "
                    f"was {old.incarnation & 2**64 - 1:016x}: if that happens again and again, two nodes have this id",
                )
            old.leave()
        self.inbound[hello.node] = inbound
        self.handler.on_peer_met(hello)
        link = self._links.get(hello.node)
        if link is None:
            return  # its address isn't known yet: what it said of itself may tell
        if link.hello is not None and link.hello.incarnation != hello.incarnation:
            link.drop("the peer is a new incarnation")
        link.retry_now()

    def on_garbage(self, inbound: "_Inbound", error: Exception) -> None:
        """Bytes that aren't the protocol."""
        self.counts["garbage"] += 1
        self.report.sometimes("garbage", f"closed {inbound.who}: {error}")
        inbound.abort()

    def on_gone(self, inbound: "_Inbound") -> None:
        """A connection ended."""
        self.strangers.pop(inbound, None)
        self.leaving.discard(inbound)
        if self.inbound.get(inbound.peer) is inbound:
            del self.inbound[inbound.peer]
        if not self.leaving:
            self.emptied.set()


class _Inbound(asyncio.Protocol):
    """One connection that somebody dialed: a handshake before anything else, then a peer's packets."""

    # fmt: off
    __slots__ = ("transport", "peer", "incarnation", "who", "_owner", "_hello_bytes", "_packets", "_pieces",
                 "_has_read", "_silent_checks", "_closed")
    # fmt: on

    transport: asyncio.Transport

    def __init__(self, owner: TcpPeerTransport) -> None:
        self.peer: NodeId = ""  # who it is, once it has proved it
        self.incarnation = 0
        self.who = "?"  # for log lines
        self._owner = owner
        self._hello_bytes = bytearray()
        self._packets = PacketBuffer()
        self._pieces = bytearray()  # of the one packet that comes in pieces
        self._has_read = False
        self._silent_checks = 0
        self._closed = False  # nothing that comes is handled any more

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = as_transport(transport)
        self.who = remote_address(transport)
        if not self._owner.is_open:
            self.abort()
            return
        tune_socket(transport, dead_seconds=2 * CONNECT_SECONDS)
        self._owner.on_stranger(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._closed = True
        self._owner.on_gone(self)

    def leave(self) -> None:
        """Sends what waits, then closes; nothing that comes meanwhile is handled."""
        self._closed = True
        owner = self._owner
        owner.strangers.pop(self, None)
        if owner.inbound.get(self.peer) is self:
            del owner.inbound[self.peer]
        owner.leaving.add(self)
        self._silent_checks = 0
        self.transport.close()

    def abort(self) -> None:
        """Closes at once."""
        self._closed = True
        self._owner.on_gone(self)
        self.transport.abort()

    def check_alive(self) -> None:
        """Counts checks without a byte: the caller's handshake has 5 s, a peer sends at least signs of life."""
        self._silent_checks = 0 if self._has_read and self.peer else self._silent_checks + 1
        self._has_read = False
        if self._closed:
            if self._silent_checks > SILENT_CHECKS_MAX:
                self.abort()  # it doesn't take our last words
        elif self.peer:
            if self._silent_checks > 2 * SILENT_CHECKS_MAX:
                self._owner.on_late(self, f"no sign of life from {self.peer}")
        elif self._silent_checks >= HANDSHAKE_SECONDS / CHECK_SECONDS:
            self._owner.on_late(self, f"no handshake within {HANDSHAKE_SECONDS:.0f} s")

    # --- what comes in ---

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        self._has_read = True
        owner = self._owner
        try:
            if not self.peer:
                self._hello_bytes += data
                if not self._shake_hands():
                    return
                data = bytes(self._hello_bytes)
                self._hello_bytes.clear()
            packets = self._packets.take(data, PIECE_BYTES)
            owner.counts["received"] += len(packets)
            self._take(packets)
        except NONSENSE as error:
            owner.on_garbage(self, error)

    def _take(self, packets: list[bytes]) -> None:
        on_peer_packet = self._owner.handler.on_peer_packet
        for packet in packets:
            if self._closed:
                return
            kind = packet[0]
            if kind not in _LARGE_KINDS and len(packet) > SMALL_PACKET_BYTES:
                raise ProtocolError(f"a packet of kind {kind} with {len(packet):,} bytes")
            if REQUEST_VOTE <= kind <= ENTRIES_LACKED:
                on_peer_packet(self.peer, kind, packet[1:])
            elif kind == PIECE:
                self._take_piece(packet)
            elif kind == ALIVE:
                self._answer_alive()
            else:
                raise ProtocolError(f"packet kind {kind} is not one that peers send")

    def _shake_hands(self) -> bool:
        hello = take_hello(self._hello_bytes)
        if hello is None:
            return False
        if reason := self._owner.why_not(hello):
            self._owner.on_refused(self, hello, reason)
            self.transport.write(encode_refusal(self._owner.own, reason))
            self.leave()
            return False
        self.peer, self.incarnation = hello.node, hello.incarnation
        self.transport.write(encode_hello(self._owner.own))
        self._owner.on_accepted(self, hello)
        return not self._closed

    def _take_piece(self, packet: bytes) -> None:
        """One more part of a large packet; whole, it is like any other."""
        if len(packet) < 3 or packet[1] > 1:
            raise ProtocolError("a piece of a packet without content")
        pieces, limit = self._pieces, self._owner.own.limits.packet_bytes
        if len(pieces) + len(packet) - 2 > limit:
            raise ProtocolError(f"a packet in pieces has more than {limit:,} bytes")
        pieces += memoryview(packet)[2:]
        if packet[1]:
            kind = pieces[0]
            if kind not in (APPEND, INSTALL_SNAPSHOT, ENTRY_FOUND):
                raise ProtocolError(f"a packet of kind {kind} in pieces")
            body = bytes(memoryview(pieces)[1:])
            self._pieces = bytearray()
            self._owner.handler.on_peer_packet(self.peer, kind, body)

    def _answer_alive(self) -> None:
        if self.transport.get_write_buffer_size() < ANSWER_BYTES_MAX:
            self.transport.write(ALIVE_PACKET)
