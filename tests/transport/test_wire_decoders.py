"""Do a stranger's bytes ever raise anything but the declared errors, or cost more memory than they are long?"""

import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aegis_replication.consensus.messages import (
    AppendEntries,
    AppendReply,
    EntriesLacked,
    EntriesWanted,
    EntryFound,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
)
from aegis_replication.errors import LimitExceeded, ProtocolError
from aegis_replication.log import EntryId, Kind, SnapshotMeta, make_entry
from aegis_replication.wire import (
    APPEND,
    HELLO,
    INSTALL_SNAPSHOT,
    LENGTH,
    MAGIC,
    REQUEST_VOTE,
    TIMEOUT_NOW,
    Hello,
    choose_version,
    decode_hello,
    decode_message,
    decode_reply,
    encode_hello,
    encode_message,
    encode_reply,
    split_packets,
)

ENTRIES = tuple(make_entry(5, 3, index, Kind.COMMANDS, bytes(20), count=1, stamp=9) for index in (7, 8))
META = SnapshotMeta(term=3, index=6, stamp=1, configuration=b"abc", configuration_index=1)
MESSAGES: list[Message] = [
    RequestVote(4, EntryId(3, 8), pre=True),
    VoteReply(4, granted=True),
    AppendEntries(3, EntryId(2, 6), commit=6, round=1, entries=ENTRIES),
    AppendReply(3, 1, matched=8),
    InstallSnapshot(3, META, 0, 10, b"0123456789"),
    SnapshotReply(3, EntryId(3, 6), 10),
    TimeoutNow(3),
    ReadIndex(3, 2**61),
    ReadIndexReply(3, 2**61, 8),
    EntriesWanted((EntryId(2, 7), EntryId(3, 8))),
    EntryFound(ENTRIES[0]),
    EntriesLacked((EntryId(2, 7),)),
]
PACKETS = [encode_message(5, message) for message in MESSAGES]
HELLO_PACKET = encode_hello(Hello("peer", 1, 1, cluster="c", node="n1", incarnation=7))


