"""How do nodes and clients in one program talk without sockets? The same contracts, kept by loop.call_soon."""

import asyncio
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from aegis_replication.errors import LimitExceeded, Refused, Unavailable
from aegis_replication.ids import NodeId
from aegis_replication.transport.base import ClientHandler, PeerHandler
from aegis_replication.transport.connection import OnLost, OnReplies
from aegis_replication.transport.tcp import LOG, why_not_client
from aegis_replication.wire import (
    LENGTH,
    OK,
    PING,
    REQUEST_FRAME,
    Hello,
    Request,
    encode_reply,
    split_packets,
)

_HEAD_BYTES: Final = LENGTH.size + 1  # a packet's length and kind


# --- peers ----------------------------------------------------------------------------------------------------------


class MemoryNetwork:
    """Where the nodes of one program find each other by name; cuts are for tests. Nodes may live on different loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._members: dict[NodeId, MemoryPeerTransport] = {}
        self._cuts: set[tuple[NodeId, NodeId]] = set()  # (source, target): nothing passes

    def transport(self, own: Hello, peers: Collection[NodeId], *, queue_bytes: int = 0) -> "MemoryPeerTransport":
        """The transport of one node. `queue_bytes` as in TcpPeerTransport."""
        return MemoryPeerTransport(self, own, peers, queue_bytes=queue_bytes)

    def cut(self, source: NodeId, target: NodeId, *, one_way: bool = False) -> None:
        """Nothing passes from `source` to `target` any more, nor back unless `one_way`."""
        self._cuts.add((source, target))
        if not one_way:
            self._cuts.add((target, source))
        self._refresh_all()

    def isolate(self, node: NodeId) -> None:
        """Nothing passes from or to `node`."""
        for other in list(self._members):
            if other != node:
                self._cuts |= {(node, other), (other, node)}
        self._refresh_all()

    def heal(self) -> None:
        """Everything passes again."""
        self._cuts.clear()
        self._refresh_all()

    def close(self) -> None:
        """Everybody loses everybody."""
        with self._lock:
            self._members.clear()
        self._refresh_all()

    def is_cut(self, source: NodeId, target: NodeId) -> bool:
        """Does nothing pass from `source` to `target`?"""
        return (source, target) in self._cuts

    def reachable_from(self, source: "MemoryPeerTransport") -> dict[NodeId, "MemoryPeerTransport"]:
        """Whom `source` can send to now."""
        with self._lock:
            if self._members.get(source.own.node) is not source:
                return {}
            return {
                node: member
                for node, member in self._members.items()
                if node in source.peers
                and source.own.node in member.peers
                and member.own.cluster == source.own.cluster
                and (source.own.node, node) not in self._cuts
                and not member.loop.is_closed()
            }

    def join(self, transport: "MemoryPeerTransport") -> None:
        """A node is there. One of the same name gives way, as the newest connection does over TCP."""
        node = transport.own.node
        with self._lock:
            old, self._members[node] = self._members.get(node), transport
        if old is not None and old is not transport and not old.loop.is_closed():
            LOG.warning("node=%s: replaced another node of this name in the same program", node)
            old.refresh_soon()
        self._refresh_all()

    def leave(self, transport: "MemoryPeerTransport") -> None:
        """A node is gone."""
        with self._lock:
            if self._members.get(transport.own.node) is transport:
                del self._members[transport.own.node]
        self._refresh_all()

    def _refresh_all(self) -> None:
        with self._lock:
            members = list(self._members.values())
        for member in members:
            member.refresh_soon()


_networks: "weakref.WeakValueDictionary[str, MemoryNetwork]" = weakref.WeakValueDictionary()
_networks_lock = threading.Lock()


def default_network(cluster: str) -> MemoryNetwork:
    """The network that all nodes of this cluster share within the program, kept for as long as one of them uses it."""
    with _networks_lock:
        network = _networks.get(cluster)
        if network is None:
            network = _networks[cluster] = MemoryNetwork()
        return network


class MemoryPeerTransport:
    """Packets between nodes of one program. Keeps the contract `PeerTransport`; made by MemoryNetwork.transport."""

    loop: asyncio.AbstractEventLoop  # where the node lives, once started

    def __init__(self, network: MemoryNetwork, own: Hello, peers: Collection[NodeId], *, queue_bytes: int = 0) -> None:
        self.own = msgspec.structs.replace(own, role="peer")
        self.peers = frozenset(peers) - {own.node}
        self.counts: Counter[str] = Counter()
        self._network = network
        self._queue_bytes = queue_bytes or 2 * own.limits.packet_bytes
        self._handler: PeerHandler | None = None
        self._up: dict[NodeId, MemoryPeerTransport] = {}
        self._lock = threading.Lock()  # of the inbox: senders may be on other loops
        self._urgent: list[tuple[NodeId, bytes]] = []
        self._bulk: list[tuple[NodeId, bytes]] = []
        self._waiting_bytes: Counter[NodeId] = Counter()  # by sender
        self._is_drain_due = False
        self._refused: dict[NodeId, str] = {}  # why each of them is not spoken with

    async def start(self, handler: PeerHandler) -> None:
        """Be found from now on."""
        self.loop = asyncio.get_running_loop()
        self._handler = handler
        self._network.join(self)

    def set_peers(self, peers: Collection[NodeId], *, configuration: int = 0, has_log: bool = False) -> None:
        """Who the peers are from now on."""
        self.peers = frozenset(peers) - {self.own.node}
        self.own = msgspec.structs.replace(self.own, configuration=configuration, has_log=has_log)
        if self._handler is not None:
            self._network.join(self)

    def send(self, target: NodeId, packet: bytes, *, bulk: bool) -> None:
        """Hand over one packet (length first); dropped and counted when it can't go."""
        peer = self._up.get(target)
        if peer is None:
            self.counts["dropped_unreachable"] += 1
        elif len(packet) > min(peer.own.limits.packet_bytes, self.own.limits.packet_bytes):
            self.counts["dropped_too_large"] += 1
        elif not peer.put(self, packet, bulk=bulk):
            self.counts["dropped_full"] += 1
        else:
            self.counts["sent"] += 1

    def connected(self) -> set[NodeId]:
        """Who can be reached now."""
        return set(self._up)

    async def stop(self) -> None:
        """Be gone; the handler hears nothing more."""
        if self._handler is None:
            return
        self._handler = None
        self._up.clear()
        self._network.leave(self)

    # --- what the others do ---

    def put(self, sender: "MemoryPeerTransport", packet: bytes, *, bulk: bool) -> bool:
        """Takes a packet into the inbox; False when too much of this sender waits there."""
        source = sender.own.node
        with self._lock:
            if self._waiting_bytes[source] + len(packet) > self._queue_bytes and (bulk or len(self._urgent) > 10_000):
                return False
            self._waiting_bytes[source] += len(packet)
            (self._bulk if bulk else self._urgent).append((source, packet))
            if self._is_drain_due:
                return True
            self._is_drain_due = True
        return self._call(self._drain, here=sender.loop is self.loop)

    def refresh_soon(self) -> None:
        """Who can be reached may have changed."""
        self._call(self._refresh, here=False)

    def _call(self, what: Callable[[], None], *, here: bool) -> bool:
        try:
            if here:
                self.loop.call_soon(what)
            else:
                self.loop.call_soon_threadsafe(what)
        except RuntimeError:  # its loop has ended without `stop`
            return False
        return True

    def _refresh(self) -> None:
        handler = self._handler
        if handler is None:
            return
        reachable = self._network.reachable_from(self)
        before, self._up = self._up, {node: peer for node, peer in reachable.items() if self._is_welcome(peer)}
        for node, peer in before.items():
            if self._up.get(node) is not peer:
                handler.on_peer_down(node)
        for node, peer in self._up.items():
            if before.get(node) is not peer:
                handler.on_peer_up(peer.own)

    def _is_welcome(self, peer: "MemoryPeerTransport") -> bool:
        why_not = self._handler.why_not_peer(peer.own) if self._handler is not None else None
        if why_not and why_not != self._refused.get(peer.own.node):
            LOG.warning("node=%s: refused %s: %s", self.own.node, peer.own.node, why_not)
            self._refused[peer.own.node] = why_not
        if not why_not:
            self._refused.pop(peer.own.node, None)
        return not why_not

    def _drain(self) -> None:
        with self._lock:
            packets, self._urgent, self._bulk = self._urgent + self._bulk, [], []
            self._waiting_bytes.clear()
            self._is_drain_due = False
        for source, packet in packets:
            is_cut = self._network.is_cut(source, self.own.node) or source in self._refused
            if self._handler is not None and not is_cut:
                self._handler.on_peer_packet(source, packet[_HEAD_BYTES - 1], packet[_HEAD_BYTES:])


