"""Raft Figure 2, "Persistent state", and thesis §10.2: what must be on disk before what is said?"""

import pytest
from raft_cluster import Cluster
from raft_replicas import (
    COMMANDS,
    append,
    entry,
    leader,
    only,
    replica,
    replicating,
    request_vote,
    settle,
    snapshot_meta,
    terms_of,
    time_out,
)

from aegis_replication.consensus.messages import AppendEntries, AppendReply, RequestVote, VoteReply
from aegis_replication.errors import StorageError
from aegis_replication.log import EntryId, HardState


def test_a_vote_is_told_only_once_it_is_durable() -> None:
    """Figure 2: persistent state is updated on stable storage before responding to RPCs."""
    raft = replica(term=3)

    raft.step("b", request_vote(4))
    output = raft.take_output()
    assert output.messages == []
    assert output.write is not None
    assert output.write.hard_state == HardState(4, "b")
    raft.on_persisted(output.write.number)

    assert raft.take_output().messages == [("b", VoteReply(4, True))]


def test_a_refusal_too_waits_until_its_term_is_durable() -> None:
    """Figure 2: it names a term, which must not be forgotten."""
    raft = replica(term=3)

    raft.step("b", request_vote(9, last=(0, 0)))
    output = raft.take_output()
    assert output.messages == []
    assert output.write is not None
    raft.on_persisted(output.write.number)

    assert raft.take_output().messages == [("b", VoteReply(9, False))]


def test_a_vote_request_leaves_only_once_the_own_vote_is_durable() -> None:
    """Figure 2: else, after a crash, this node could vote for another in the term it asked for."""
    raft = replica(term=3, pre_vote=False)

    time_out(raft)
    output = raft.take_output()
    assert output.messages == []
    assert output.write is not None
    assert output.write.hard_state == HardState(4, "a")
    raft.on_persisted(output.write.number)

    assert len(only(raft.take_output().messages, RequestVote)) == 2


def test_an_ack_waits_until_its_entries_are_durable() -> None:
    """§5.3 with Figure 2: log[] is persistent state."""
    raft = replica(term=2)
    settle(raft)

    raft.step("b", append(2, (1, 1), [2, 2]))
    output = raft.take_output()
    assert output.messages == []
    assert output.write is not None
    assert [new.index for new in output.write.entries] == [2, 3]
    raft.on_persisted(output.write.number)

    assert raft.take_output().messages == [("b", AppendReply(2, 0, 3))]


def test_a_heartbeat_does_not_acknowledge_entries_that_are_being_written() -> None:
    """Figure 2. (An empty append was once answered with entries that the disk didn't hold yet.)"""
    raft = replica(term=2)
    settle(raft)
    raft.step("b", append(2, (1, 1), [2, 2]))
    raft.take_output()

    raft.step("b", append(2, (2, 3)))

    assert raft.take_output().messages == [("b", AppendReply(2, 0, 1))]


def test_a_heartbeat_is_answered_at_once_whatever_the_disk_does() -> None:
    """§5.6: contact is not a promise about entries."""
    raft = replica(term=2)
    settle(raft)
    raft.step("b", append(2, (1, 1), [2]))
    raft.take_output()

    raft.step("b", append(2, (1, 1), round=3))

    assert [reply.round for reply in only(raft.take_output().messages, AppendReply)] == [3]


def test_contact_waits_until_its_term_is_durable() -> None:
    """Figure 2: even that speaks in a term."""
    raft = replica(term=2)

    raft.step("b", append(5, (1, 1), round=3))
    output = raft.take_output()
    assert output.messages == []
    assert output.write is not None
    raft.on_persisted(output.write.number)

    assert raft.take_output().messages == [("b", AppendReply(5, 3, 1))]


def test_entries_of_several_messages_are_acknowledged_once() -> None:
    """Thesis §10.2.2: one flush, one ack."""
    raft = replica(term=2)
    settle(raft)
    raft.step("b", append(2, (1, 1), [2]))
    raft.step("b", append(2, (2, 2), [2]))
    raft.step("b", append(2, (2, 3), [2]))

    assert settle(raft) == [("b", AppendReply(2, 0, 4))]


def test_a_new_round_gets_contact_at_once_and_the_ack_later() -> None:
    """Thesis §6.4: a read must not wait for a follower's disk."""
    raft = replica(term=2)
    settle(raft)

    raft.step("b", append(2, (1, 1), [2], round=1))
    output = raft.take_output()
    assert output.messages == [("b", AppendReply(2, 1, 1))]
    assert output.write is not None
    raft.on_persisted(output.write.number)

    assert raft.take_output().messages == [("b", AppendReply(2, 1, 2))]


