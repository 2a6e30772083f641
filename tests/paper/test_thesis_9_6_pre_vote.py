"""Raft thesis §9.6: how does a node ask whether it could win, without disturbing a leader that others hear?"""

from raft_cluster import Cluster
from raft_replicas import (
    append,
    leader,
    only,
    replica,
    replicating,
    request_vote,
    settle,
    time_out,
    told,
)

from aegis_replication.consensus.messages import AppendReply, RequestVote, VoteReply
from aegis_replication.log import EntryId


def test_a_pre_candidate_enters_no_term_and_votes_for_nobody() -> None:
    """A candidate only increments its term if it first learns from a majority that they would be willing to vote."""
    raft = replica(term=3, log=(1, 3))

    time_out(raft)
    output = raft.take_output()

    assert (raft.role, raft.term, raft.voted_for) == ("pre-candidate", 3, None)
    assert output.messages == [(peer, RequestVote(4, EntryId(3, 2), pre=True)) for peer in "bc"]
    assert output.write is None


def test_a_pre_candidate_forgets_its_leader() -> None:
    """Else it would keep others, and itself, from believing that the leader is gone."""
    raft = replica(term=3)
    raft.step("b", append(3))

    time_out(raft)

    assert raft.leader is None


def test_a_majority_of_pre_votes_starts_the_election() -> None:
    """As above, the other side."""
    raft = replica(term=3, voters="abcde")
    time_out(raft)

    raft.step("b", VoteReply(4, True, pre=True))
    assert raft.role == "pre-candidate"
    raft.step("c", VoteReply(4, True, pre=True))

    assert (raft.role, raft.term, raft.voted_for) == ("candidate", 4, "a")


def test_pre_votes_for_another_term_do_not_count() -> None:
    """§5.1: an answer to an earlier campaign."""
    raft = replica(term=3)
    time_out(raft)

    raft.step("b", VoteReply(3, True, pre=True))
    raft.step("c", VoteReply(9, True, pre=True))

    assert (raft.role, raft.term) == ("pre-candidate", 3)


def test_votes_are_not_pre_votes() -> None:
    """A late vote of this term's lost election says nothing about the next."""
    raft = replica(term=3)
    time_out(raft)

    raft.step("b", VoteReply(3, True))

    assert raft.role == "pre-candidate"


def test_pre_votes_are_not_votes() -> None:
    """A late pre-vote binds nobody, so it elects nobody."""
    raft = replica(term=3, voters="abcde")
    time_out(raft)
    for voter in "bc":
        raft.step(voter, VoteReply(4, True, pre=True))
    settle(raft)

    for voter in "de":
        raft.step(voter, VoteReply(4, True, pre=True))

    assert raft.role == "candidate"


def test_a_pre_vote_binds_nobody() -> None:
    """It can be given to any number of candidates, and moves neither term nor vote nor clock."""
    raft = replica(term=3)
    before = raft.deadline_ms

    answers = [told(raft, source, request_vote(4, pre=True)) for source in "bcb"]

    assert answers == [[(source, VoteReply(4, True, pre=True))] for source in "bcb"]
    assert (raft.term, raft.voted_for, raft.deadline_ms) == (3, None, before)


def test_a_pre_vote_is_refused_while_the_leader_is_heard() -> None:
    """A server grants only if it has not heard from a valid leader for a baseline election timeout."""
    raft = replica(term=3)
    raft.step("b", append(3))
    settle(raft)
    raft.tick(149)
    assert told(raft, "c", request_vote(4, pre=True)) == [("c", VoteReply(3, False, pre=True))]

    raft.tick(150)

    assert told(raft, "c", request_vote(4, pre=True)) == [("c", VoteReply(4, True, pre=True))]


def test_a_pre_vote_is_refused_to_a_log_that_is_behind() -> None:
    """... or if the candidate's log is not sufficiently up-to-date."""
    raft = replica(term=3, log=(1, 3))

    assert told(raft, "b", request_vote(4, last=(1, 50), pre=True)) == [("b", VoteReply(3, False, pre=True))]


def test_a_leader_refuses_pre_votes() -> None:
    """It hears itself."""
    raft = replicating()

    sent = told(raft, "b", request_vote(raft.term + 1, pre=True))

    assert sent == [("b", VoteReply(raft.term, False, pre=True))]


