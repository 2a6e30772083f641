"""What becomes of nonsense, floods and stalled readers on the port for clients? The others are served as before."""

import asyncio
import tracemalloc
from functools import partial
from typing import Any

import msgspec
import pytest

from aegis_replication.transport.tcp_clients import DoorLimits
from aegis_replication.wire import (
    COMMAND,
    HELLO_BYTES_MAX,
    INVALID,
    LENGTH,
    OK,
    PING,
    QUERY,
    REPLY,
    REQUEST_HEAD,
    STATUS,
    Hello,
    decode_reply,
    encode_hello,
    encode_reply,
    encode_request,
    split_packets,
)

REQUEST_BYTES = 100_000  # limits.request_bytes of the node under attack


def head(length: int, kind: int = COMMAND, request: int = 77) -> bytes:
    return LENGTH.pack(length) + REQUEST_HEAD.pack(kind, 0, request)


async def is_served(sandbox: Any, until: Any, address: str) -> None:
    """A well-behaved client gets through to the node."""
    client = await sandbox.client(address)
    before = len(sandbox.heard.requests)
    await client.send(encode_request(COMMAND, 0, 1, b"served"))
    await until(lambda: len(sandbox.heard.requests) > before)
    assert sandbox.heard.requests[-1][1].body == b"served"


# --- before the handshake -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="http"),
        pytest.param(b"*1\r\n$4\r\nPING\r\n", id="redis"),
        pytest.param(bytes(32), id="zeros"),
        pytest.param(b"\xff" * 32, id="ones"),
        pytest.param(encode_request(COMMAND, 0, 1, b"x"), id="a-request-first"),
        *[pytest.param(LENGTH.pack(n), id=f"{n}") for n in (0, 1, HELLO_BYTES_MAX + 1, 2**31 - 1, 2**32 - 1)],
    ],
)
async def test_what_is_no_handshake_is_closed_unanswered_and_counted(sandbox: Any, until: Any, first: bytes) -> None:
    door = await sandbox.clients_port()

    stranger = await sandbox.stranger(door.address, first)

    assert await stranger.read_to_end() == b""
    assert door.statistics().garbage == 1
    await is_served(sandbox, until, door.address)


async def test_a_peer_that_comes_here_is_told_the_right_port(sandbox: Any) -> None:
    door = await sandbox.clients_port()

    stranger = await sandbox.stranger(door.address, encode_hello(sandbox.own("n2", target="n1")))

    assert (await stranger.hello()).refusal == "this is n1's port for clients: peers connect to 127.0.0.1:6666"
    assert await stranger.read_to_end() == b""


async def test_half_handshakes_are_closed_after_their_deadline(sandbox: Any, until: Any) -> None:
    door = await sandbox.clients_port()
    whole = encode_hello(Hello("client", 1, 1))
    strangers = [await sandbox.stranger(door.address, whole[:seen]) for seen in (0, 1, 4, 5, 20)]
    await until(lambda: len(door.everyone) == len(strangers))

    for _ in range(5):
        door.check_deadlines()

    assert [await stranger.read_to_end() for stranger in strangers] == [b""] * len(strangers)
    assert door.statistics().late == len(strangers)
    await until(lambda: not door.everyone)


async def test_500_idle_connections_leave_a_client_served(sandbox: Any, until: Any) -> None:
    door = await sandbox.clients_port()

    idle = [await sandbox.client(door.address) for _ in range(500)]
    await is_served(sandbox, until, door.address)
    for _ in range(60):
        door.check_deadlines()

    assert door.statistics().connections == len(idle) + 1
    assert door.statistics().late == 0


async def test_idle_connections_are_closed_in_the_end_but_not_those_that_wait_for_an_answer(
    sandbox: Any, until: Any
) -> None:
    door = await sandbox.clients_port(limits=DoorLimits(idle=20))
    idle, waiting = await sandbox.client(door.address), await sandbox.client(door.address)
    await waiting.send(encode_request(COMMAND, 0, 1, b""))
    await until(lambda: sandbox.heard.requests)

    for _ in range(22):
        door.check_deadlines()
    assert await idle.read_to_end() == b""
    door.reply(sandbox.heard.requests[0][0], encode_reply(1, OK, b"\xc0"))

    assert await waiting.read(len(encode_reply(1, OK, b"\xc0"))) == encode_reply(1, OK, b"\xc0")


async def test_connections_above_the_caps_are_told_so(sandbox: Any, until: Any) -> None:
    door = await sandbox.clients_port(limits=DoorLimits(connections_per_address=3))
    kept = [await sandbox.client(door.address) for _ in range(3)]

    surplus = await sandbox.stranger(door.address, encode_hello(Hello("client", 1, 1)))
    refusal = (await surplus.hello()).refusal
    assert await surplus.read_to_end() == b""
    kept[0].close()
    await until(lambda: door.statistics().connections == 2)
    await is_served(sandbox, until, door.address)

    assert "3 connections from your address" in refusal
    assert door.statistics().surplus == 1
    assert door.surplus_now == 0


