"""What can happen on a node that a program which embeds it wants to know? One value for each."""

import msgspec

from aegis_replication.ids import GroupId, LogIndex, NodeId, Term


class NodeEvent(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Something changed on a node, as this node sees it: others may know more by then."""


class LeadershipGained(NodeEvent, frozen=True, gc=False):
    """This node was elected. Until it has committed an entry of its term, reads wait."""

    group: GroupId
    term: Term


class LeadershipLost(NodeEvent, frozen=True, gc=False):
    """This node's office is over; another may have led for a while already."""

    group: GroupId
    term: Term  # of the office that ended
    why: str


class LeaderChanged(NodeEvent, frozen=True, gc=False):
    """This node takes another one (or itself, or nobody: None) for the leader."""

    group: GroupId
    term: Term
    leader: NodeId | None


class MembersChanged(NodeEvent, frozen=True, gc=False):
    """Another configuration is in force: from when it is in this node's log, committed or not (thesis §4.1).

    One that was never committed may be taken back; then the members before it are told once more.
    """

    group: GroupId
    index: LogIndex  # of the log entry that holds it
    voters: tuple[NodeId, ...]
    learners: tuple[NodeId, ...]
    leaving: tuple[NodeId, ...]  # voters until a joint change is over, and not after it


class SnapshotMade(NodeEvent, frozen=True, gc=False):
    """This node has written its state up to entry `index` to disk; the log before that may go."""

    group: GroupId
    term: Term
    index: LogIndex
    size_bytes: int


class SnapshotInstalled(NodeEvent, frozen=True, gc=False):
    """This node was too far behind for entries: its state was replaced by that of `source` at entry `index`."""

    group: GroupId
    term: Term
    index: LogIndex
    size_bytes: int
    source: NodeId


class DiskFilled(NodeEvent, frozen=True, gc=False):
    """This node's disk has no room: clients' writes are refused, reads and votes go on."""

    why: str


class DiskHasRoom(NodeEvent, frozen=True, gc=False):
    """There is room again; writes go on."""


class Drained(NodeEvent, frozen=True, gc=False):
    """This node was asked to give away what it leads; `is_done`: it leads nothing any more."""

    is_done: bool


class EventsMissed(NodeEvent, frozen=True, gc=False):
    """Whoever listens was too slow: the oldest `count` events, which came before the next one, were dropped."""

    count: int