# --- clients --------------------------------------------------------------------------------------------------------


class MemoryClientDoor:
    """A door for clients on the node's own loop. Keeps the contract `ClientDoor`."""

    def __init__(self, own: Hello) -> None:
        self.own = msgspec.structs.replace(own, role="client")
        self._handler: ClientHandler | None = None
        self._connections: dict[int, MemoryClientConnection] = {}
        self._next_connection = 1

    async def start(self, handler: ClientHandler) -> None:
        """Take connections from now on."""
        self._handler = handler

    async def connect(self, hello: Hello, *, on_replies: OnReplies, on_lost: OnLost) -> "MemoryClientConnection":
        """A connection to the node behind this door; raises Unavailable when it isn't running, or Refused."""
        if self._handler is None:
            raise Unavailable(f"{self.own.node} isn't running: start it first")
        if reason := why_not_client(self.own, hello, ""):
            raise Refused(reason)
        number = self._next_connection
        self._next_connection += 1
        connection = MemoryClientConnection(self, number, on_replies, on_lost)
        self._connections[number] = connection
        return connection

    def reply(self, connection: int, packets: bytes) -> None:
        """Send reply packets to a client; dropped when it is gone."""
        found = self._connections.get(connection)
        if found is not None:
            found.take(packets)

    async def stop(self) -> None:
        """Close everything."""
        self._handler = None
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            connection.lose(f"{self.own.node} stops")

    def on_requests(self, number: int, requests: list[Request]) -> None:
        """What a client sent in one turn of the loop."""
        if self._handler is not None and number in self._connections:
            self._handler.on_requests(number, requests)

    def on_closed(self, number: int) -> None:
        """A client is gone."""
        if self._connections.pop(number, None) is not None and self._handler is not None:
            self._handler.on_client_gone(number)