def test_a_pre_vote_of_an_earlier_term_is_answered_with_the_own_one() -> None:
    """Never dropped: a candidate behind would ask for ever, and a cluster of mixed terms would elect nobody."""
    raft = replica(term=8)

    assert told(raft, "b", request_vote(5, pre=True)) == [("b", VoteReply(8, False, pre=True))]


def test_a_refusal_from_a_later_term_takes_the_pre_candidate_there() -> None:
    """Else nodes with the longest log and nodes in the highest term would block each other."""
    raft = replica(term=3)
    time_out(raft)

    raft.step("b", VoteReply(8, False, pre=True))

    assert (raft.role, raft.term) == ("follower", 8)


def test_the_longest_log_and_the_highest_term_do_not_block_each_other() -> None:
    """As above, end to end: one node has the term, the others have the log."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.isolate("c")
    cluster.put()
    cluster.run()
    for _ in range(3):
        time_out(cluster["c"])
        cluster["c"].step("a", VoteReply(cluster["c"].term + 1, True, pre=True))
        cluster["c"].step("b", VoteReply(cluster["c"].term + 1, True, pre=True))
        cluster.run()
    assert cluster["c"].term > cluster["a"].term
    cluster.crash("a")
    cluster.heal()

    cluster.pass_time(3000)

    assert cluster.leaders == ["b"]
    assert cluster["c"].log.last == cluster["b"].log.last


def test_a_lost_pre_vote_ends_before_its_timeout() -> None:
    """A majority that would not vote leaves nothing to wait for."""
    raft = replica(term=3)
    time_out(raft)

    for voter in "bc":
        raft.step(voter, VoteReply(3, False, pre=True))

    assert (raft.role, raft.term) == ("follower", 3)


def test_a_pre_candidate_follows_a_leader_of_its_term() -> None:
    """The leader was only slow."""
    raft = replica(term=3)
    time_out(raft)

    raft.step("b", append(3))

    assert (raft.role, raft.leader, raft.term) == ("follower", "b", 3)


def test_a_pre_candidate_asks_again_when_nobody_answers() -> None:
    """§5.2, for pre-votes; the term stays."""
    raft = replica(term=3)
    time_out(raft)
    settle(raft)

    time_out(raft)

    assert (raft.role, raft.term) == ("pre-candidate", 3)
    assert len(only(settle(raft), RequestVote)) == 2


def test_a_node_that_was_cut_off_disturbs_nobody_when_it_returns() -> None:
    """A partitioned server will not be able to increment its term."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.put()
    cluster.isolate("c")
    cluster.pass_time(5000, step_ms=50)
    term = cluster["a"].term
    cluster.heal()

    cluster.pass_time(1000)

    assert (cluster.leaders, cluster["a"].term, cluster["c"].term) == (["a"], term, term)


def test_without_pre_vote_a_node_that_was_cut_off_returns_with_a_later_term() -> None:
    """The same with the switch off shows that the test above can fail; the leader must step down and does."""
    cluster = Cluster("abc", pre_vote=False)
    cluster.elect("a")
    cluster.isolate("c")
    cluster.pass_time(3000, step_ms=50)
    term = cluster["a"].term
    cluster.heal()

    cluster.pass_time(2000)

    assert cluster[cluster.leader].term > term


def test_a_leader_learns_of_a_later_term_from_a_node_that_refuses_its_appends() -> None:
    """§5.1: a node that got ahead must say so, or it would neither follow nor be followed."""
    cluster = Cluster("abc")
    cluster.elect("a")
    term = cluster["a"].term
    ahead = cluster["c"]
    cluster.isolate("c")
    time_out(ahead)
    for voter in "ab":
        ahead.step(voter, VoteReply(ahead.term + 1, True, pre=True))
    cluster.run()
    assert ahead.term > term
    cluster.heal()

    cluster.pass_time(1500)

    assert len({raft.term for raft in cluster.rafts.values()}) == 1
    assert len(cluster.leaders) == 1


