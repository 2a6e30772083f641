"""What does a node want done? Everything the engine asks of its host, as one batch of values,
taken when the host is ready.
"""

from collections.abc import Iterator

import msgspec

from aegis_replication.consensus.configuration import Configuration
from aegis_replication.consensus.messages import Message
from aegis_replication.events import NodeEvent
from aegis_replication.ids import GroupId, LogIndex, NodeId
from aegis_replication.log import LogWrite, SnapshotMeta


class SaveSnapshot(msgspec.Struct, frozen=True):
    """Write these chunks, a consistent copy of the state at `meta`, to a snapshot;
    answer SnapshotSaved or SnapshotFailed.
    """

    group: GroupId
    meta: SnapshotMeta
    chunks: Iterator[bytes]  # pulled at the host's pace; each pull is a bounded amount of work


class ReadChunk(msgspec.Struct, frozen=True, gc=False):
    """Read some of the newest snapshot for `target`; answer ChunkRead."""

    group: GroupId
    target: NodeId
    meta: SnapshotMeta
    offset: int
    size_bytes: int  # at the most


class StoreChunk(msgspec.Struct, frozen=True):
    """Take one chunk of a leader's snapshot, verified; answer ChunkStored when it is written, at the disk's pace."""

    group: GroupId
    source: NodeId
    meta: SnapshotMeta
    offset: int
    total_bytes: int
    data: bytes


class RoleChanged(msgspec.Struct, frozen=True, gc=False):
    """A replica changed its role, term or leader: one log line, and something for observers."""

    group: GroupId
    term: int
    role: str  # "follower", "pre-candidate", "candidate", "leader"
    leader: NodeId | None
    why: str


class ConfigurationChanged(msgspec.Struct, frozen=True, gc=False):
    """Another configuration is in force on a replica: one log line. The first is what it began with."""

    group: GroupId
    index: LogIndex  # of its entry; 0: of none, the founders'
    configuration: Configuration


class LeasedReplies(msgspec.Struct, frozen=True):
    """Reads answered by the clock, under a lease or as young enough: good only if the clock, read after they were
    computed, isn't past `until_ms` yet.
    """

    group: GroupId
    until_ms: float
    queries: list[tuple[tuple[int, int], bytes]]  # as they came, for another way of confirming them
    replies: list[tuple[int, bytes]]


class Effects(msgspec.Struct):
    """One turn's worth. Messages may leave at once: none of them can break a promise. Writes want one flush for all."""

    messages: list[tuple[NodeId, GroupId, Message]]
    writes: list[LogWrite]
    replies: list[tuple[int, bytes]]  # connection, packet
    requests: list[SaveSnapshot | ReadChunk | StoreChunk]
    changes: list[RoleChanged]
    configurations: list[ConfigurationChanged]
    news: list[NodeEvent]  # what else changed, for whoever watches this node
    leased: list[LeasedReplies]  # ReplicationEngine.settle_leased first, with a clock read after these effects came
    peers: dict[NodeId, str] | None = None  # who the other nodes are from now on, and where ("": as told at start)

    def __bool__(self) -> bool:
        return bool(
            self.messages
            or self.writes
            or self.replies
            or self.requests
            or self.changes
            or self.configurations
            or self.news
            or self.leased
            or self.peers is not None
        )


def no_effects() -> Effects:
    """An empty batch."""
    return Effects([], [], [], [], [], [], [], [])
