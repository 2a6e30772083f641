"""Are addresses checked, log lines rare and escaped, and listeners refused with a reason?"""

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_replication.errors import ConfigError
from aegis_replication.transport.tcp import (
    Address,
    PacketBuffer,
    Reporter,
    check_own,
    is_loopback,
    listen,
    parse_address,
    shown,
)
from aegis_replication.wire import LENGTH, Hello


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7001", "127.0.0.1", 7001),
        ("node-1.example:1", "node-1.example", 1),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
    ],
)
def test_an_address_is_taken_apart_and_put_together_again(text: str, host: str, port: int) -> None:
    address = parse_address(text, what="listen")

    assert address == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", ":", "host", "host:", ":1", "host:0", "host:-1", "host:65536", "host:1e3", "host: 1", "::1:7", "[]:7"]
)
def test_what_is_no_address_is_refused_with_its_name_and_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"listen = .*127\.0\.0\.1:7001"):
        parse_address(text, what="listen")


def test_port_0_is_for_listening_only() -> None:
    assert parse_address("127.0.0.1:0", what="listen", any_port=True) == ("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("10.0.0.1", False), ("example.org", False)],
)  # fmt: skip
def test_loopback_is_told_from_the_world(host: str, expected: bool) -> None:
    assert is_loopback(Address(host, 1)) == expected


async def test_an_address_that_is_taken_is_a_config_error_that_says_so() -> None:
    server, address = await listen(asyncio.Protocol, "127.0.0.1:0", what="peer address", backlog=1)

    with pytest.raises(ConfigError, match=rf"peer address = '{address}': cannot listen there \(Address already in use"):
        await listen(asyncio.Protocol, address, what="peer address", backlog=1)

    server.close()


def test_a_cluster_name_that_fits_no_handshake_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="cluster"):
        check_own(Hello("peer", 1, 1, cluster="c" * 4000))


def test_text_of_strangers_is_escaped_and_cut() -> None:
    assert shown("\x1b[2J\n" + "x" * 100) == repr("\x1b[2J\n" + "x" * 59) + "..."
    assert shown("grün\u202e").isascii()


@given(stream=st.lists(st.binary(min_size=1, max_size=40), max_size=20), data=st.data())
def test_packets_come_out_whole_wherever_reads_end(stream: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(LENGTH.pack(len(packet)) + packet for packet in stream)
    buffer, packets = PacketBuffer(), []

    position = 0
    while position < len(wire):
        size = data.draw(st.integers(1, len(wire) - position))
        packets += buffer.take(wire[position : position + size], 40)
        position += size

    assert packets == stream
    assert not buffer.is_partial()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_unchanged_trouble_is_said_once_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    reporter = Reporter("node=n1", clock)

    for _ in range(119):
        reporter.on_change("n2", "unreachable")
        clock.now += 1

    assert [record.message for record in caplog.records] == ["node=n1: unreachable"] * 2


def test_a_trouble_that_ended_is_news_when_it_comes_back(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    reporter = Reporter("node=n1", clock)

    reporter.on_change("n2", "unreachable")
    reporter.settled("n2")
    reporter.on_change("n2", "unreachable")
    reporter.on_change("n3", "unreachable")

    assert len(caplog.records) == 3


def test_changing_troubles_are_said_once_a_second_with_the_count_of_the_others(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aegis_replication.transport")
    reporter = Reporter("node=n1", clock)

    for number in range(100):
        reporter.sometimes("garbage", f"nonsense {number}", logging.INFO)
    clock.now += 1
    reporter.sometimes("garbage", "nonsense again")

    assert [record.message for record in caplog.records] == [
        "node=n1: nonsense 0",
        "node=n1: nonsense again (and 99 more)",
    ]