def test_losing_the_leaders_connection_starts_a_pre_vote_early_and_no_election() -> None:
    """A dead process is noticed at once; a mere broken connection costs nobody the leader."""
    raft = replica(term=3)
    raft.step("b", append(3))
    settle(raft)
    now = 0.0

    raft.on_peer_lost("b")
    assert raft.deadline_ms <= now + 50
    time_out(raft)

    assert (raft.role, raft.term) == ("pre-candidate", 3)


def test_losing_another_connection_means_nothing_to_a_follower() -> None:
    """As above."""
    raft = replica(term=3)
    raft.step("b", append(3))
    before = raft.deadline_ms

    raft.on_peer_lost("c")

    assert raft.deadline_ms == before


def test_without_pre_vote_a_lost_connection_starts_nothing_early() -> None:
    """An election must never start for that."""
    raft = replica(term=3, pre_vote=False)
    raft.step("b", append(3))
    before = raft.deadline_ms

    raft.on_peer_lost("b")

    assert raft.deadline_ms == before


def test_a_node_that_lost_its_leaders_connection_grants_pre_votes_at_once() -> None:
    """It no longer hears a leader, so that all who lost it can agree within milliseconds."""
    raft = replica(term=3)
    raft.step("b", append(3))
    settle(raft)

    raft.on_peer_lost("b")

    assert told(raft, "c", request_vote(4, pre=True)) == [("c", VoteReply(4, True, pre=True))]


def test_a_dead_leader_is_replaced_within_a_heartbeat_of_its_connections_breaking() -> None:
    """As above, end to end: nobody waits for the election timeout."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.crash("a")
    for name in "bc":
        cluster[name].on_peer_lost("a")

    cluster.pass_time(60, step_ms=1)

    assert cluster.leader in "bc"


def test_a_broken_connection_does_not_unseat_a_leader_that_others_hear() -> None:
    """As above, the other side."""
    cluster = Cluster("abc")
    cluster.elect("a")
    term = cluster["a"].term
    cluster["b"].on_peer_lost("a")
    cluster["a"].on_peer_lost("b")

    cluster.pass_time(1000)

    assert (cluster.leaders, cluster["a"].term) == (["a"], term)


def test_any_cut_that_leaves_a_connected_majority_leaves_or_finds_a_leader() -> None:
    """Full omission faults: 1, 2, 3 linked, 4 only to 2, 5 only to 3: one stable leader, and no new terms."""
    links = {("a", "b"), ("a", "c"), ("b", "c"), ("d", "b"), ("e", "c")}
    for seed in range(5):
        cluster = Cluster("abcde", seed=seed)
        cluster.pass_time(1000)
        for one in "abcde":
            for other in "abcde":
                if one < other and (one, other) not in links and (other, one) not in links:
                    cluster.cut(one, other)
        cluster.pass_time(3000, step_ms=20)
        leading, term = cluster.leader, cluster[cluster.leader].term

        cluster.pass_time(3000, step_ms=20)

        assert (cluster.leader, cluster[leading].term) == (leading, term), f"seed {seed}"
        assert cluster["a"].log.committed == cluster[leading].log.committed


def test_one_way_cuts_never_leave_a_connected_majority_without_a_leader() -> None:
    """PreVote and CheckQuorum together: neither a deaf leader nor a mute one may hold the others up."""
    for seed in range(20):
        cluster = Cluster("abcde", seed=seed)
        cluster.pass_time(800, step_ms=20)
        good = set(cluster.random.sample("abcde", 3))
        for one in "abcde":
            for other in "abcde":
                if one != other and not {one, other} <= good and cluster.random.random() < 0.5:
                    cluster.cut(one, other, one_way=True)

        cluster.pass_time(6000, step_ms=20)
        new = cluster.put(b"x") if cluster.leaders else None
        cluster.pass_time(500, step_ms=20)

        assert new is not None, f"seed {seed}: nobody leads"
        assert cluster[cluster.leader].log.committed >= new.index, f"seed {seed}"


def test_a_leader_that_nobody_follows_does_not_refuse_for_ever() -> None:
    """CheckQuorum: a leader's refusal of pre-votes ends with its office."""
    raft = leader()
    raft.tick(raft.deadline_ms + 500)
    settle(raft)

    sent = told(raft, "b", request_vote(raft.term + 1, pre=True))

    assert sent == [("b", VoteReply(raft.term + 1, True, pre=True))]
    assert not only(sent, AppendReply)
