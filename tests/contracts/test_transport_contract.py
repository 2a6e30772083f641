"""Do the transports in memory and over TCP keep the same promises, on asyncio's loop and on uvloop's?"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from random import Random
from typing import Any

import msgspec
import pytest

from aegis_replication.errors import LimitExceeded, Refused
from aegis_replication.ids import NodeId
from aegis_replication.transport.base import PeerTransport
from aegis_replication.transport.connection import ClientConnection, connect_tcp
from aegis_replication.transport.memory import MemoryClientDoor, MemoryNetwork
from aegis_replication.transport.tcp_clients import TcpClientDoor
from aegis_replication.transport.tcp_peers import TcpPeerTransport
from aegis_replication.wire import (
    APPEND,
    COMMAND,
    INSTALL_SNAPSHOT,
    LENGTH,
    OK,
    PIECE_BYTES,
    PING,
    QUERY,
    REQUEST_VOTE,
    STATUS,
    VOTE_REPLY,
    Hello,
    Limits,
    Request,
    decode_reply,
    encode_reply,
    encode_request,
)

HUNG_SECONDS = 60.0  # says "hung", measures nothing
LIMITS = Limits(request_bytes=100_000, packet_bytes=1_500_000)


async def until(condition: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(HUNG_SECONDS):
        while not condition():  # noqa: ASYNC110 - any state may be waited for, not only an event
            await asyncio.sleep(0.002)
    assert condition(), what


def packet(kind: int, body: bytes) -> bytes:
    return LENGTH.pack(1 + len(body)) + bytes([kind]) + body


class Heard:
    """What one node's handler was told."""

    def __init__(self) -> None:
        self.packets: list[tuple[NodeId, int, bytes]] = []
        self.up: list[Hello] = []
        self.down: list[NodeId] = []

    def on_peer_packet(self, source: NodeId, kind: int, body: bytes) -> None:
        self.packets.append((source, kind, body))

    def why_not_peer(self, hello: Hello) -> str | None:
        return None

    def on_peer_heard(self, hello: Hello) -> None:
        pass

    def on_peer_met(self, hello: Hello) -> None:
        pass

    def on_peer_up(self, hello: Hello) -> None:
        self.up.append(hello)

    def on_peer_down(self, peer: NodeId) -> None:
        self.down.append(peer)

    def bodies(self, kind: int) -> list[bytes]:
        return [body for _, of_kind, body in self.packets if of_kind == kind]


