"""Raft §5.1 and Figure 2, "All Servers": what do terms decide?"""

from raft_replicas import (
    append,
    campaign,
    leader,
    only,
    replica,
    request_vote,
    settle,
    snapshot_meta,
    told,
)

from aegis_replication.consensus.messages import (
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    RequestVote,
    SnapshotReply,
    VoteReply,
)
from aegis_replication.log import EntryId


def test_a_replica_starts_as_a_follower() -> None:
    """§5.2: when servers start up, they begin as followers."""
    raft = replica(log=(1, 2, 3), term=5)

    assert (raft.role, raft.term, raft.leader) == ("follower", 5, None)


def test_a_later_term_in_any_message_is_adopted() -> None:
    """Figure 2, All Servers: if RPC request or response contains term T > currentTerm, set currentTerm = T."""
    messages = [
        append(9),
        request_vote(9),
        VoteReply(9, False),
        AppendReply(9, 0),
        InstallSnapshot(9, snapshot_meta(1, 1), 0, 1, b"x"),
        SnapshotReply(9, EntryId(1, 1)),
    ]

    for message in messages:
        raft = replica(term=3)
        raft.step("b", message)

        assert raft.term == 9, message


def test_a_candidate_that_sees_a_later_term_becomes_a_follower() -> None:
    """§5.1: if a candidate or leader discovers that its term is out of date, it immediately reverts to follower."""
    raft = campaign(replica())

    raft.step("b", AppendReply(raft.term + 1, 0))

    assert raft.role == "follower"


def test_a_leader_that_sees_a_later_term_becomes_a_follower() -> None:
    """§5.1, as above, for a leader."""
    raft = leader()

    raft.step("b", AppendReply(raft.term + 1, 0))

    assert (raft.role, raft.leader) == ("follower", None)


def test_a_vote_request_of_an_earlier_term_is_refused() -> None:
    """Figure 2, RequestVote 1: reply false if term < currentTerm; the reply names the current one."""
    raft = replica(term=5)

    sent = told(raft, "b", request_vote(4))

    assert sent == [("b", VoteReply(5, False))]
    assert raft.voted_for is None


def test_an_append_of_an_earlier_term_is_refused_with_the_current_term() -> None:
    """Figure 2, AppendEntries 1; a leader that was cut off learns from it that it leads no longer."""
    raft = replica(term=5, log=(1, 1))

    sent = told(raft, "b", append(4, (1, 2), [4]))

    assert sent == [("b", AppendReply(5, 0))]
    assert raft.log.last == (1, 2)


def test_a_snapshot_of_an_earlier_term_is_refused_with_the_current_term() -> None:
    """Figure 13, InstallSnapshot 1: reply immediately if term < currentTerm."""
    raft = replica(term=5)

    sent = told(raft, "b", InstallSnapshot(4, snapshot_meta(3, 9), 0, 1, b"x"))

    assert sent == [("b", SnapshotReply(5, EntryId(3, 9)))]


def test_acks_of_an_earlier_term_count_for_nothing() -> None:
    """§5.1: stale requests are rejected; acks and votes carry the term, so stale ones are known too."""
    raft = leader(term=4, log=(1, 4))
    acked = raft.log.last_index

    raft.step("b", AppendReply(raft.term - 1, 0, acked))
    raft.step("c", AppendReply(raft.term - 1, 0, acked))

    assert raft.log.committed == 0


def test_votes_of_an_earlier_term_count_for_nothing() -> None:
    """§5.1, as above: an answer that was on its way for an election too long."""
    raft = campaign(replica(term=4, log=(1, 4)))

    raft.step("b", VoteReply(raft.term - 1, True))
    raft.step("c", VoteReply(raft.term - 1, True))

    assert raft.role == "candidate"


def test_adopting_a_later_term_is_not_granting_a_vote() -> None:
    """§5.1: the term comes from any message; the vote only after the candidate's log was looked at."""
    raft = replica(log=(1, 3), term=3)

    sent = told(raft, "b", request_vote(7, last=(2, 50)))

    assert (raft.term, raft.voted_for) == (7, None)
    assert sent == [("b", VoteReply(7, False))]


def test_a_new_term_begins_with_a_vote_for_nobody() -> None:
    """Figure 2, votedFor: candidate that received vote in current term (or null if none)."""
    raft = replica(term=3, vote="c")

    told(raft, "b", request_vote(4))

    assert raft.voted_for == "b"


def test_stepping_down_within_a_term_keeps_the_vote() -> None:
    """Figure 2, votedFor: a leader that steps down in its own term has voted in it, for itself."""
    raft = leader()
    term = raft.term
    raft.tick(raft.deadline_ms + 10_000)
    assert (raft.role, raft.term) == ("follower", term)

    sent = told(raft, "b", request_vote(term))

    assert sent == [("b", VoteReply(term, False))]
    assert raft.voted_for == "a"


def test_a_leader_that_lost_to_an_append_of_its_term_keeps_the_vote() -> None:
    """Figure 2, votedFor, for a candidate that hears of the winner."""
    raft = campaign(replica())
    raft.step("b", append(raft.term))

    sent = told(raft, "c", request_vote(raft.term))

    assert only(sent, VoteReply) == [VoteReply(raft.term, False)]


def test_a_restart_does_not_clear_the_vote() -> None:
    """Figure 2, persistent state: term and vote survive; else two leaders could win one term."""
    raft = replica(term=6, vote="c")

    assert told(raft, "b", request_vote(6)) == [("b", VoteReply(6, False))]
    assert told(raft, "c", request_vote(6)) == [("c", VoteReply(6, True))]


def test_a_restart_does_not_go_back_to_an_earlier_term() -> None:
    """Figure 2, persistent state: currentTerm."""
    raft = replica(term=6)

    campaign(raft)

    assert raft.term == 7


def test_only_a_message_of_the_own_term_reaches_the_role() -> None:
    """§5.1: a leader of term 3 doesn't count an ack that its follower gave to the leader of term 2."""
    raft = leader(term=2, log=(1, 2))
    settle(raft)

    told(raft, "b", AppendReply(2, 0, 2))

    assert raft.current_role.progress["b"].match == 0  # type: ignore[attr-defined]


def test_terms_are_in_every_message() -> None:
    """§5.1: current terms are exchanged whenever servers communicate."""
    for kind in (RequestVote, VoteReply, AppendEntries, AppendReply, InstallSnapshot, SnapshotReply):
        assert kind.__struct_fields__[0] == "term"