async def test_silent_connections_above_the_cap_go_within_a_second(sandbox: Any, until: Any) -> None:
    door = await sandbox.clients_port(limits=DoorLimits(connections=2))
    for _ in range(2):
        await sandbox.client(door.address)

    surplus = [await sandbox.stranger(door.address) for _ in range(100)]
    await until(lambda: door.statistics().surplus == 100)
    assert len(door.everyone) <= 2 + 65
    door.check_deadlines()
    assert door.statistics().late >= 64, "one second is enough for those above the cap"

    assert [await stranger.read_to_end() for stranger in surplus] == [b""] * 100
    await until(lambda: len(door.everyone) == 2)


# --- requests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 12, REQUEST_BYTES + 1, 2**31 - 1, 2**32 - 1])
async def test_a_requests_length_is_checked_before_anything_is_stored(sandbox: Any, until: Any, length: int) -> None:
    door = await sandbox.clients_port()
    client = await sandbox.client(door.address)

    tracemalloc.start()
    await client.send(LENGTH.pack(length))
    rest = await client.read_to_end()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert rest == b""
    assert door.statistics().garbage == 1
    assert peak_bytes < 500_000
    assert len(sandbox.heard.gone) == 1
    await is_served(sandbox, until, door.address)


@pytest.mark.parametrize("length", [13, REQUEST_BYTES])
async def test_a_requests_length_within_the_limit_is_waited_for(sandbox: Any, until: Any, length: int) -> None:
    door = await sandbox.clients_port()
    client = await sandbox.client(door.address)

    whole = head(length) + bytes(length - 13)
    await client.send(whole[:-1] if length > 13 else whole[:5])
    await client.send(whole[-1:] if length > 13 else whole[5:])
    await until(lambda: sandbox.heard.requests)

    assert sandbox.heard.requests[0][1] == (COMMAND, 0, 77, bytes(length - 13))


async def test_a_client_whose_request_is_too_large_is_told_the_limit(sandbox: Any) -> None:
    door = await sandbox.clients_port()
    client = await sandbox.client(door.address)

    await client.send(head(REQUEST_BYTES + 1))
    packets, _ = split_packets(await client.read_to_end(), 1000)

    request, status, body = decode_reply(packets[0])
    assert (request, status) == (77, INVALID)
    assert "100,000" in msgspec.msgpack.decode(body)


@pytest.mark.parametrize("kind", [0, 1, 15, 23, 31, REPLY, 255])
async def test_a_kind_that_is_no_request_ends_the_connection_after_the_good_ones(
    sandbox: Any, until: Any, kind: int
) -> None:
    door = await sandbox.clients_port()
    client = await sandbox.client(door.address)

    await client.send(encode_request(QUERY, 0, 1, b"good") + head(20, kind) + bytes(7))
    await client.read_to_end()

    assert [request.body for _, request in sandbox.heard.requests] == [b"good"]
    assert door.statistics().garbage == 1


async def test_absurd_fields_in_a_valid_frame_reach_the_node_as_they_are(sandbox: Any, until: Any) -> None:
    door = await sandbox.clients_port()
    client = await sandbox.client(door.address)

    await client.send(encode_request(STATUS, 2**32 - 1, 2**64 - 1, b"\xff" * 100))
    await until(lambda: sandbox.heard.requests)

    assert sandbox.heard.requests[0][1] == (STATUS, 2**32 - 1, 2**64 - 1, b"\xff" * 100)


async def test_requests_do_not_depend_on_where_reads_end(sandbox: Any, until: Any) -> None:
    door = await sandbox.clients_port()
    requests = [(COMMAND, 0, number, bytes([number]) * (number % 7)) for number in range(30)]
    stream = encode_hello(Hello("client", 1, 1)) + b"".join(encode_request(*request) for request in requests)

    for step in (1, 3, 16, 17, 18, 50, len(stream)):
        sandbox.heard.requests.clear()
        stranger = await sandbox.stranger(door.address)
        for first in range(0, len(stream), step):
            await stranger.send(stream[first : first + step])
            await asyncio.sleep(0)
        await until(lambda: len(sandbox.heard.requests) == len(requests))
        assert [request for _, request in sandbox.heard.requests] == requests, f"in steps of {step}"


async def test_a_frame_that_is_not_complete_in_time_is_closed_however_its_bytes_trickle(
    sandbox: Any, until: Any
) -> None:
    door = await sandbox.clients_port()
    client = await sandbox.client(door.address)
    protocol = next(iter(door.connections.values()))

    whole = encode_request(COMMAND, 0, 1, bytes(1000))
    for sent in range(10):
        await client.send(whole[sent : sent + 1])
        await until(lambda sent=sent: len(protocol._tail) == sent + 1)
        door.check_deadlines()

    assert await client.read_to_end() == b""
    assert door.statistics().late == 1
    assert sandbox.heard.requests == []


