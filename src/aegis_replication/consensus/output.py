"""What does one replica want done next? Taken as one batch when the host is ready for it."""

import msgspec

from aegis_replication.consensus.messages import InstallSnapshot, Message, SnapshotReply
from aegis_replication.ids import LogIndex, NodeId, Term
from aegis_replication.log import Entry, LogWrite


class Change(msgspec.Struct, frozen=True):
    """A replica's role, term or leader changed, or something else worth one line of the log."""

    term: Term
    role: str
    leader: NodeId | None
    why: str


class Output(msgspec.Struct):
    """One turn's worth. Messages may leave at once: whatever promises something about the disk was held back before."""

    messages: list[tuple[NodeId, Message]]
    write: LogWrite | None  # to be made durable, then Raft.on_persisted(write.number)
    committed: list[Entry]  # the next entries to apply, in order: committed and durable here; never twice
    reads: list[tuple[int, LogIndex]]  # confirmed read tickets: serve once applied >= index
    # Followers that need the newest snapshot, or whose transfer stands still: named once per need.
    snapshots: list[NodeId]
    chunks: list[tuple[NodeId, InstallSnapshot]]  # accepted chunks of a leader's snapshot: have them stored
    sent_chunks: list[tuple[NodeId, SnapshotReply]]  # followers that took a chunk and want the next, at `next_offset`
    changes: list[Change]  # of role, term or leader: one log line each
    leased: list[tuple[int, LogIndex, float]]  # as `reads`, if served before that time by this node's clock
    lost_reads: list[int]  # tickets that will never be confirmed: whoever waits must ask again

    def __bool__(self) -> bool:
        return bool(
            self.messages
            or self.write
            or self.committed
            or self.reads
            or self.snapshots
            or self.chunks
            or self.sent_chunks
            or self.changes
            or self.leased
            or self.lost_reads
        )
