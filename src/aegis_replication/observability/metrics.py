"""Which metrics does a node have? Name, kind, labels and meaning of each; names are API, as docs/metrics.md lists them.

The meaning is that of etcd's metrics of the same name, where it has one (`etcd_server_*`, `etcd_disk_wal_fsync_*`).
"""

from typing import Final, Literal, NamedTuple

import msgspec

from aegis_replication.histogram import Histogram


class Metric(msgspec.Struct, frozen=True, gc=False):
    """A counter only rises while the process lives; a histogram's buckets are fixed. Never one per key or client."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    about: str

    @property
    def unit(self) -> str:
        """ "seconds", "bytes" or "", as the name's end says."""
        last = self.name.removesuffix("_total").rpartition("_")[2]
        return last if last in ("seconds", "bytes") else ""


class Figure(NamedTuple):
    """One value of a metric at the time of the look; `labels` in the order of the metric's own."""

    name: str
    value: float | Histogram
    labels: tuple[str, ...] = ()


def _gauge(name: str, about: str, *labels: str) -> Metric:
    return Metric(f"aegis_{name}", "gauge", labels, about)


def _counter(name: str, about: str, *labels: str) -> Metric:
    return Metric(f"aegis_{name}_total", "counter", labels, about)


def _histogram(name: str, about: str, *labels: str) -> Metric:
    return Metric(f"aegis_{name}_seconds", "histogram", labels, about)


METRICS: Final = (
    _gauge("build_info", "always 1; what runs is in the labels", "version", "python"),
    _gauge("node_ready", "1 while /readyz says 200"),
    _histogram("loop_lag", "by how much the event loop was late for the node's timers"),
    _counter("loop_turns", "turns of the node"),
    _gauge("raft_term", "the replica's term", "group"),
    _gauge("raft_is_leader", "1 while this replica leads", "group"),
    _gauge("raft_has_leader", "1 while this replica knows a leader", "group"),
    _gauge("raft_is_voter", "1 while this node is a voter by the newest configuration that it knows", "group"),
    _gauge("raft_commit_index", "highest entry known to be committed", "group"),
    _gauge("raft_applied_index", "highest entry whose effect the state machine shows", "group"),
    _gauge("raft_log_last_index", "highest entry in this replica's log", "group"),
    _gauge("raft_log_memory_bytes", "entries of the log that are kept in memory", "group"),
    _gauge("raft_apply_lag_entries", "committed and not yet applied here", "group"),
    _gauge("raft_uncommitted_bytes", "commands taken and not yet committed; bounded by max_uncommitted_bytes", "group"),
    _gauge("raft_unapplied_bytes", "committed and not yet applied here; bounded by max_unapplied_bytes", "group"),
    _counter("raft_leader_changes", "how often the leader became another one, as far as this replica saw", "group"),
    _counter("raft_elections", "elections that this replica began", "group"),
    _counter("raft_proposals", "commands that this replica, as the leader, put into entries", "group"),
    _counter("raft_proposals_failed", "of these, those that came to nothing, or whose outcome is unknown", "group"),
    _counter(
        "raft_proposals_refused", "commands turned away before that: too many wait, disk full, another leads", "group"
    ),
    _histogram("raft_proposal_duration", "from an entry's place in the log to its effect, one for each entry", "group"),
    _counter("raft_messages_dropped", "messages of peers that made no sense", "group"),
    _gauge("raft_peer_match_lag_entries", "entries not known to be on the peer's disk; leader only", "group", "peer"),
    _gauge("raft_peer_last_contact_seconds", "since the peer was last heard of; leader only", "group", "peer"),
    _gauge("peer_connected", "1 while the peer can be reached", "peer"),
    _gauge("peer_queued_bytes", "waiting for the peer's connection to take more", "peer"),
    _counter("peer_packets_sent", "packets handed to the peer's connection", "peer"),
    _counter("peer_packets_dropped", "packets dropped: unreachable, full, too_large", "peer", "reason"),
    _counter("peer_connections_closed", "calls of peers that were ended: refused, garbage, late", "reason"),
    _histogram("wal_fsync_duration", "flushes of the log"),
    _counter("wal_bytes", "bytes of entries written to the log"),
    _gauge("wal_segments", "segment files of the log"),
    _gauge("wal_flushes_aside", "1 while a helper process does the flushes, since they are slow"),
    _gauge("disk_full", "1 while writes are refused for want of room"),
    _gauge("disk_live_bytes", "log records that are still needed, and snapshots"),
    _gauge("disk_allocated_bytes", "what the data directory takes"),
    _gauge("disk_free_bytes", "free for this process on the data directory's file system"),
    _gauge("disk_size_bytes", "size of that file system"),
    _gauge("snapshot_index", "the entry up to which the newest snapshot goes", "group"),
    _gauge("snapshot_size_bytes", "size of the newest snapshot since the start; 0 before the first", "group"),
    _histogram("snapshot_duration", "saving a snapshot, beside the work"),
    _counter("snapshot_failures", "snapshots that could not be saved"),
    _gauge("door_connections", "connections now", "door"),
    _counter("door_requests", "requests that came", "door"),
    _counter("door_connections_closed", "ended here: refused, surplus, garbage, late, stalled", "door", "reason"),
    _counter("http_requests", "answers of the door for HTTP, by path and status", "path", "code"),
)
"""In the order of docs/metrics.md."""
