"""Does docs/wire.md say what the code does? Its kinds, statuses and limits, and a conversation held byte by byte."""

import re
from pathlib import Path
from typing import Any

import pytest

from aegis_replication import wire
from aegis_replication.transport.tcp import take_hello
from aegis_replication.wire import Hello, Limits

PAGE = (Path(__file__).parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")
KINDS = {
    name: value
    for name, value in vars(wire).items()
    if name in ("ALIVE", "PIECE", "COMMAND", "QUERY", "STATUS", "PING", "ADMIN", "READ", "BACKUP", "REPLY", "HELLO")
    or name.startswith(("REQUEST_V", "VOTE_R", "APPEND", "INSTALL_S", "SNAPSHOT_R", "TIMEOUT_N", "READ_I"))
}


def table(heading: str) -> dict[str, int]:
    """Name -> number of the rows under a table's heading, whichever of its first two columns is which."""
    rows = PAGE[PAGE.index(heading) :].split("\n\n", 1)[0].splitlines()[2:]
    found = {}
    for row in rows:
        first, second = (cell.strip() for cell in row.strip("|").split("|")[:2])
        name, number = (second, first) if first.isdecimal() else (first, second)
        found[name] = int(number)
    return found


def dumps() -> list[bytes]:
    blocks = re.findall(r"^```hex\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return [bytes.fromhex("".join(line.partition("#")[0] for line in block.splitlines())) for block in blocks]


def test_the_table_of_kinds_is_complete_and_right() -> None:
    assert table("| kind | name |") == KINDS


def test_the_table_of_statuses_is_complete_and_right() -> None:
    names = ("OK", "NOT_LEADER", "OVERLOADED", "INVALID", "FAILED", "SESSION_EXPIRED", "DROPPED", "UNKNOWN",
             "NOT_AN_INTEGER", "REFUSED", "CHANGE_REFUSED", "DISK_FULL")  # fmt: skip

    assert table("| status | name |") == {name: vars(wire)[name] for name in names}


def test_the_table_of_limits_is_complete_and_right() -> None:
    limits = {name: getattr(Limits(), name) for name in Limits.__struct_fields__}

    assert table("| limit | bytes |") == {
        "HELLO_BYTES_MAX": wire.HELLO_BYTES_MAX,
        "PIECE_BYTES": wire.PIECE_BYTES,
        **limits,
    }


def test_the_table_of_the_handshake_names_each_field_in_order() -> None:
    rows = PAGE[PAGE.index("| field | meaning |") :].split("\n\n", 1)[0].splitlines()[2:]

    names = [name.strip() for row in rows for name in row.strip("|").split("|")[0].split(",")]

    assert names == list(Hello.__struct_fields__)


def test_the_dump_is_what_a_client_sends() -> None:
    sent, _ = dumps()
    buffer = bytearray(sent)

    hello = take_hello(buffer)

    assert hello == Hello("client", 1, 1, cluster="demo")
    assert bytes(buffer) == wire.encode_request(wire.PING, 0, 7, b"")
    assert sent == wire.encode_hello(hello) + bytes(buffer)


async def test_a_node_answers_the_dump_as_the_page_says(sandbox: Any) -> None:
    sent, answered = dumps()
    door = await sandbox.clients_port()
    door.own = sandbox.own(role="client", cluster="demo")

    client = await sandbox.stranger(door.address, sent)

    assert (await client.hello()).refusal == ""
    assert await client.read(len(answered)) == answered


@pytest.mark.parametrize(
    "claim", ["8,192 in all and 4,096 from one address", "1,024 requests", "1 MiB of replies", "32 MiB", "30 seconds"]
)
def test_the_caps_in_the_text_are_those_of_the_door(claim: str) -> None:
    from aegis_replication.transport.tcp_clients import DoorLimits

    limits = DoorLimits()

    assert claim in " ".join(PAGE.split())
    assert (limits.connections, limits.connections_per_address, limits.requests_in_flight) == (8192, 4096, 1024)
    assert (limits.reply_bytes_queued, limits.reply_bytes_max) == (2**20, 32 * 2**20)
    assert (limits.handshake, limits.frame, limits.stalled, limits.idle) == (5, 10, 30, 600)
