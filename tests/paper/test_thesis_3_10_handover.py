"""Thesis §3.10: how leadership is handed over, and to whom."""

import pytest
from raft_cluster import Cluster
from raft_replicas import append, only, replica, replicating, settle, time_out, told

from aegis_replication.consensus.changes import AddLearner, Introduction
from aegis_replication.consensus.messages import AppendReply, RequestVote, TimeoutNow
from aegis_replication.errors import ChangePending, ChangeRefused, NotLeader, Overloaded, UnknownMember


def acknowledge(raft, *peers: str) -> None:
    for peer in peers:
        raft.step(peer, AppendReply(raft.term, 0, raft.log.last_index))


def told_to_lead(sent) -> list[str]:
    return [target for target, message in sent if isinstance(message, TimeoutNow)]


def test_a_target_that_has_caught_up_is_told_at_once() -> None:
    """Step 3: the leader sends TimeoutNow, which is as if the target's election timer had elapsed."""
    raft = replicating()

    raft.transfer("b")

    assert told_to_lead(settle(raft)) == ["b"]


def test_a_target_that_lags_is_brought_up_first() -> None:
    """Step 2: the leader fully updates the target's log."""
    raft = replicating()
    raft.propose(1, b"x", count=1)
    settle(raft)
    raft.transfer("b")
    assert told_to_lead(settle(raft)) == []

    acknowledge(raft, "b")

    assert told_to_lead(settle(raft)) == ["b"]


def test_nothing_is_proposed_meanwhile() -> None:
    """Step 1: the prior leader stops accepting new client requests."""
    raft = replicating()
    raft.transfer("b")

    with pytest.raises(Overloaded, match="hands over to b"):
        raft.propose(1, b"x", count=1)
    with pytest.raises(ChangePending, match="hands over to b"):
        raft.propose_change(AddLearner("x"))

    assert not raft.may_propose


def test_a_target_that_needs_too_long_is_given_up() -> None:
    """If the transfer doesn't complete after about an election timeout, the prior leader resumes."""
    raft = replicating()
    raft.propose(1, b"x", count=1)
    settle(raft)
    raft.transfer("b")
    for _ in range(10):
        time_out(raft)
        raft.step("b", AppendReply(raft.term, 0, 0))
        acknowledge(raft, "c")
    settle(raft)

    assert raft.is_leader
    assert raft.handover is None
    assert raft.may_propose


def test_the_whole_takes_no_election_timeout() -> None:
    """Thesis §3.10: the target will most likely win at once."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.put(b"1")
    now_ms = cluster.now_ms

    cluster["a"].transfer("b")
    cluster.run()

    assert (cluster.leader, cluster.now_ms) == ("b", now_ms)


def test_the_best_follower_is_chosen_when_nobody_is_named() -> None:
    """The longest log needs the least."""
    raft = replicating()
    raft.propose(1, b"x", count=1)
    settle(raft)
    acknowledge(raft, "c")

    raft.transfer()

    assert told_to_lead(settle(raft)) == ["c"]


def test_asking_again_changes_nothing() -> None:
    """Operators repeat themselves."""
    raft = replicating()
    raft.transfer("a")
    assert raft.handover is None, "it leads already"

    raft.transfer("b")
    raft.transfer("b")
    with pytest.raises(ChangePending, match="to b already"):
        raft.transfer("c")

    assert told_to_lead(settle(raft)) == ["b"]


def test_a_target_that_can_not_lead_is_refused_by_name() -> None:
    """Strangers, learners, the silent, and those that never lead."""
    raft = replicating(voters="abc", learners="x")
    raft.introduce("c", Introduction(priority=0))
    with pytest.raises(UnknownMember, match="z is not a member"):
        raft.transfer("z")
    with pytest.raises(UnknownMember, match="x is a learner"):
        raft.transfer("x")
    with pytest.raises(ChangeRefused, match="c has priority 0"):
        raft.transfer("c")
    for _ in range(4):
        time_out(raft)
        acknowledge(raft, "c")
    settle(raft)
    with pytest.raises(ChangeRefused, match="b gave no sign of life"):
        raft.transfer("b")
    with pytest.raises(ChangeRefused, match="no other voter"):
        raft.transfer()


def test_a_follower_hands_nothing_over() -> None:
    """It has nothing."""
    with pytest.raises(NotLeader):
        replica().transfer("b")


def test_only_the_own_leader_may_tell_a_follower_to_stand() -> None:
    """Anybody else could end a leader's office at will."""
    raft = replica(term=2, log=(1, 2))

    sent = told(raft, "b", TimeoutNow(2))

    assert only(sent, RequestVote) == []
    assert raft.dropped == 1


# --- priorities -----------------------------------------------------------------------------------------------------


def test_leadership_goes_to_the_highest_priority_that_is_level() -> None:
    """Thesis §3.10: leaders may prefer a server that is better placed."""
    raft = replicating()
    raft.introduce("b", Introduction(priority=5))
    raft.introduce("c", Introduction(priority=3))
    sent = []
    for _ in range(80):
        time_out(raft)
        acknowledge(raft, "b", "c")
        sent += settle(raft)
        if not raft.may_propose:
            break

    assert told_to_lead(sent) == ["b"]


def test_a_leader_of_equal_priority_stays() -> None:
    """Else the office would go round."""
    raft = replicating()
    sent = []
    for _ in range(100):
        time_out(raft)
        acknowledge(raft, "b", "c")
        sent += settle(raft)

    assert told_to_lead(sent) == []


def test_priority_0_never_stands_for_election() -> None:
    """Not by itself, not when asked."""
    raft = replica(priority=0)
    for _ in range(5):
        time_out(raft)
    assert (raft.role, raft.term) == ("follower", 1)
    told(raft, "b", append(2, (1, 1)))

    told(raft, "b", TimeoutNow(2))

    assert (raft.role, raft.term) == ("follower", 2)
