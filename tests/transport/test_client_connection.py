"""What does a client learn when nobody, a stranger, or a node that falls silent is at the other end?"""

import asyncio
from typing import Any

import pytest

from aegis_replication.errors import ProtocolError, Refused, Unavailable
from aegis_replication.transport.connection import SILENT_CHECKS_MAX, connect_tcp
from aegis_replication.wire import (
    COMMAND,
    LENGTH,
    OK,
    PING,
    Hello,
    Limits,
    encode_hello,
    encode_reply,
    encode_request,
    split_packets,
)

NODE = Hello("client", 1, 1, cluster="c", node="n1", limits=Limits())
PLENTY_SECONDS = 60.0  # says "hung"


class Ear:
    def __init__(self) -> None:
        self.replies: list[bytes] = []
        self.reads = 0
        self.lost: list[str] = []

    def on_replies(self, packets: list[bytes]) -> None:
        self.replies += packets
        self.reads += 1

    async def connect(self, address: str, *, timeout: float = PLENTY_SECONDS, ping_seconds: float = 1000.0) -> Any:
        return await connect_tcp(
            address,
            Hello("client", 1, 1, cluster="c"),
            timeout=timeout,
            on_replies=self.on_replies,
            on_lost=self.lost.append,
            ping_seconds=ping_seconds,
        )


def answering(answer: bytes, *, then_close: bool = False) -> Any:
    """A server that answers the handshake with these bytes."""

    async def serve(stranger: Any) -> None:
        await stranger.hello()
        await stranger.send(answer)
        if not then_close:
            await stranger.reader.read()

    return serve


async def test_nobody_there_is_said_with_the_address() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 can't be reached \(Connection refused\)"):
        await Ear().connect("127.0.0.1:1")


async def test_no_answer_is_given_up_after_the_timeout_and_the_connection_closed(sandbox: Any, until: Any) -> None:
    closed = []

    async def serve(stranger: Any) -> None:
        await stranger.hello()
        closed.append(await stranger.reader.read())

    address = await sandbox.server(serve)

    with pytest.raises(Unavailable, match=r"no answer within 0\.05 s"):
        await Ear().connect(address, timeout=0.05)

    await until(lambda: closed)


async def test_a_refusal_reaches_the_caller_in_its_own_words(sandbox: Any) -> None:
    refusal = Hello("peer", 1, 1, node="n1", refusal="this is n1's port for peers")
    address = await sandbox.server(answering(encode_hello(refusal)))

    with pytest.raises(Refused, match="this is n1's port for peers"):
        await Ear().connect(address)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", LENGTH.pack(2**32 - 1), b"\x00" * 40])
async def test_an_answer_that_is_no_handshake_is_a_protocol_error(sandbox: Any, answer: bytes) -> None:
    address = await sandbox.server(answering(answer))

    with pytest.raises(ProtocolError, match="not an aegis handshake"):
        await Ear().connect(address)


async def test_another_protocol_version_names_both_ranges(sandbox: Any) -> None:
    address = await sandbox.server(answering(encode_hello(Hello("client", 4, 5))))

    with pytest.raises(ProtocolError, match="4 to 5 there, 1 to 1 here"):
        await Ear().connect(address)


async def test_an_end_before_the_handshake_is_unavailable(sandbox: Any) -> None:
    address = await sandbox.server(answering(b"", then_close=True))

    with pytest.raises(Unavailable, match="before the handshake"):
        await Ear().connect(address)


async def test_an_end_after_the_handshake_is_told_once(sandbox: Any, until: Any) -> None:
    ear = Ear()
    address = await sandbox.server(answering(encode_hello(NODE), then_close=True))

    connection = await ear.connect(address)
    await until(lambda: ear.lost)
    connection.send(encode_request(COMMAND, 0, 1, b""))
    connection.close()

    assert len(ear.lost) == 1
    assert address in ear.lost[0]


@pytest.mark.parametrize("length", [0, 2**31 - 1, 2**32 - 1])
async def test_a_replys_length_is_checked_before_its_bytes_come(sandbox: Any, until: Any, length: int) -> None:
    ear = Ear()
    address = await sandbox.server(answering(encode_hello(NODE) + LENGTH.pack(length)))

    await ear.connect(address)
    await until(lambda: ear.lost)

    assert f"{length:,}" in ear.lost[0]


async def test_replies_that_come_with_the_handshake_are_not_lost(sandbox: Any, until: Any) -> None:
    ear = Ear()
    reply = encode_reply(1, OK, b"\xc0")
    address = await sandbox.server(answering(encode_hello(NODE) + reply * 3 + reply[:-1]))

    await ear.connect(address)
    await until(lambda: ear.replies)

    assert ear.replies == [reply[4:]] * 3
    assert ear.reads == 1


async def test_what_is_sent_in_one_turn_leaves_in_order_and_before_close(sandbox: Any, until: Any) -> None:
    received = bytearray()

    async def serve(stranger: Any) -> None:
        await stranger.hello()
        await stranger.send(encode_hello(NODE))
        while data := await stranger.reader.read(65536):
            received.extend(data)

    connection = await Ear().connect(await sandbox.server(serve))
    packets = [encode_request(COMMAND, 0, number, b"x" * number) for number in range(100)]
    for packet in packets:
        connection.send(packet)
    connection.close()
    await until(lambda: len(received) == sum(map(len, packets)))

    assert bytes(received) == b"".join(packets)


async def test_a_node_that_falls_silent_is_pinged_and_then_given_up(sandbox: Any, until: Any) -> None:
    ear, pings = Ear(), []

    async def serve(stranger: Any) -> None:
        await stranger.hello()
        await stranger.send(encode_hello(NODE))
        while data := await stranger.reader.read(65536):
            pings.extend(split_packets(data, 100)[0])

    connection = await ear.connect(await sandbox.server(serve))
    for _ in range(SILENT_CHECKS_MAX + 1):
        connection.check_alive()
    await until(lambda: len(pings) == SILENT_CHECKS_MAX)
    assert ear.lost == []
    connection.check_alive()

    assert len(ear.lost) == 1
    assert "no sign of life" in ear.lost[0]
    assert {packet[0] for packet in pings} == {PING}


async def test_a_node_that_answers_pings_is_kept_and_the_answers_are_not_replies(sandbox: Any, until: Any) -> None:
    ear, door = Ear(), await sandbox.clients_port()

    connection = await ear.connect(door.address)
    for _ in range(3 * SILENT_CHECKS_MAX):
        connection.check_alive()
        connection.check_alive()
        await until(lambda: connection._silent_checks == 0)

    assert ear.lost == []
    assert ear.replies == []
    connection.close()


async def test_the_checks_go_on_by_themselves_until_the_connection_ends(sandbox: Any, until: Any) -> None:
    ear = Ear()
    address = await sandbox.server(answering(encode_hello(NODE)))

    await ear.connect(address, ping_seconds=0.001)
    await until(lambda: ear.lost)

    assert "no sign of life" in ear.lost[0]


async def test_a_cancelled_connect_leaves_no_connection_behind(sandbox: Any, until: Any) -> None:
    door = await sandbox.clients_port()
    task = asyncio.ensure_future(Ear().connect(door.address))
    for _ in range(3):
        await asyncio.sleep(0)

    task.cancel()
    await asyncio.wait([task])

    await until(lambda: not door.everyone)
