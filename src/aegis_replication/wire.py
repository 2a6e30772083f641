"""How do messages look as bytes? Packets of peers and clients, the handshake, and their limits; no sockets here.

A packet is `u32 length | u8 kind | body`, little endian; `length` counts kind and body. docs/wire.md draws all of it.
"""

from collections.abc import Callable
from struct import Struct as Layout
from typing import Any, Final, NamedTuple

import msgspec

from aegis_replication.consensus.changes import Introduction
from aegis_replication.consensus.messages import (
    AppendEntries,
    AppendReply,
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
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.log import FRAME_HEADER_BYTES, Entry, EntryId, decode_entry, read_frame_header

PROTOCOL_LOWEST: Final = 1
PROTOCOL_HIGHEST: Final = 1

MAGIC: Final = b"AEGIS\r\n\x1a"  # the line break and end-of-file bytes show a transport that "helps" with text
LENGTH: Final = Layout("<I")
HELLO_BYTES_MAX: Final = 4096

# Kinds of packets. 0..15 peers, 16..31 clients' requests, 32..47 replies, 255 the handshake.
REQUEST_VOTE, VOTE_REPLY, APPEND, APPEND_REPLY, INSTALL_SNAPSHOT, SNAPSHOT_REPLY, TIMEOUT_NOW = range(1, 8)
READ_INDEX, READ_INDEX_REPLY = range(8, 10)
ALIVE: Final = 14  # empty; between peers' transports, the accepting side answers each with one
PIECE: Final = 15  # part of a large packet: u8 last | bytes
PIECE_BYTES: Final = 256 * 1024  # a peer's packet above this goes in pieces, so that urgent ones fit between them
COMMAND, QUERY, STATUS, PING, ADMIN, READ, BACKUP = range(16, 23)
REPLY: Final = 32
HELLO: Final = 255


class Limits(msgspec.Struct, frozen=True, array_like=True):
    """How large things may be, told in the handshake; each follows from the value limit."""

    key_bytes: int = 64 * 1024
    value_bytes: int = 1024 * 1024
    request_bytes: int = 2 * 1024 * 1024  # one client's packet: a batch of writes fits
    frame_bytes: int = 4 * 1024 * 1024  # one entry
    packet_bytes: int = 8 * 1024 * 1024  # one peer's packet: several entries, or one chunk of a snapshot


class Hello(msgspec.Struct, frozen=True):
    """The first packet of each side; nothing else is parsed before it."""

    role: str  # "peer" or "client"
    lowest: int
    highest: int
    cluster: str = ""  # empty on a client that takes any
    node: NodeId = ""
    incarnation: int = 0
    target: NodeId = ""  # whom the caller means to reach
    client_address: str = ""  # where a peer's clients connect, so that others can point to it
    features: int = 0
    limits: Limits = Limits()
    refusal: str = ""  # set by the side that closes: why, and what to do
    peer_address: str = ""  # where a peer's peers connect, so that the others can call it back
    priority: int = 1  # how much a peer wants to lead; 0: never
    configuration: int = 0  # index of the configuration that a peer has in force


_HELLO_ENCODER = msgspec.msgpack.Encoder()
_HELLO_DECODER = msgspec.msgpack.Decoder(Hello)


def encode_hello(hello: Hello) -> bytes:
    """The handshake packet: magic first, so that a stranger's bytes are known at once."""
    body = MAGIC + _HELLO_ENCODER.encode(hello)
    return LENGTH.pack(len(body) + 1) + bytes([HELLO]) + body


def decode_hello(kind: int, body: bytes) -> Hello:
    """The handshake of the other side; raises ProtocolError for anything else."""
    if kind != HELLO or not body.startswith(MAGIC):
        raise ProtocolError("the first packet is not an aegis handshake: is this port the right one?")
    try:
        return _HELLO_DECODER.decode(memoryview(body)[len(MAGIC) :])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # also: no UTF-8; nested beyond all measure
        raise ProtocolError(f"malformed handshake: {error}") from None


def introduction(hello: Hello) -> Introduction:
    """What a peer says of itself, as its replicas take it."""
    return Introduction(hello.incarnation, hello.peer_address, hello.priority, hello.configuration)


def choose_version(mine: Hello, theirs: Hello) -> int:
    """The highest protocol version both speak; raises ProtocolError, naming both ranges, when there is none."""
    version = min(mine.highest, theirs.highest)
    if version < max(mine.lowest, theirs.lowest):
        raise ProtocolError(
            f"protocol versions {theirs.lowest} to {theirs.highest} there, {mine.lowest} to {mine.highest} here: "
            "upgrade the older side"
        )
    return version


# --- peers ----------------------------------------------------------------------------------------------------------

_GROUP = Layout("<I")
_APPEND = Layout("<IQQQQQI")  # group, term, previous term, previous index, commit, round, entry count
_APPEND_PACKET = Layout("<IBIQQQQQI")
_INSTALL = Layout("<IBIQQQI")  # length, kind, group, term, offset, total bytes, meta bytes

_ENCODER = msgspec.msgpack.Encoder()


def _small(kind: int) -> Callable[[GroupId, Any], bytes]:
    head = Layout("<IBI")

    def encode(group: GroupId, message: Any) -> bytes:
        body = _ENCODER.encode(message)
        return head.pack(len(body) + 5, kind, group) + body

    return encode


def _encode_append(group: GroupId, message: AppendEntries) -> bytes:
    frames = [entry.frame for entry in message.entries]
    previous = message.previous
    size = _APPEND.size + 1 + sum(map(len, frames))
    head = _APPEND_PACKET.pack(
        size, APPEND, group, message.term, previous[0], previous[1], message.commit, message.round, len(frames)
    )
    return b"".join((head, *frames)) if frames else head


def _encode_install(group: GroupId, message: InstallSnapshot) -> bytes:
    meta = _ENCODER.encode(message.meta)
    size = _INSTALL.size - LENGTH.size + len(meta) + len(message.data)
    head = _INSTALL.pack(size, INSTALL_SNAPSHOT, group, message.term, message.offset, message.total_bytes, len(meta))
    return b"".join((head, meta, message.data))


_ENCODERS: dict[type, Callable[[GroupId, Any], bytes]] = {
    RequestVote: _small(REQUEST_VOTE),
    VoteReply: _small(VOTE_REPLY),
    AppendEntries: _encode_append,
    AppendReply: _small(APPEND_REPLY),
    InstallSnapshot: _encode_install,
    SnapshotReply: _small(SNAPSHOT_REPLY),
    TimeoutNow: _small(TIMEOUT_NOW),
    ReadIndex: _small(READ_INDEX),
    ReadIndexReply: _small(READ_INDEX_REPLY),
}


def encode_message(group: GroupId, message: Message) -> bytes:
    """One whole packet, its length first."""
    return _ENCODERS[type(message)](group, message)


def is_bulk(message: Message) -> bool:
    """May other messages overtake this one on the way? Large ones wait; heartbeats, votes and replies don't."""
    return type(message) is InstallSnapshot or (type(message) is AppendEntries and bool(message.entries))


def _decode_append(body: bytes) -> tuple[GroupId, Message]:
    group, term, previous_term, previous_index, commit, round_, count = _APPEND.unpack_from(body)
    entries: list[Entry] = []
    offset = _APPEND.size
    index = previous_index
    for _ in range(count):
        if len(body) - offset < FRAME_HEADER_BYTES:
            raise ProtocolError(f"an append of {count} entries ends inside entry {len(entries)}")
        after = offset + FRAME_HEADER_BYTES + read_frame_header(body, offset).payload_bytes
        if after > len(body):
            raise ProtocolError(f"an append of {count} entries ends inside entry {len(entries)}")
        entry = decode_entry(body[offset:after], group=group)
        index += 1
        if entry.index != index or entry.term > term:
            raise ProtocolError(f"entry {entry.id} where index {index} of at most term {term} must follow")
        entries.append(entry)
        offset = after
    if offset != len(body):
        raise ProtocolError(f"an append has {len(body) - offset} bytes after its last entry")
    return group, AppendEntries(term, EntryId(previous_term, previous_index), commit, round_, tuple(entries))


def _decode_install(body: bytes) -> tuple[GroupId, Message]:
    shape = Layout("<IQQQI")
    group, term, offset, total_bytes, meta_bytes = shape.unpack_from(body)
    if shape.size + meta_bytes > len(body):
        raise ProtocolError(f"a snapshot's head of {meta_bytes} bytes ends past its packet")
    head = _META_DECODER.decode(memoryview(body)[shape.size : shape.size + meta_bytes])
    data = body[shape.size + meta_bytes :]
    if not data or offset + len(data) > total_bytes:
        raise ProtocolError(f"snapshot bytes [{offset}, {offset + len(data)}) of {total_bytes}")
    return group, InstallSnapshot(term, head, offset, total_bytes, data)


_META_DECODER = msgspec.msgpack.Decoder(InstallSnapshot.__annotations__["meta"])


def _decode_small(decoder: "msgspec.msgpack.Decoder[Any]") -> Callable[[bytes], tuple[GroupId, Message]]:
    def decode(body: bytes) -> tuple[GroupId, Message]:
        (group,) = _GROUP.unpack_from(body)
        return group, decoder.decode(memoryview(body)[_GROUP.size :])

    return decode


_DECODERS: dict[int, Callable[[bytes], tuple[GroupId, Message]]] = {
    REQUEST_VOTE: _decode_small(msgspec.msgpack.Decoder(RequestVote)),
    VOTE_REPLY: _decode_small(msgspec.msgpack.Decoder(VoteReply)),
    APPEND: _decode_append,
    APPEND_REPLY: _decode_small(msgspec.msgpack.Decoder(AppendReply)),
    INSTALL_SNAPSHOT: _decode_install,
    SNAPSHOT_REPLY: _decode_small(msgspec.msgpack.Decoder(SnapshotReply)),
    TIMEOUT_NOW: _decode_small(msgspec.msgpack.Decoder(TimeoutNow)),
    READ_INDEX: _decode_small(msgspec.msgpack.Decoder(ReadIndex)),
    READ_INDEX_REPLY: _decode_small(msgspec.msgpack.Decoder(ReadIndexReply)),
}


def decode_message(kind: int, body: bytes) -> tuple[GroupId, Message]:
    """The group and message of a peer's packet (without length and kind).

    Raises ProtocolError for whatever isn't one, and for nothing else: a peer's nonsense is never our exception.
    """
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise ProtocolError(f"packet kind {kind} is not one that peers send")
    try:
        return decoder(body)
    except ProtocolError:
        raise
    except Exception as error:  # struct.error, msgspec errors, overflow: all mean "not our protocol"
        raise ProtocolError(f"malformed packet of kind {kind}: {error}") from None


# --- clients --------------------------------------------------------------------------------------------------------

REQUEST_HEAD: Final = Layout("<BIQ")  # kind, group, request id: after the length
REQUEST_FRAME: Final = Layout("<IBIQ")  # the same with the length in front
_STALENESS = Layout("<I")
REPLY_HEAD: Final = Layout("<IBQB")  # length, kind, request id, status

# A reply's status. OK carries the result; every other one is an error with what the client needs to go on.
(
    OK,
    NOT_LEADER,  # [leader id or nil, its client address or nil]; had no effect
    OVERLOADED,  # text; had no effect
    INVALID,  # text; the command or query is malformed or over a limit
    FAILED,  # [exception name, text]; a user's command raised, nothing changed
    SESSION_EXPIRED,  # text; refused, never applied by this request
    DROPPED,  # text; was in the log of a deposed leader and is gone, or a read could not be confirmed: had no effect
    UNKNOWN,  # text; may or may not be applied (the node stops, or lost its place in the log)
    NOT_AN_INTEGER,  # text
    REFUSED,  # text; beyond the session's window, wrong epoch, locked: had no effect and leaves no trace
    CHANGE_REFUSED,  # [error's name, text]; a change of members or a hand-over that can't be made as asked, or not now
    DISK_FULL,  # text; the leader's disk has no room for more: had no effect
) = range(12)


class Request(NamedTuple):
    """One client's packet, taken apart but not understood: `body` is for the state machine."""

    kind: int
    group: GroupId
    request: int
    body: bytes


def encode_request(kind: int, group: GroupId, request: int, body: bytes) -> bytes:
    """One whole packet for a node's client port."""
    return b"".join((LENGTH.pack(REQUEST_HEAD.size + len(body)), REQUEST_HEAD.pack(kind, group, request), body))


def encode_read(max_staleness_ms: int, query: bytes) -> bytes:
    """The body of a READ: a query for any replica, and how old its answer may be (0: linearizable)."""
    return _STALENESS.pack(max_staleness_ms) + query


def decode_read(body: bytes) -> tuple[int, bytes]:
    """The bound in ms and the query of a READ. Raises ProtocolError for a body without a bound."""
    if len(body) < _STALENESS.size:
        raise ProtocolError(f"a read of {len(body)} bytes says not how old its answer may be")
    return _STALENESS.unpack_from(body)[0], body[_STALENESS.size :]


def encode_backup_read(snapshot: EntryId, offset: int) -> bytes:
    """The body of a BACKUP that asks for some of a snapshot's file; an empty one asks for a snapshot to be made."""
    return _ENCODER.encode((snapshot.term, snapshot.index, offset))


def decode_backup_read(body: bytes) -> tuple[EntryId, int]:
    """Which snapshot, and from where. Raises ProtocolError for anything else."""
    try:
        term, index, offset = _BACKUP_DECODER.decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"malformed request for a backup: {error}") from None
    if min(term, index, offset) < 0 or max(term, index, offset) >= 1 << 63:
        raise ProtocolError(f"a backup of snapshot {term}:{index} from byte {offset}: no node has that")
    return EntryId(term, index), offset


