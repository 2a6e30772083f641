"""Raft §5.2: how is a leader chosen?"""

import pytest
from raft_cluster import Cluster
from raft_replicas import (
    append,
    campaign,
    entry,
    leader,
    log_of,
    only,
    replica,
    request_vote,
    settle,
    time_out,
    told,
)

from aegis_replication.consensus.messages import AppendEntries, RequestVote, TimeoutNow, VoteReply
from aegis_replication.log import EntryId


def test_a_follower_that_hears_nothing_starts_an_election() -> None:
    """Figure 2, Followers: if election timeout elapses without receiving AppendEntries or granting vote: candidate."""
    raft = replica(pre_vote=False, term=3)

    time_out(raft)

    assert (raft.role, raft.term) == ("candidate", 4)


def test_nothing_happens_before_the_election_timeout() -> None:
    """§5.2: a server remains in follower state as long as it receives valid RPCs (and for a timeout after)."""
    raft = replica()

    raft.tick(raft.deadline_ms - 0.01)

    assert raft.role == "follower"


def test_an_append_from_the_leader_restarts_the_clock() -> None:
    """Figure 2, Followers."""
    raft = replica(term=2)
    raft.tick(raft.deadline_ms - 1)
    raft.step("b", append(2))

    raft.tick(149 + 149)

    assert (raft.role, raft.leader) == ("follower", "b")
    assert raft.deadline_ms >= 149 + 150


def test_granting_a_vote_restarts_the_clock() -> None:
    """Figure 2, Followers: ... or granting vote to candidate."""
    raft = replica(term=2)
    raft.tick(raft.deadline_ms - 1)
    now = raft.deadline_ms - 1

    raft.step("b", request_vote(3))

    assert raft.deadline_ms >= now + 150


def test_refusing_a_vote_does_not_restart_the_clock() -> None:
    """Figure 2, Followers: only a granted vote buys a candidate time; a hopeless one can't keep others from trying."""
    raft = replica(term=2, log=(1, 2, 2))
    before = raft.deadline_ms
    raft.tick(before - 1)

    raft.step("b", request_vote(3, last=(1, 1)))

    assert raft.term == 3
    assert raft.deadline_ms == before


def test_an_append_of_an_earlier_term_does_not_restart_the_clock() -> None:
    """Figure 2, Followers: AppendEntries from *current* leader."""
    raft = replica(term=5)
    before = raft.deadline_ms
    raft.tick(before - 1)

    raft.step("b", append(4))

    assert raft.deadline_ms == before


def test_a_candidate_enters_the_next_term_and_votes_for_itself() -> None:
    """Figure 2, Candidates: increment currentTerm, vote for self, reset election timer, send RequestVote to all."""
    raft = replica(pre_vote=False, term=3, voters="abcde", log=(1, 3))
    before = raft.deadline_ms

    time_out(raft)
    sent = settle(raft)

    assert (raft.term, raft.voted_for) == (4, "a")
    assert raft.deadline_ms >= before + 150
    assert sent == [(peer, RequestVote(4, EntryId(3, 2))) for peer in "bcde"]


@pytest.mark.parametrize(
    ("voters", "granting", "role"),
    [
        ("a", "", "leader"),
        ("ab", "", "candidate"),
        ("ab", "b", "leader"),
        ("abc", "", "candidate"),
        ("abc", "b", "leader"),
        ("abcd", "b", "candidate"),
        ("abcd", "bc", "leader"),
        ("abcde", "b", "candidate"),
        ("abcde", "bc", "leader"),
        ("abcde", "bcde", "leader"),
    ],
)
def test_votes_of_a_majority_win(voters: str, granting: str, role: str) -> None:
    """§5.2: a candidate wins an election if it receives votes from a majority of the servers in the full cluster."""
    raft = campaign(replica(voters=voters))

    for voter in granting:
        raft.step(voter, VoteReply(raft.term, True))

    assert raft.role == role


