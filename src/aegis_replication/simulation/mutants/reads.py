"""Which mistakes can be made with leases, with followers' reads, and with answers of a bounded age? (thesis §6.4)"""

from typing import Any

from aegis_replication.consensus import lease
from aegis_replication.consensus.contact import Contact
from aegis_replication.consensus.follower import Follower
from aegis_replication.consensus.freshness import Freshness
from aegis_replication.consensus.leader import Leader
from aegis_replication.consensus.lease import NEVER, Lease
from aegis_replication.consensus.member import Member
from aegis_replication.consensus.messages import ReadIndex, ReadIndexReply
from aegis_replication.engine.effects import Effects
from aegis_replication.engine.engine import ReplicationEngine
from aegis_replication.ids import LogIndex, NodeId
from aegis_replication.simulation.mutants.mutant import Mutant, Patch, around, instead

# --- leases ---------------------------------------------------------------------------------------------------------


def _held_since_heard(member: Member) -> float:
    lease_ms = member.configurations.current.lease_ms
    return member.heard_ms + lease_ms if lease_ms else NEVER


def _renew_at_answer(confirm_reads: Any, contact: Contact) -> None:
    waiting = len(contact.lease._rounds)
    confirm_reads(contact)
    if len(contact.lease._rounds) < waiting:
        contact.lease._since_ms = contact.member.now_ms


def _release_all(settle_leased: Any, engine: ReplicationEngine, effects: Effects, now_ms: float) -> None:
    settle_leased(engine, effects, NEVER)


def _count_half(confirm_reads: Any, contact: Contact) -> None:
    """The incoming voters' answers renew the lease, although the outgoing ones may still elect somebody."""
    confirm_reads(contact)
    for round_ in contact.rounds.values():
        contact.lease.answered(round_)


# --- followers ------------------------------------------------------------------------------------------------------


def _serve_own_state(follower: Follower, ticket: int) -> None:
    follower.member.reads.append((ticket, follower.member.log.committed))


def _answer_at_once(contact: Contact, source: NodeId, message: ReadIndex) -> None:
    member = contact.member
    member.reply(source, ReadIndexReply(member.term, message.number, member.log.committed))


def _serve_all_asked(on_reply: Any, follower: Follower, source: NodeId, message: ReadIndexReply) -> None:
    """Any answer serves everything asked until now, also what was asked after the leader made it."""
    if source == follower.member.leader:
        for number in list(follower.asked):
            on_reply(follower, source, ReadIndexReply(message.term, number, message.index))


def _serve_before_applied(on_reply: Any, follower: Follower, source: NodeId, message: ReadIndexReply) -> None:
    on_reply(follower, source, ReadIndexReply(message.term, message.number, 0))


# --- age ------------------------------------------------------------------------------------------------------------


def _prove_at_answer(on_reply: Any, follower: Follower, source: NodeId, message: ReadIndexReply) -> None:
    is_asked = message.number in follower.asked
    on_reply(follower, source, message)
    if is_asked:
        follower.member.freshness.prove(follower.member.now_ms, message.index)


def _proof_is_enough(until_ms: Any, freshness: Freshness, age_ms: float, applied: LogIndex) -> float:
    return float("inf") if until_ms(freshness, age_ms, applied) > NEVER else NEVER


def _proof_needs_no_entry(until_ms: Any, freshness: Freshness, age_ms: float, applied: LogIndex) -> float:
    result: float = until_ms(freshness, age_ms, 2**62)
    return result


READS = (
    Mutant(
        "vote_at_once_after_restart",
        "a voter that has just started votes at once, although it may have heard a leader that has a lease",
        (Patch(Member, "votes_held_until_ms", lambda original: property(_held_since_heard)),),
    ),
    Mutant(
        "votes_not_held",
        "voters don't hold back their votes while a leader may have a lease",
        (Patch(Member, "holds_votes", lambda original: property(lambda member: False)),),
    ),
    Mutant(
        "lease_from_answer",
        "a lease runs from when a majority's answer came, not from when its question was sent",
        (around(Contact, "confirm_reads", _renew_at_answer),),
    ),
    Mutant(
        "lease_of_any_answer",
        "one voter's answer renews the lease",
        (around(Contact, "confirm_reads", _count_half),),
    ),
    Mutant(
        "lease_kept_after_handover",
        "a leader that told another to take over goes on using its lease",
        (instead(Lease, "give_up", lambda lease: None),),
    ),
    Mutant(
        "lease_without_margin",
        "a lease counts on clocks that run equally fast",
        (Patch(lease, "SAFE_PART", lambda original: 1.0),),
    ),
    Mutant(
        "lease_not_checked_again",
        "reads by lease are answered however long the node stood still meanwhile",
        (around(ReplicationEngine, "settle_leased", _release_all),),
    ),
    Mutant(
        "follower_reads_its_own_state",
        "a follower answers linearizable reads without asking the leader",
        (instead(Follower, "read", _serve_own_state),),
    ),
    Mutant(
        "read_index_without_round",
        "a leader tells followers its commit index without asking whether it still leads",
        (instead(Leader.handlers, ReadIndex, _answer_at_once),),
    ),
    Mutant(
        "answer_serves_later_reads",
        "a leader's answer to a follower also serves what was asked after it was made",
        (around(Follower.handlers, ReadIndexReply, _serve_all_asked),),
    ),
    Mutant(
        "follower_does_not_wait",
        "a follower answers before it has applied the entry that the leader named",
        (around(Follower.handlers, ReadIndexReply, _serve_before_applied),),
    ),
    Mutant(
        "age_from_answer",
        "how old a state may be is counted from the leader's answer, not from the question",
        (around(Follower.handlers, ReadIndexReply, _prove_at_answer),),
    ),
    Mutant(
        "age_not_looked_at",
        "a replica that was ever told an index answers reads of any bound",
        (around(Freshness, "until_ms", _proof_is_enough),),
    ),
    Mutant(
        "proof_not_applied",
        "a state counts as young before the entry that proves it is applied",
        (around(Freshness, "until_ms", _proof_needs_no_entry),),
    ),
)