class MemoryClientConnection:
    """A client's connection to a MemoryClientDoor. Keeps the contract `ClientConnection`."""

    __slots__ = ("hello", "_door", "_number", "_on_replies", "_on_lost", "_requests", "_replies", "_loop", "_is_closed")

    def __init__(self, door: MemoryClientDoor, number: int, on_replies: OnReplies, on_lost: OnLost) -> None:
        self.hello = door.own
        self._door = door
        self._number = number
        self._on_replies = on_replies
        self._on_lost = on_lost
        self._requests: list[Request] = []  # sent since the last turn
        self._replies: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._is_closed = False

    def send(self, packet: bytes) -> None:
        """Send one request packet. Raises LimitExceeded above the node's limit; dropped once the connection is lost."""
        size, kind, group, request = REQUEST_FRAME.unpack_from(packet)
        if size > self.hello.limits.request_bytes:
            raise LimitExceeded("a request", size, self.hello.limits.request_bytes)
        if self._is_closed:
            return
        if kind == PING:
            self.take(encode_reply(request, OK, msgspec.msgpack.encode(None)))
            return
        self._requests.append(Request(kind, group, request, packet[REQUEST_FRAME.size :]))
        if len(self._requests) == 1:
            self._loop.call_soon(self._hand_over)

    def close(self) -> None:
        """End it; nothing is called any more."""
        if not self._is_closed:
            self._hand_over()
            self._is_closed = True
            self._door.on_closed(self._number)

    def take(self, packets: bytes) -> None:
        """Replies came."""
        if self._is_closed:
            return
        whole, _ = split_packets(packets, len(packets))
        self._replies += whole
        if len(self._replies) == len(whole):
            self._loop.call_soon(self._deliver)

    def lose(self, reason: str) -> None:
        """The node ended it."""
        if not self._is_closed:
            self._deliver()
            self._is_closed = True
            self._on_lost(reason)

    def _hand_over(self) -> None:
        if self._requests and not self._is_closed:
            requests, self._requests = self._requests, []
            self._door.on_requests(self._number, requests)

    def _deliver(self) -> None:
        if self._replies and not self._is_closed:
            replies, self._replies = self._replies, []
            self._on_replies(replies)