def only_declared(decode: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return decode(*arguments)
    except (ProtocolError, LimitExceeded):
        return None


@st.composite
def damaged(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """A real packet after some of: bytes overwritten, a cut, an insertion, a field set to an extreme."""
    packet = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(packet) - 1)))
        how = draw(st.sampled_from(("overwrite", "cut", "insert", "extreme")))
        if how == "cut":
            del packet[place:]
        elif how == "insert":
            packet[place:place] = draw(st.binary(max_size=16))
        else:
            new = draw(st.sampled_from((b"\x00" * 8, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\x01"))) if how == "extreme" \
                else draw(st.binary(min_size=1, max_size=8))  # fmt: skip
            packet[place : place + len(new)] = new
    return bytes(packet)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_each_message_survives_the_way(message: Message) -> None:
    packet = encode_message(5, message)

    packets, used = split_packets(packet, len(packet))

    assert used == len(packet)
    assert decode_message(packets[0][0], packets[0][1:]) == (5, message)


@given(kind=st.integers(0, 255), body=st.binary(max_size=300))
@example(kind=REQUEST_VOTE, body=b"\x00\x00\x00\x00" + b"\x91" * 100_000)  # deeper than any parser's stack
@example(kind=TIMEOUT_NOW, body=b"\x00\x00\x00\x00\xdd\xff\xff\xff\xff")
def test_a_peers_random_bytes_raise_only_protocol_error(kind: int, body: bytes) -> None:
    only_declared(decode_message, kind, body)


@given(packet=damaged(PACKETS))
def test_a_peers_damaged_packet_raises_only_protocol_error(packet: bytes) -> None:
    if len(packet) > 4:
        only_declared(decode_message, packet[4], packet[5:])


@given(packet=damaged(PACKETS))
def test_what_decodes_is_a_whole_message_of_sane_fields(packet: bytes) -> None:
    decoded = only_declared(decode_message, packet[4], packet[5:]) if len(packet) > 4 else None

    if decoded is not None:
        group, message = decoded
        assert 0 <= group < 2**32
        if isinstance(message, AppendEntries):
            assert [entry.index for entry in message.entries] == [
                message.previous.index + 1 + number for number in range(len(message.entries))
            ]


@given(body=st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(MAGIC.__add__)), kind=st.just(HELLO))
@example(body=MAGIC + b"\x81\xa4role\xa2\xff\xff", kind=HELLO)  # not UTF-8
@example(body=MAGIC + b"\x81\xa5other" + b"\x91" * 3000, kind=HELLO)
@example(body=MAGIC + msgspec.msgpack.encode({"role": "peer", "lowest": 2**64 - 1, "highest": 0}), kind=HELLO)
def test_a_random_handshake_raises_only_protocol_error(body: bytes, kind: int) -> None:
    only_declared(decode_hello, kind, body)


@given(packet=damaged([HELLO_PACKET]))
def test_a_damaged_handshake_raises_only_protocol_error(packet: bytes) -> None:
    hello = only_declared(decode_hello, packet[4], packet[5:]) if len(packet) > 4 else None

    if hello is not None:
        only_declared(choose_version, Hello("peer", 1, 1), hello)


@given(packet=st.one_of(st.binary(max_size=100), damaged([encode_reply(1, 0, b"\xc0")])))
def test_a_random_reply_raises_only_protocol_error(packet: bytes) -> None:
    only_declared(decode_reply, packet)


@given(buffer=st.one_of(st.binary(max_size=300), damaged([b"".join(PACKETS)])), limit=st.integers(1, 1000))
def test_splitting_takes_whole_packets_only_and_raises_only_limit_exceeded(buffer: bytes, limit: int) -> None:
    result = only_declared(split_packets, buffer, limit)

    if result is not None:
        packets, used = result
        assert b"".join(LENGTH.pack(len(packet)) + packet for packet in packets) == buffer[:used]
        assert all(1 <= len(packet) <= limit for packet in packets)


@given(buffer=st.binary(max_size=50), cut=st.integers(0, 50))
def test_splitting_does_not_depend_on_where_reads_end(buffer: bytes, cut: int) -> None:
    stream = b"".join((*PACKETS, LENGTH.pack(len(buffer) + 1), b"\x01", buffer))

    first, used = split_packets(stream[:cut], 10_000)
    second, _ = split_packets(stream[used:], 10_000)

    assert first + second == split_packets(stream, 10_000)[0]


EXTREMES = (0, 1, 2**31 - 1, 2**32 - 1)


@pytest.mark.parametrize("count", EXTREMES)
def test_an_appends_count_is_not_believed(count: int) -> None:
    """The body holds one entry; whatever else it claims is refused without memory for it."""
    body = struct.pack("<IQQQQQI", 5, 3, 2, 6, 6, 1, count) + ENTRIES[0].frame

    tracemalloc.start()
    decoded = only_declared(decode_message, APPEND, body)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (decoded is not None) == (count == 1)
    assert peak_bytes < 100_000


@pytest.mark.parametrize("meta_bytes", EXTREMES)
def test_a_snapshots_lengths_are_not_believed(meta_bytes: int) -> None:
    body = struct.pack("<IQQQI", 5, 3, 2**63 - 1, 2**64 - 1, meta_bytes) + msgspec.msgpack.encode(META)

    tracemalloc.start()
    decoded = only_declared(decode_message, INSTALL_SNAPSHOT, body)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert decoded is None
    assert peak_bytes < 100_000


@pytest.mark.parametrize("length", [0, 101, 2**31 - 1, 2**32 - 1])
def test_a_packets_length_is_refused_before_its_bytes_come(length: int) -> None:
    with pytest.raises(LimitExceeded, match=f"{length:,}"):
        split_packets(LENGTH.pack(length), 100)


@pytest.mark.parametrize("length", [1, 100])
def test_a_packets_length_within_the_limit_is_waited_for(length: int) -> None:
    assert split_packets(LENGTH.pack(length), 100) == ([], 0)
