"""What becomes of nonsense on the port for peers? Closed, counted, little said, nothing kept, and peers get through."""

import logging
import tracemalloc
from typing import Any

import pytest

from aegis_replication.transport.tcp_links import ALIVE_PACKET
from aegis_replication.transport.tcp_peers import SMALL_PACKET_BYTES, STRANGERS_MAX
from aegis_replication.wire import (
    ALIVE,
    APPEND,
    HELLO,
    HELLO_BYTES_MAX,
    INSTALL_SNAPSHOT,
    LENGTH,
    MAGIC,
    PIECE,
    PIECE_BYTES,
    REQUEST_VOTE,
    Hello,
    Limits,
    encode_hello,
)

PACKET_BYTES = 1_000_000  # limits.packet_bytes of the node under attack


def packet(kind: int, body: bytes = b"") -> bytes:
    return LENGTH.pack(1 + len(body)) + bytes([kind]) + body


# --- before the handshake -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: n1\r\n\r\n", id="http"),
        pytest.param(bytes.fromhex("16030100f8010000f40303") + bytes(40), id="tls"),
        pytest.param(bytes(64), id="zeros"),
        pytest.param(b"\xff" * 64, id="ones"),
        pytest.param(packet(REQUEST_VOTE, b"\x00\x00\x00\x00\x93\x01\x92\x00\x00\xc3"), id="a-vote-first"),
        pytest.param(LENGTH.pack(100) + bytes([HELLO]) + b"AEGIS\n\x1a" + bytes(90), id="magic-as-text"),
        pytest.param(LENGTH.pack(9 + 10) + bytes([HELLO]) + MAGIC + b"\xc1" * 10, id="magic-then-nonsense"),
        pytest.param(LENGTH.pack(9) + bytes([HELLO]) + MAGIC, id="magic-alone"),
    ],
)
async def test_what_is_no_handshake_is_closed_unanswered_and_counted(sandbox: Any, first: bytes) -> None:
    transport = await sandbox.peers_port()

    stranger = await sandbox.stranger(transport.address, first)

    assert await stranger.read_to_end() == b""
    assert transport.statistics().garbage == 1
    await sandbox.peer(transport.address)


@pytest.mark.parametrize("length", [0, 1, HELLO_BYTES_MAX + 1, 2**31 - 1, 2**32 - 1])
async def test_a_handshakes_length_is_checked_before_its_bytes_come(sandbox: Any, length: int) -> None:
    transport = await sandbox.peers_port()

    stranger = await sandbox.stranger(transport.address, LENGTH.pack(length))

    assert await stranger.read_to_end() == b""
    assert transport.statistics().garbage == 1


async def test_a_handshake_may_come_byte_by_byte(sandbox: Any, until: Any) -> None:
    transport = await sandbox.peers_port()
    stranger = await sandbox.stranger(transport.address)

    for byte in encode_hello(sandbox.own("n2", target="n1")) + packet(REQUEST_VOTE, b"x"):
        await stranger.send(bytes([byte]))
    hello = await stranger.hello()
    await until(lambda: sandbox.heard.packets)

    assert (hello.node, hello.refusal) == ("n1", "")
    assert sandbox.heard.packets == [("n2", REQUEST_VOTE, b"x")]


@pytest.mark.parametrize("seen", [0, 3, 4, 5, 12, 13, 40])
async def test_half_a_handshake_is_closed_after_its_deadline(sandbox: Any, until: Any, seen: int) -> None:
    transport = await sandbox.peers_port()
    stranger = await sandbox.stranger(transport.address, encode_hello(sandbox.own("n2", target="n1"))[:seen])
    await until(lambda: transport.strangers)

    for _ in range(10):
        transport.check_alive()

    assert await stranger.read_to_end() == b""
    assert transport.statistics().late == 1
    assert not transport.strangers


async def test_a_handshake_cut_anywhere_leaves_nothing_behind(sandbox: Any, until: Any) -> None:
    transport = await sandbox.peers_port()
    whole = encode_hello(sandbox.own("n2", target="n1"))

    for seen in range(len(whole)):
        stranger = await sandbox.stranger(transport.address, whole[:seen])
        stranger.writer.write_eof()
        assert await stranger.read_to_end() == b""
        stranger.close()
    await until(lambda: not transport.strangers)

    assert transport.statistics().garbage == 0
    assert not transport.inbound


