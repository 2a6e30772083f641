"""Raft §5.3 and Figure 2, AppendEntries: how do logs become the same?"""

import pytest
from raft_cluster import Cluster
from raft_replicas import (
    COMMANDS,
    NO_OP,
    append,
    converse,
    elected,
    leader,
    log_of,
    only,
    replica,
    replicating,
    settle,
    terms_of,
    time_out,
    told,
)

from aegis_replication.consensus.messages import AppendEntries, AppendReply
from aegis_replication.consensus.progress import REPLICATE
from aegis_replication.errors import NotLeader
from aegis_replication.log import NOTHING, EntryId


def test_a_leader_appends_a_command_and_sends_it_to_all() -> None:
    """§5.3: appends the command to its log as a new entry, then issues AppendEntries in parallel to each server."""
    raft = replicating()
    last = raft.log.last

    new = raft.propose(COMMANDS, b"x", count=1)
    output = raft.take_output()

    assert raft.log.last == new.id == (raft.term, last.index + 1)
    expected = AppendEntries(raft.term, last, raft.log.committed, 0, (new,))
    assert output.messages == [("b", expected), ("c", expected)]
    assert output.write is not None
    assert output.write.entries == (new,), "disk and network work at the same time (thesis §10.2.1)"


def test_everything_proposed_in_one_turn_leaves_in_one_append() -> None:
    """Thesis §10.2.2: batching."""
    raft = replicating()

    new = tuple(raft.propose(COMMANDS, b"%d" % number, count=1) for number in range(5))
    sent = raft.take_output().messages

    assert [message.entries for message in only(sent, AppendEntries)] == [new, new]


def test_only_a_leader_takes_commands() -> None:
    """§5.1, §8: if the client's first choice is not the leader, it is told who is, if that is known."""
    raft = replica(term=2)
    with pytest.raises(NotLeader, match="without a leader"):
        raft.propose(COMMANDS, b"x")

    raft.step("b", append(2))

    with pytest.raises(NotLeader, match="led by b"):
        raft.propose(COMMANDS, b"x")


def test_an_entry_is_committed_once_a_majority_holds_it_durably() -> None:
    """§5.3: a log entry is committed once the leader that created the entry has replicated it on a majority."""
    raft = replicating(voters="abcde")
    new = raft.propose(COMMANDS, b"x", count=1)
    settle(raft)
    raft.step("b", AppendReply(raft.term, 0, new.index))
    assert raft.log.committed == new.index - 1

    raft.step("c", AppendReply(raft.term, 0, new.index))

    assert raft.log.committed == new.index


def test_a_leader_counts_itself_only_once_its_own_disk_holds_the_entry() -> None:
    """Thesis §10.2.1: it may commit an entry before it has written it, but then with a majority of others."""
    raft = replicating()
    new = raft.propose(COMMANDS, b"x", count=1)
    write = raft.take_output().write
    assert write is not None
    raft.step("b", AppendReply(raft.term, 0, new.index))
    assert raft.log.committed == new.index - 1

    raft.on_persisted(write.number)

    assert raft.log.committed == new.index


def test_followers_alone_can_commit_what_the_leader_has_not_written() -> None:
    """Thesis §10.2.1; the leader itself applies it only when its own disk has it."""
    raft = replicating()
    new = raft.propose(COMMANDS, b"x", count=1)
    write = raft.take_output().write
    assert write is not None
    for peer in "bc":
        raft.step(peer, AppendReply(raft.term, 0, new.index))
    assert raft.log.committed == new.index
    assert raft.take_output().committed == []

    raft.on_persisted(write.number)

    assert raft.take_output().committed == [new]


def test_committing_an_entry_commits_all_before_it() -> None:
    """§5.3: this also commits all preceding entries in the leader's log, including entries of previous leaders."""
    raft = leader(log=(1, 2, 3))

    raft.step("b", AppendReply(raft.term, 0, 4))

    assert raft.log.committed == 4
    assert [held.index for held in raft.take_output().committed] == [1, 2, 3, 4]