class World:
    """Nodes n1, n2, ... on one kind of network."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.network = MemoryNetwork()
        self.running: dict[NodeId, Any] = {}
        self.addresses: dict[NodeId, str] = {}

    async def start(
        self, node: NodeId, peers: Sequence[NodeId], *, incarnation: int = 1, queue_bytes: int = 0
    ) -> tuple[PeerTransport, Heard]:
        own = Hello(
            "peer", 1, 1, cluster="c", node=node, incarnation=incarnation, client_address=f"{node}:1", limits=LIMITS
        )
        heard, transport = Heard(), None
        if self.kind == "memory":
            transport = self.network.transport(own, peers, queue_bytes=queue_bytes)
            await transport.start(heard)
        else:
            listen = self.addresses.get(node, "127.0.0.1:0")
            transport = TcpPeerTransport(own, {}, listen=listen, random=Random(7), queue_bytes=queue_bytes)
            await transport.start(heard)
            self.addresses[node] = transport.address
            # A port that nobody listens on stands for peers that aren't started yet.
            transport.set_peers({peer: self.addresses.get(peer, "127.0.0.1:1") for peer in peers})
            for other in self.running.values():
                if node in other._peers:
                    other.set_peers({**other._peers, node: transport.address})
        self.running[node] = transport
        return transport, heard

    async def stop(self, node: NodeId) -> None:
        await self.running.pop(node).stop()

    async def pair(self, **options: Any) -> tuple[PeerTransport, Heard, PeerTransport, Heard]:
        first, heard_by_first = await self.start("n1", ["n1", "n2"], **options)
        second, heard_by_second = await self.start("n2", ["n1", "n2"], **options)
        await until(lambda: first.connected() == {"n2"} and second.connected() == {"n1"}, "connected")
        return first, heard_by_first, second, heard_by_second


@pytest.fixture(params=["memory", "tcp"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    world = World(request.param)
    yield world
    for node in list(world.running):
        await world.stop(node)


# --- peers ----------------------------------------------------------------------------------------------------------


async def test_a_peer_is_reported_up_once_with_what_its_handshake_says(world: World) -> None:
    _, heard_by_first, _, heard_by_second = await world.pair(incarnation=9)

    assert [(hello.node, hello.incarnation, hello.client_address) for hello in heard_by_first.up] == [("n2", 9, "n2:1")]
    assert [hello.node for hello in heard_by_second.up] == ["n1"]


async def test_packets_arrive_whole_with_their_sender(world: World) -> None:
    first, heard_by_first, second, heard_by_second = await world.pair()

    first.send("n2", packet(REQUEST_VOTE, b"question"), bulk=False)
    first.send("n2", packet(APPEND, b"entries"), bulk=True)
    second.send("n1", packet(VOTE_REPLY, b""), bulk=False)
    await until(lambda: len(heard_by_second.packets) == 2 and heard_by_first.packets, "arrived")

    assert sorted(heard_by_second.packets) == [("n1", REQUEST_VOTE, b"question"), ("n1", APPEND, b"entries")]
    assert heard_by_first.packets == [("n2", VOTE_REPLY, b"")]


async def test_bulk_packets_keep_their_order_whatever_their_size(world: World) -> None:
    first, _, _, heard = await world.pair(queue_bytes=100_000_000)
    random = Random(11)
    edges = [0, 1, PIECE_BYTES - 6, PIECE_BYTES - 5, PIECE_BYTES - 4, PIECE_BYTES, 2 * PIECE_BYTES + 1, 1_400_000]
    sizes = [*edges, *(random.choice((10, 1000, 70_000)) for _ in range(200)), *edges]
    bodies = [number.to_bytes(4, "little") + random.randbytes(size) for number, size in enumerate(sizes)]

    for number, body in enumerate(bodies):
        first.send("n2", packet(APPEND if number % 3 else INSTALL_SNAPSHOT, body), bulk=True)
    await until(lambda: len(heard.packets) == len(bodies), "arrived")

    assert [body for _, _, body in heard.packets] == bodies


async def test_an_urgent_packet_overtakes_bulk_that_waits(world: World) -> None:
    first, _, _, heard = await world.pair(queue_bytes=100_000_000)

    for _ in range(30):
        first.send("n2", packet(APPEND, bytes(1_400_000)), bulk=True)
    first.send("n2", packet(REQUEST_VOTE, b"now"), bulk=False)
    await until(lambda: len(heard.packets) == 31, "arrived")

    place = [kind for _, kind, _ in heard.packets].index(REQUEST_VOTE)
    assert place < 10, f"arrived after {place} of 30 bulk packets"


async def test_a_packet_for_who_cannot_be_reached_is_dropped(world: World) -> None:
    first, _ = await world.start("n1", ["n1", "n2"])

    first.send("n2", packet(REQUEST_VOTE, b"lost"), bulk=False)
    first.send("nobody", packet(REQUEST_VOTE, b"lost"), bulk=False)
    _, heard = await world.start("n2", ["n1", "n2"])
    await until(lambda: first.connected() == {"n2"}, "connected")
    first.send("n2", packet(REQUEST_VOTE, b"later"), bulk=False)
    await until(lambda: heard.packets, "arrived")

    assert heard.bodies(REQUEST_VOTE) == [b"later"]


async def test_a_peer_that_stops_is_reported_down_and_up_again_when_it_returns(world: World) -> None:
    first, heard_by_first, _, _ = await world.pair()

    await world.stop("n2")
    await until(lambda: heard_by_first.down == ["n2"], "down")
    assert first.connected() == set()
    _, heard_by_second = await world.start("n2", ["n1", "n2"], incarnation=2)
    await until(lambda: first.connected() == {"n2"}, "up again")
    first.send("n2", packet(APPEND, b"again"), bulk=True)
    await until(lambda: heard_by_second.packets, "arrived")

    assert [hello.incarnation for hello in heard_by_first.up] == [1, 2]
    assert heard_by_second.bodies(APPEND) == [b"again"]


async def test_what_waits_for_a_peer_that_does_not_read_is_bounded(world: World) -> None:
    first, _, _, heard = await world.pair(queue_bytes=4_000_000)
    offered = 60

    # Nothing is read in between: all nodes live on this loop.
    for number in range(offered):
        first.send("n2", packet(APPEND, number.to_bytes(4, "little") + bytes(1_000_000)), bulk=True)
    first.send("n2", packet(REQUEST_VOTE, b"urgent"), bulk=False)
    await until(lambda: heard.bodies(REQUEST_VOTE) and heard.bodies(APPEND), "arrived")

    def taken_again() -> bool:
        first.send("n2", packet(INSTALL_SNAPSHOT, bytes(1_000_000)), bulk=True)
        return bool(heard.bodies(INSTALL_SNAPSHOT))

    await until(taken_again, "the queue takes packets again")

    arrived = [int.from_bytes(body[:4], "little") for body in heard.bodies(APPEND)]
    # The system's own socket buffers hold some, beside the queue.
    assert 3 <= len(arrived) <= 30, f"{len(arrived)} of {offered} packets arrived"
    assert arrived == sorted(arrived)


async def test_a_packet_above_the_limit_is_dropped_and_the_next_one_arrives(world: World) -> None:
    first, heard_by_first, _, heard = await world.pair()

    first.send("n2", packet(APPEND, bytes(LIMITS.packet_bytes + 1)), bulk=True)
    first.send("n2", packet(APPEND, b"small"), bulk=True)
    await until(lambda: heard.packets, "arrived")

    assert heard.bodies(APPEND) == [b"small"]
    assert heard_by_first.down == []


async def test_a_node_that_is_not_listed_gets_no_word_through(world: World) -> None:
    first, heard_by_first = await world.start("n1", ["n1", "n2"])
    _, heard_by_second = await world.start("n2", ["n1", "n2"])

    stranger, heard_by_stranger = await world.start("n3", ["n1", "n2", "n3"])
    stranger.send("n1", packet(REQUEST_VOTE, b"me too"), bulk=False)
    await until(lambda: first.connected() == {"n2"}, "the others are connected")
    first.send("n2", packet(APPEND, b"end"), bulk=True)
    await until(lambda: heard_by_second.packets, "arrived")

    assert stranger.connected() == set()
    assert heard_by_stranger.up == []
    assert heard_by_first.packets == []


async def test_after_stop_the_handler_hears_nothing_more(world: World) -> None:
    first, _, _, heard_by_second = await world.pair()

    await world.stop("n2")
    before = (len(heard_by_second.packets), list(heard_by_second.down))
    first.send("n2", packet(APPEND, b"too late"), bulk=True)
    await world.stop("n1")
    for _ in range(10):
        await asyncio.sleep(0)

    assert (len(heard_by_second.packets), heard_by_second.down) == before


# --- clients --------------------------------------------------------------------------------------------------------


class Asked:
    """A node's side of a door: remembers requests and answers when told to."""

    def __init__(self) -> None:
        self.requests: list[tuple[int, Request]] = []
        self.batches: list[int] = []
        self.gone: list[int] = []

    def on_requests(self, connection: int, requests: Sequence[Request]) -> None:
        self.requests += [(connection, request) for request in requests]
        self.batches.append(len(requests))

    def on_client_gone(self, connection: int) -> None:
        self.gone.append(connection)


