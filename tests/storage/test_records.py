"""Is a record believed exactly when it is the one that was written there?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from storage_lab import Lab

from aegis_replication.errors import AegisError, IncompatibleVersion
from aegis_replication.log import SnapshotMeta
from aegis_replication.storage.records import (
    HEADER_BYTES,
    BaseBody,
    FirstBody,
    HardStateBody,
    RecordType,
    body_fault,
    checksum_seed,
    decode_body,
    encode_body,
    later_headers,
    pack_header,
    padding,
    position_of,
    read_header,
    record_bytes,
    show_position,
)
from aegis_replication.storage.recovery import Chain
from aegis_replication.storage.segments import read_segment_header

SEED = checksum_seed(0x1234)
FRAME = Lab.entry(5, 3, size=61).frame


def segment_with(body: bytes = FRAME, *, at: int = 4096, type_: int = RecordType.FRAME, behind: int = 200) -> bytes:
    body_checksum = int.from_bytes(body[40:44], "little")
    header, _ = pack_header(SEED, position_of(9, at), type_, 0, position_of(8, 16), 77, body, body_checksum)
    return bytes(at) + header + body + padding(len(body)) + bytes(behind)


def test_a_record_says_what_was_written() -> None:
    data = segment_with()

    header = read_header(SEED, 9, data, 4096)

    assert header is not None
    assert (header.segment, header.offset, header.type, header.previous) == (9, 4096, RecordType.FRAME, 77)
    assert show_position(header.flushed_before) == "8:16"
    assert header.end == 4096 + record_bytes(len(FRAME))
    assert body_fault(header, data) is None


@given(st.integers(0, record_bytes(len(FRAME)) * 8 - 1))
def test_any_flipped_bit_of_a_record_is_found(bit: int) -> None:
    data = bytearray(segment_with())
    data[4096 + bit // 8] ^= 1 << bit % 8

    header = read_header(SEED, 9, bytes(data), 4096)

    assert header is None or body_fault(header, bytes(data)) is not None


def test_an_entrys_identity_stays_known_when_only_its_payload_is_damaged() -> None:
    data = bytearray(segment_with())
    data[4096 + HEADER_BYTES + 44] ^= 1

    header = read_header(SEED, 9, bytes(data), 4096)

    assert header is not None
    assert body_fault(header, bytes(data)) is not None


@given(st.binary(max_size=400))
def test_random_bytes_are_no_record(noise: bytes) -> None:
    data = bytes(16) + noise

    assert read_header(SEED, 9, data, 16) is None
    assert later_headers(SEED, 9, data, 0) == []


@given(st.integers(0, 8), st.integers(0, 300), st.binary(max_size=64))
def test_later_headers_finds_all_and_only_those_at_home(count: int, gap: int, noise: bytes) -> None:
    parts, places, at = [noise.ljust(-(-len(noise) // 16) * 16, b"\0")], [], 0
    at = len(parts[0])
    for _ in range(count):
        header, _ = pack_header(SEED, position_of(9, at), RecordType.MARK, 0, 0, 0, b"", 0)
        places.append(at)
        record = header + padding(0) + bytes(gap // 16 * 16)
        parts.append(record)
        at += len(record)
    stale, _ = pack_header(SEED, position_of(8, at), RecordType.MARK, 0, 0, 0, b"", 0)
    strange, _ = pack_header(checksum_seed(1), position_of(9, at + 48), RecordType.MARK, 0, 0, 0, b"", 0)

    found = later_headers(SEED, 9, b"".join([*parts, stale, bytes(8), strange]), 0)

    assert [header.offset for header in found] == places


@pytest.mark.parametrize(
    "body",
    [
        HardStateBody(3, 7, "n1"),
        HardStateBody(4_294_967_295, 2**63, None),
        BaseBody(1, 4, 9, True, SnapshotMeta(4, 9, 1, b"c", 2)),
        BaseBody(1, 0, 0, False, None),
        FirstBody(17),
    ],
)
def test_small_bodies_come_back(body: HardStateBody | BaseBody | FirstBody) -> None:
    types = {HardStateBody: RecordType.HARD_STATE, BaseBody: RecordType.BASE, FirstBody: RecordType.FIRST}

    assert decode_body(types[type(body)], encode_body(body)) == body


@given(st.integers(0, 255), st.binary(max_size=120))
def test_decoding_nonsense_raises_only_our_errors(type_: int, body: bytes) -> None:
    try:
        decode_body(type_, body)
    except AegisError:
        pass


def test_a_record_type_of_a_later_version_says_so() -> None:
    with pytest.raises(IncompatibleVersion, match="a record of type 7: this program knows 1 to 6"):
        decode_body(7, b"")


@given(st.binary(max_size=600))
def test_a_segment_header_of_nonsense_raises_only_our_errors(data: bytes) -> None:
    with pytest.raises(AegisError):
        read_segment_header("path", data)


@given(st.data())
def test_a_chain_over_any_bytes_ends_somewhere(data: st.DataObject) -> None:
    """Whatever a segment holds, reading it ends, raises nothing, and believes only what is whole."""
    content = bytearray(segment_with(behind=3000))
    for _ in range(data.draw(st.integers(0, 5))):
        at = data.draw(st.integers(4096, len(content) - 1))
        content[at : at + 8] = data.draw(st.binary(min_size=8, max_size=8))
    chain = Chain([9], lambda _: bytes(content), SEED, str)

    records = list(chain)

    assert len(records) <= 1
    assert chain.end == (records[0].position + records[0].size if records else position_of(9, 4096))
