"""What does a node show of itself? Plain values, for `aegis status` and whoever asks."""

from typing import Any

import msgspec

from aegis_replication import __version__
from aegis_replication.consensus.configuration import Configuration
from aegis_replication.engine.engine import ReplicationEngine
from aegis_replication.engine.replica import Replica
from aegis_replication.ids import NodeId
from aegis_replication.storage.base import Storage
from aegis_replication.transport.base import PeerTransport


def node_status(engine: ReplicationEngine, storage: Storage, peers: PeerTransport) -> dict[str, Any]:
    """What a node's parts say of themselves."""
    return {
        "node": engine.node,
        "version": __version__,
        "incarnation": f"{storage.identity.incarnation:016x}",
        "founding": engine.founding.why_not if engine.founding is not None else "",
        "connected_peers": sorted(peers.connected()),
        "addresses": dict(sorted(engine.addresses.items())),
        "groups": {str(group): group_status(replica) for group, replica in engine.replicas.items()},
        "disk": msgspec.to_builtins(storage.stats()),
    }


def group_status(replica: Replica) -> dict[str, Any]:
    """One replica as an operator sees it."""
    raft = replica.raft
    return {
        "role": raft.role,
        "term": raft.term,
        "leader": raft.leader,
        "voters": list(raft.configuration.voters),
        "learners": list(raft.configuration.learners),
        "leaving": list(raft.configuration.outgoing),
        "configuration_index": raft.configuration_index,
        "membership": _membership(raft.node, raft.configuration),
        "lease_ms": raft.configuration.lease_ms,
        "interventions": [msgspec.structs.asdict(each) for each in raft.configuration.interventions],
        "format": raft.configuration.format,
        "format_highest": raft.config.format_highest,
        "last_index": raft.log.last_index,
        "durable_index": raft.log.durable,
        "committed_index": raft.log.committed,
        "applied_index": replica.applied,
        "damaged_entries": raft.repair.damaged,
        "repaired_entries": raft.repair.repaired,
        "repair": raft.repair.describe(),
        "snapshot_index": replica.snapshots.newest.index if replica.snapshots.newest else 0,
        "log_bytes_in_memory": raft.log.held_bytes,
        "log_entries_in_memory": len(raft.log),
        "uncommitted_bytes": raft.log.uncommitted_bytes + replica.intake.size_bytes,
        "unapplied_bytes": raft.log.bytes_between(replica.applied, raft.log.committed),
        "commands_refused": replica.intake.refused,  # for want of room, since this process began
    }


def _membership(node: NodeId, configuration: Configuration) -> str:
    """What `node` is by the newest configuration that it knows."""
    if configuration.is_voter(node):
        return "voter"
    if node in configuration.learners:
        return "learner"
    return "removed" if configuration.members else "waiting"  # until somebody adds it
