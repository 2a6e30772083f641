"""Raft §5.5 and §5.6: what do crashes, lost and repeated messages, and slow clocks do?"""

from raft_cluster import Cluster
from raft_replicas import (
    COMMANDS,
    append,
    leader,
    only,
    replica,
    replicating,
    request_vote,
    settle,
    terms_of,
    time_out,
    told,
)

from aegis_replication.consensus.messages import AppendEntries, AppendReply, VoteReply
from aegis_replication.log import EntryId


def test_an_append_that_comes_twice_changes_nothing() -> None:
    """§5.5: Raft RPCs are idempotent."""
    raft = replica(term=2)
    message = append(2, (1, 1), [2, 2], commit=2)

    first = told(raft, "b", message)
    second = told(raft, "b", message)

    assert terms_of(raft) == [1, 2, 2]
    assert only(first, AppendReply) == only(second, AppendReply) == [AppendReply(2, 0, 3)]


def test_a_vote_request_that_comes_twice_gets_the_same_answer() -> None:
    """§5.5: if a server crashes after completing an RPC but before responding, it receives the same RPC again."""
    raft = replica(term=2)

    assert told(raft, "b", request_vote(3)) == told(raft, "b", request_vote(3)) == [("b", VoteReply(3, True))]


def test_a_crashed_follower_is_brought_up_when_it_returns() -> None:
    """§5.5: the leader retries indefinitely."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.put(b"before")
    cluster.crash("c")
    for number in range(10):
        cluster.put(b"%d" % number)

    cluster.start("c")
    cluster.pass_time(200)

    assert cluster.applied["c"] == cluster.applied["a"]


def test_all_can_crash_at_once_and_lose_nothing_acknowledged() -> None:
    """§5.5, Figure 2: persistent state. (Term and vote in memory only once let committed entries be overwritten.)"""
    cluster = Cluster("abc")
    cluster.elect("a")
    new = [cluster.put(b"%d" % number).id for number in range(5)]
    term = cluster["a"].term
    for name in "abc":
        cluster.crash(name)

    cluster.start("c")
    cluster.pass_time(400)
    cluster.start("b")
    cluster.pass_time(1000)

    assert cluster[cluster.leader].term > term
    assert [held for held in cluster.applied[cluster.leader] if held in new] == new


def test_what_was_committed_before_a_restart_is_committed_again_not_assumed() -> None:
    """Figure 2, commitIndex is volatile; a restarted node knows of nothing committed but its snapshot."""
    raft = replica(log=(1, 2, 2, 2))

    assert (raft.log.committed, raft.applied_to) == (0, 0)
    assert raft.take_output().committed == []


def test_a_candidate_that_crashes_does_not_vote_for_another_in_its_term() -> None:
    """§5.5 with Figure 2: its own vote is on disk before anybody hears of the election."""
    cluster = Cluster("abcde", pre_vote=False)
    cluster.elect("a")
    cluster.isolate("a")
    cluster.pass_time(10)
    time_out(cluster["b"])
    cluster.run(1)  # the vote is written, the requests are on their way
    term = cluster["b"].term
    cluster.crash("b")
    cluster.start("b")

    sent = told(cluster["b"], "c", request_vote(term))

    assert only(sent, VoteReply) == [VoteReply(term, False)]


def test_a_voter_that_crashes_between_voting_and_telling_votes_once() -> None:
    """§5.5: the vote is durable before it is told; a lost one was told to nobody."""
    cluster = Cluster("abc")
    cluster.run()
    cluster.held_disks.add("c")
    cluster["c"].step("a", request_vote(2))
    cluster.take("c")
    assert not [message for source, _, message in cluster.said if source == "c" and isinstance(message, VoteReply)]
    cluster.crash("c")
    cluster.start("c")

    sent = told(cluster["c"], "b", request_vote(2))

    assert only(sent, VoteReply) == [VoteReply(2, True)]


def test_late_acks_and_refusals_in_any_order_never_commit_too_much() -> None:
    """§5.5: messages come late, twice and out of order; only what is on a majority may commit."""
    raft = replicating(voters="abcde")
    start = raft.log.last_index
    for number in range(6):
        raft.propose(COMMANDS, b"%d" % number, count=1)
        settle(raft)
    replies = [AppendReply(raft.term, 0, start + count) for count in (1, 4, 2, 0)]
    replies.append(AppendReply(raft.term, 0, 0, refused=start + 5, hint=EntryId(1, 1)))

    for reply in replies:
        raft.step("b", reply)
    assert raft.log.committed == start
    for reply in replies:
        raft.step("c", reply)

    assert raft.log.committed == start + 4


def test_a_lost_append_is_sent_again() -> None:
    """§5.3, §5.5: if followers crash or run slowly, or if network packets are lost, the leader retries."""
    raft = replicating()
    new = raft.propose(COMMANDS, b"x", count=1)
    settle(raft)  # and the network loses it

    again: list[AppendEntries] = []
    for _ in range(5):
        time_out(raft)
        for target, message in settle(raft):
            if message.entries:
                again.append(message)
            raft.step(target, AppendReply(raft.term, 0, raft.log.committed))

    assert again
    assert all(message.entries == (new,) for message in again)


def test_a_lost_ack_is_made_good_by_the_next_heartbeat() -> None:
    """§5.5: the follower says again what it holds, and nothing need be sent twice."""
    follower = replica("b", term=2)
    told(follower, "a", append(2, (1, 1), [2, 2]))  # and its ack is lost

    sent = told(follower, "a", append(2, (1, 1)))

    assert only(sent, AppendReply) == [AppendReply(2, 0, 3)]


def test_an_ack_of_a_slow_disk_is_not_taken_for_a_loss_of_the_follower() -> None:
    """§5.6: a follower whose disk takes long still answers that it is there."""
    raft = replica("b", term=2)
    settle(raft)
    raft.step("a", append(2, (1, 1), [2], round=0))
    write = raft.take_output().write
    assert write is not None

    raft.step("a", append(2, (2, 2), [2]))
    contact = raft.take_output()

    assert contact.messages == [("a", AppendReply(2, 0, matched=1))], "no more than was durable before"


def test_a_stable_leader_stays() -> None:
    """§5.6: as long as broadcast time << election timeout, a steady leader is maintained."""
    cluster = Cluster("abcde")
    cluster.pass_time(1000)
    first, term = cluster.leader, cluster[cluster.leader].term

    cluster.pass_time(20_000, step_ms=50)

    assert (cluster.leader, cluster[first].term) == (first, term)


def test_an_unavailable_majority_commits_nothing() -> None:
    """§5.6: Raft must not depend on timing for safety; without a majority nothing happens, and nothing is lost."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.crash("b")
    cluster.crash("c")
    committed = cluster["a"].log.committed

    new = cluster.propose(b"x")
    cluster.pass_time(100)

    assert cluster["a"].log.committed == committed < new.index


