"""What can happen to a node? Everything the engine is told, as values in the past tense."""

from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from aegis_replication.consensus.changes import Introduction
from aegis_replication.consensus.messages import Message
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.log import EntryId, SnapshotMeta


class Ticked(msgspec.Struct, frozen=True, gc=False):
    """Time has passed; comes before anything else of the same turn."""

    now_ms: float  # monotonic: deadlines
    wall_ms: int  # wall clock: only for stamps


class Received(msgspec.Struct, frozen=True):
    """A peer's message; `source` is known from the connection."""

    source: NodeId
    group: GroupId
    message: Message


class Requested(msgspec.Struct, frozen=True, gc=False):
    """A client's request; `connection` and `request` come back in the reply."""

    connection: int
    request: int
    kind: int  # wire.COMMAND, wire.QUERY, wire.READ, wire.ADMIN or wire.BACKUP
    group: GroupId
    body: bytes


class Persisted(msgspec.Struct, frozen=True, gc=False):
    """Write `number` of a group, and all before it, are on disk."""

    group: GroupId
    number: int


class PeerLost(msgspec.Struct, frozen=True, gc=False):
    """The connection to a peer ended: what was in flight may be lost."""

    peer: NodeId


class PeerSeen(msgspec.Struct, frozen=True, gc=False):
    """A connection to a peer, or from it, is up: what it says of itself."""

    peer: NodeId
    client_address: str  # where its clients connect
    introduction: Introduction = Introduction()


class LeavingSoon(msgspec.Struct, frozen=True, gc=False):
    """The node is about to stop: whatever it leads is to be led by another."""


class RoomChanged(msgspec.Struct, frozen=True, gc=False):
    """The disk is full, and so many bytes of entries find room in what is left; None: it isn't full (any more)."""

    room_bytes: int | None
    why: str = ""  # for whoever is refused


class SnapshotSaved(msgspec.Struct, frozen=True, gc=False):
    """A snapshot asked for by SaveSnapshot is on disk under its name."""

    group: GroupId
    meta: SnapshotMeta
    size_bytes: int


class SnapshotFailed(msgspec.Struct, frozen=True, gc=False):
    """A snapshot could not be saved (disk full, say); the log stays as it is and it is tried again later."""

    group: GroupId


class ChunkRead(msgspec.Struct, frozen=True):
    """Bytes of the newest snapshot for a follower that needs it (answer to ReadChunk); no data:
    it is gone, ask anew.
    """

    group: GroupId
    target: NodeId
    meta: SnapshotMeta
    offset: int
    total_bytes: int
    data: bytes


class ChunkStored(msgspec.Struct, frozen=True):
    """A chunk of a leader's snapshot was taken (answer to StoreChunk).

    `complete`: the whole snapshot is verified, durable and named, and `chunks` reads it back in the machine's pieces.
    A refused chunk (wrong offset, damaged snapshot) comes back with the offset from which to go on.
    """

    group: GroupId
    source: NodeId
    snapshot: EntryId
    next_offset: int
    complete: bool = False
    meta: SnapshotMeta | None = None
    chunks: Iterable[bytes] = ()
    size_bytes: int = 0


Event: TypeAlias = (
    Ticked
    | Received
    | Requested
    | Persisted
    | PeerLost
    | PeerSeen
    | LeavingSoon
    | RoomChanged
    | SnapshotSaved
    | SnapshotFailed
    | ChunkRead
    | ChunkStored
)