class Counter:
    """A client's side of a connection, and the door it leads to."""

    def __init__(self, kind: str) -> None:
        own = Hello("client", 1, 1, cluster="c", node="n1", limits=LIMITS)
        self.door: Any = MemoryClientDoor(own) if kind == "memory" else TcpClientDoor(own, listen="127.0.0.1:0")
        self.node = Asked()
        self.replies: list[tuple[int, int, bytes]] = []
        self.lost: list[str] = []

    async def connect(self, **hello: Any) -> ClientConnection:
        own = Hello(**{"role": "client", "lowest": 1, "highest": 1, "cluster": "c", **hello})
        if isinstance(self.door, MemoryClientDoor):
            return await self.door.connect(own, on_replies=self.on_replies, on_lost=self.lost.append)
        return await connect_tcp(
            self.door.address, own, timeout=HUNG_SECONDS, on_replies=self.on_replies, on_lost=self.lost.append
        )

    def on_replies(self, packets: list[bytes]) -> None:
        self.replies += [decode_reply(packet) for packet in packets]


@pytest.fixture(params=["memory", "tcp"])
async def counter(request: pytest.FixtureRequest) -> AsyncIterator[Counter]:
    counter = Counter(request.param)
    await counter.door.start(counter.node)
    yield counter
    await counter.door.stop()


