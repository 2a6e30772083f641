"""Raft §8; thesis §6.4: how does a leader answer a read without writing, and never with an old value?"""

import pytest
from raft_cluster import Cluster
from raft_replicas import (
    COMMANDS,
    append,
    leader,
    only,
    replica,
    replicating,
    settle,
    time_out,
)

from aegis_replication.consensus.messages import AppendEntries, AppendReply
from aegis_replication.consensus.reads import ReadQueue
from aegis_replication.errors import NotLeader


def test_a_read_waits_until_a_majority_has_answered_a_later_round() -> None:
    """§8: a leader must check whether it has been deposed before processing a read-only request."""
    raft = replicating(voters="abcde")

    ticket = raft.read()
    rounds = only(settle(raft), AppendEntries)
    assert {message.round for message in rounds} == {1}
    raft.step("b", AppendReply(raft.term, 1))
    assert raft.take_output().reads == []
    raft.step("c", AppendReply(raft.term, 1))

    assert raft.take_output().reads == [(ticket, raft.log.committed)]


def test_an_answer_to_an_earlier_round_confirms_nothing() -> None:
    """Thesis §6.4: it may have been sent before the read came, when this was still the leader."""
    raft = replicating()
    raft.read()
    settle(raft)

    raft.step("b", AppendReply(raft.term, 0))

    assert raft.take_output().reads == []


def test_an_answer_to_a_round_that_was_never_sent_is_dropped() -> None:
    """A peer's nonsense."""
    raft = replicating()
    raft.read()
    settle(raft)

    raft.step("b", AppendReply(raft.term, 99))

    assert raft.take_output().reads == []
    assert raft.dropped == 1


def test_rounds_rise_and_are_never_used_twice() -> None:
    """Thesis §6.4: the answers to one read's round must not be taken for another's."""
    raft = replicating()
    rounds = []

    for _ in range(5):
        raft.read()
        rounds.append({message.round for message in only(settle(raft), AppendEntries)})

    assert rounds == [{1}, {2}, {3}, {4}, {5}]


def test_answers_that_come_twice_after_a_pause_do_not_confirm_a_newer_read() -> None:
    """Thesis §6.4. (Late answers to a round sent twice once confirmed a read that came after the pause.)"""
    raft = replicating()
    raft.read()
    settle(raft)
    raft.step("b", AppendReply(raft.term, 1))
    settle(raft)

    newer = raft.read()
    settle(raft)
    raft.step("b", AppendReply(raft.term, 1))
    raft.step("c", AppendReply(raft.term, 1))

    assert raft.take_output().reads == []
    raft.step("c", AppendReply(raft.term, 2))
    assert raft.take_output().reads == [(newer, raft.log.committed)]


def test_one_round_serves_all_reads_that_wait() -> None:
    """Thesis §6.4: the leader can amortize the cost by accumulating read-only queries."""
    raft = replicating()
    tickets = [raft.read() for _ in range(10)]

    sent = only(settle(raft), AppendEntries)
    raft.step("b", AppendReply(raft.term, 1))

    assert len(sent) == 2
    assert [ticket for ticket, _ in raft.take_output().reads] == tickets


def test_a_read_that_comes_with_commands_rides_on_their_append() -> None:
    """Thesis §6.4: a round is any AppendEntries."""
    raft = replicating()
    raft.read()
    raft.propose(COMMANDS, b"x", count=1)

    sent = only(settle(raft), AppendEntries)

    assert [(message.round, len(message.entries)) for message in sent] == [(1, 1), (1, 1)]


def test_a_round_goes_out_even_when_a_followers_window_is_full() -> None:
    """Thesis §6.4: reads don't wait for a slow transfer."""
    raft = replicating(append_bytes_max=10, inflight_bytes_max=10)
    raft.propose(COMMANDS, b"x" * 100, count=1)
    settle(raft)
    raft.propose(COMMANDS, b"x" * 100, count=1)
    raft.read()

    sent = only(settle(raft), AppendEntries)

    assert [(message.round, message.entries) for message in sent] == [(1, ()), (1, ())]


def test_reads_wait_for_the_first_commit_of_the_leaders_own_term() -> None:
    """§8: a leader doesn't know which entries are committed until its no-op is. (Reads were once answered before.)"""
    raft = leader(log=(1, 2))
    ticket = raft.read()
    for peer in "bc":
        raft.step(peer, AppendReply(raft.term, 0))
    time_out(raft)
    assert {message.round for message in only(settle(raft), AppendEntries)} == {0}, "not even asked yet"

    raft.step("b", AppendReply(raft.term, 0, raft.log.last_index))
    settle(raft)
    raft.step("b", AppendReply(raft.term, 1, raft.log.last_index))

    assert raft.take_output().reads == [(ticket, raft.log.last_index)]


