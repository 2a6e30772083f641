"""Does the proxy hold, cut, slow and heal each direction by itself, and lose no byte that it holds?"""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from aegis_replication import wire
from aegis_replication.link_proxy import HELD_BYTES_MAX, LinkProxy


class Listener:
    """A node's peer port that keeps what comes, by connection, and can answer."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.address = ""
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def _accept(self) -> "Connection":
        self.connections.append(Connection())
        return self.connections[-1]

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self.connections:
            connection.transport.abort()


class Connection(asyncio.Protocol):
    """One end of a connection."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = bytearray()
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True


def hello(source: str, target: str) -> bytes:
    return wire.encode_hello(wire.Hello("peer", 1, 1, node=source, target=target))


async def until(condition: Callable[[], bool], what: str) -> None:
    """Turns of the loop until it holds; the deadline only says "hung"."""
    deadline = asyncio.get_running_loop().time() + 30.0
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"hung: {what}"
        await asyncio.sleep(0.001)


class Lab:
    """Two nodes and the proxy between them."""

    def __init__(self) -> None:
        self.nodes = {"a": Listener(), "b": Listener()}
        self.proxy: LinkProxy

    async def start(self) -> None:
        for node in self.nodes.values():
            await node.start()
        self.proxy = LinkProxy({name: node.address for name, node in self.nodes.items()})
        await self.proxy.start()

    async def dial(self, source: str, target: str) -> Connection:
        """What node `source` has at hand after calling `target`, its handshake on the way."""
        host, port = self.proxy.addresses[target].split(":")
        _, connection = await asyncio.get_running_loop().create_connection(Connection, host, int(port))
        connection.transport.write(hello(source, target))
        return connection

    async def connect(self, source: str, target: str) -> tuple[Connection, Connection]:
        """Both ends of a connection that works."""
        count = len(self.nodes[target].connections)
        caller = await self.dial(source, target)
        await until(lambda: len(self.nodes[target].connections) > count, "the target is called")
        callee = self.nodes[target].connections[-1]
        await until(lambda: bytes(callee.received) == hello(source, target), "the handshake arrives")
        callee.received.clear()
        return caller, callee


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    made = Lab()
    await made.start()
    yield made
    await made.proxy.stop()
    for node in made.nodes.values():
        node.stop()
    await asyncio.sleep(0.01)


async def test_bytes_go_through_both_ways(lab: Lab) -> None:
    caller, callee = await lab.connect("a", "b")

    caller.transport.write(b"there")
    callee.transport.write(b"back")

    await until(lambda: callee.received == b"there" and caller.received == b"back", "both arrive")


async def test_what_is_held_arrives_after_healing_whole_and_in_order(lab: Lab) -> None:
    caller, callee = await lab.connect("a", "b")
    sent = bytes(range(256)) * 100

    lab.proxy.hold("a", "b")
    caller.transport.write(sent)
    await until(lambda: lab.proxy.held_bytes("a", "b") == len(sent), "the proxy has it")
    assert callee.received == b""
    lab.proxy.heal()

    await until(lambda: bytes(callee.received) == sent, "all of it arrives")


async def test_a_link_that_is_held_one_way_is_open_the_other_way(lab: Lab) -> None:
    a_to_b = await lab.connect("a", "b")
    b_to_a = await lab.connect("b", "a")

    lab.proxy.hold("a", "b")
    a_to_b[0].transport.write(b"from a, dialed by a")
    b_to_a[1].transport.write(b"from a, dialed by b")
    a_to_b[1].transport.write(b"from b, dialed by a")
    b_to_a[0].transport.write(b"from b, dialed by b")

    await until(lambda: a_to_b[0].received == b"from b, dialed by a", "b's bytes arrive")
    await until(lambda: b_to_a[1].received == b"from b, dialed by b", "b's bytes arrive")
    await until(lambda: lab.proxy.held_bytes("a", "b") == 2 * len(b"from a, dialed by a"), "a's bytes are held")
    assert a_to_b[1].received == b""
    assert b_to_a[0].received == b""


async def test_the_end_of_a_connection_is_held_as_its_bytes_are(lab: Lab) -> None:
    """A killed process behind a black hole isn't seen to have ended."""
    caller, callee = await lab.connect("a", "b")

    lab.proxy.isolate("a")
    caller.transport.write(b"last words")
    caller.transport.close()
    await until(lambda: lab.proxy.held_bytes("a", "b") == len(b"last words"), "they are held")
    await until(lambda: caller.is_lost, "the caller is gone")
    assert not callee.is_lost
    lab.proxy.heal()

    await until(lambda: callee.is_lost, "the end arrives")
    assert callee.received == b"last words"