def test_a_node_that_slept_steps_down_before_it_reads_its_mail() -> None:
    """§5.6: a leader that was stopped for an election timeout may have a successor; its own clock tells it first."""
    raft = leader(log=(1, 2))
    raft.step("b", AppendReply(raft.term, 0, 1))

    raft.tick(raft.deadline_ms + 1000)

    assert raft.role == "follower"


def test_an_answer_after_leadership_was_lost_says_nothing_about_the_entry() -> None:
    """§8: an entry of a leader that lost its office may or may not commit: both are possible, neither is told."""
    for survives in (True, False):
        cluster = Cluster("abc", seed=3)
        cluster.elect("a")
        cluster.isolate("a")
        if survives:
            cluster.cuts -= {("a", "b"), ("b", "a")}
        new = cluster.propose(b"x", to="a")
        cluster.run()
        cluster.isolate("a")
        cluster.pass_time(1500)
        cluster.heal()
        cluster.pass_time(500)

        assert (new.id in cluster.applied["c"]) is survives


def test_a_candidates_campaign_does_not_outrun_its_disk() -> None:
    """§5.6: a disk that hangs must not leave a trail of terms."""
    raft = replica(pre_vote=False)
    settle(raft)
    time_out(raft)
    raft.take_output()
    term = raft.term

    for _ in range(5):
        time_out(raft)

    assert raft.term == term


def test_votes_that_come_before_the_own_one_is_durable_do_not_elect() -> None:
    """Figure 2: a leader's own vote counts like any other, when it is on disk."""
    raft = replica(pre_vote=False)
    settle(raft)
    time_out(raft)
    output = raft.take_output()
    assert output.messages == [], "nobody is asked before the own vote is durable"
    raft.step("b", VoteReply(raft.term, True))
    assert raft.role == "candidate"

    assert output.write is not None
    raft.on_persisted(output.write.number)

    assert raft.is_leader
