"""Are members changed so that no two majorities can decide apart? One step at a time, each overlapping the last."""

from collections.abc import Callable

from aegis_replication.consensus.configuration import Configuration, decode_configuration
from aegis_replication.consensus.leader import Leader
from aegis_replication.consensus.messages import Message, TimeoutNow
from aegis_replication.engine.replica import Replica
from aegis_replication.errors import InvariantBroken
from aegis_replication.ids import GroupId, LogIndex, NodeId, Term
from aegis_replication.log import Kind, LogWrite
from aegis_replication.simulation.checkers.durability import DurabilityChecker


class MembersChecker:
    """Watches the configurations of one group from outside."""

    __slots__ = ("_added", "_durability", "_format_highest", "_group", "_removed")

    def __init__(self, group: GroupId, durability: DurabilityChecker, format_highest: Callable[[NodeId], int]) -> None:
        # The newest format that the program of a node knows, or, while it is down, that of its next start.
        self._format_highest = format_highest
        self._group = group
        self._durability = durability
        # At which entry each learner came in, as the first log that held it says.
        self._added: dict[NodeId, LogIndex] = {}
        # Since when a leader has led in a term without being a voter, its removal committed.
        self._removed: dict[tuple[NodeId, Term], float] = {}

    def _broken(self, invariant: str, detail: str) -> InvariantBroken:
        return InvariantBroken(invariant, f"group {self._group}: {detail}")

    def on_write(self, node: NodeId, write: LogWrite, replica: Replica) -> None:
        """Each configuration shares a voter with every majority of the one before it (thesis §4.1, §4.3)."""
        for entry in write.entries:
            if entry.kind != Kind.CONFIGURATION or replica.raft.log.term_at(entry.index) != entry.term:
                continue
            made, before = decode_configuration(entry.payload), replica.raft.configurations.before(entry.index)
            if before.voters and not overlap(before, made):
                raise self._broken(
                    "majorities overlap", f"{node} writes {_text(made)} at entry {entry.index} after {_text(before)}"
                )
            if replica.raft.is_leader and entry.term == replica.raft.term:
                self._on_appended(node, entry.index, before, made)

    def _on_appended(self, node: NodeId, index: LogIndex, before: Configuration, made: Configuration) -> None:
        for member in made.members:
            if made.format > max(before.format, self._format_highest(member)):
                raise self._broken(
                    "a format is written when all members know it",
                    f"{node} turns to format {made.format} at entry {index}, {member} knows "
                    f"{self._format_highest(member)}",
                )
        for learner in set(made.learners) - set(before.learners):
            self._added[learner] = index
        for promoted in set(made.voters) - set(before.voters):
            added = self._added.get(promoted, 0)
            held = self._durability.shadow(promoted, self._group).applicable
            if held < added:
                raise self._broken(
                    "no lagging voter", f"{node} promotes {promoted}, which holds {held} and was added at entry {added}"
                )

    def on_sent(self, node: NodeId, target: NodeId, message: Message, replica: Replica) -> None:
        """Only who holds everything is told to take over (thesis §3.10)."""
        if isinstance(message, TimeoutNow):
            role, last_index = replica.raft.current_role, replica.raft.log.last_index
            held = role.matches.get(target, 0) if isinstance(role, Leader) else last_index
            if held < last_index:
                raise self._broken(
                    "hand-over after catch-up", f"{node} hands over to {target}, which holds {held} of {last_index}"
                )

    def on_turn(self, node: NodeId, replica: Replica) -> None:
        """A leader whose removal is committed is on its way out."""
        raft = replica.raft
        if raft.is_leader and not raft.configuration.is_voter(node):
            is_over = raft.log.committed >= raft.configuration_index
            late_ms = 3.0 * raft.config.election_timeout_max_ms
            since = self._removed.setdefault((node, raft.term), replica.now_ms) if is_over else replica.now_ms
            if replica.now_ms - since > late_ms:
                raise self._broken("removed leader steps down", f"{node} leads {late_ms:.0f} ms after its removal")


def overlap(before: Configuration, after: Configuration) -> bool:
    """Does every majority that decides by `before` share a voter with every one that decides by `after`?"""
    old, new = set(before.voters), set(after.voters)
    if before.is_joint:
        return new == old and (not after.is_joint or after.outgoing == before.outgoing)
    if after.is_joint:
        return set(after.outgoing) == old
    return len(old.symmetric_difference(new)) <= 1


def _text(configuration: Configuration) -> str:
    halves = "".join(configuration.voters) + (f"/{''.join(configuration.outgoing)}" if configuration.is_joint else "")
    return f"{halves}+{''.join(configuration.learners)}" if configuration.learners else halves