def test_entries_are_applied_in_order_and_once() -> None:
    """§5.3: applies committed entries to its local state machine (in log order)."""
    raft = replica(term=2, log=(1, 2, 2, 2))
    raft.step("b", append(2, (2, 4), commit=2))
    first = raft.take_output().committed
    raft.step("b", append(2, (2, 4), commit=4))
    raft.step("b", append(2, (2, 4), commit=4))

    second = raft.take_output().committed

    assert [held.index for held in first + second] == [1, 2, 3, 4]


def test_a_leader_tells_its_commit_index_with_every_append() -> None:
    """§5.3: the leader includes the highest index it knows to be committed, so that the others eventually find out."""
    raft = replicating()
    time_out(raft)

    beats = only(settle(raft), AppendEntries)

    assert [beat.commit for beat in beats] == [raft.log.committed] * 2


def test_a_follower_refuses_entries_that_do_not_follow_what_it_has() -> None:
    """Figure 2, AppendEntries 2: reply false if log doesn't contain an entry at prevLogIndex matching prevLogTerm."""
    raft = replica(term=3, log=(1, 2))

    too_far = told(raft, "b", append(3, (3, 5), [3]))
    other_term = told(raft, "b", append(3, (3, 2), [3]))

    assert only(too_far, AppendReply) == [AppendReply(3, 0, 0, refused=5, hint=EntryId(2, 2))]
    assert only(other_term, AppendReply) == [AppendReply(3, 0, 0, refused=2, hint=EntryId(2, 2))]
    assert raft.log.last == (2, 2)


def test_a_conflicting_entry_and_all_behind_it_are_replaced() -> None:
    """Figure 2, AppendEntries 3: delete the existing entry and all that follow it."""
    raft = replica(term=4, log=(1, 2, 2, 2))

    told(raft, "b", append(4, (1, 1), [4]))

    assert terms_of(raft) == [1, 4]


def test_new_entries_are_appended() -> None:
    """Figure 2, AppendEntries 4: append any new entries not already in the log."""
    raft = replica(term=2, log=(1, 2))

    sent = told(raft, "b", append(2, (2, 2), [2, 2]))

    assert terms_of(raft) == [1, 2, 2, 2]
    assert only(sent, AppendReply) == [AppendReply(2, 0, 4)]


@pytest.mark.parametrize(
    ("previous", "terms"),
    [((1, 1), []), ((1, 1), [2]), ((1, 1), [2, 2]), ((0, 0), [1, 2]), ((2, 3), []), ((2, 4), [])],
)
def test_an_append_that_is_short_old_or_repeated_cuts_nothing(previous: tuple[int, int], terms: list[int]) -> None:
    """Figure 2, AppendEntries 3: only *if an existing entry conflicts*; a late, shorter append is no reason to cut."""
    entries = log_of(1, 2, 2, 2)
    raft = replica(term=2, entries=entries)
    message = append(2, previous, terms)
    if previous == (0, 0):
        message = AppendEntries(2, NOTHING, 0, 0, tuple(entries[:2]))

    told(raft, "b", message)

    assert terms_of(raft) == [1, 2, 2, 2]


def test_a_followers_commit_index_stops_where_this_append_stops() -> None:
    """Figure 2, AppendEntries 5: min(leaderCommit, index of last new entry); behind it may be another leader's."""
    raft = replica(term=3, log=(1, 2, 2, 2))

    raft.step("b", append(3, (2, 2), commit=4))

    assert raft.log.committed == 2


def test_a_followers_commit_index_never_falls() -> None:
    """Figure 2, commitIndex: increases monotonically; a new leader may know less of it than its followers."""
    raft = replica(term=3, log=(1, 2, 2))
    raft.step("b", append(3, (2, 3), commit=3))

    raft.step("b", append(3, (2, 3), commit=1))
    raft.step("c", append(4, (2, 3), commit=0))

    assert raft.log.committed == 3


