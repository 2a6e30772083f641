"""Thesis §6.4.1: when may a leader answer without asking, and what do voters do for it? (Also §3.10, §4.2.3.)"""

import pytest
from raft_cluster import Cluster
from raft_replicas import (
    CONFIGURATION,
    CheckedRaft,
    append,
    entry,
    only,
    replica,
    request_vote,
    settle,
    time_out,
    told,
)

from aegis_replication.consensus.configuration import make_configuration
from aegis_replication.consensus.freshness import Freshness
from aegis_replication.consensus.lease import SAFE_PART
from aegis_replication.consensus.messages import AppendEntries, AppendReply, RequestVote, VoteReply
from aegis_replication.errors import ChangePending
from aegis_replication.log import Entry

LEASE_MS = 150


def leased_log(voters: str = "abc", outgoing: str = "") -> list[Entry]:
    """A log whose first entry switches leases on."""
    payload = make_configuration(voters, outgoing=outgoing, lease_ms=LEASE_MS).encode()
    return [entry(1, 1, payload, kind=CONFIGURATION, count=0)]


def leading(voters: str = "abc", outgoing: str = "") -> CheckedRaft:
    """A leader that has just won, once it no longer held back its votes; its no-op isn't committed."""
    raft = replica(voters="".join(sorted({*voters, *outgoing})), entries=leased_log(voters, outgoing))
    while raft.role == "follower":
        time_out(raft)
    for is_pre in (True, False):
        for peer in sorted(raft.configuration.members - {raft.node}):
            if raft.role == ("pre-candidate" if is_pre else "candidate"):
                raft.step(peer, VoteReply(raft.term + is_pre, True, pre=is_pre))
        settle(raft)
    assert raft.is_leader, raft.role
    return raft


def leasing(voters: str = "abc", outgoing: str = "") -> CheckedRaft:
    """A leader whose no-op is committed and whose last heartbeat, sent now, nobody has answered."""
    raft = leading(voters, outgoing)
    for peer in sorted(raft.configuration.members - {raft.node}):
        raft.step(peer, AppendReply(raft.term, 0, raft.log.last_index))
    settle(raft)
    beat(raft)
    return raft


def beat(raft: CheckedRaft) -> int:
    """Let a heartbeat leave; its round."""
    raft.tick(raft.deadline_ms)
    return max(message.round for message in only(settle(raft), AppendEntries))


def is_leased(raft: CheckedRaft) -> bool:
    """Is a read that comes now answered without asking anybody?"""
    ticket = raft.read()
    output = raft.take_output()
    return [each for each, _, _ in output.leased] == [ticket]


def now_ms(raft: CheckedRaft) -> float:
    return raft._member.now_ms


# --- the leader -----------------------------------------------------------------------------------------------------


def test_a_leader_that_a_majority_has_answered_reads_without_asking() -> None:
    raft = leasing()
    before = is_leased(raft)

    raft.step("b", AppendReply(raft.term, beat(raft), raft.log.last_index))

    assert not before
    assert is_leased(raft)


def test_a_read_by_lease_waits_for_what_was_committed_when_it_came() -> None:
    raft = leasing()
    raft.step("b", AppendReply(raft.term, beat(raft), raft.log.last_index))

    ticket = raft.read()
    output = raft.take_output()

    assert output.leased == [(ticket, raft.log.committed, raft.lease_until_ms)]
    assert output.reads == []


def test_a_lease_runs_from_when_the_round_was_sent() -> None:
    """The answer may be late; a voter promised nothing beyond what it heard. (Leases once ran from the answer.)"""
    raft = leasing()
    round_, sent_ms = beat(raft), now_ms(raft)
    raft.tick(sent_ms + 40)

    raft.step("b", AppendReply(raft.term, round_, raft.log.last_index))

    assert raft.lease_until_ms == pytest.approx(sent_ms + LEASE_MS * SAFE_PART)


def test_a_lease_is_shorter_than_what_voters_promise_by_what_clocks_may_differ() -> None:
    slow, fast = 0.9, 1.1

    assert LEASE_MS * SAFE_PART / slow <= LEASE_MS / fast


def test_a_lease_ends_by_itself() -> None:
    raft = leasing()
    round_ = beat(raft)
    raft.step("b", AppendReply(raft.term, round_, raft.log.last_index))
    until_ms = raft.lease_until_ms

    raft.tick(until_ms)

    assert not is_leased(raft)