def test_an_entry_that_was_durable_already_is_acknowledged_at_once() -> None:
    """§5.5: a repeated append needs no second flush."""
    raft = replica(term=2, log=(1, 2))
    settle(raft)

    raft.step("b", append(2, (1, 1), [2]))
    output = raft.take_output()

    assert output.messages == [("b", AppendReply(2, 0, 2))]
    assert output.write is None


def test_an_ack_says_as_much_as_is_durable_when_writes_finish_one_by_one() -> None:
    """Thesis §10.2.1: two writes under way, the first finished."""
    raft = replica(term=2)
    settle(raft)
    raft.step("b", append(2, (1, 1), [2]))
    first = raft.take_output().write
    raft.step("b", append(2, (2, 2), [2]))
    second = raft.take_output().write
    assert first is not None
    assert second is not None

    raft.on_persisted(first.number)
    assert raft.take_output().messages == [("b", AppendReply(2, 0, 2))]
    raft.on_persisted(second.number)
    assert raft.take_output().messages == [("b", AppendReply(2, 0, 3))]


def test_an_ack_of_entries_that_were_cut_is_never_sent() -> None:
    """§5.3: what the new leader replaced isn't held any more, whatever the disk says afterwards."""
    raft = replica(term=2)
    settle(raft)
    raft.step("b", append(2, (1, 1), [2, 2]))
    write = raft.take_output().write
    assert write is not None

    raft.step("c", append(3, (1, 1)))
    raft.on_persisted(write.number)

    replies = [(target, reply) for target, reply in settle(raft) if isinstance(reply, AppendReply)]
    assert replies == [("c", AppendReply(3, 0, 1))]


def test_an_ack_of_an_earlier_term_dies_with_the_vote_for_a_later_one() -> None:
    """§5.4: a voter that helped to elect somebody without these entries must not help to commit them afterwards."""
    raft = replica(term=2, log=(1,))
    settle(raft)
    raft.step("b", append(2, (1, 1), [2]))
    write = raft.take_output().write
    assert write is not None
    raft.tick(150)
    raft.step("c", request_vote(3, last=(2, 9)))

    raft.on_persisted(write.number)

    assert only(settle(raft), AppendReply) == []


def test_a_late_word_about_an_old_write_does_not_make_a_rewritten_entry_durable() -> None:
    """Three leaders write the same slots while writes finish late: each word is about its own write only."""
    raft = replica("a", term=1, voters="abcd")
    settle(raft)
    raft.step("b", append(2, (1, 1), [2, 2]))
    one = raft.take_output().write
    raft.step("c", append(3, (1, 1), [3]))
    two = raft.take_output().write
    raft.step("d", append(4, (1, 1), [4, 4]))
    three = raft.take_output().write
    assert one is not None
    assert two is not None
    assert three is not None

    raft.on_persisted(one.number)
    assert raft.log.durable == 1
    raft.on_persisted(two.number)
    assert raft.log.durable == 1
    raft.on_persisted(three.number)

    assert raft.log.durable == 3
    assert terms_of(raft) == [1, 4, 4]
    assert only(raft.take_output().messages, AppendReply)[-1] == AppendReply(4, 0, 3)


def test_a_word_about_a_write_covers_all_writes_before_it() -> None:
    """A flush covers everything written before it."""
    raft = replica(term=2)
    settle(raft)
    raft.step("b", append(2, (1, 1), [2]))
    raft.take_output()
    raft.step("b", append(2, (2, 2), [2]))
    second = raft.take_output().write
    assert second is not None

    raft.on_persisted(second.number)

    assert raft.log.durable == 3


def test_nothing_is_applied_that_is_not_durable_here() -> None:
    """A state must not know more than its own log after a crash, even if a majority of others holds it."""
    raft = replica(term=2)
    settle(raft)
    raft.step("b", append(2, (1, 1), [2], commit=2))
    output = raft.take_output()
    assert raft.log.committed == 2
    assert [held.index for held in output.committed] == [1]
    assert output.write is not None

    raft.on_persisted(output.write.number)

    assert [held.index for held in raft.take_output().committed] == [2]


def test_a_single_voter_commits_only_what_is_durable() -> None:
    """A majority of one is its own disk. (A single node once acknowledged before its flush.)"""
    raft = leader(voters="a")
    new = raft.propose(COMMANDS, b"x", count=1)
    output = raft.take_output()
    assert output.committed == []
    assert output.write is not None

    raft.on_persisted(output.write.number)

    assert raft.take_output().committed == [new]


def test_term_and_entries_are_written_together() -> None:
    """Figure 2: an entry of a term that the disk doesn't know would outlive its own leader's election."""
    raft = replica(term=2)

    raft.step("b", append(5, (1, 1), [5]))
    write = raft.take_output().write

    assert write is not None
    assert write.hard_state == HardState(5, None)
    assert [new.id for new in write.entries] == [(5, 2)]


