"""Does a link find its peer again, notice when it is dead, and keep what waits for it within bounds?"""

import asyncio
import logging
from random import Random
from typing import Any

import pytest

from aegis_replication.errors import ConfigError
from aegis_replication.transport import tcp_links
from aegis_replication.transport.tcp_links import (
    ALIVE_PACKET,
    BACKOFF_FIRST_SECONDS,
    BACKOFF_MAX_SECONDS,
    SILENT_CHECKS_MAX,
    URGENT_BYTES_MAX,
    Backoff,
)
from aegis_replication.transport.tcp_peers import TcpPeerTransport
from aegis_replication.wire import APPEND, LENGTH, PIECE, REQUEST_VOTE, Hello, encode_hello


def packet(kind: int, body: bytes = b"") -> bytes:
    return LENGTH.pack(1 + len(body)) + bytes([kind]) + body


class Script:
    """A hostile or unlucky n2: answers the handshake as told, then does as told."""

    def __init__(self, sandbox: Any, answer: bytes | None = None, *, read: bool = True, alive: bool = False) -> None:
        self.answer = encode_hello(sandbox.own("n2")) if answer is None else answer
        self.read, self.alive = read, alive
        self.calls: list[Hello] = []
        self.received = bytearray()
        self.open = 0

    async def __call__(self, stranger: Any) -> None:
        self.calls.append(await stranger.hello())
        self.open += 1
        try:
            await stranger.send(self.answer)
            while self.read and (data := await stranger.reader.read(65536)):
                self.received += data
                if self.alive:
                    await stranger.send(ALIVE_PACKET)
            if not self.read:
                stranger.reader._limit = 1  # the socket fills up
                await asyncio.Event().wait()
        finally:
            self.open -= 1


def test_backoff_doubles_from_20_ms_to_a_second_and_is_spread() -> None:
    backoff = Backoff(Random(3))

    waits = [backoff.next_seconds() for _ in range(200)]
    backoff.reset()

    assert all(0.5 * BACKOFF_FIRST_SECONDS * 2**n <= waits[n] <= 1.5 * BACKOFF_FIRST_SECONDS * 2**n for n in range(6))
    assert all(0.5 * BACKOFF_MAX_SECONDS <= wait <= 1.5 * BACKOFF_MAX_SECONDS for wait in waits[6:])
    assert len(set(waits[6:])) > 150
    assert backoff.next_seconds() <= 1.5 * BACKOFF_FIRST_SECONDS


async def test_a_peer_is_dialed_again_until_it_is_there(sandbox: Any, until: Any) -> None:
    script = Script(sandbox)
    refusing = await sandbox.server(lambda stranger: asyncio.sleep(0))
    transport = await sandbox.peers_port({"n2": refusing})
    await until(lambda: transport._links["n2"]._backoff._seconds > BACKOFF_FIRST_SECONDS)

    transport.set_peers({"n2": await sandbox.server(script)})
    await until(lambda: transport.connected() == {"n2"})

    assert script.calls[0].target == "n2"
    assert script.calls[0].client_address == "127.0.0.1:7777"


async def test_a_peer_that_drops_every_connection_is_not_dialed_in_a_rush(
    sandbox: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp_links, "BACKOFF_MAX_SECONDS", 0.16)
    script = Script(sandbox, encode_hello(sandbox.own("n2")) + packet(APPEND))

    transport = await sandbox.peers_port({"n2": await sandbox.server(script)})
    await until(lambda: transport._links["n2"]._backoff._seconds == 0.16)

    assert len(sandbox.heard.up) >= 3


async def test_a_dial_that_was_asked_for_starts_the_backoff_anew(sandbox: Any, until: Any) -> None:
    transport = await sandbox.peers_port({"n2": "127.0.0.1:1"})
    link = transport._links["n2"]
    await until(lambda: link._backoff._seconds == BACKOFF_MAX_SECONDS)

    link.retry_now()
    await until(lambda: link._backoff._seconds == 2 * BACKOFF_FIRST_SECONDS)