def test_an_answer_to_an_earlier_round_renews_nothing() -> None:
    raft = leasing()
    first, first_ms = beat(raft), now_ms(raft)
    raft.read(by_lease=False)
    settle(raft)

    raft.step("b", AppendReply(raft.term, first, raft.log.last_index))

    assert raft.lease_until_ms == pytest.approx(first_ms + LEASE_MS * SAFE_PART)


def test_a_leader_without_an_own_commit_has_no_lease() -> None:
    """§8: it doesn't know yet what is committed."""
    raft = leading()
    raft.tick(raft.deadline_ms)
    settle(raft)

    raft.step("b", AppendReply(raft.term, 0))

    assert not is_leased(raft)


def test_only_voters_count_whose_disk_knows_of_the_lease() -> None:
    """Any other may restart, forget whom it heard, and vote at once."""
    raft = leasing()
    raft.set_lease(0)
    settle(raft)
    for peer in "bc":
        raft.step(peer, AppendReply(raft.term, 0, raft.log.last_index))
    switched = raft.set_lease(LEASE_MS)
    assert switched is not None
    settle(raft)

    raft.step("b", AppendReply(raft.term, beat(raft), switched.index - 1))
    before = is_leased(raft)
    raft.step("b", AppendReply(raft.term, raft.current_role.round, switched.index))  # type: ignore[attr-defined]
    raft.step("b", AppendReply(raft.term, beat(raft), switched.index))

    assert not before
    assert is_leased(raft)


def test_a_joint_configuration_needs_both_majorities() -> None:
    """Thesis §4.3: each half alone can elect somebody."""
    raft = leasing("abc", outgoing="ade")
    round_ = beat(raft)
    last = raft.log.last_index

    raft.step("b", AppendReply(raft.term, round_, last))
    one_half = is_leased(raft)
    raft.step("d", AppendReply(raft.term, round_, last))

    assert not one_half
    assert is_leased(raft)


def test_a_configuration_ends_the_lease_until_a_round_after_it() -> None:
    raft = leasing()
    earlier = beat(raft)
    raft.step("b", AppendReply(raft.term, earlier, raft.log.last_index))
    assert is_leased(raft)

    raft.set_lease(LEASE_MS + 1)
    settle(raft)
    raft.step("b", AppendReply(raft.term, earlier, raft.log.last_index))

    assert not is_leased(raft)
    raft.step("b", AppendReply(raft.term, beat(raft), raft.log.last_index))
    assert is_leased(raft)


def test_a_leader_that_has_asked_another_to_take_over_has_no_lease_in_that_term_any_more() -> None:
    """Thesis §3.10, §6.4.1: the other needs nobody's patience. (A failed hand-over once left the lease in force.)"""
    raft = leasing()
    for peer in "bc":
        raft.step(peer, AppendReply(raft.term, beat(raft), raft.log.last_index))
    assert is_leased(raft)

    raft.transfer("b")
    settle(raft)
    at_once = is_leased(raft)
    raft.tick(now_ms(raft) + 1000)
    settle(raft)

    assert not at_once
    if raft.is_leader:
        for peer in "bc":
            raft.step(peer, AppendReply(raft.term, beat(raft), raft.log.last_index))
        assert not is_leased(raft)


def test_a_read_that_missed_its_lease_is_confirmed_by_a_round() -> None:
    raft = leasing()
    raft.step("b", AppendReply(raft.term, beat(raft), raft.log.last_index))

    ticket = raft.read(by_lease=False)
    sent = only(settle(raft), AppendEntries)

    assert {message.round for message in sent} == {raft.current_role.round}  # type: ignore[attr-defined]
    raft.step("c", AppendReply(raft.term, sent[0].round, raft.log.last_index))
    assert raft.take_output().reads == [(ticket, raft.log.committed)]


def test_leases_are_switched_one_change_at_a_time() -> None:
    raft = leasing()
    raft.set_lease(0)

    with pytest.raises(ChangePending, match="one change at a time"):
        raft.set_lease(LEASE_MS)


def test_switching_to_what_is_so_already_changes_nothing() -> None:
    raft = leasing()
    last = raft.log.last

    assert raft.set_lease(LEASE_MS) is None
    assert raft.log.last == last


# --- the voters -----------------------------------------------------------------------------------------------------


def test_a_voter_that_has_just_started_votes_for_nobody_for_a_while() -> None:
    """It may have heard a leader that counts on it, and doesn't remember. (Such a voter once voted at once.)"""
    raft = replica(entries=leased_log(), election_timeout=(150, 300))

    raft.tick(299.0)
    early = told(raft, "b", request_vote(2))
    raft.tick(300.0)
    later = only(told(raft, "b", request_vote(2)), VoteReply)

    assert early == []
    assert [(reply.term, reply.granted) for reply in later] == [(2, True)]


