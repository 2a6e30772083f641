"""Which mistakes can be made when members change, and when a leader hands over? (Raft §6; thesis §3.10, §4.)"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from aegis_replication.consensus import leader as leading
from aegis_replication.consensus import membership as changing
from aegis_replication.consensus import quorum
from aegis_replication.consensus.changes import Change, Introduction
from aegis_replication.consensus.configuration import Configuration, ConfigurationStack
from aegis_replication.consensus.founding import Founding
from aegis_replication.consensus.handover import Handover
from aegis_replication.consensus.leader import Leader
from aegis_replication.consensus.member import Transition
from aegis_replication.consensus.membership import Membership
from aegis_replication.consensus.progress import Progress
from aegis_replication.engine.replica import Replica
from aegis_replication.ids import LogIndex, NodeId
from aegis_replication.log import ReplicatedLog
from aegis_replication.simulation.mutants.mutant import Mutant, around, instead

# --- when a change may begin ----------------------------------------------------------------------------------------


def _before_own_commit(why_not_now: Any, membership: Membership) -> str:
    first_own, membership._first_own = membership._first_own, 0
    why_not: str = why_not_now(membership)
    membership._first_own = first_own
    return why_not


def _change_at_any_time(membership: Membership) -> str:
    return "no own entry is committed" if membership._member.log.committed < membership._first_own else ""


def _decide_anything(decide: Any, membership: Membership, change: Change, **options: Any) -> Any:
    member = membership._member
    return None if member.configuration.is_joint else decide(membership, change, **options)


def _leave_at_once(next_step: Any, membership: Membership) -> Configuration | None:
    member = membership._member
    if not member.configuration.is_joint or member.log.committed < membership._first_own:
        return next_step(membership)  # type: ignore[no-any-return]
    committed, member.log.committed = member.log.committed, member.log.last_index
    try:
        wanted: Configuration | None = next_step(membership)
    finally:
        member.log.committed = committed
    return wanted


def _append_and_step(append: Any, leader: Leader, configuration: Configuration) -> Any:
    entry = append(leader, configuration)
    leader._is_step_due = True
    return entry


# --- who counts -----------------------------------------------------------------------------------------------------


def _count_learners(commit: Any, leader: Leader) -> None:
    """As if they were voters: their acknowledgements are counted, and a majority is still one of the voters."""
    configuration = leader.member.configurations.current
    held = sorted([leader.matches.get(node, 0) for node in configuration.members], reverse=True)
    index = held[len(configuration.voters) // 2]
    if index > leader.member.log.committed and leader.member.log.term_at(index) == leader.member.term:
        leader._is_step_due = True
        leader.member.log.commit_to(index)


def _new_half_commits(
    voters: Collection[NodeId], outgoing: Collection[NodeId], matches: Mapping[NodeId, LogIndex]
) -> LogIndex:
    return quorum.committed(voters, matches)


def _count_oneself(commit: Any, leader: Leader) -> None:
    """A leader that is no voter is counted as one of them."""
    member = leader.member
    configuration = member.configurations.current
    if configuration.is_voter(member.node) or configuration.is_joint:
        commit(leader)
        return
    voters = (*configuration.voters, member.node)
    held = sorted([leader.matches.get(voter, 0) for voter in voters], reverse=True)
    index = held[len(configuration.voters) // 2]
    if index > member.log.committed and member.log.term_at(index) == member.term:
        leader._is_step_due = True
        member.log.commit_to(index)


def _always_level(look: Any, progress: Progress, *arguments: Any) -> None:
    look(progress, *arguments)
    progress.is_level = True


def _keep_what_is_gone(stack: ConfigurationStack, log: ReplicatedLog) -> bool:
    return False


def _stay(take_step: Any, leader: Leader) -> Transition | None:
    if leader.membership.has_left_leader_out:
        return None
    transition: Transition | None = take_step(leader)
    return transition


# --- disks made anew ------------------------------------------------------------------------------------------------


def _know_nobody(stack: ConfigurationStack, node: NodeId, *told: int) -> str:
    return ""


# --- handing over ---------------------------------------------------------------------------------------------------


def _send_at_once(handover: Handover, progress: Progress | None, last_index: LogIndex) -> bool:
    return not handover.is_sent and progress is not None


def _propose_on(propose: Any, leader: Leader, *arguments: Any, **options: Any) -> Any:
    handover, leader.handover = leader.handover, None
    try:
        return propose(leader, *arguments, **options)
    finally:
        leader.handover = handover


def _may_always_propose(may_propose: Any, replica: Replica) -> bool:
    return not replica._unpersisted and replica.raft.is_leader


# --- a newer format -------------------------------------------------------------------------------------------------


def _raise_by_a_majority(configuration: Configuration, introductions: Mapping[NodeId, Introduction]) -> Configuration:
    wanted = configuration.format + 1
    able = [node for node, told in introductions.items() if told.format_highest >= wanted]
    if 2 * len(configuration.members.intersection(able)) > len(configuration.members):
        return msgspec.structs.replace(configuration, format=wanted)
    return configuration


def _raise_without_those_away(raised: Any, configuration: Configuration, introductions: Any) -> Configuration:
    members = tuple(node for node in configuration.members if node in introductions)
    here = msgspec.structs.replace(configuration, voters=members, outgoing=(), learners=())
    wanted = raised(here, introductions).format
    return configuration if wanted == configuration.format else msgspec.structs.replace(configuration, format=wanted)


MEMBERS = (
    Mutant(
        "change_before_own_commit",
        "a new leader changes members before it has committed an entry of its own term",
        (around(Membership, "why_not_now", _before_own_commit),),
    ),
    Mutant(
        "two_changes_pending",
        "a change of members begins while another one isn't committed",
        (instead(Membership, "why_not_now", _change_at_any_time), around(Membership, "decide", _decide_anything)),
    ),
    Mutant(
        "joint_left_at_once",
        "a joint configuration is left before it is committed",
        (around(Membership, "next_step", _leave_at_once), around(Leader, "_append", _append_and_step)),
    ),
    Mutant("learner_counts", "a learner's acknowledgement commits", (around(Leader, "_commit", _count_learners),)),
    Mutant(
        "new_half_commits",
        "in a joint configuration the new half commits alone",
        (instead(leading, "jointly_committed", _new_half_commits),),
    ),
    Mutant(
        "removed_leader_counts",
        "a leader that is no voter any more counts itself",
        (around(Leader, "_commit", _count_oneself),),
    ),
    Mutant(
        "removed_leader_stays",
        "a leader whose removal is committed goes on leading",
        (around(Leader, "_take_step", _stay),),
    ),
    Mutant(
        "lagging_learner_promoted",
        "a learner becomes a voter before it has caught up",
        (around(Progress, "look", _always_level),),
    ),
    Mutant(
        "configuration_not_rolled_back",
        "a configuration stays in force although its entry was cut away",
        (instead(ConfigurationStack, "roll_back", _keep_what_is_gone),),
    ),
    Mutant(
        "wiped_voter_votes",
        "a voter whose disk was made anew is taken for the one that it was",
        (instead(ConfigurationStack, "why_not", _know_nobody),),
    ),
    Mutant(
        "handover_without_catch_up",
        "a leader hands over to a node that doesn't hold the whole log",
        (instead(Handover, "may_send", _send_at_once),),
    ),
    Mutant(
        "proposals_while_handing_over",
        "a leader goes on taking proposals after it has handed over",
        (around(Leader, "propose", _propose_on), around(Replica, "_may_propose", _may_always_propose)),
    ),
    Mutant(
        "founded_without_asking",
        "founders whose directories are new elect one another without asking who holds entries",
        (instead(Founding, "may_begin", lambda founding, now_ms: True),),
    ),
    Mutant(
        "format_raised_by_majority",
        "a leader turns to a format that a majority of the members knows, and not all",
        (instead(changing, "raised", _raise_by_a_majority),),
    ),
    Mutant(
        "format_raised_without_absent",
        "a leader turns to a format that those members know which are there to say",
        (around(changing, "raised", _raise_without_those_away),),
    ),
)