def test_nothing_committed_is_ever_replaced() -> None:
    """Figure 3, State Machine Safety: a leader that would is dropped and named in the log, and the node lives on."""
    raft = replica(term=3, log=(1, 2, 2))
    raft.step("b", append(3, (2, 3), commit=3))
    raft.take_output()

    sent = told(raft, "c", append(4, (1, 1), [4, 4]))

    assert sent == []
    assert terms_of(raft) == [1, 2, 2]
    assert raft.dropped == 1


def test_a_new_leader_first_asks_behind_its_own_log() -> None:
    """§5.3: when a leader first comes to power, nextIndex is the index just after the last one in its log."""
    raft = elected(log=(1, 2, 3))

    sent = only(raft.take_output().messages, AppendEntries)

    assert [message.previous for message in sent] == [EntryId(3, 3), EntryId(3, 3)]


def test_a_refusal_moves_the_leader_back_until_the_logs_meet() -> None:
    """Figure 2, Leaders: if AppendEntries fails because of log inconsistency: decrement nextIndex and retry."""
    cluster = Cluster("abc")
    cluster.elect("a")
    for _ in range(5):
        cluster.put()
    cluster.isolate("c")
    for _ in range(5):
        cluster.put()
    cluster.heal()

    cluster.pass_time(200)

    assert cluster["c"].log.last == cluster["a"].log.last
    assert cluster.applied["c"] == cluster.applied["a"]