def test_a_voter_is_counted_once_however_often_it_answers() -> None:
    """§5.2: votes are counted by voter; a network may deliver an answer twice."""
    raft = campaign(replica(voters="abcde"))

    for _ in range(3):
        raft.step("b", VoteReply(raft.term, True))

    assert raft.role == "candidate"


def test_votes_of_learners_and_strangers_are_not_counted() -> None:
    """§5.2: servers in the full cluster; thesis §4.2.1: learners have no vote."""
    raft = campaign(replica(voters="abcde", learners="xy"))

    for source in "xyz":
        raft.step(source, VoteReply(raft.term, True))

    assert raft.role == "candidate"
    assert raft.dropped == 1  # the stranger's


def test_a_late_refusal_does_not_take_back_a_granted_vote() -> None:
    """§5.2: a voter that granted has granted, whatever an older answer says."""
    raft = campaign(replica(voters="abcde"))

    raft.step("b", VoteReply(raft.term, True))
    raft.step("b", VoteReply(raft.term, False))
    raft.step("c", VoteReply(raft.term, True))

    assert raft.is_leader


def test_a_voter_votes_for_one_candidate_a_term() -> None:
    """§5.2: each server will vote for at most one candidate in a given term, first come, first served."""
    raft = replica(term=3)

    first = told(raft, "b", request_vote(4))
    second = told(raft, "c", request_vote(4))

    assert first == [("b", VoteReply(4, True))]
    assert second == [("c", VoteReply(4, False))]


def test_the_same_candidate_gets_its_vote_again() -> None:
    """Figure 2, RequestVote 2: votedFor is null *or candidateId*; the first answer may be lost."""
    raft = replica(term=3)
    told(raft, "b", request_vote(4))

    again = told(raft, "b", request_vote(4))

    assert again == [("b", VoteReply(4, True))]


def test_a_candidate_refuses_its_rivals_in_its_own_term() -> None:
    """§5.2: it has voted for itself."""
    raft = campaign(replica())

    sent = told(raft, "b", request_vote(raft.term))

    assert sent == [("b", VoteReply(raft.term, False))]


def test_a_candidate_follows_a_leader_of_its_own_term() -> None:
    """§5.2: if the leader's term is at least as large as the candidate's, the candidate recognizes it as legitimate."""
    raft = campaign(replica(log=(1, 1)))

    sent = told(raft, "b", append(raft.term, (1, 2), [raft.term]))

    assert (raft.role, raft.leader) == ("follower", "b")
    assert raft.log.last_index == 3, "the append that showed the leader counts as well"
    assert len(sent) == 1


def test_a_candidate_ignores_a_leader_of_an_earlier_term() -> None:
    """§5.2: if the term in the RPC is smaller, the candidate rejects it and continues in candidate state."""
    raft = campaign(replica(term=4))

    raft.step("b", append(4))

    assert raft.role == "candidate"


def test_an_election_that_nobody_wins_is_followed_by_another() -> None:
    """§5.2: each candidate will time out and start a new election by incrementing its term."""
    raft = replica(pre_vote=False)
    time_out(raft)
    settle(raft)
    term = raft.term

    time_out(raft)

    assert (raft.role, raft.term) == ("candidate", term + 1)


def test_a_lost_election_ends_before_its_timeout() -> None:
    """§5.2: a candidate that a majority refuses can't win any more, and listens instead."""
    raft = campaign(replica(voters="abcde"))

    for voter in "bcd":
        raft.step(voter, VoteReply(raft.term, False))

    assert raft.role == "follower"


def test_election_timeouts_are_spread_evenly_over_their_range() -> None:
    """§5.2: election timeouts are chosen randomly from a fixed interval (e.g., 150-300 ms)."""
    drawn = [replica(seed=seed).deadline_ms for seed in range(300)]

    assert 150 <= min(drawn) < 160
    assert 290 < max(drawn) <= 300
    assert 60 < sum(deadline < 187.5 for deadline in drawn) < 90, "about a quarter in the first quarter"