async def test_an_inbound_connection_of_a_peer_ends_the_wait_before_the_next_dial(
    sandbox: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp_links, "BACKOFF_FIRST_SECONDS", 3600.0)
    monkeypatch.setattr(tcp_links, "BACKOFF_MAX_SECONDS", 3600.0)
    first = await sandbox.peers_port({"n2": "127.0.0.1:1"})
    await until(lambda: first._links["n2"]._task and first._links["n2"]._backoff._seconds == 3600.0)
    second = TcpPeerTransport(sandbox.own("n2"), {}, listen="127.0.0.1:0", random=Random(1))
    await second.start(type(sandbox.heard)())
    first._links["n2"].address = second.address  # known, but not dialed

    second.set_peers({"n1": first.address})
    await until(lambda: first.connected() == {"n2"} and second.connected() == {"n1"})

    await second.stop()


async def test_a_new_incarnation_of_a_peer_replaces_the_link_to_the_old_one(sandbox: Any, until: Any) -> None:
    script = Script(sandbox, alive=True)
    transport = await sandbox.peers_port({"n2": await sandbox.server(script)})
    await until(lambda: transport.connected() == {"n2"})

    script.answer = encode_hello(sandbox.own("n2", incarnation=2))
    await sandbox.peer(transport.address, incarnation=2)
    await until(lambda: len(sandbox.heard.up) == 2)

    assert [hello.incarnation for hello in sandbox.heard.up] == [1, 2]
    assert sandbox.heard.down == ["n2"]


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        pytest.param({"node": "n3"}, "it is 'n3', not n2", id="another-node"),
        pytest.param({"cluster": "other"}, "it belongs to cluster 'other'", id="another-cluster"),
        pytest.param({"role": "client"}, "not a port for peers", id="a-port-for-clients"),
        pytest.param({"lowest": 5, "highest": 6}, "versions 5 to 6 there, 1 to 1 here", id="a-newer-version"),
        pytest.param({"refusal": "go\naway"}, "refused this node: 'go\\naway'", id="a-refusal"),
    ],
)
async def test_who_answers_wrongly_is_given_up_with_one_line_and_tried_again(
    sandbox: Any, until: Any, caplog: pytest.LogCaptureFixture, answer: dict[str, Any], named: str
) -> None:
    caplog.set_level(logging.INFO, "aegis_replication.transport")
    script = Script(sandbox, encode_hello(sandbox.own(**{"node": "n2", **answer})))

    transport = await sandbox.peers_port({"n2": await sandbox.server(script)})
    await until(lambda: len(script.calls) >= 4)

    assert transport.connected() == set()
    assert sandbox.heard.up == []
    assert len([record for record in caplog.records if named in record.message]) == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="http"),
        pytest.param(LENGTH.pack(2**32 - 1), id="length"),
        pytest.param(b"", id="silence-then-end"),
    ],
)
async def test_who_answers_no_handshake_is_given_up(sandbox: Any, until: Any, answer: bytes) -> None:
    async def serve(stranger: Any) -> None:
        await stranger.hello()
        await stranger.send(answer)
        calls.append(1)

    calls: list[int] = []
    transport = await sandbox.peers_port({"n2": await sandbox.server(serve)})
    await until(lambda: len(calls) >= 3)

    assert transport.connected() == set()


@pytest.mark.parametrize(
    "extra",
    [packet(REQUEST_VOTE, b"x"), LENGTH.pack(2), LENGTH.pack(0), packet(APPEND)],
    ids=["a-vote", "a-length", "length-0", "another-kind"],
)
async def test_only_signs_of_life_may_come_back_on_a_link(
    sandbox: Any, until: Any, caplog: pytest.LogCaptureFixture, extra: bytes
) -> None:
    caplog.set_level(logging.INFO, "aegis_replication.transport")
    script = Script(sandbox, encode_hello(sandbox.own("n2")) + ALIVE_PACKET + extra)
    await sandbox.peers_port({"n2": await sandbox.server(script)})

    await until(lambda: sandbox.heard.down)

    assert sandbox.heard.packets == []
    lost = next(record.message for record in caplog.records if "lost: " in record.message)
    assert "no sign of life" not in lost, "given up for its silence, not for its nonsense"