# Figure 7 of the paper: the leader's log is 1 1 1 4 4 5 5 6 6 6, and followers (a) to (f) may look like this.
FIGURE_7 = {
    "a": (1, 1, 1, 4, 4, 5, 5, 6, 6),
    "b": (1, 1, 1, 4),
    "c": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
    "d": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
    "e": (1, 1, 1, 4, 4, 4, 4),
    "f": (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
}


@pytest.mark.parametrize("follower", sorted(FIGURE_7))
def test_the_logs_of_figure_7_are_repaired(follower: str) -> None:
    """Figure 7: a follower may be missing entries, may have extra uncommitted entries, or both."""
    one = elected("l", voters="lmx", entries=log_of(1, 1, 1, 4, 4, 5, 5, 6, 6, 6, voters="lmx"), term=7)
    other = replica("m", voters="lmx", entries=log_of(*FIGURE_7[follower], voters="lmx"), term=7)

    appends = converse(one, other)

    assert terms_of(other) == [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8]
    assert appends <= 6, "one a term that has to be skipped"


def test_a_hundred_thousand_divergent_entries_are_skipped_by_terms() -> None:
    """§5.3: one AppendEntries RPC for each *term* with conflicting entries, rather than one for each entry."""
    count = 100_000
    mine = log_of(*[1] + [2] * 10 + [5] * 10, voters="lmx")
    theirs = [*mine[:11]]
    theirs += append(3, (2, 11), [3] * count).entries
    theirs += append(4, (3, 11 + count), [4] * count).entries
    one = elected("l", voters="lmx", entries=mine, term=6)
    other = replica("m", voters="lmx", entries=theirs, term=6)

    appends = converse(one, other)

    assert appends <= 6
    assert terms_of(other) == [1] + [2] * 10 + [5] * 10 + [7]


def test_a_hint_never_counts_as_a_match() -> None:
    """Figure 2, matchIndex: known to be replicated; a refusal's hint is only where the logs might meet."""
    raft = leader(log=(1, 2, 2, 2))

    raft.step("b", AppendReply(raft.term, 0, 0, refused=4, hint=EntryId(2, 4)))
    raft.step("c", AppendReply(raft.term, 0, 0, refused=4, hint=EntryId(2, 4)))

    progress = raft.current_role.progress  # type: ignore[attr-defined]
    assert (progress["b"].match, progress["c"].match) == (0, 0)
    assert raft.log.committed == 0


def test_an_old_ack_does_not_move_the_match_back() -> None:
    """Figure 2, matchIndex: increases monotonically, in whatever order acks arrive."""
    raft = replicating()
    for number in range(4):
        raft.propose(COMMANDS, b"%d" % number, count=1)
        settle(raft)
    last = raft.log.last_index
    raft.step("b", AppendReply(raft.term, 0, last))

    raft.step("b", AppendReply(raft.term, 0, last - 3))
    raft.step("b", AppendReply(raft.term, 0, last - 1))

    assert raft.current_role.progress["b"].match == last  # type: ignore[attr-defined]


def test_an_old_refusal_does_not_undo_what_was_acknowledged() -> None:
    """§5.3: a refusal that comes late, for an index that was matched since, means nothing."""
    raft = replicating()
    matched = raft.log.last_index

    raft.step("b", AppendReply(raft.term, 0, 0, refused=matched, hint=EntryId(1, 1)))

    progress = raft.current_role.progress["b"]  # type: ignore[attr-defined]
    assert (progress.match, progress.next, progress.stance) == (matched, matched + 1, REPLICATE)


def test_an_ack_beyond_the_leaders_own_log_is_dropped() -> None:
    """Figure 2, matchIndex: bounded by what the leader has; a follower can't hold more of its log than itself."""
    raft = replicating()

    raft.step("b", AppendReply(raft.term, 0, raft.log.last_index + 5))

    assert raft.dropped == 1
    assert raft.log.committed == raft.log.last_index


def test_the_match_comes_from_what_the_request_covered_not_from_the_followers_log() -> None:
    """Figure 2: a follower's own last entries may be another leader's; acknowledging them would commit them."""
    raft = replica(term=5, log=(1, 2, 2, 2, 2))

    sent = told(raft, "b", append(5, (2, 2)))

    assert only(sent, AppendReply) == [AppendReply(5, 0, 2)]


def test_a_heartbeat_stands_behind_what_is_known_to_match() -> None:
    """Figure 2, Leaders: a heartbeat may overtake entries on their way, and must not be refused for that."""
    raft = replicating()
    matched = raft.log.last
    for number in range(3):
        raft.propose(COMMANDS, b"%d" % number, count=1)
    settle(raft)
    time_out(raft)

    beats = [message for message in only(settle(raft), AppendEntries) if not message.entries]

    assert [beat.previous for beat in beats] == [matched, matched]


def test_a_leader_appends_only() -> None:
    """Figure 3, Leader Append-Only: a leader never overwrites or deletes entries in its log."""
    raft = leader(log=(1, 2, 2))
    before = terms_of(raft)

    for message in (append(raft.term, (1, 1), [1]), append(raft.term - 1, (1, 1), [1])):
        raft.step("b", message)

    assert terms_of(raft) == before


def test_entries_are_the_same_bytes_on_every_node() -> None:
    """Figure 3, Log Matching: an entry is made once, by its leader, and copied."""
    cluster = Cluster("abc")
    cluster.elect("b")
    cluster.put(b"one")
    cluster.put(b"two")

    frames = {
        name: [held.frame for held in raft.log.slice(1, raft.log.last_index + 1)]
        for name, raft in cluster.rafts.items()
    }

    assert frames["a"] == frames["b"] == frames["c"]
    assert cluster["a"].log.last_index == 4, "configuration, no-op and two commands"


def test_stamps_rise_with_every_entry() -> None:
    """A stamp is every replica's clock: one that stood still or went back would expire things twice or never."""
    raft = leader(log=(1, 1))

    stamps = [raft.propose(NO_OP, b"", stamp=stamp).stamp for stamp in (5, 100, 3, 0, 101, 500)]

    assert stamps == [5, 100, 101, 102, 103, 500]