def test_election_timeouts_are_drawn_anew_at_each_election() -> None:
    """§5.2: each candidate restarts its randomized election timeout at the start of an election."""
    raft = replica(pre_vote=False)
    lengths = []
    for _ in range(5):
        now = raft.deadline_ms
        time_out(raft)
        settle(raft)
        lengths.append(round(raft.deadline_ms - now, 6))

    assert len(set(lengths)) == 5


def test_a_leader_sends_heartbeats_to_all_at_once_and_then_regularly() -> None:
    """Figure 2, Leaders: upon election send empty AppendEntries to each server; repeat during idle periods."""
    raft = campaign(replica(voters="abcde"))
    for voter in "bc":
        raft.step(voter, VoteReply(raft.term, True))
    first = raft.take_output()

    time_out(raft)
    beats = settle(raft)

    assert [target for target, _ in first.messages] == list("bcde")
    assert [target for target, message in beats if message == AppendEntries(raft.term, EntryId(0, 0), 0, 0)] == list(
        "bcde"
    )


def test_a_single_voter_elects_itself() -> None:
    """§5.2: a majority of one is one."""
    raft = replica(voters="a")

    time_out(raft)
    settle(raft)

    assert raft.is_leader


def test_a_learner_never_campaigns() -> None:
    """Thesis §4.2.1: a non-voting member has no election timeout that matters."""
    raft = replica("x", voters="abc", learners="x")

    for _ in range(5):
        time_out(raft)

    assert (raft.role, raft.term) == ("follower", 1)
    assert not settle(raft)


def test_a_learner_answers_a_candidate_because_it_may_be_a_voter_without_knowing() -> None:
    """Thesis §4.2.1: its promotion may be in entries that it doesn't have yet, and its vote needed to send them."""
    raft = replica("x", voters="abc", learners="x")

    assert told(raft, "b", request_vote(2)) == [("b", VoteReply(2, True))]


def test_a_removed_node_does_not_campaign() -> None:
    """§6: servers that are not in the configuration must not disturb it."""
    entries = [*log_of(1), entry(1, 2, b"x")]
    raft = replica("z", entries=entries, voters="abc")

    for _ in range(3):
        time_out(raft)

    assert raft.role == "follower"


def test_timeout_now_starts_an_election_without_waiting() -> None:
    """Thesis §3.10: the target starts a new election at once, and says in it that it was asked to."""
    raft = replica(term=2)
    raft.step("b", append(2))

    sent = told(raft, "b", TimeoutNow(2))

    assert raft.term == 3
    assert only(sent, RequestVote) == [RequestVote(3, raft.log.last, force=True)] * 2


def test_timeout_now_counts_only_from_the_leader() -> None:
    """Thesis §3.10."""
    raft = replica(term=2)
    raft.step("b", append(2))

    raft.step("c", TimeoutNow(2))

    assert (raft.role, raft.dropped) == ("follower", 1)


def test_a_term_has_one_leader_however_the_votes_fall() -> None:
    """Figure 3, Election Safety: at most one leader can be elected in a given term."""
    leaders: dict[int, str] = {}
    for seed in range(25):
        cluster = Cluster("abcde", seed=seed, pre_vote=False)
        for _ in range(20):
            cluster.cut(*cluster.random.sample("abcde", 2))
            if cluster.random.random() < 0.4:
                cluster.heal()
            cluster.pass_time(cluster.random.choice((30, 100, 200)), step_ms=25)
            for name in cluster.leaders:
                assert leaders.setdefault(cluster[name].term, name) == name, f"seed {seed}"
        leaders.clear()


def test_a_second_leader_in_a_term_is_not_believed() -> None:
    """Figure 3, Election Safety: can't be; so its message is dropped and counted."""
    raft = replica(term=2, log=(1, 2))
    told(raft, "b", append(2, (2, 2)))

    assert told(raft, "c", append(2, (2, 2), [2])) == []
    assert (raft.leader, raft.dropped, raft.log.last_index) == ("b", 1, 2)


def test_a_leader_does_not_believe_in_another_one_of_its_term() -> None:
    """Figure 3, Election Safety, seen by the leader itself."""
    raft = leader()

    raft.step("b", append(raft.term))

    assert raft.is_leader
    assert raft.dropped == 1