async def test_bytes_that_come_after_a_link_was_given_up_do_not_revive_it(sandbox: Any, until: Any) -> None:
    transport = await sandbox.peers_port({"n2": await sandbox.server(Script(sandbox, b""))})
    link = transport._links["n2"]
    await until(lambda: link._protocol)
    protocol = link._protocol

    protocol.lose("given up")
    protocol.data_received(encode_hello(sandbox.own("n2")))

    assert transport.connected() == set()
    assert sandbox.heard.up == []


async def test_a_link_without_a_sign_of_life_is_given_up_and_another_peer_is_not_affected(
    sandbox: Any, until: Any
) -> None:
    hole, living = Script(sandbox), Script(sandbox, encode_hello(sandbox.own("n3")), alive=True)
    transport = await sandbox.peers_port({"n2": await sandbox.server(hole), "n3": await sandbox.server(living)})
    await until(lambda: transport.connected() == {"n2", "n3"})

    for checks in range(1, SILENT_CHECKS_MAX + 2):
        transport.check_alive()
        if checks <= SILENT_CHECKS_MAX:
            await until(lambda: transport._links["n3"]._protocol._silent_checks == 0)

    assert sandbox.heard.down == ["n2"]
    assert transport.connected() == {"n3"}
    await until(lambda: len(hole.calls) == 2)


async def test_what_waits_for_a_black_hole_is_bounded_and_others_get_their_packets(sandbox: Any, until: Any) -> None:
    hole, living = Script(sandbox, read=False), Script(sandbox, encode_hello(sandbox.own("n3")))
    transport = await sandbox.peers_port(
        {"n2": await sandbox.server(hole), "n3": await sandbox.server(living)}, queue_bytes=2_000_000
    )
    await until(lambda: transport.connected() == {"n2", "n3"})

    for number in range(3000):
        transport.send("n2", packet(APPEND, bytes(100_000)), bulk=True)
        transport.send("n2", packet(REQUEST_VOTE, bytes(4000)), bulk=False)
        if number % 100 == 0:
            transport.send("n3", packet(APPEND, bytes(1000)), bulk=True)
    await until(lambda: len(living.received) == 30 * len(packet(APPEND, bytes(1000))))
    statistics = transport.statistics()

    assert statistics.queued_bytes["n2"] <= 2_000_000 + URGENT_BYTES_MAX
    assert statistics.dropped_full["n2"] > 2000
    assert statistics.dropped_full["n3"] == 0


async def test_a_packet_is_the_systems_when_send_returns(sandbox: Any, until: Any) -> None:
    """A flush that blocks the loop may follow at once: the packet must be on its way by then."""
    script = Script(sandbox)
    transport = await sandbox.peers_port({"n2": await sandbox.server(script)})
    await until(lambda: transport.connected() == {"n2"})

    for bulk in (False, True):
        transport.send("n2", packet(APPEND, bytes(30_000)), bulk=bulk)

        assert transport._links["n2"]._protocol.transport.get_write_buffer_size() == 0


async def test_a_peer_that_is_no_longer_listed_is_reported_down_and_not_dialed_again(sandbox: Any, until: Any) -> None:
    script = Script(sandbox)
    transport = await sandbox.peers_port({"n2": await sandbox.server(script)})
    await until(lambda: transport.connected() == {"n2"})

    transport.set_peers({})
    await until(lambda: not script.open)
    transport.send("n2", packet(APPEND, b"gone"), bulk=True)

    assert sandbox.heard.down == ["n2"]
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("link to")]
    assert len(script.calls) == 1
    assert script.received == b""