def test_nothing_is_written_that_is_on_disk_already() -> None:
    """A heartbeat, a commit, a pre-vote, a repeated append: none needs a flush."""
    raft = replica(term=2, log=(1, 2))
    settle(raft)

    for message in (append(2, (2, 2)), append(2, (2, 2), commit=2), append(2, (1, 1), [2]), request_vote(3, pre=True)):
        raft.step("b", message)

    assert raft.take_output().write is None


def test_writes_are_numbered_one_by_one() -> None:
    """So that a word about one can't be taken for another's."""
    raft = leader(voters="a")
    numbers = []

    for number in range(3):
        raft.propose(COMMANDS, b"%d" % number, count=1)
        write = raft.take_output().write
        assert write is not None
        numbers.append(write.number)
        raft.on_persisted(write.number)

    assert numbers == list(range(numbers[0], numbers[0] + 3))


def test_a_replaced_tail_is_written_from_its_first_new_entry() -> None:
    """A write replaces whatever it finds at its first index and behind it, so a crash leaves no hole."""
    raft = replica(term=4, log=(1, 2, 2, 2))
    settle(raft)

    raft.step("b", append(4, (2, 2), [4]))
    write = raft.take_output().write

    assert write is not None
    assert [new.id for new in write.entries] == [(4, 3)]


def test_a_tail_that_was_replaced_stays_replaced_after_a_restart() -> None:
    """Entries that were cut must not come back when the log is read again."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.isolate("a")
    for number in range(3):
        cluster.propose(b"lost %d" % number, to="a")
        cluster.run()
    cluster.pass_time(1000)
    cluster.heal()
    cluster.put(b"kept")
    cluster.pass_time(300)
    before = terms_of(cluster["a"])
    cluster.crash("a")
    cluster.start("a")

    assert terms_of(cluster["a"]) == before
    assert cluster["a"].log.last == cluster[cluster.leader].log.last


def test_a_restart_holds_nothing_committed_beyond_its_durable_log() -> None:
    """Figure 2, commitIndex is volatile: it may be known late, never too far."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.held_disks.add("c")
    for number in range(3):
        cluster.put(b"%d" % number)
    cluster.crash("c")
    cluster.start("c")

    assert cluster["c"].log.committed <= cluster["c"].log.durable == cluster["c"].log.last_index


def test_a_log_that_is_ahead_of_its_term_is_no_start() -> None:
    """Figure 2: currentTerm is written with or before the entries; a disk that says otherwise lost something."""
    with pytest.raises(StorageError, match="term"):
        replica(log=(1, 5), term=3)


def test_a_log_that_begins_in_the_middle_without_a_snapshot_is_no_start() -> None:
    """§7: nobody holds what was before."""
    with pytest.raises(StorageError, match="no snapshot"):
        replica(entries=[entry(2, 9)], base=EntryId(2, 8))


def test_a_log_that_begins_behind_its_snapshot_is_no_start() -> None:
    """§7: between the snapshot's end and the log's start something is missing, and must not be skipped."""
    with pytest.raises(StorageError, match="ends at 5, lacks"):
        replica(entries=[entry(2, 9)], base=EntryId(2, 8), snapshot=snapshot_meta(2, 5))


def test_a_minority_of_disks_counts_for_nothing_however_many_promised() -> None:
    """§5.3: with two of three disks holding back, nothing commits, though all three have the entry in memory."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.held_disks |= {"b", "c"}
    committed = cluster["a"].log.committed

    new = cluster.put(b"x")

    assert [cluster[name].log.last_index for name in "abc"] == [new.index] * 3
    assert cluster["a"].log.committed == committed

    cluster.finish_writes("b")
    cluster.run()
    assert cluster["a"].log.committed == new.index


def test_appends_leave_before_the_leaders_own_flush() -> None:
    """Thesis §10.2.1: the leader can write to its disk in parallel with replicating to the followers."""
    raft = replicating()
    raft.propose(COMMANDS, b"x", count=1)

    output = raft.take_output()

    assert output.write is not None
    assert len([message for message in only(output.messages, AppendEntries) if message.entries]) == 2


def test_a_vote_counts_the_log_that_will_be_durable_with_it() -> None:
    """§5.4.1: entries still being written are part of the comparison, and on disk before the vote is told."""
    raft = replica(term=2, log=(1,))
    settle(raft)
    raft.step("b", append(2, (1, 1), [2, 2]))
    first = raft.take_output().write
    assert first is not None
    raft.tick(150)

    raft.step("c", request_vote(3, last=(2, 2)))
    second = raft.take_output()
    assert second.messages == []
    assert second.write is not None
    raft.on_persisted(first.number)
    assert raft.take_output().messages == []
    raft.on_persisted(second.write.number)

    assert raft.take_output().messages == [("c", VoteReply(3, False))]
