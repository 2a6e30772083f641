"""Is every bad, slow, large or superfluous request told so in one sentence, within bounds, while others are served?"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import virtual_time
from callers import Caller, get

from aegis_replication.admin_http.answer import Answer, as_json
from aegis_replication.admin_http.connection import HttpLimits
from aegis_replication.admin_http.door import HttpDoor

LIMITS = HttpLimits(connections=3, surplus=1)


def broken(accept: str) -> Answer:
    raise ValueError("a bug of ours")


@asynccontextmanager
async def door(*, listen: str = "127.0.0.1:0", limits: HttpLimits = LIMITS) -> AsyncIterator[HttpDoor]:
    pages = {"/livez": lambda accept: as_json({"alive": True}), "/broken": broken}
    opened = HttpDoor("n1", pages, listen=listen, limits=limits)
    opened.open()
    yield opened
    await opened.stop()


def run(test) -> None:
    """In virtual time."""
    virtual_time.run(test())


def test_one_connection_serves_one_request_after_the_other() -> None:
    async def test() -> None:
        async with door() as opened:
            caller = Caller(opened)

            for _ in range(3):
                caller.send(get("/livez?verbose"))
                await caller.settle()
            caller.send(get("http://localhost/livez"))
            await caller.settle()

            assert [(status, body) for status, _, body in caller.answers()] == [(200, b'{\n  "alive": true\n}\n')] * 4
            assert not caller.is_closed
            assert opened.requests == {("/livez", 200): 4}

    run(test)


def test_head_has_the_headers_of_get_and_no_body() -> None:
    async def test() -> None:
        async with door() as opened:
            first, second = Caller(opened), Caller(opened)

            first.send(get("/livez", method="HEAD") + get("/nothing", method="HEAD") + get("/livez"))
            second.send(get("/livez"))
            await first.settle()

            answers = first.answers("HEAD", "HEAD", "GET")
            [(_, of_get, _)] = second.answers()
            assert [(status, bool(body)) for status, _, body in answers] == [(200, False), (404, False), (200, True)]
            assert {**answers[0][1], "date": ""} == {**of_get, "date": ""}

    run(test)


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (get("/nothing"), 404, "there are /livez"),
        (get("/livez", method="DELETE"), 405, "use GET or HEAD"),
        (get("/livez", "Content-Length: 5", method="POST") + b"12345", 405, "use GET or HEAD"),
        (b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "use GET or HEAD"),
        (get("/livez", "Content-Length: 999999999999"), 413, "takes a body"),
        (get("/livez", "Transfer-Encoding: chunked") + b"FFFFFFFFFFFF\r\n", 413, "takes a body"),
        (get("/livez", "Content-Length: 1", "Content-Length: 2"), 400, "no HTTP/1.1 request"),
        (get("/livez", "Transfer-Encoding: gzip"), 501, "no HTTP/1.1 request"),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400, "Host"),
        (b"GET /livez HTTP/9\r\n\r\n", 400, "no HTTP/1.1 request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "no HTTP/1.1 request"),
        (b"GET /a\x00b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "no HTTP/1.1 request"),
        (get("/livez", "X: " + "y" * 20_000), 431, "8192 bytes"),
        (b"G" * 20_000, 431, "8192 bytes"),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n", 431, "8192 bytes"),
        (get("/livez", *[f"X{number}: y" for number in range(2_000)]), 431, "8192 bytes"),
        (get("/broken"), 500, "log says why"),
        (b"GET /livez HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421, "this machine only"),
        (b"GET /livez HTTP/1.1\r\nHost: evil.example:7482\r\n\r\n", 421, "this machine only"),
        (b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", 421, "this machine only"),
    ],
)
def test_what_cannot_be_served_is_told_so_in_one_sentence(sent: bytes, status: int, said: str) -> None:
    async def test() -> None:
        async with door() as opened:
            caller, other = Caller(opened), Caller(opened)

            caller.send(sent)
            await caller.settle()
            other.send(get("/livez"))
            await other.settle()

            answered, headers, body = caller.answer("CONNECT" if sent.startswith(b"CON") else "GET")
            assert (answered, headers["content-type"]) == (status, "application/json")
            assert said in body["error"]
            assert other.answer()[0] == 200

    run(test)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7482", "127.0.0.1:80", "[::1]:7482", "127.8.8.8"])
def test_a_door_on_loopback_answers_to_this_machines_names(host: str) -> None:
    async def test() -> None:
        async with door() as opened:
            caller = Caller(opened)

            caller.send(f"GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            await caller.settle()

            assert caller.answer()[0] == 200

    run(test)


def test_a_door_for_other_machines_answers_to_any_name() -> None:
    async def test() -> None:
        async with door(listen="0.0.0.0:0") as opened:
            caller = Caller(opened)

            caller.send(b"GET /livez HTTP/1.1\r\nHost: n1.example\r\n\r\n")
            await caller.settle()

            assert caller.answer()[0] == 200

    run(test)


def test_a_head_that_trickles_in_is_cut_off_after_its_time_and_not_after_the_last_byte() -> None:
    async def test() -> None:
        async with door() as opened:
            caller, began = Caller(opened), asyncio.get_running_loop().time()

            for byte in get("/livez", "X: " + "y" * 100):
                caller.send(bytes([byte]))
                await asyncio.sleep(1.0)
                if caller.transport.is_ended:
                    break

            assert LIMITS.head_seconds <= asyncio.get_running_loop().time() - began <= LIMITS.head_seconds + 1
            assert caller.answer()[0] == 408
            assert opened.refused == {"late": 1}
            await caller.closed()

    run(test)


def test_a_caller_that_says_nothing_is_cut_off() -> None:
    async def test() -> None:
        async with door() as opened:
            caller, began = Caller(opened), asyncio.get_running_loop().time()

            ended = await caller.closed()

            assert ended - began < LIMITS.head_seconds + 2
            assert not opened.connections

    run(test)


def test_between_two_requests_a_connection_stays_for_a_while_and_then_goes_without_a_word() -> None:
    async def test() -> None:
        async with door() as opened:
            caller = Caller(opened)

            caller.send(get("/livez"))
            await asyncio.sleep(LIMITS.idle_seconds - 1)
            caller.send(get("/livez"))
            await caller.settle()
            began = asyncio.get_running_loop().time()
            ended = await caller.closed()

            assert len(caller.answers()) == 2
            assert ended - began == pytest.approx(LIMITS.idle_seconds, abs=0.1)
            assert not opened.refused

    run(test)


def test_a_second_request_has_no_more_time_for_its_head_than_the_first() -> None:
    async def test() -> None:
        async with door() as opened:
            caller = Caller(opened)

            caller.send(get("/livez"))
            await asyncio.sleep(20.0)
            caller.send(b"GET /livez")
            began = asyncio.get_running_loop().time()
            ended = await caller.closed()

            assert ended - began < LIMITS.head_seconds + 2
            assert [status for status, _, _ in caller.answers()] == [200, 408]

    run(test)


def test_a_caller_that_takes_no_answer_is_cut_off() -> None:
    async def test() -> None:
        async with door() as opened:
            caller, began = Caller(opened, takes=False), asyncio.get_running_loop().time()

            caller.send(get("/livez") * 20)
            ended = await caller.closed()

            assert ended - began == pytest.approx(LIMITS.write_seconds, abs=0.1)
            assert len(caller.answers()) == 1  # nothing is made that nobody takes
            assert opened.refused == {"stalled": 1}

    run(test)


def test_a_caller_that_asks_and_ends_gets_its_answer() -> None:
    async def test() -> None:
        async with door() as opened:
            caller = Caller(opened)

            caller.send(get("/livez"))
            caller.leave()
            await caller.closed()

            assert caller.answer()[0] == 200
            assert not opened.refused

    run(test)


def test_answers_leave_room_for_the_nodes_own_turns() -> None:
    """However many requests one read brings, and by however many callers."""

    async def test() -> None:
        async with door() as opened:
            callers = [Caller(opened) for _ in range(3)]
            turns, most = 0, 0

            for caller in callers:
                caller.send(get("/livez") * 50)
            while sum(opened.requests.values()) < 150:
                before = sum(opened.requests.values())
                await asyncio.sleep(0)
                turns, most = turns + 1, max(most, sum(opened.requests.values()) - before)

            assert most == 1
            assert [len(caller.answers()) for caller in callers] == [50] * 3

    run(test)


def test_connections_above_the_limit_are_told_so_and_those_above_that_are_closed() -> None:
    async def test() -> None:
        async with door() as opened:
            held = [Caller(opened) for _ in range(LIMITS.connections)]
            surplus, more = Caller(opened), Caller(opened)

            await surplus.settle()
            status, headers, body = surplus.answer()
            held[0].send(get("/livez"))
            await held[0].settle()

            assert (status, headers["retry-after"], headers["connection"]) == (503, "5", "close")
            assert "n1 has 3 connections here" in body["error"]
            assert more.is_closed
            assert not more.answers()
            assert held[0].answer()[0] == 200
            await surplus.closed()
            held[1].leave()
            await held[1].closed()
            late = Caller(opened)
            late.send(get("/livez"))
            await late.settle()
            assert late.answer()[0] == 200

    run(test)


def test_a_flood_of_nonsense_is_one_log_line_and_forges_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def test() -> None:
        async with door(limits=HttpLimits(connections=100)) as opened:
            callers = [Caller(opened) for _ in range(50)]

            for caller in callers:
                caller.send(b"role=leader\x1b[2J nonsense\r\n\r\n")
            for caller in callers:
                await caller.settle()

            assert opened.refused == {"garbage": 50}

    run(test)
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().startswith("node=n1 door=http: closed 10.0.0.9: ")


def test_a_door_that_stops_leaves_nobody_waiting() -> None:
    async def test() -> None:
        async with door() as opened:
            callers = [Caller(opened) for _ in range(3)]
            callers[0].send(b"GET /liv")
            await callers[0].settle()

            await opened.stop()

            assert all(caller.is_closed for caller in callers)
            assert not opened.connections

    run(test)
