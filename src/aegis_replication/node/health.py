"""Is a node alive, and is it one that clients should be sent to? Reasons by check; none of them: it is."""

from typing import Final

from aegis_replication.engine.replica import Replica
from aegis_replication.ids import GroupId, LogIndex

TURN_SECONDS: Final = 10.0
"""A turn that is overdue for longer will not come any more."""

FLUSH_SECONDS: Final = 30.0
"""A disk that hasn't answered a flush for so long is taken for dead."""


def why_not_alive(*, overdue_seconds: float, flush_seconds: float) -> dict[str, str]:
    """Why the process should be started anew: what it waits for doesn't come."""
    reasons = {}
    if overdue_seconds > TURN_SECONDS:
        reasons["turn"] = f"its next turn is overdue for {overdue_seconds:.0f} s"
    if flush_seconds > FLUSH_SECONDS:
        reasons["disk"] = f"the disk has not answered a flush for {flush_seconds:.0f} s"
    return reasons


class Readiness:
    """Whether the replicas of a node have got to where they were when it stopped. Looks when asked, never per turn."""

    __slots__ = ("_targets",)

    def __init__(self) -> None:
        # By group: an index that was committed, once this node knew that; 0 as soon as it was applied.
        self._targets: dict[GroupId, LogIndex] = {}

    def why_not(self, replica: Replica) -> dict[str, str]:
        """Why clients are better served elsewhere."""
        raft, group = replica.raft, replica.group
        if raft.node not in raft.configuration.members:
            return {"member": f"is not a member of group {group}"}
        if raft.leader is None:
            return {"leader": f"knows no leader of group {group} (it is a {raft.role} in term {raft.term})"}
        # An entry of this term that is known to be committed: whatever was committed before it stands before it (§5.4).
        if group not in self._targets and raft.log.term_at(raft.log.committed) == raft.term:
            self._targets[group] = raft.log.committed
        target = self._targets.get(group)
        if target is None:
            return {"applied": f"does not know yet up to where group {group} is committed"}
        if replica.applied < target:
            return {"applied": f"has applied {replica.applied} of {target} entries of group {group} since its start"}
        self._targets[group] = 0
        return {}