async def test_the_clock_of_a_frame_starts_anew_with_each_frame(sandbox: Any, until: Any) -> None:
    door = await sandbox.clients_port()
    client = await sandbox.client(door.address)
    protocol = next(iter(door.connections.values()))

    whole = encode_request(COMMAND, 0, 1, bytes(50))
    for number in range(5):
        await client.send(whole[-30:] + whole[:-30] if number else whole[:-30])
        await until(lambda number=number: len(sandbox.heard.requests) == number and protocol._tail)
        for _ in range(6):
            door.check_deadlines()

    assert door.statistics().late == 0


async def test_pings_are_answered_between_requests(sandbox: Any, until: Any) -> None:
    door = await sandbox.clients_port()
    client = await sandbox.client(door.address)

    await client.send(
        encode_request(PING, 0, 1, b"") + encode_request(COMMAND, 0, 2, b"x") + encode_request(PING, 0, 3, b"")
    )
    expected = encode_reply(1, OK, b"\xc0") + encode_reply(3, OK, b"\xc0")

    assert await client.read(len(expected)) == expected
    await until(lambda: len(sandbox.heard.requests) == 1)


# --- floods ---------------------------------------------------------------------------------------------------------


async def test_a_client_that_sends_without_waiting_is_read_only_as_fast_as_it_is_answered(
    sandbox: Any, until: Any
) -> None:
    door = await sandbox.clients_port(limits=DoorLimits(requests_in_flight=100))
    client = await sandbox.client(door.address)
    offered, body = 20_000, bytes(1000)

    flood = asyncio.ensure_future(
        client.send(b"".join(encode_request(COMMAND, 0, number, body) for number in range(offered)))
    )
    await until(lambda: len(sandbox.heard.requests) > 100)
    for _ in range(20):
        await asyncio.sleep(0)
    first_batch = len(sandbox.heard.requests)
    await is_served(sandbox, until, door.address)
    sandbox.heard.requests.pop()
    taken = 0
    while taken < offered:
        await until(partial(lambda taken: len(sandbox.heard.requests) > taken, taken))
        new = sandbox.heard.requests[taken:]
        door.reply(new[0][0], b"".join(encode_reply(request.request, OK, b"\xc0") for _, request in new))
        taken += len(new)
    await flood

    assert first_batch < 100 + 256 * 1024 // 1000 + 2, "the cap and one read"
    assert [request.request for _, request in sandbox.heard.requests] == list(range(offered))


async def test_a_client_that_takes_no_replies_is_not_read_and_closed_in_the_end(sandbox: Any, until: Any) -> None:
    door = await sandbox.clients_port(limits=DoorLimits(reply_bytes_queued=100_000))
    client = await sandbox.client(door.address)
    client.reader._limit = 1000  # it reads next to nothing
    await client.send(encode_request(COMMAND, 0, 1, b"") * 50)
    await until(lambda: len(sandbox.heard.requests) == 50)
    connection = sandbox.heard.requests[0][0]

    for _ in range(20):
        door.reply(connection, encode_reply(1, OK, bytes(1_000_000)))
    await client.send(encode_request(COMMAND, 0, 2, b"not read"))
    await is_served(sandbox, until, door.address)
    for _ in range(33):
        door.check_deadlines()

    await until(lambda: sandbox.heard.gone)
    assert door.statistics().stalled == 1
    assert [request.request for where, request in sandbox.heard.requests if where == connection] == [1] * 50


async def test_a_client_for_which_too_many_replies_wait_is_closed(sandbox: Any, until: Any) -> None:
    door = await sandbox.clients_port(limits=DoorLimits(reply_bytes_queued=100_000, reply_bytes_max=5_000_000))
    client = await sandbox.client(door.address)
    client.reader._limit = 1000
    await client.send(encode_request(QUERY, 0, 1, b"") * 50)
    await until(lambda: len(sandbox.heard.requests) == 50)
    connection = sandbox.heard.requests[0][0]

    for _ in range(50):
        door.reply(connection, encode_reply(1, OK, bytes(1_000_000)))

    assert sandbox.heard.gone == [connection]
    assert door.statistics().stalled == 1


async def test_after_stop_everybody_is_gone_and_the_node_was_told(sandbox: Any, until: Any) -> None:
    door = await sandbox.clients_port()
    clients = [await sandbox.client(door.address) for _ in range(3)]
    stranger = await sandbox.stranger(door.address)
    await until(lambda: len(door.everyone) == 4)

    await door.stop()

    assert [await client.read_to_end() for client in [*clients, stranger]] == [b""] * 4
    assert sorted(sandbox.heard.gone) == [1, 2, 3]
    assert not door.everyone