_BACKUP_DECODER: "msgspec.msgpack.Decoder[tuple[int, int, int]]" = msgspec.msgpack.Decoder(tuple[int, int, int])


def encode_reply(request: int, status: int, body: bytes) -> bytes:
    """One whole packet back to a client; `body` is msgpack."""
    return REPLY_HEAD.pack(10 + len(body), REPLY, request, status) + body


def decode_reply(packet: bytes) -> tuple[int, int, bytes]:
    """Request id, status and msgpack body of a reply packet (without its length)."""
    if len(packet) < 10 or packet[0] != REPLY:
        raise ProtocolError(
            f"a reply was expected, packet kind {packet[0] if packet else None} of {len(packet)} bytes came"
        )
    return int.from_bytes(packet[1:9], "little"), packet[9], packet[10:]


def split_packets(buffer: bytes | bytearray, limit: int) -> tuple[list[bytes], int]:
    """The whole packets at the buffer's start (kind and body, without their lengths) and how many bytes they took.

    Raises LimitExceeded as soon as a length above `limit` is seen, before anything is stored for it.
    """
    packets: list[bytes] = []
    position, end = 0, len(buffer)
    unpack = LENGTH.unpack_from
    while end - position >= 4:
        (size,) = unpack(buffer, position)
        if size > limit or size < 1:
            raise LimitExceeded("a packet", size, limit)
        after = position + 4 + size
        if after > end:
            break
        packets.append(bytes(buffer[position + 4 : after]))
        position = after
    return packets, position
