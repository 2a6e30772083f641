"""Is a leader with a lease really alone? And is an answer never older than it may be?"""

from bisect import bisect_left
from collections.abc import Mapping

from aegis_replication.engine.effects import RoleChanged
from aegis_replication.errors import InvariantBroken
from aegis_replication.ids import LogIndex, NodeId
from aegis_replication.simulation.host import Host


def check_leases(host: Host, change: RoleChanged, hosts: Mapping[NodeId, Host]) -> None:
    """Nobody comes into office while an earlier leader may still answer reads without asking (thesis §6.4.1)."""
    if change.role != "leader":
        return
    for other in hosts.values():
        if other is host or other.state not in ("up", "paused"):
            continue
        raft = other.replica(change.group).raft
        left_ms = raft.lease_until_ms - other.own_clock.now_ms
        if left_ms > 0 and raft.term < change.term:
            raise InvariantBroken(
                "a lease ends before another leads",
                f"group {change.group}: {host.node} leads term {change.term}, and {other.node} has a lease of term "
                f"{raft.term} for another {left_ms:.3f} ms of its clock",
            )


class Acknowledged:
    """What clients were told of, over time: whoever asks for answers of a bounded age is told no less."""

    __slots__ = ("_indexes", "_moments_ms")

    def __init__(self) -> None:
        self._moments_ms: list[float] = []
        self._indexes: list[LogIndex] = []  # rising

    def note(self, now_ms: float, index: LogIndex) -> None:
        """Some client was told of what entry `index` did."""
        if not self._indexes or index > self._indexes[-1]:
            self._moments_ms.append(now_ms)
            self._indexes.append(index)

    def before(self, moment_ms: float) -> LogIndex:
        """The highest entry that was told of before `moment_ms`."""
        position = bisect_left(self._moments_ms, moment_ms)
        return self._indexes[position - 1] if position else 0