async def test_many_silent_connections_do_not_keep_a_peer_out(sandbox: Any, until: Any) -> None:
    transport = await sandbox.peers_port()

    for _ in range(500):
        await sandbox.stranger(transport.address)
    peer = await sandbox.peer(transport.address)
    await peer.send(packet(REQUEST_VOTE, b"through"))
    await until(lambda: sandbox.heard.packets)

    assert len(transport.strangers) <= STRANGERS_MAX
    assert sandbox.heard.packets == [("n2", REQUEST_VOTE, b"through")]


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        pytest.param({"cluster": "other"}, "cluster 'c', you belong to 'other'", id="another-cluster"),
        pytest.param({"target": "n3"}, "you reached n1, not 'n3'", id="meant-for-another"),
        pytest.param({"target": ""}, "you reached n1, not ''", id="meant-for-anybody"),
        pytest.param({"node": "n9"}, "'n9' is not a member that n1 knows (n2)", id="unknown-peer"),
        pytest.param({"node": "n1"}, "two nodes are called n1", id="itself"),
        pytest.param({"lowest": 2, "highest": 9}, "versions 1 to 1 there, 2 to 9 here", id="newer-version"),
        pytest.param({"lowest": 3, "highest": -3}, "versions", id="absurd-version"),
        pytest.param({"role": "client", "node": ""}, "clients connect to 127.0.0.1:7777", id="a-client"),
        pytest.param({"role": "\n\x1b[2Jadmin"}, "role '\\n\\x1b[2Jadmin' is unknown", id="unknown-role"),
        pytest.param({"limits": Limits(packet_bytes=-1)}, "packets of -1 bytes", id="absurd-limits"),
    ],
)
async def test_who_does_not_belong_here_is_told_why_and_both_sides_can_log_it(
    sandbox: Any, caplog: pytest.LogCaptureFixture, facts: dict[str, Any], named: str
) -> None:
    transport = await sandbox.peers_port()
    caplog.set_level(logging.INFO, "aegis_replication.transport")

    refusals = []
    for _ in range(3):
        hello = encode_hello(sandbox.own(**{"node": "n2", "target": "n1", **facts}))
        stranger = await sandbox.stranger(transport.address, hello)
        refusals.append((await stranger.hello()).refusal)
        await stranger.read_to_end()

    assert named in refusals[0]
    assert len(set(refusals)) == 1
    assert transport.statistics().refused == 3
    assert not transport.inbound
    lines = [record.message for record in caplog.records if ": refused " in record.message]
    assert len(lines) == 1
    assert lines[0].isprintable()


# --- after the handshake --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, PIECE_BYTES + 1, PACKET_BYTES, 2**31 - 1, 2**32 - 1])
async def test_a_packets_length_is_checked_before_anything_is_stored(sandbox: Any, length: int) -> None:
    transport = await sandbox.peers_port()
    peer = await sandbox.peer(transport.address)

    tracemalloc.start()
    await peer.send(LENGTH.pack(length))
    rest = await peer.read_to_end()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert rest == b""
    assert transport.statistics().garbage == 1
    assert peak_bytes < 500_000


async def test_the_largest_length_costs_only_what_comes(sandbox: Any, until: Any) -> None:
    transport = await sandbox.peers_port()
    peers = [await sandbox.peer(transport.address)]
    tracemalloc.start()

    await peers[0].send(packet(REQUEST_VOTE, b"first") + LENGTH.pack(PIECE_BYTES) + bytes([APPEND]) + bytes(1000))
    await until(lambda: sandbox.heard.packets)
    held_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    # asyncio reads into 256 KiB; a whole announced packet beside it would show.
    assert held_bytes < PIECE_BYTES + 150_000


@pytest.mark.parametrize(
    "data",
    [
        *[pytest.param(packet(kind, b"x"), id=f"kind-{kind}") for kind in (0, 13, 16, 19, 32, 99, HELLO)],
        pytest.param(packet(REQUEST_VOTE, bytes(SMALL_PACKET_BYTES)), id="a-vote-too-large"),
        pytest.param(packet(ALIVE, bytes(SMALL_PACKET_BYTES)), id="a-sign-of-life-too-large"),
        pytest.param(packet(PIECE), id="a-piece-without-flag"),
        pytest.param(packet(PIECE, b"\x01"), id="a-piece-without-content"),
        pytest.param(packet(PIECE, b"\x02" + bytes(10)), id="a-piece-with-a-strange-flag"),
        pytest.param(packet(PIECE, b"\x01" + bytes([REQUEST_VOTE]) + bytes(10)), id="a-vote-in-pieces"),
        pytest.param(packet(PIECE, b"\x01" + bytes([PIECE]) + bytes(10)), id="pieces-in-pieces"),
        pytest.param(
            b"".join(packet(PIECE, b"\x00" + bytes([APPEND]) * 250_000) for _ in range(5)), id="pieces-without-end"
        ),
        pytest.param(encode_hello(Hello("peer", 1, 1)), id="a-second-handshake"),
    ],
)
async def test_an_impossible_packet_ends_the_connection_and_a_new_one_works(
    sandbox: Any, until: Any, data: bytes
) -> None:
    transport = await sandbox.peers_port()
    peer = await sandbox.peer(transport.address)

    await peer.send(data)
    await peer.read_to_end()
    again = await sandbox.peer(transport.address)
    await again.send(packet(REQUEST_VOTE, b"next"))
    await until(lambda: sandbox.heard.packets)

    assert transport.statistics().garbage == 1
    assert sandbox.heard.packets == [("n2", REQUEST_VOTE, b"next")]