async def test_a_call_into_a_black_hole_reaches_the_target_after_healing(lab: Lab) -> None:
    lab.proxy.hold("b", "a")

    caller = await lab.dial("a", "b")
    await until(lambda: lab.proxy.held_bytes("a", "b") > 0, "the handshake waits")
    assert lab.nodes["b"].connections == []
    lab.proxy.heal()

    await until(lambda: len(lab.nodes["b"].connections) == 1, "the target is called")
    callee = lab.nodes["b"].connections[0]
    await until(lambda: bytes(callee.received) == hello("a", "b"), "the handshake arrives")
    assert not caller.is_lost


async def test_a_caller_that_gives_up_in_a_black_hole_never_reaches_the_target(lab: Lab) -> None:
    lab.proxy.hold("a", "b")

    caller = await lab.dial("a", "b")
    await until(lambda: lab.proxy.held_bytes("a", "b") > 0, "the handshake waits")
    caller.transport.abort()
    await until(lambda: lab.proxy.held_bytes("a", "b") == 0, "the proxy has let it go")
    lab.proxy.heal()
    await lab.connect("a", "b")

    assert len(lab.nodes["b"].connections) == 1


async def test_a_cut_link_resets_connections_and_refuses_new_ones_until_healed(lab: Lab) -> None:
    caller, callee = await lab.connect("a", "b")

    lab.proxy.cut("a", "b")
    await until(lambda: caller.is_lost and callee.is_lost, "both ends are reset")
    refused = await lab.dial("a", "b")
    await until(lambda: refused.is_lost, "a new one is reset")
    lab.proxy.heal()

    await lab.connect("a", "b")


async def test_a_target_that_is_down_looks_like_one_that_resets(lab: Lab) -> None:
    lab.nodes["b"].stop()

    caller = await lab.dial("a", "b")

    await until(lambda: caller.is_lost, "the caller is told")


async def test_the_end_of_either_side_reaches_the_other(lab: Lab) -> None:
    first, second = await lab.connect("a", "b"), await lab.connect("b", "a")

    first[0].transport.abort()
    second[1].transport.close()

    await until(lambda: first[1].is_lost and second[0].is_lost, "the others hear of it")


async def test_a_slow_link_takes_its_time_and_keeps_the_order(lab: Lab) -> None:
    caller, callee = await lab.connect("a", "b")
    loop = asyncio.get_running_loop()

    lab.proxy.slow("a", "b", delay_ms=60.0, bytes_per_second=100_000.0)
    began = loop.time()
    for number in range(100):
        caller.transport.write(b"%099d\n" % number)
        await asyncio.sleep(0)
    await until(lambda: len(callee.received) == 10_000, "all arrives")

    assert loop.time() - began >= 0.06 + 0.1 * 0.9
    assert [int(line) for line in callee.received.splitlines()] == list(range(100))


async def test_healing_hurries_what_a_slow_link_still_has(lab: Lab) -> None:
    caller, callee = await lab.connect("a", "b")

    lab.proxy.slow("a", "b", delay_ms=3_600_000.0)
    caller.transport.write(b"an hour late")
    await until(lambda: lab.proxy.held_bytes("a", "b") == len(b"an hour late"), "it is on its way")
    lab.proxy.heal([("a", "b")])

    await until(lambda: callee.received == b"an hour late", "it arrives")


async def test_a_sender_into_a_black_hole_is_slowed_down_not_buffered_without_bound(lab: Lab) -> None:
    caller, _ = await lab.connect("a", "b")
    lab.proxy.hold("a", "b")

    for _ in range(64):
        caller.transport.write(bytes(HELD_BYTES_MAX))
    await until(lambda: lab.proxy.held_bytes("a", "b") >= HELD_BYTES_MAX, "the proxy is full")
    for _ in range(200):
        await asyncio.sleep(0)

    assert lab.proxy.held_bytes("a", "b") < 2 * HELD_BYTES_MAX
    assert caller.transport.get_write_buffer_size() > 0


async def test_bytes_that_are_no_handshake_end_the_connection(lab: Lab) -> None:
    host, port = lab.proxy.addresses["b"].split(":")
    _, stranger = await asyncio.get_running_loop().create_connection(Connection, host, int(port))

    stranger.transport.write(b"GET / HTTP/1.1\r\n\r\n")

    await until(lambda: stranger.is_lost, "it is closed")
    assert lab.nodes["b"].connections == []
