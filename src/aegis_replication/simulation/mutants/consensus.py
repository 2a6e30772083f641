"""Which mistakes can be made with Raft's rules? (Raft Figure 2, §5.2 to §5.4, §7; thesis §6.4.)"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from aegis_replication import wire
from aegis_replication.consensus import candidate, quorum
from aegis_replication.consensus.contact import Contact
from aegis_replication.consensus.follower import Follower
from aegis_replication.consensus.leader import Leader
from aegis_replication.consensus.member import FOLLOWER, Member, Transition
from aegis_replication.consensus.messages import AppendEntries, AppendReply, InstallSnapshot, Message
from aegis_replication.consensus.node import Raft
from aegis_replication.consensus.output import Output
from aegis_replication.engine.effects import Effects
from aegis_replication.engine.events import ChunkStored
from aegis_replication.engine.replica import Replica
from aegis_replication.engine.standing import become
from aegis_replication.ids import LogIndex, NodeId
from aegis_replication.log import Entry, EntryId, ReplicatedLog, SnapshotMeta
from aegis_replication.simulation.mutants.mutant import Mutant, around, instead

# --- votes and promises ---------------------------------------------------------------------------------------------


def _vote_without_writing(member: Member, candidate: NodeId) -> None:
    member.voted_for = candidate


def _say_at_once(member: Member, target: NodeId, message: Message) -> None:
    if target == member.node:
        member._promises.append((member._write_number + 1, target, message))
    else:
        member.messages.append((target, message))


def _acknowledge_unflushed(follower: Follower, leader: NodeId) -> None:
    follower.member.reply(leader, AppendReply(follower.member.term, follower.round, follower.verified))


def _acknowledge_all_held(follower: Follower, leader: NodeId) -> None:
    member = follower.member
    member.reply(leader, AppendReply(member.term, follower.round, member.log.durable))


def _forget_vote(become: Any, raft: Raft, transition: Transition, **options: Any) -> None:
    become(raft, transition, **options)
    if transition.role == FOLLOWER:
        raft._member.voted_for = None


def _half_wins(voters: Collection[NodeId], outgoing: Collection[NodeId], votes: Mapping[NodeId, bool]) -> bool | None:
    granted = sum(votes.get(voter, False) for voter in voters)
    refused = sum(not votes.get(voter, True) for voter in voters)
    if granted * 2 >= len(voters):
        return True
    return False if refused * 2 > len(voters) else None


# --- the log --------------------------------------------------------------------------------------------------------


def _commit_any_term(leader: Leader) -> None:
    configuration = leader.member.configurations.current
    leader.member.log.commit_to(quorum.jointly_committed(configuration.voters, configuration.outgoing, leader.matches))


def _adopt_and_cut(adopt: Any, log: ReplicatedLog, previous: EntryId, entries: tuple[Entry, ...]) -> LogIndex:
    """Whatever lies behind the leader's entries goes, in conflict or not: a late, short append cuts too much."""
    last: LogIndex = adopt(log, previous, entries)
    if entries and log.first <= last < log.last_index:
        log._truncate(last + 1)
    return last


def _believe_own_index(on_append_reply: Any, leader: Leader, source: NodeId, message: AppendReply) -> Any:
    if message.matched:
        message = msgspec.structs.replace(message, matched=leader.member.log.last_index)
    return on_append_reply(leader, source, message)


