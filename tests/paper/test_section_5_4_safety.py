"""Raft §5.4: why is a committed entry never lost? Who may be elected, and what may be committed."""

import pytest
from raft_cluster import Cluster
from raft_replicas import (
    COMMANDS,
    append,
    campaign,
    converse,
    elected,
    entry,
    leader,
    log_of,
    only,
    replica,
    request_vote,
    settle,
    snapshot_meta,
    terms_of,
    told,
)

from aegis_replication.consensus.messages import AppendReply, VoteReply
from aegis_replication.log import EntryId, Kind


@pytest.mark.parametrize(
    ("mine", "theirs", "granted"),
    [
        ((1, 1), (1, 2), True),  # the same
        ((1, 1), (1, 3), True),  # longer
        ((1, 1, 1), (1, 2), False),  # shorter, of the same term
        ((1, 1, 1), (2, 2), True),  # shorter, of a later term: terms count first
        ((1, 2), (1, 9), False),  # longer, of an earlier term
        ((1, 3), (2, 50), False),
    ],
)
def test_a_vote_goes_only_to_a_log_at_least_as_up_to_date(
    mine: tuple[int, ...], theirs: tuple[int, int], granted: bool
) -> None:
    """§5.4.1: the log with the later last term is more up-to-date; of the same term, the longer one."""
    raft = replica(log=mine, term=4)

    assert told(raft, "b", request_vote(5, last=theirs)) == [("b", VoteReply(5, granted))]


def test_a_candidate_tells_where_its_log_ends() -> None:
    """§5.4.1: the RPC includes information about the candidate's log."""
    raft = replica(log=(1, 2, 2), pre_vote=False)
    raft.tick(raft.deadline_ms)

    assert {message.last for message in only(settle(raft), type(request_vote(1)))} == {EntryId(2, 3)}


def test_a_candidate_whose_log_is_only_a_snapshot_tells_the_snapshots_end() -> None:
    """§7 with §5.4.1: the snapshot holds the log's last index and term."""
    raft = replica(entries=[], base=EntryId(4, 30), snapshot=snapshot_meta(4, 30), term=4, pre_vote=False)
    raft.tick(raft.deadline_ms)

    assert {message.last for message in only(settle(raft), type(request_vote(1)))} == {EntryId(4, 30)}


def test_an_up_to_date_candidate_that_a_rival_refused_does_not_help_the_stale_one() -> None:
    """§5.4.1: the log decides, whatever role the voter is in. (A stale candidate once won and rolled back commits.)"""
    up_to_date = campaign(replica("a", log=(1, 2, 2), term=2))

    sent = told(up_to_date, "b", request_vote(up_to_date.term + 1, last=(2, 2)))

    assert only(sent, VoteReply)[-1].granted is False


def test_entries_of_earlier_terms_are_not_committed_by_counting() -> None:
    """§5.4.2: only log entries from the leader's current term are committed by counting replicas."""
    raft = leader(log=(1, 2, 2))

    raft.step("b", AppendReply(raft.term, 0, 3))
    raft.step("c", AppendReply(raft.term, 0, 3))

    assert raft.log.committed == 0


def test_an_entry_of_the_own_term_commits_the_earlier_ones_with_it() -> None:
    """§5.4.2: then all prior entries are committed indirectly because of the Log Matching Property."""
    raft = leader(log=(1, 2, 2))

    raft.step("b", AppendReply(raft.term, 0, 4))

    assert raft.log.committed == 4


def test_a_new_leader_appends_a_no_op_at_once() -> None:
    """§8: else what earlier terms left would wait for the next client's command."""
    raft = elected(log=(1, 2))

    first = raft.log.get(3)

    assert (first.kind, first.term, first.count) == (Kind.NO_OP, raft.term, 0)


def test_figure_8_an_entry_on_a_majority_may_still_be_overwritten() -> None:
    """Figure 8 (a) to (d): S1's entry of term 2 is on a majority, yet S5 replaces it; so it must not have committed."""
    two, three = log_of(1, 2, voters="vwxyz"), log_of(1, 3, voters="vwxyz")
    first = elected("v", voters="vwxyz", entries=two, term=3)  # (c): S1 leads term 4 and has spread index 2
    for peer in "wx":
        first.step(peer, AppendReply(first.term, 0, 2))
    settle(first)
    assert first.log.committed == 0

    fifth = elected("z", voters="vwxyz", entries=three, term=4)  # (d): S5 wins term 5 with votes of S2, S3, S4
    holder = replica("w", voters="vwxyz", entries=two, term=4)
    converse(fifth, holder)

    assert terms_of(holder) == [1, 3, 5]


def test_figure_8_once_an_own_entry_is_on_a_majority_nobody_else_can_win() -> None:
    """Figure 8 (e): S1's entry of term 4 is on S1, S2, S3; S5, whose log ends in term 3, gets no majority."""
    first = leader("v", voters="vwxyz", entries=log_of(1, 2, voters="vwxyz"), term=3)
    for peer in "wx":
        first.step(peer, AppendReply(first.term, 0, 3))
    assert first.log.committed == 3

    for name in "vwx":
        voter = replica(name, voters="vwxyz", entries=[*log_of(1, 2, voters="vwxyz"), entry(4, 3)], term=4)
        assert told(voter, "z", request_vote(5, last=(3, 2))) == [("z", VoteReply(5, False))]


def test_every_leader_holds_what_was_committed_before_its_term() -> None:
    """Figure 3, Leader Completeness."""
    for seed in range(10):
        cluster = Cluster("abcde", seed=seed)
        cluster.pass_time(600)
        committed: list[EntryId] = []
        for _ in range(6):
            new = cluster.put()
            cluster.pass_time(20)
            committed.append(new.id)
            lost = cluster.leader
            cluster.isolate(lost)
            cluster.propose(b"lost", to=lost)
            cluster.pass_time(1000, step_ms=20)
            assert cluster.leader != lost, f"seed {seed}"
            log = cluster[cluster.leader].log
            assert all(log.term_at(index) == term for term, index in committed), f"seed {seed}"
            cluster.heal()
            cluster.pass_time(200, step_ms=20)


def test_a_deposed_leader_keeps_what_reached_a_majority_while_it_lost() -> None:
    """Figure 3: nothing at or below the commit index is ever cut. (A step-down once cut a committed entry.)"""
    raft = leader(log=(1, 2))
    new = raft.propose(COMMANDS, b"x", count=1)
    settle(raft)
    raft.step("b", AppendReply(raft.term, 0, new.index))
    assert raft.log.committed == new.index

    told(raft, "c", append(raft.term + 1, (raft.term, new.index), [raft.term + 1]))

    assert raft.log.term_at(new.index) == new.term
    assert raft.log.committed == new.index


def test_terms_are_compared_before_indexes() -> None:
    """§5.4.1: an implementation once compared them the other way round."""
    assert EntryId(3, 1) > EntryId(2, 100)
    assert not replica(log=(1, 3), term=3).log.last <= EntryId(2, 100)
