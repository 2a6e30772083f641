"""Thesis §6.4: how does a follower answer a read, by asking its leader which entry to wait for?"""

from typing import Any

import pytest
from raft_cluster import Cluster
from raft_replicas import CheckedRaft, append, only, replica, replicating, settle, told

from aegis_replication.consensus.messages import AppendEntries, AppendReply, ReadIndex, ReadIndexReply
from aegis_replication.errors import NotLeader


def following(**arguments: Any) -> CheckedRaft:
    """A follower that hears leader b in term 2."""
    raft = replica(term=2, **arguments)
    raft.step("b", append(2, (1, 1)))
    settle(raft)
    return raft


def test_a_follower_asks_its_leader_once_for_all_reads_of_a_turn() -> None:
    raft = following()

    raft.read(here=True)
    asked = [(target, message) for target, message in settle(raft) if isinstance(message, ReadIndex)]

    assert [target for target, _ in asked] == ["b"]
    assert asked[0][1].term == 2


def test_a_follower_answers_at_the_entry_that_the_leader_named() -> None:
    raft = following()
    ticket = raft.read(here=True)
    (question,) = only(settle(raft), ReadIndex)

    raft.step("b", ReadIndexReply(2, question.number, 17))

    assert raft.take_output().reads == [(ticket, 17)]


def test_a_leader_answers_a_follower_after_a_round_that_began_after_the_question() -> None:
    raft = replicating()

    before = told(raft, "b", ReadIndex(raft.term, 5))
    round_ = only(before, AppendEntries)[0].round
    after = told(raft, "c", AppendReply(raft.term, round_, raft.log.last_index))

    assert only(before, ReadIndexReply) == []
    assert [message for _, message in after] == [ReadIndexReply(raft.term, 5, raft.log.committed)]


def test_one_round_serves_the_leaders_own_reads_and_all_followers_questions() -> None:
    raft = replicating()
    ticket = raft.read()
    raft.step("b", ReadIndex(raft.term, 5))
    raft.step("c", ReadIndex(raft.term, 9))
    round_ = only(settle(raft), AppendEntries)[0].round

    raft.step("c", AppendReply(raft.term, round_, raft.log.last_index))
    output = raft.take_output()

    assert output.reads == [(ticket, raft.log.committed)]
    assert [message.number for _, message in output.messages] == [5, 9]


def test_an_answer_of_an_earlier_term_serves_nothing() -> None:
    raft = following()
    raft.read(here=True)
    (question,) = only(settle(raft), ReadIndex)

    raft.step("b", ReadIndexReply(1, question.number, 17))

    assert raft.take_output().reads == []


def test_an_answer_serves_only_what_was_asked_under_its_number() -> None:
    """(Late answers to a question sent twice once confirmed a newer read.)"""
    raft = following()
    first = raft.read(here=True)
    (question,) = only(settle(raft), ReadIndex)
    raft.step("b", ReadIndexReply(2, question.number, 17))
    assert raft.take_output().reads == [(first, 17)]

    raft.read(here=True)
    settle(raft)
    raft.step("b", ReadIndexReply(2, question.number, 17))

    assert raft.take_output().reads == []


def test_a_number_is_not_used_again_by_the_next_life_of_a_node() -> None:
    """Else an answer to the life before would serve a read of this one."""
    numbers = set()

    for seed in range(50):
        raft = following(seed=seed)
        raft.read(here=True)
        numbers.update(message.number for message in only(settle(raft), ReadIndex))

    assert len(numbers) == 50


def test_a_question_without_an_answer_is_asked_again_under_its_number() -> None:
    raft = following(heartbeat_interval=50)
    raft.read(here=True)
    first = only(settle(raft), ReadIndex)
    raft.tick(101.0)

    again = only(told(raft, "b", append(2, (1, 1))), ReadIndex)

    assert again == first


def test_reads_that_lose_their_leader_are_named() -> None:
    """Whoever waits must be told to ask again."""
    raft = following()
    ticket = raft.read(here=True)
    settle(raft)

    raft.step("c", append(3))
    output = raft.take_output()

    assert output.lost_reads == [ticket]
    assert "1 waiting read dropped" in output.changes[-1].why


def test_a_follower_without_a_leader_takes_no_read() -> None:
    raft = replica(term=2)

    with pytest.raises(NotLeader, match="without a leader"):
        raft.read(here=True)


def test_a_leader_reads_for_itself() -> None:
    raft = replicating()

    ticket = raft.read(here=True)
    round_ = only(settle(raft), AppendEntries)[0].round
    raft.step("b", AppendReply(raft.term, round_, raft.log.last_index))

    assert raft.take_output().reads == [(ticket, raft.log.committed)]


def test_a_learner_may_ask_too() -> None:
    """Thesis §4.2.1: it has no say, and reads like any follower."""
    raft = replicating(voters="abc", learners="x")

    round_ = only(told(raft, "x", ReadIndex(raft.term, 5)), AppendEntries)[0].round
    answers = told(raft, "b", AppendReply(raft.term, round_, raft.log.last_index))

    assert answers == [("x", ReadIndexReply(raft.term, 5, raft.log.committed))]


def test_a_leader_in_a_minority_confirms_no_follower() -> None:
    cluster = Cluster("abcde")
    cluster.elect("a")
    for other in "cde":
        cluster.cut("a", other)
        cluster.cut("b", other)
    cluster["b"].read(here=True)

    cluster.pass_time(2000)

    assert cluster.reads["b"] == []