async def test_requests_arrive_in_order_and_many_at_once(counter: Counter) -> None:
    connection = await counter.connect()
    sent = [
        (COMMAND, 0, 1, b"put"),
        (QUERY, 7, 2, b""),
        (STATUS, 0, 3, b""),
        (COMMAND, 2**32 - 1, 2**63, bytes(99_000)),
    ]

    for kind, group, request, body in sent:
        connection.send(encode_request(kind, group, request, body))
    await until(lambda: len(counter.node.requests) == len(sent), "arrived")

    assert [request for _, request in counter.node.requests] == sent
    assert counter.node.batches[0] >= 3


async def test_replies_reach_the_client_that_asked(counter: Counter) -> None:
    first, second = await counter.connect(), await counter.connect()

    first.send(encode_request(COMMAND, 0, 1, b"first"))
    second.send(encode_request(COMMAND, 0, 2, b"second"))
    await until(lambda: len(counter.node.requests) == 2, "asked")
    for connection, request in counter.node.requests:
        body = msgspec.msgpack.encode(request.body)
        counter.door.reply(connection, encode_reply(request.request, OK, body) * 2)
    await until(lambda: len(counter.replies) == 4, "answered")

    assert sorted(counter.replies) == sorted(
        [(1, OK, msgspec.msgpack.encode(b"first"))] * 2 + [(2, OK, msgspec.msgpack.encode(b"second"))] * 2
    )


async def test_a_ping_is_answered_without_the_node(counter: Counter) -> None:
    connection = await counter.connect()

    connection.send(encode_request(PING, 0, 41, b""))
    await until(lambda: counter.replies, "answered")

    assert counter.replies == [(41, OK, msgspec.msgpack.encode(None))]
    assert counter.node.requests == []


async def test_a_request_above_the_limit_is_refused_before_it_is_sent(counter: Counter) -> None:
    connection = await counter.connect()

    with pytest.raises(LimitExceeded):
        connection.send(encode_request(COMMAND, 0, 1, bytes(LIMITS.request_bytes)))
    connection.send(encode_request(COMMAND, 0, 2, b"small"))
    await until(lambda: counter.node.requests, "arrived")

    assert [request.request for _, request in counter.node.requests] == [2]


@pytest.mark.parametrize(
    ("hello", "named"),
    [
        pytest.param({"role": "peer", "node": "n2", "target": "n1"}, "port for clients", id="a-peer"),
        pytest.param({"cluster": "other"}, "'c'", id="another-cluster"),
        pytest.param({"target": "n2"}, "you reached n1, not 'n2'", id="another-node"),
        pytest.param({"lowest": 2, "highest": 3}, "versions", id="a-newer-version"),
        pytest.param({"role": "admin"}, "'admin' is unknown", id="an-unknown-role"),
    ],
)
async def test_a_client_that_does_not_belong_here_is_told_why(
    counter: Counter, hello: dict[str, Any], named: str
) -> None:
    with pytest.raises(Refused, match=named):
        await counter.connect(**hello)


async def test_a_closed_connection_is_told_to_the_node_once_and_replies_to_it_are_dropped(counter: Counter) -> None:
    connection = await counter.connect()
    connection.send(encode_request(COMMAND, 0, 1, b"asked"))
    await until(lambda: counter.node.requests, "asked")

    connection.close()
    connection.close()
    await until(lambda: counter.node.gone, "gone")
    counter.door.reply(counter.node.gone[0], encode_reply(1, OK, b"\xc0"))
    connection.send(encode_request(COMMAND, 0, 2, b"too late"))
    await asyncio.sleep(0)

    assert len(counter.node.gone) == 1
    assert counter.lost == []
    assert counter.replies == []


async def test_a_door_that_stops_is_told_to_the_client_once(counter: Counter) -> None:
    connection = await counter.connect()

    await counter.door.stop()
    await until(lambda: counter.lost, "lost")
    connection.send(encode_request(COMMAND, 0, 1, b"too late"))
    await asyncio.sleep(0)

    assert len(counter.lost) == 1
    assert counter.node.requests == []