async def test_a_packet_in_pieces_arrives_whole_with_others_between(sandbox: Any, until: Any) -> None:
    transport = await sandbox.peers_port()
    peer = await sandbox.peer(transport.address)
    body = bytes(range(256)) * 1000

    await peer.send(packet(PIECE, b"\x00" + bytes([INSTALL_SNAPSHOT]) + body[:100_000]))
    await peer.send(packet(REQUEST_VOTE, b"between") + packet(PIECE, b"\x00" + body[100_000:100_001]))
    await peer.send(packet(PIECE, b"\x01" + body[100_001:]) + packet(APPEND, b"after"))
    await until(lambda: len(sandbox.heard.packets) == 3)

    assert sandbox.heard.packets == [
        ("n2", REQUEST_VOTE, b"between"),
        ("n2", INSTALL_SNAPSHOT, body),
        ("n2", APPEND, b"after"),
    ]


async def test_garbage_is_logged_once_a_second_at_most(sandbox: Any, caplog: pytest.LogCaptureFixture) -> None:
    transport = await sandbox.peers_port()
    now = [100.0]
    transport.report._clock = lambda: now[0]

    for _ in range(20):
        stranger = await sandbox.stranger(transport.address, b"\x1b[31m nonsense \n")
        await stranger.read_to_end()
    now[0] += 1.0
    await (await sandbox.stranger(transport.address, b"more")).read_to_end()

    lines = [record.message for record in caplog.records if "closed" in record.message]
    assert len(lines) == 2
    assert "(and 19 more)" in lines[1]
    assert all(line.isprintable() for line in lines)


# --- who counts as a peer -------------------------------------------------------------------------------------------


async def test_signs_of_life_are_answered(sandbox: Any) -> None:
    transport = await sandbox.peers_port()
    peer = await sandbox.peer(transport.address)

    await peer.send(ALIVE_PACKET * 3)

    assert await peer.read(3 * len(ALIVE_PACKET)) == ALIVE_PACKET * 3


async def test_a_peer_without_a_sign_of_life_is_closed(sandbox: Any) -> None:
    transport = await sandbox.peers_port()
    peer = await sandbox.peer(transport.address)

    for _ in range(10):
        transport.check_alive()

    assert await peer.read_to_end() == b""
    assert not transport.inbound


async def test_the_newest_connection_of_a_peer_wins_and_another_incarnation_is_logged(
    sandbox: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    transport = await sandbox.peers_port()
    old = await sandbox.peer(transport.address, incarnation=1)

    new = await sandbox.peer(transport.address, incarnation=2)
    assert await old.read_to_end() == b""
    await new.send(packet(REQUEST_VOTE, b"new"))
    await until(lambda: sandbox.heard.packets)

    assert sandbox.heard.packets == [("n2", REQUEST_VOTE, b"new")]
    assert transport.statistics().replaced == 1
    assert any("two nodes have this id" in record.message for record in caplog.records)


async def test_a_peer_that_is_cut_off_gets_no_further_word_through_from_the_same_read(
    sandbox: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = await sandbox.peers_port()
    peer = await sandbox.peer(transport.address)
    heard = []

    def on_peer_packet(source: str, kind: int, body: bytes) -> None:
        heard.append(body)
        transport.set_peers({})

    monkeypatch.setattr(sandbox.heard, "on_peer_packet", on_peer_packet)
    await peer.send(packet(REQUEST_VOTE, b"first") + packet(REQUEST_VOTE, b"second"))
    await peer.read_to_end()

    assert heard == [b"first"]


async def test_a_peer_that_is_no_longer_listed_is_cut_off_and_refused(sandbox: Any) -> None:
    transport = await sandbox.peers_port({"n2": "127.0.0.1:1", "n3": "127.0.0.1:1"})
    peer = await sandbox.peer(transport.address)

    transport.set_peers({"n3": "127.0.0.1:1"})
    rest = await peer.read_to_end()
    again = await sandbox.stranger(transport.address, encode_hello(sandbox.own("n2", target="n1")))

    assert rest == b""
    assert "not a member" in (await again.hello()).refusal
