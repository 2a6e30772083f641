"""How does a leader change who the members are, one step at a time? (Raft §6; thesis §4.1 to §4.3.)"""

from collections.abc import Mapping

from aegis_replication.consensus.changes import Change, changed, introduced, left, promoted, raised
from aegis_replication.consensus.configuration import Configuration
from aegis_replication.consensus.member import Member
from aegis_replication.consensus.progress import Progress
from aegis_replication.consensus.quorum import is_supported
from aegis_replication.errors import ChangePending, LearnerLags, WouldLoseQuorum
from aegis_replication.ids import LogIndex, NodeId


class Membership:
    """Decides which configuration a leader may append next, on request or by itself. The leader appends it."""

    __slots__ = ("_first_own", "_member", "_progress")

    def __init__(self, member: Member, progress: Mapping[NodeId, Progress], first_own: LogIndex) -> None:
        self._member = member
        self._progress = progress
        self._first_own = first_own

    def why_not_now(self) -> str:
        """Why no change may begin yet; "" when one may.

        Before an entry of the leader's own term is committed, an earlier leader's change may still be decided either
        way, and two majorities may not overlap; the same while a change is not committed (thesis §4.1 and its
        correction of 2015).
        """
        member = self._member
        committed = member.log.committed
        if committed < self._first_own:
            return f"leader {member.node} is new and has committed nothing of term {member.term} yet"
        if member.configurations.index > committed:
            return f"the change at entry {member.configurations.index} is not committed yet"
        if member.configuration.is_joint:
            return "the change under way has committed its first half and not its second"
        if not member.is_voter:
            return f"leader {member.node} is no voter any more and hands over"
        return ""

    @property
    def has_left_leader_out(self) -> bool:
        """Is it committed that the leader is no voter any more? Then its office ends (thesis §4.2.2).

        Before anything else that would be due: those who have applied its removal don't listen to it any more, so it
        might never learn that a further change is committed.
        """
        member = self._member
        committed = member.log.committed
        is_settled = committed >= max(self._first_own, member.configurations.index)
        return is_settled and not member.configuration.is_joint and not member.is_voter

    def decide(self, change: Change, *, joint: bool = False) -> Configuration | None:
        """The configuration to append for `change`; None when it is so already. Raises ChangePending, ChangeRefused."""
        why_not = self.why_not_now()
        if why_not:
            raise ChangePending(f"one change at a time: {why_not}; ask again in a moment")
        now = self._member.configuration
        wanted = changed(now, change, joint=joint)
        if wanted is now:
            return None
        for node in sorted(set(wanted.voters) - set(now.voters)):
            self._check_level(node)
        self._check_quorum(wanted)
        return wanted

    def next_step(self) -> Configuration | None:
        """The configuration that is due by itself; None when there is none, or none may begin yet.

        First the way out of a joint configuration, as soon as that is committed; then what members say of themselves;
        then a newer format that all of them know; then a learner that has caught up and was to become a voter.
        """
        member = self._member
        now, committed = member.configuration, member.log.committed
        if committed < self._first_own or member.configurations.index > committed:
            return None
        if now.is_joint:
            return left(now)
        told = introduced(now, member.introductions)
        if told is not now:
            return told
        newer = raised(now, member.introductions)
        if newer is not now:
            return newer
        for node in now.promotions:
            progress = self._progress.get(node)
            if progress is not None and progress.is_level:
                wanted = promoted(now, node)
                if not self._silent_majority(wanted):
                    return wanted
        return None

    def _check_level(self, node: NodeId) -> None:
        """A voter that lags holds back every commit for as long as it takes to catch up (thesis §4.2.1)."""
        progress = self._progress.get(node)
        last_index = self._member.log.last_index
        if progress is None or not progress.is_level:
            match = 0 if progress is None else progress.match
            raise LearnerLags(
                f"{node} holds {match:,} of {last_index:,} entries and isn't level yet: ask again when it has caught "
                "up, or add it with promotion, which waits for that"
            )

    def _check_quorum(self, wanted: Configuration) -> None:
        silent = self._silent_majority(wanted)
        if silent:
            raise WouldLoseQuorum(
                f"{', '.join(silent)} gave no sign of life lately: no majority of {', '.join(wanted.voters)} would be "
                "left to decide anything. Start what is down, or remove it first"
            )

    def _silent_majority(self, wanted: Configuration) -> list[NodeId]:
        """The voters that don't answer, if without them a half of `wanted` would have no majority; else none."""
        member = self._member
        least = member.now_ms - member.config.election_timeout_max_ms
        heard = {member.node}
        for node, progress in self._progress.items():
            if progress.match and progress.heard_ms > least:  # a new leader takes all for present until it knows
                heard.add(node)
        if is_supported(wanted.voters, wanted.outgoing, heard):
            return []
        return sorted({*wanted.voters, *wanted.outgoing} - heard)
