"""How does a leader hand over its office? Catch-up first, then TimeoutNow, and all within one election timeout
(thesis §3.10)."""

from collections.abc import Collection, Mapping

from aegis_replication.consensus.member import Member
from aegis_replication.consensus.progress import Progress
from aegis_replication.errors import ChangeRefused, UnknownMember
from aegis_replication.ids import LogIndex, NodeId

PAUSE = 10
"""For how many maximum election timeouts, after it began or failed to hand over, a leader looks for no better one."""


class Handover:
    """One attempt. While it lasts the leader takes no proposals, so that the target can catch up."""

    __slots__ = ("deadline_ms", "is_last", "last_index", "target")

    def __init__(self, target: NodeId, deadline_ms: float, *, is_last: bool) -> None:
        self.target = target
        # When it is given up: proposals wait, and a target that needs longer isn't the right one.
        self.deadline_ms = deadline_ms
        # This leader is no voter any more: it goes, whether the target takes over or not.
        self.is_last = is_last
        # Where the log ended when TimeoutNow was sent; 0: not sent yet. Nothing is appended after it.
        self.last_index: LogIndex = 0

    @property
    def is_sent(self) -> bool:
        """Was the target told to stand for election? Then this leader's time, and its lease, is over."""
        return self.last_index > 0

    def may_send(self, progress: Progress | None, last_index: LogIndex) -> bool:
        """Does the target hold the whole log? One that didn't would lose the election that it forces."""
        return not self.is_sent and progress is not None and progress.match == last_index


def check_target(member: Member, progress: Mapping[NodeId, Progress], target: NodeId) -> None:
    """Raises UnknownMember or ChangeRefused when `target` can't take over."""
    configuration = member.configuration
    if target not in configuration.voters:
        what = "a learner: promote it first" if target in configuration.learners else "not a member"
        raise UnknownMember(f"{target} is {what}: leadership goes to one of {', '.join(configuration.voters)}")
    if member.priority_of(target) == 0:
        raise ChangeRefused(f"{target} has priority 0 and never leads: name another node, or raise its priority")
    if not _is_heard(member, progress.get(target)):
        raise ChangeRefused(f"{target} gave no sign of life lately: name another node, or see why it doesn't answer")


def best_target(
    member: Member, progress: Mapping[NodeId, Progress], *, without: Collection[NodeId] = ()
) -> NodeId | None:
    """The voter that should lead if this node didn't: of the highest priority, then with the longest log."""
    fit = [
        (member.priority_of(node), progress[node].match, node)
        for node in member.configuration.voters
        if node in progress
        and node not in without
        and member.priority_of(node) > 0
        and _is_heard(member, progress[node])
    ]
    return max(fit)[2] if fit else None


def better_target(member: Member, progress: Mapping[NodeId, Progress]) -> NodeId | None:
    """A voter of higher priority than this node that is level with it."""
    fit = [
        (member.priority_of(node), progress[node].match, node)
        for node in member.configuration.voters
        if node in progress
        and member.priority_of(node) > member.config.priority
        and progress[node].is_level
        and _is_heard(member, progress[node])
    ]
    return max(fit)[2] if fit else None


def _is_heard(member: Member, progress: Progress | None) -> bool:
    return progress is not None and member.now_ms - progress.heard_ms < member.config.election_timeout_min_ms
