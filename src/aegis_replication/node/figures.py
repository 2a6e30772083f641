"""What does a node measure? Its metrics, read where they are counted, at the time of the look."""

import platform
from collections.abc import Iterator

from aegis_replication import __version__
from aegis_replication.consensus.leader import Leader
from aegis_replication.engine.replica import Replica
from aegis_replication.node.node import Node
from aegis_replication.observability.metrics import Figure


def node_figures(node: Node) -> Iterator[Figure]:
    """All of the node's own; before its start few."""
    yield Figure("aegis_build_info", 1, (__version__, platform.python_version()))
    yield Figure("aegis_node_ready", not node.why_not_ready())
    news = node.news
    yield Figure("aegis_loop_lag_seconds", news.loop_lag)
    yield Figure("aegis_loop_turns_total", node.turns)
    yield Figure("aegis_wal_bytes_total", news.written_bytes)
    yield Figure("aegis_snapshot_duration_seconds", news.snapshot_durations)
    yield Figure("aegis_snapshot_failures_total", news.snapshot_failures)
    yield Figure("aegis_door_requests_total", news.requests, ("clients",))
    if not node.has_started:
        return
    yield from _disk_figures(node)
    connected = node.peers.connected()
    for peer in sorted({peer for replica in node.engine.replicas.values() for peer in replica.raft.peers}):
        yield Figure("aegis_peer_connected", peer in connected, (peer,))
    for group, replica in node.engine.replicas.items():
        labels = (str(group),)
        yield Figure("aegis_raft_leader_changes_total", news.leader_changes[group], labels)
        yield Figure("aegis_raft_elections_total", news.elections[group], labels)
        yield from _replica_figures(replica, labels)
        yield from _follower_figures(replica)


def _disk_figures(node: Node) -> Iterator[Figure]:
    disk = node.storage.stats()
    yield Figure("aegis_wal_fsync_duration_seconds", node.storage.flushes.durations)
    yield Figure("aegis_wal_segments", disk.segments)
    yield Figure("aegis_wal_flushes_aside", disk.flush_mode == "aside")
    yield Figure("aegis_disk_full", bool(disk.full))
    yield Figure("aegis_disk_live_bytes", disk.live_bytes)
    yield Figure("aegis_disk_allocated_bytes", disk.allocated_bytes)
    if disk.size_bytes:
        yield Figure("aegis_disk_free_bytes", disk.free_bytes)
        yield Figure("aegis_disk_size_bytes", disk.size_bytes)


def _replica_figures(replica: Replica, labels: tuple[str, ...]) -> Iterator[Figure]:
    raft, log, proposals = replica.raft, replica.raft.log, replica.proposals
    yield Figure("aegis_raft_term", raft.term, labels)
    yield Figure("aegis_raft_is_leader", raft.is_leader, labels)
    yield Figure("aegis_raft_has_leader", raft.leader is not None, labels)
    yield Figure("aegis_raft_is_voter", raft.configuration.is_voter(raft.node), labels)
    yield Figure("aegis_raft_commit_index", log.committed, labels)
    yield Figure("aegis_raft_applied_index", replica.applied, labels)
    yield Figure("aegis_raft_log_last_index", log.last_index, labels)
    yield Figure("aegis_raft_log_memory_bytes", log.held_bytes, labels)
    yield Figure("aegis_raft_uncommitted_bytes", log.uncommitted_bytes + replica.intake.size_bytes, labels)
    yield Figure("aegis_raft_unapplied_bytes", log.bytes_between(replica.applied, log.committed), labels)
    yield Figure("aegis_raft_apply_lag_entries", log.committed - replica.applied, labels)
    yield Figure("aegis_raft_proposals_total", proposals.proposed, labels)
    yield Figure("aegis_raft_proposals_failed_total", proposals.failed, labels)
    yield Figure("aegis_raft_proposals_refused_total", proposals.refused + replica.intake.refused, labels)
    yield Figure("aegis_raft_proposal_duration_seconds", proposals.durations, labels)
    yield Figure("aegis_raft_messages_dropped_total", raft.dropped, labels)
    yield Figure("aegis_snapshot_index", replica.snapshots.newest.index if replica.snapshots.newest else 0, labels)
    yield Figure("aegis_snapshot_size_bytes", replica.snapshots.size_bytes, labels)


def _follower_figures(replica: Replica) -> Iterator[Figure]:
    """What a leader knows of the others; nothing elsewhere."""
    role = replica.raft.current_role
    if not isinstance(role, Leader):
        return
    for peer, progress in sorted(role.progress.items()):
        labels = (str(replica.group), peer)
        yield Figure("aegis_raft_peer_match_lag_entries", replica.raft.log.last_index - progress.match, labels)
        silent_ms = max(replica.now_ms - progress.heard_ms, 0.0)
        yield Figure("aegis_raft_peer_last_contact_seconds", silent_ms / 1000.0, labels)