def test_a_voter_that_has_just_started_promises_no_vote_either() -> None:
    raft = replica(entries=leased_log(), election_timeout=(150, 300))
    raft.tick(299.0)

    replies = only(told(raft, "b", request_vote(2, pre=True)), VoteReply)

    assert [reply.granted for reply in replies] == [False]


def test_a_voter_that_has_just_started_does_not_stand_for_election_either() -> None:
    raft = replica(entries=leased_log(), election_timeout=(150, 300))

    while raft.deadline_ms < 300.0:
        raft.tick(raft.deadline_ms)

    assert raft.role == "follower"
    assert only(settle(raft), RequestVote) == []


def test_a_vote_that_the_leader_itself_asked_for_is_given_at_once() -> None:
    """Thesis §3.10: the leader has given up its lease."""
    raft = replica(entries=leased_log())

    replies = only(told(raft, "b", request_vote(2, force=True)), VoteReply)

    assert [reply.granted for reply in replies] == [True]


def test_without_leases_a_voter_that_has_just_started_votes() -> None:
    raft = replica()

    replies = only(told(raft, "b", request_vote(2)), VoteReply)

    assert [reply.granted for reply in replies] == [True]


def test_a_voter_helps_nobody_into_office_for_as_long_as_the_group_agreed() -> None:
    """Whatever its own settings say: a shorter patience and no check_quorum."""
    raft = replica(
        entries=leased_log(), election_timeout=(20, 40), heartbeat_interval=5, check_quorum=False, pre_vote=False
    )
    raft.tick(100.0)
    raft.step("c", append(1, (1, 1)))

    raft.tick(100.0 + LEASE_MS - 1)
    early = only(told(raft, "b", request_vote(2)), VoteReply)
    role = raft.role
    raft.tick(100.0 + LEASE_MS)
    later = only(told(raft, "b", request_vote(2)), VoteReply)

    assert not any(reply.granted for reply in early)
    assert role == "follower"
    assert [reply.granted for reply in later] == [True]


def test_a_later_term_does_not_make_a_voter_forget_whom_it_heard() -> None:
    """The lease is by clocks, not by terms: a candidate that never won may have raised the term."""
    raft = replica(entries=leased_log())
    raft.tick(1000.0)
    raft.step("c", append(1, (1, 1)))
    raft.step("c", AppendReply(5, 0))
    assert raft.term == 5

    replies = only(told(raft, "b", request_vote(5)), VoteReply)

    assert [reply.granted for reply in replies] == [False]


def test_a_lost_connection_does_not_shorten_what_a_voter_promised() -> None:
    raft = replica(entries=leased_log())
    raft.tick(1000.0)
    raft.step("c", append(1, (1, 1)))

    raft.on_peer_lost("c")

    assert raft.deadline_ms >= 1000.0 + LEASE_MS
    assert only(told(raft, "b", request_vote(2)), VoteReply) == []


# --- both together --------------------------------------------------------------------------------------------------


def test_nobody_leads_while_a_leader_that_was_cut_off_has_its_lease() -> None:
    cluster = Cluster("abc", heartbeat_interval=50)
    cluster.elect("a")
    cluster["a"].set_lease(LEASE_MS)
    cluster.run()
    cluster.pass_time(200)
    assert cluster["a"].lease_until_ms > cluster.now_ms

    cluster.isolate("a")

    for _ in range(200):
        cluster.pass_time(5, step_ms=5)
        if cluster.leaders not in ([], ["a"]):
            break
    assert cluster.leaders not in ([], ["a"])
    assert cluster["a"].lease_until_ms <= cluster.now_ms


# --- how old a state may be -----------------------------------------------------------------------------------------


def test_a_proof_counts_once_its_entry_is_applied() -> None:
    freshness = Freshness()
    freshness.prove(1000.0, 7)

    before = freshness.until_ms(100, 6)
    after = freshness.until_ms(100, 7)

    assert before == float("-inf")
    assert after == pytest.approx(1000.0 + 90.0), "a tenth less: this clock may be slow"


def test_a_proof_that_says_less_is_ignored() -> None:
    freshness = Freshness()
    freshness.prove(1000.0, 7)
    freshness.prove(900.0, 9)
    freshness.prove(1100.0, 5)

    assert freshness.until_ms(0, 6) == float("-inf"), "entry 7 is what was asked for at 1000"
    assert freshness.until_ms(0, 7) == 1100.0