async def test_what_waits_is_thrown_away_with_the_connection(sandbox: Any, until: Any) -> None:
    hole = Script(sandbox, read=False)
    transport = await sandbox.peers_port({"n2": await sandbox.server(hole)}, queue_bytes=20_000_000)
    await until(lambda: transport.connected() == {"n2"})
    for _ in range(20):
        transport.send("n2", packet(APPEND, bytes(900_000)), bulk=True)
    assert transport.statistics().queued_bytes["n2"] > 0

    hole.read = True
    for _ in range(SILENT_CHECKS_MAX + 1):
        transport.check_alive()
    await until(lambda: len(hole.calls) == 2)
    await until(lambda: transport.connected() == {"n2"})
    transport.send("n2", packet(APPEND, b"fresh"), bulk=True)
    await until(lambda: hole.received)

    assert hole.received == packet(APPEND, b"fresh")
    assert transport.statistics().queued_bytes["n2"] == 0


async def test_urgent_packets_go_between_the_pieces_of_a_large_one(sandbox: Any, until: Any) -> None:
    script = Script(sandbox)
    script.read = False
    gate = asyncio.Event()

    async def serve(stranger: Any) -> None:
        script.calls.append(await stranger.hello())
        await stranger.send(script.answer)
        await gate.wait()
        while data := await stranger.reader.read(65536):
            script.received += data

    transport = await sandbox.peers_port({"n2": await sandbox.server(serve)}, queue_bytes=50_000_000)
    await until(lambda: transport.connected() == {"n2"})
    while not transport._links["n2"]._is_paused or transport.statistics().queued_bytes["n2"] < 5_000_000:
        transport.send("n2", packet(APPEND, bytes(999_000)), bulk=True)
    transport.send("n2", packet(REQUEST_VOTE, b"urgent"), bulk=False)
    gate.set()
    await until(lambda: len(script.received) > 5_000_000)

    kinds = list(kinds_of(bytes(script.received)))
    urgent = kinds.index(REQUEST_VOTE)
    assert set(kinds) == {PIECE, REQUEST_VOTE}
    assert urgent < 12, f"{urgent} of {len(kinds)} packets came before the urgent one"


def kinds_of(stream: bytes) -> list[int]:
    kinds, position = [], 0
    while position + 5 <= len(stream):
        kinds.append(stream[position + 4])
        position += 4 + LENGTH.unpack_from(stream, position)[0]
    return kinds


async def test_a_packet_above_the_peers_limit_is_dropped_and_said_once(
    sandbox: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script(sandbox)
    transport = await sandbox.peers_port({"n2": await sandbox.server(script)})
    await until(lambda: transport.connected() == {"n2"})

    for _ in range(5):
        transport.send("n2", packet(APPEND, bytes(1_000_001)), bulk=True)

    assert transport.statistics().dropped_too_large == {"n2": 5}
    assert len([record for record in caplog.records if "1,000,000" in record.message]) == 1


async def test_stop_ends_everything_even_towards_a_black_hole(sandbox: Any, until: Any) -> None:
    hole = Script(sandbox, read=False)
    transport = await sandbox.peers_port({"n2": await sandbox.server(hole)})
    await until(lambda: transport.connected() == {"n2"})
    for _ in range(20):
        transport.send("n2", packet(APPEND, bytes(900_000)), bulk=True)

    await transport.stop()

    assert transport.connected() == set()
    assert sandbox.heard.down == []
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("link to")]


@pytest.mark.parametrize("address", ["", "n2", "n2:", ":7001", "n2:0", "n2:65536", "n2:7001x", "::1:7001", "n2:٣"])
async def test_a_peers_address_that_is_none_is_refused_by_name(sandbox: Any, address: str) -> None:
    with pytest.raises(ConfigError, match="address of peer n2"):
        await sandbox.peers_port({"n2": address})
