"""Does a leader hold no more than it was told to, however its followers and its clients behave?"""

from aegis_replication.engine.replica import Replica
from aegis_replication.errors import InvariantBroken
from aegis_replication.ids import NodeId, Term
from aegis_replication.log import Kind

_COMMAND_BYTES = 1024  # a simulated client's largest, with its entry's frame


class PressureChecker:
    """What each leader of one group had on its hands when its office began, and may therefore have.

    Its own no-ops and configurations, and frames around commands, come on top: they are never refused.
    """

    __slots__ = ("_at_first",)

    def __init__(self) -> None:
        # By leader: its term, and the bytes that wait for a majority then, and to be applied.
        self._at_first: dict[NodeId, tuple[Term, int, int]] = {}

    def on_turn(self, node: NodeId, replica: Replica) -> None:
        """A node has handled what came."""
        raft, log = replica.raft, replica.raft.log
        if not raft.is_leader:
            self._at_first.pop(node, None)
            return
        tail = log.slice(log.committed + 1, log.last_index + 1)
        taken = sum(len(entry.payload) for entry in tail if entry.kind == Kind.COMMANDS) + replica.intake.size_bytes
        unapplied = log.bytes_between(replica.applied, log.committed)
        at_first = self._at_first.get(node)
        if at_first is None or at_first[0] != raft.term:
            at_first = self._at_first[node] = (raft.term, taken, unapplied)
        _, tail_bytes, unapplied_bytes = at_first
        most = max(raft.config.max_uncommitted_bytes, tail_bytes) + _COMMAND_BYTES
        if taken > most:
            raise InvariantBroken(
                "a leader holds what it has room for",
                f"{node} has taken {taken:,} bytes of commands that no majority has, {most:,} are the most",
            )
        # What a majority has may come in one go, on top of what was being applied.
        most = max(raft.config.max_unapplied_bytes, unapplied_bytes) + 2 * most
        if unapplied > most:
            raise InvariantBroken(
                "a leader holds what it has room for",
                f"{node} has {unapplied:,} bytes of committed entries to apply, {most:,} are the most",
            )