def test_a_read_sees_everything_committed_before_it_came() -> None:
    """Thesis §6.4: readIndex = commitIndex, once the leader's own term has committed."""
    raft = replicating()
    new = raft.propose(COMMANDS, b"x", count=1)
    settle(raft)
    raft.step("b", AppendReply(raft.term, 0, new.index))

    raft.read()
    settle(raft)
    raft.step("b", AppendReply(raft.term, 1, new.index))

    assert raft.take_output().reads[0][1] == new.index


def test_a_single_voter_confirms_its_reads_itself() -> None:
    """Thesis §6.4: its majority is itself."""
    raft = leader(voters="a")

    ticket = raft.read()

    assert raft.take_output().reads == [(ticket, raft.log.committed)]


def test_learners_confirm_no_reads() -> None:
    """Thesis §4.2.1: they have no say."""
    raft = replicating(voters="abc", learners="xy")
    raft.read()
    settle(raft)

    for peer in "xy":
        raft.step(peer, AppendReply(raft.term, 1))

    assert raft.take_output().reads == []


def test_only_a_leader_takes_reads() -> None:
    """§8."""
    raft = replica(term=2)
    raft.step("b", append(2))

    with pytest.raises(NotLeader, match="led by b"):
        raft.read()


def test_a_leader_that_loses_its_office_drops_its_reads_and_says_so() -> None:
    """§8: never silently: whoever waits must be told to ask elsewhere."""
    raft = replicating()
    raft.read()
    settle(raft)
    raft.read()

    raft.step("b", append(raft.term + 1))
    output = raft.take_output()

    assert output.reads == []
    assert "2 waiting reads dropped" in output.changes[-1].why


def test_tickets_are_never_used_twice_not_even_in_a_later_term() -> None:
    """A read that was dropped and one that is served must not be confused."""
    cluster = Cluster("abc")
    cluster.elect("a")
    first = cluster["a"].read()
    cluster.isolate("a")
    cluster.pass_time(1000)
    cluster.heal()
    cluster.pass_time(100)
    cluster.isolate(cluster.leader)
    cluster.pass_time(1000)
    if cluster.leader != "a":
        cluster.heal()
        cluster.pass_time(100)
        cluster.elect("a")

    assert not cluster.reads["a"]
    if cluster["a"].is_leader:
        assert cluster["a"].read() > first


def test_a_leader_in_a_minority_answers_no_read() -> None:
    """§8: another leader may have committed something newer. (A read was once answered before its round.)"""
    cluster = Cluster("abcde")
    cluster.elect("a")
    for other in "cde":
        cluster.cut("a", other)
        cluster.cut("b", other)
    cluster["a"].read()

    cluster.pass_time(2000)

    assert cluster.reads["a"] == []
    assert cluster.leader in "cde"


def test_a_heartbeat_repeats_a_round_that_was_lost() -> None:
    """§5.5: the message may be lost; the next heartbeat asks the same."""
    raft = replicating()
    raft.read()
    settle(raft)
    time_out(raft)

    assert {message.round for message in only(settle(raft), AppendEntries)} == {1}


def test_a_follower_tells_the_highest_round_of_this_term_only() -> None:
    """Thesis §6.4: acks are matched to term and round; a new leader counts its rounds anew."""
    raft = replica(term=2)
    raft.step("b", append(2, round=7))
    raft.step("b", append(2, round=3))
    raft.step("c", append(3, round=1))

    replies = only(settle(raft), AppendReply)

    assert [(reply.term, reply.round) for reply in replies] == [(2, 7), (2, 7), (3, 1)]


def test_the_queue_of_reads_confirms_in_order() -> None:
    """Thesis §6.4."""
    queue = ReadQueue()
    queue.add(1)
    queue.add(2)
    queue.start(1, 10)
    queue.add(3)
    queue.start(2, 12)
    queue.add(4)
    assert len(queue) == 4
    assert queue.is_confirming

    assert queue.confirm(0) == []
    assert queue.confirm(2) == [(1, 10), (2, 10), (3, 12)]

    assert queue.waiting == [4]
    assert not queue.is_confirming