def _half_commits(voters: Collection[NodeId], matches: Mapping[NodeId, LogIndex]) -> LogIndex:
    held = sorted([matches.get(voter, 0) for voter in voters], reverse=True)
    return held[(len(held) - 1) // 2]


def _hear_strangers(step: Any, raft: Raft, source: NodeId, message: Message) -> None:
    role = raft.current_role
    is_stranger = source not in raft.configuration.members
    if is_stranger and isinstance(role, Leader) and isinstance(message, AppendReply) and message.term == raft.term:
        role.matches[source] = message.matched
        role._commit()
    else:
        step(raft, source, message)


def _hear_late_acks(step: Any, raft: Raft, source: NodeId, message: Message) -> None:
    """What they say of the log; rounds of contact are another matter."""
    if raft.is_leader and isinstance(message, AppendReply) and message.term < raft.term:
        message = msgspec.structs.replace(message, term=raft.term, round=0)
    step(raft, source, message)


def _count_everybody(voters: Collection[NodeId], matches: Mapping[NodeId, LogIndex]) -> LogIndex:
    return sorted(matches.values(), reverse=True)[len(voters) // 2]


def _commit_unverified(on_append_entries: Any, follower: Follower, source: NodeId, message: AppendEntries) -> Any:
    result = on_append_entries(follower, source, message)
    log = follower.member.log
    if follower.member.leader == source and log.matches(message.previous):
        log.commit_to(message.commit)
    return result


def _keep_marks_of_old_writes(truncate: Any, log: ReplicatedLog, first: LogIndex) -> None:
    marks = [write[1] for write in log._in_flight]
    truncate(log, first)
    for write, mark in zip(log._in_flight, marks, strict=True):
        write[1] = mark


def _own_ack_at_once(propose: Any, leader: Leader, *arguments: Any, **options: Any) -> Entry:
    entry: Entry = propose(leader, *arguments, **options)
    leader.matches[leader.member.node] = entry.index
    leader._commit()
    return entry


# --- applying and reading -------------------------------------------------------------------------------------------


def _apply_unflushed(take_output: Any, raft: Raft) -> Output:
    log = raft.log
    durable, log.durable = log.durable, max(log.durable, log.committed)
    output: Output = take_output(raft)
    log.durable = durable
    return output


def _apply_uncommitted(take_output: Any, raft: Raft) -> Output:
    output: Output = take_output(raft)
    log, member = raft.log, raft._member
    if raft.is_leader and log.durable > member.applied_to:
        output.committed += log.slice(member.applied_to + 1, log.durable + 1)
        member.applied_to = log.durable
    return output


def _serve_before_no_op(before_output: Any, leader: Leader) -> None:
    first_own, leader.first_own = leader.first_own, 0
    before_output(leader)
    leader.first_own = first_own


def _read_at_once(leader: Leader, ticket: int, *, by_lease: bool = True) -> None:
    if leader.member.log.committed >= leader.first_own:
        leader.member.reads.append((ticket, leader.member.log.committed))
    else:
        leader.reads.add(ticket)


def _drop_what_waits(give_up: Any, replica: Replica, effects: Any) -> None:
    """Commands in the log are answered as if they were gone."""
    first = len(effects.replies)
    give_up(replica, effects)
    for position in range(first, len(effects.replies)):
        connection, packet = effects.replies[position]
        if packet[13] == wire.UNKNOWN:
            effects.replies[position] = (connection, packet[:13] + bytes([wire.DROPPED]) + packet[14:])


# --- snapshots ------------------------------------------------------------------------------------------------------


def _take_any_snapshot(follower: Follower, source: NodeId, message: InstallSnapshot) -> None:
    if follower._follow(source):
        follower.member.chunks.append((source, message))


def _restore_any_snapshot(on_chunk_stored: Any, replica: Replica, event: ChunkStored, effects: Effects) -> None:
    newest = replica.snapshots.newest  # a file that is older than that is gone by now
    is_there = newest is None or event.meta is None or newest.index < event.meta.index
    if event.complete and event.meta is not None and event.meta.index < replica.applied and is_there:
        for _ in become(replica.machine, event.chunks, event.meta):
            pass
        replica.applied = event.meta.index
    on_chunk_stored(replica, event, effects)


def _keep_conflicting_log(on_snapshot_installed: Any, raft: Raft, source: NodeId, meta: SnapshotMeta) -> bool:
    log = raft.log
    held = log.term_at(meta.index)
    if held is not None and held != meta.term and meta.index > raft.applied_to:
        meta = msgspec.structs.replace(meta, term=held)
    result: bool = on_snapshot_installed(raft, source, meta)
    return result


CONSENSUS = (
    Mutant("vote_not_persisted", "a vote is not written down", (instead(Member, "vote_for", _vote_without_writing),)),
    Mutant(
        "vote_before_flush",
        "votes and terms are told before they are flushed",
        (instead(Member, "reply", _say_at_once),),
    ),
    Mutant(
        "ack_before_flush",
        "a follower acknowledges entries that it has not flushed",
        (instead(Follower, "_acknowledge", _acknowledge_unflushed),),
    ),
    Mutant(
        "ack_more_than_asked",
        "a follower acknowledges all it holds, not only what this leader has shown to match",
        (instead(Follower, "_acknowledge", _acknowledge_all_held),),
    ),
    Mutant("vote_forgotten", "a node that steps down forgets its vote", (around(Raft, "_become", _forget_vote),)),
    Mutant("half_wins", "half of the votes win an election", (instead(candidate, "election_outcome", _half_wins),)),
    Mutant(
        "stale_log_wins",
        "a voter doesn't ask whether the candidate's log is up to date",
        (instead(Member, "would_vote", lambda member, last: True),),
    ),
    Mutant(
        "old_term_committed",
        "a leader commits an earlier term's entry by counting its copies",
        (instead(Leader, "_commit", _commit_any_term),),
    ),
    Mutant(
        "cut_without_conflict",
        "an append cuts off everything behind its entries, in conflict or not",
        (around(ReplicatedLog, "adopt", _adopt_and_cut),),
    ),
    Mutant(
        "match_is_own_last",
        "any acknowledgement counts up to the leader's own last entry",
        (around(Leader.handlers, AppendReply, _believe_own_index),),
    ),
    Mutant("half_commits", "half of an even cluster commits", (instead(quorum, "committed", _half_commits),)),
    Mutant(
        "strangers_count",
        "acknowledgements of nodes that are no members count",
        (around(Raft, "step", _hear_strangers), instead(quorum, "committed", _count_everybody)),
    ),
    Mutant(
        "late_acks_count",
        "a leader counts acknowledgements of an earlier term",
        (around(Raft, "step", _hear_late_acks),),
    ),
    Mutant(
        "commit_not_bounded",
        "a follower commits as far as the leader says, beyond what it has verified",
        (around(Follower.handlers, AppendEntries, _commit_unverified),),
    ),
    Mutant(
        "old_write_marks_new_bytes",
        "the end of an earlier write makes entries count as flushed that have replaced its own",
        (around(ReplicatedLog, "_truncate", _keep_marks_of_old_writes),),
    ),
    Mutant(
        "reply_before_flush",
        "a leader counts its own copy before it is flushed",
        (around(Leader, "propose", _own_ack_at_once),),
    ),
    Mutant(
        "apply_before_flush",
        "a replica applies what its own disk doesn't hold",
        (around(Raft, "take_output", _apply_unflushed),),
    ),
    Mutant(
        "reply_before_commit",
        "a leader applies and answers what only its own disk holds",
        (around(Raft, "take_output", _apply_uncommitted),),
    ),
    Mutant(
        "read_before_no_op",
        "a new leader serves reads before an entry of its term is committed",
        (around(Leader, "before_output", _serve_before_no_op),),
    ),
    Mutant(
        "read_without_round",
        "a leader serves reads without asking whether it still leads",
        (instead(Contact, "read", _read_at_once),),
    ),
    Mutant(
        "unknown_called_dropped",
        "a deposed leader says that commands in its log had no effect",
        (around(Replica, "_give_up", _drop_what_waits),),
    ),
    Mutant(
        "stale_snapshot_installed",
        "a snapshot older than the state replaces it",
        (
            instead(Follower.handlers, InstallSnapshot, _take_any_snapshot),
            around(Replica, "on_chunk_stored", _restore_any_snapshot),
        ),
    ),
    Mutant(
        "conflicting_log_kept",
        "a log that contradicts an installed snapshot is kept behind it",
        (around(Raft, "on_snapshot_installed", _keep_conflicting_log),),
    ),
)
