"""What do the tests of the transports share? Both event loops, raw sockets, and waiting for an observed state."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Any

import pytest

from aegis_replication.ids import NodeId
from aegis_replication.transport.tcp import take_hello
from aegis_replication.transport.tcp_clients import TcpClientDoor
from aegis_replication.transport.tcp_peers import TcpPeerTransport
from aegis_replication.wire import Hello, Limits, Request, encode_hello

HUNG_SECONDS = 60.0  # says "hung", measures nothing
LIMITS = Limits(request_bytes=100_000, packet_bytes=1_000_000)


@pytest.hookimpl(optionalhook=True)  # older pytest-asyncio has no such hook: then on asyncio's loop alone
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:  # not on this platform
        pass
    else:
        factories["uvloop"] = uvloop.new_event_loop
    return factories


async def wait_until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(HUNG_SECONDS):
        while not condition():  # noqa: ASYNC110 - any state may be waited for, not only an event
            await asyncio.sleep(0.002)


class Heard:
    """A node's side: what its transport and its door told it."""

    def __init__(self) -> None:
        self.packets: list[tuple[NodeId, int, bytes]] = []
        self.up: list[Hello] = []
        self.down: list[NodeId] = []
        self.requests: list[tuple[int, Request]] = []
        self.gone: list[int] = []

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

    def on_requests(self, connection: int, requests: Sequence[Request]) -> None:
        self.requests += [(connection, request) for request in requests]

    def on_client_gone(self, connection: int) -> None:
        self.gone.append(connection)


class Stranger:
    """A raw socket: sends what it likes, reads what comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, address: str) -> "Stranger":
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        try:
            await self.writer.drain()
        except ConnectionError:  # it was closed on us: what tests look for, by `read_to_end`
            pass

    async def hello(self) -> Hello:
        """The other side's handshake."""
        buffer = bytearray()
        async with asyncio.timeout(HUNG_SECONDS):
            while (hello := take_hello(buffer)) is None:
                data = await self.reader.read(1)
                assert data, "closed before the handshake"
                buffer += data
        return hello

    async def read(self, size: int) -> bytes:
        async with asyncio.timeout(HUNG_SECONDS):
            return await self.reader.readexactly(size)

    async def read_to_end(self) -> bytes:
        """What still comes until the other side closes."""
        data = b""
        try:
            async with asyncio.timeout(HUNG_SECONDS):
                while more := await self.reader.read(65536):
                    data += more
        except ConnectionError:
            pass
        return data

    def close(self) -> None:
        self.writer.transport.abort()


class Sandbox:
    """Makes nodes' transports and doors, strangers and hostile servers, and closes them all."""

    def __init__(self) -> None:
        self.heard = Heard()
        self._closing: list[Callable[[], Awaitable[object]]] = []
        self.strangers: list[Stranger] = []

    def own(self, node: NodeId = "n1", **facts: Any) -> Hello:
        return Hello(**{"role": "peer", "lowest": 1, "highest": 1, "cluster": "c", "node": node, "incarnation": 1,
                        "client_address": "127.0.0.1:7777", "limits": LIMITS, **facts})  # fmt: skip

    async def peers_port(self, peers: Mapping[NodeId, str] | None = None, **options: Any) -> TcpPeerTransport:
        """Node n1's transport; it knows n2, which nobody is unless a test is."""
        own = options.pop("own", self.own())
        known = {"n2": "127.0.0.1:1"} if peers is None else peers
        transport = TcpPeerTransport(own, known, listen="127.0.0.1:0", random=Random(7), **options)
        await transport.start(self.heard)
        self._closing.append(transport.stop)
        return transport

    async def clients_port(self, **options: Any) -> TcpClientDoor:
        """Node n1's door for clients."""
        door = TcpClientDoor(self.own(), listen="127.0.0.1:0", peer_address="127.0.0.1:6666", **options)
        await door.start(self.heard)
        self._closing.append(door.stop)
        return door

    async def stranger(self, address: str, first: bytes = b"") -> Stranger:
        stranger = await Stranger.connect(address)
        self.strangers.append(stranger)
        if first:
            await stranger.send(first)
        return stranger

    async def peer(self, address: str, **facts: Any) -> Stranger:
        """A stranger that shook hands as n2."""
        stranger = await self.stranger(address, encode_hello(self.own(**{"node": "n2", "target": "n1", **facts})))
        assert not (await stranger.hello()).refusal
        return stranger

    async def client(self, address: str) -> Stranger:
        """A stranger that shook hands as a client."""
        stranger = await self.stranger(address, encode_hello(Hello("client", 1, 1)))
        assert not (await stranger.hello()).refusal
        return stranger

    async def server(self, serve: Callable[[Stranger], Awaitable[None]]) -> str:
        """The address of a server that treats each caller with `serve`, then closes."""
        tasks: set[asyncio.Task[None]] = set()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await serve(Stranger(reader, writer))
            except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError, AssertionError):
                pass
            finally:
                tasks.discard(task)
                writer.transport.abort()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)

        async def close() -> None:
            server.close()
            for task in list(tasks):
                task.cancel()
            if tasks:
                await asyncio.wait(list(tasks))

        self._closing.append(close)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        for stranger in self.strangers:
            stranger.close()
        for close in reversed(self._closing):
            await close()
        await asyncio.sleep(0)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    sandbox = Sandbox()
    yield sandbox
    await sandbox.close()


@pytest.fixture
def until() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """`await until(lambda: condition)`: returns once it holds; the deadline only says "hung"."""
    return wait_until
