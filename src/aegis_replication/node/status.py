"""What does a node show of itself? Plain values, for `aegis status` and whoever asks."""

from typing import Any

from aegis_replication.engine.replica import Replica


def group_status(replica: Replica) -> dict[str, Any]:
    """One replica as an operator sees it."""
    raft = replica.raft
    return {
        "role": raft.role,
        "term": raft.term,
        "leader": raft.leader,
        "voters": list(raft.configuration.voters),
        "last_index": raft.log.last_index,
        "durable_index": raft.log.durable,
        "committed_index": raft.log.committed,
        "applied_index": replica.applied,
        "snapshot_index": replica.snapshot.index if replica.snapshot else 0,
        "log_bytes_in_memory": raft.log.held_bytes,
        "log_entries_in_memory": len(raft.log),
    }
