"""Raft §7: how does a snapshot take the place of the log, here and on a follower too far behind?"""

from raft_cluster import (
    COMMANDS,
    Cluster,
    append,
    elected,
    entry,
    leader,
    log_of,
    only,
    replica,
    replicating,
    settle,
    snapshot_meta,
    terms_of,
    time_out,
    told,
)

from aegis_replication.consensus.leader import Leader
from aegis_replication.consensus.messages import AppendReply, InstallSnapshot, SnapshotReply
from aegis_replication.consensus.node import Raft
from aegis_replication.consensus.progress import PROBE, REPLICATE, SNAPSHOT, Progress
from aegis_replication.log import Entry, EntryId, SnapshotMeta


def progress_of(raft: Raft, peer: str) -> Progress:
    role = raft.current_role
    assert isinstance(role, Leader)
    return role.progress[peer]


def install(meta: SnapshotMeta, term: int, offset: int = 0, total: int = 10) -> InstallSnapshot:
    return InstallSnapshot(term, meta, offset, total, b"x")


def compacted(*, last: int = 30, keep_from: int = 21) -> tuple[list[Entry], EntryId, SnapshotMeta]:
    """A log of term 2 up to `last`, with a snapshot at 20 and the entries from `keep_from` on."""
    entries = [entry(2, index) for index in range(keep_from, last + 1)]
    return entries, EntryId(2, keep_from - 1), snapshot_meta(2, 20)


# --- one's own snapshots ---


def test_a_snapshot_replaces_the_entries_it_covers() -> None:
    """§7: once a server completes writing a snapshot, it may delete all log entries up through the last included."""
    raft = replica(term=2, log=(1, 2, 2, 2))
    told(raft, "b", append(2, (2, 4), commit=4))
    meta = raft.snapshot_meta()

    raft.on_snapshot_saved(meta, meta.index + 1)
    write = raft.take_output().write

    assert (meta.id, meta.stamp) == ((2, 4), 4)
    assert (raft.log.first, raft.log.base, len(raft.log)) == (5, (2, 4), 0)
    assert write is not None
    assert (write.snapshot, write.forget_below, write.reset) == (meta, 5, False)


def test_entries_behind_a_snapshot_may_be_kept_for_followers_a_little_behind() -> None:
    """§7: so that a follower that is slow for a moment needs no snapshot."""
    raft = replica(term=2, log=(1, 2, 2, 2))
    told(raft, "b", append(2, (2, 4), commit=4))
    meta = raft.snapshot_meta()

    raft.on_snapshot_saved(meta, 3)
    write = raft.take_output().write

    assert (raft.log.first, raft.log.last_index) == (3, 4)
    assert write is not None
    assert (write.snapshot, write.forget_below) == (meta, 3)


def test_a_snapshot_never_takes_more_of_the_log_than_it_holds() -> None:
    """§7: up through the last included index."""
    raft = replica(term=2, log=(1, 2, 2, 2))
    told(raft, "b", append(2, (2, 4), commit=2))
    meta = raft.snapshot_meta()

    raft.on_snapshot_saved(meta, 99)

    assert raft.log.first == 3
    assert terms_of(raft) == [2, 2]


def test_stamps_go_on_from_a_snapshot_that_left_the_log_empty() -> None:
    """A stamp is every replica's clock, and it must not go back because the entries that showed it are gone."""
    meta = snapshot_meta(2, 20, stamp=5_000)
    raft = leader(entries=[], base=meta.id, snapshot=meta, term=2)

    assert raft.log.get(21).stamp == 5_001


def test_a_restart_begins_at_the_snapshot() -> None:
    """§7: the state up to there is the snapshot's; it counts as committed and applied."""
    entries, base, meta = compacted(keep_from=15)

    raft = replica(entries=entries, base=base, snapshot=meta)

    assert (raft.log.first, raft.log.committed, raft.applied_to) == (15, 20, 20)
    assert raft.take_output().committed == []


def test_a_crash_between_naming_a_snapshot_and_resetting_the_log_is_finished_at_the_start() -> None:
    """§7: the snapshot is on disk, the old log too, and they conflict: the log goes."""
    meta = snapshot_meta(5, 20)

    raft = replica(entries=log_of(1, 2, 2), snapshot=meta, term=5)
    write = raft.take_output().write

    assert (raft.log.base, len(raft.log), raft.applied_to) == (meta.id, 0, 20)
    assert write is not None
    assert (write.snapshot, write.reset) == (meta, True)


# --- the receiver ---


def test_a_chunk_is_handed_out_for_storing_and_the_next_one_asked_for() -> None:
    """Figure 13, InstallSnapshot 2 to 4: write data into the snapshot file at the given offset, wait for more."""
    raft = replica(term=3)
    chunk = install(snapshot_meta(2, 20), 3)

    raft.step("b", chunk)
    assert raft.take_output().chunks == [("b", chunk)]
    raft.on_snapshot_stored("b", chunk.meta.id, 1)

    assert raft.take_output().messages == [("b", SnapshotReply(3, EntryId(2, 20), next_offset=1))]


def test_a_snapshot_beyond_the_log_replaces_all_of_it() -> None:
    """Figure 13, InstallSnapshot 7: discard the entire log."""
    raft = replica(term=3, log=(1, 2, 2))
    meta = snapshot_meta(3, 20, voters="abcd", configuration_index=9)
    raft.step("b", install(meta, 3))
    raft.take_output()

    assert raft.on_snapshot_installed("b", meta)
    output = raft.take_output()

    assert (raft.log.base, raft.log.last, len(raft.log)) == ((3, 20), (3, 20), 0)
    assert (raft.log.committed, raft.applied_to, raft.configuration_index) == (20, 20, 9)
    assert raft.configuration.voters == tuple("abcd")
    assert output.write is not None
    assert (output.write.snapshot, output.write.reset) == (meta, True)
    assert output.messages == [], "installed is a promise about the log, and waits for it"
    raft.on_persisted(output.write.number)
    assert raft.take_output().messages == [("b", SnapshotReply(3, meta.id, installed=20))]


def test_a_conflicting_log_goes_whole_with_the_entry_at_the_snapshots_index() -> None:
    """Figure 13, InstallSnapshot 7. (A conflicting entry that survived there once made followers install for ever.)"""
    raft = replica(term=5, log=(1, 2, 2, 2, 2, 2))
    meta = snapshot_meta(4, 4)
    raft.step("b", install(meta, 5))
    raft.take_output()
    raft.on_snapshot_installed("b", meta)
    settle(raft)

    sent = told(raft, "b", append(5, (4, 4), [5]))

    assert only(sent, AppendReply) == [AppendReply(5, 0, 5)], "one install, then appends are taken"
    assert (raft.log.base, terms_of(raft)) == ((4, 4), [5])


def test_entries_behind_a_matching_snapshot_are_kept() -> None:
    """Figure 13, InstallSnapshot 6: if an existing entry has same index and term, retain the entries following it."""
    raft = replica(term=3, log=(1, 2, 2, 2, 3, 3))
    meta = snapshot_meta(2, 4)
    raft.on_snapshot_installed("b", meta)
    write = raft.take_output().write

    assert (raft.log.base, terms_of(raft)) == ((2, 4), [3, 3])
    assert (raft.log.committed, raft.applied_to) == (4, 4)
    assert write is not None
    assert (write.snapshot, write.reset, write.forget_below) == (meta, False, 5)


def test_a_snapshot_of_what_the_log_holds_is_not_transferred() -> None:
    """§7, InstallSnapshot 6: reply; the entries themselves are here, and the snapshot says that they are committed."""
    raft = replica(term=3, log=(1, 2, 2, 2, 3))

    sent = told(raft, "b", install(snapshot_meta(2, 4), 3))

    assert sent == [("b", SnapshotReply(3, EntryId(2, 4), installed=4))]
    assert raft.log.committed == 4


def test_an_old_snapshot_is_ignored_and_the_newer_log_stays() -> None:
    """§7: snapshots come late and twice. (One that was sent again once truncated a newer log.)"""
    raft = replica(term=3, log=(1, 2, 2, 2, 3))
    told(raft, "b", append(3, (3, 5), commit=5))

    sent = told(raft, "b", install(snapshot_meta(2, 3), 3))
    assert not raft.on_snapshot_installed("b", snapshot_meta(2, 3))

    assert sent == [("b", SnapshotReply(3, EntryId(2, 3), installed=5))]
    assert terms_of(raft) == [1, 2, 2, 2, 3]


def test_a_second_snapshot_while_the_first_is_coming_is_no_trouble() -> None:
    """§7: the leader may have a newer one by then, or be another."""
    raft = replica(term=3)
    first, second = snapshot_meta(2, 20), snapshot_meta(3, 40)
    raft.step("b", install(first, 3))
    raft.step("b", install(second, 3))
    assert [chunk.meta for _, chunk in raft.take_output().chunks] == [first, second]

    assert raft.on_snapshot_installed("b", second)
    assert not raft.on_snapshot_installed("b", first)

    assert raft.log.base == second.id


def test_a_snapshot_that_was_overtaken_by_appends_changes_nothing() -> None:
    """§7: while the last chunk was being written the log got there by itself."""
    raft = replica(term=3, log=(1, 2))
    meta = snapshot_meta(3, 4)
    raft.step("b", install(meta, 3))
    told(raft, "b", append(3, (2, 2), [3, 3, 3], commit=5))

    assert not raft.on_snapshot_installed("b", meta)

    assert (raft.applied_to, terms_of(raft)) == (5, [1, 2, 3, 3, 3])


def test_a_stored_chunk_of_a_leader_that_was_replaced_is_not_answered() -> None:
    """§5.1: the answer would go to nobody."""
    raft = replica(term=3)
    raft.step("b", install(snapshot_meta(2, 20), 3))
    raft.step("c", append(4))
    settle(raft)

    raft.on_snapshot_stored("b", EntryId(2, 20), 1)

    assert settle(raft) == []


def test_a_snapshots_chunks_keep_the_election_away() -> None:
    """§7: it comes from the leader, like an append."""
    raft = replica(term=3)
    raft.tick(raft.deadline_ms - 1)
    before = raft.deadline_ms

    raft.step("b", install(snapshot_meta(2, 20), 3))

    assert raft.deadline_ms > before
    assert raft.leader == "b"


def test_an_append_under_the_logs_start_deletes_nothing() -> None:
    """§7: what was discarded is committed, so it matches. (It was once taken for a conflict, or appended twice.)"""
    entries, base, meta = compacted()
    raft = replica(entries=entries, base=base, snapshot=meta, term=2)

    sent = told(raft, "b", append(2, (2, 10), [2] * 15))

    assert only(sent, AppendReply) == [AppendReply(2, 0, 25)]
    assert (raft.log.first, raft.log.last_index) == (21, 30)


def test_a_snapshot_that_names_no_position_is_dropped() -> None:
    """A peer's nonsense: no leader makes a snapshot of nothing, or of a term that hasn't come."""
    raft = replica(term=3)

    for meta in (snapshot_meta(0, 0), snapshot_meta(9, 20), snapshot_meta(0, 5)):
        assert told(raft, "b", install(meta, 3)) == []

    assert raft.dropped == 3


# --- the sender ---


def behind() -> Raft:
    """A leader with a snapshot at 20, and `b` that has only the first entry."""
    entries, base, meta = compacted()
    raft = elected(entries=entries, base=base, snapshot=meta)
    settle(raft)
    raft.step("b", AppendReply(raft.term, 0, 0, refused=30, hint=EntryId(1, 1)))
    return raft


def test_a_follower_that_lacks_discarded_entries_needs_the_snapshot() -> None:
    """§7: the leader uses InstallSnapshot to send snapshots to followers that are too far behind."""
    raft = behind()

    outputs = [raft.take_output(), raft.take_output()]

    assert [output.snapshots for output in outputs] == [["b"], []], "named once"
    assert progress_of(raft, "b").stance is SNAPSHOT


def test_a_follower_whose_log_conflicts_under_the_leaders_start_needs_the_snapshot() -> None:
    """§7: its entries reach further, but of another term; going back would never end."""
    entries, base, meta = compacted()
    raft = elected(entries=entries, base=base, snapshot=meta, term=8)
    other = replica("b", log=(1,) * 40, term=8)
    for _ in range(6):
        for target, message in settle(raft):
            for _, reply in told(other, "a", message) if target == "b" else ():
                raft.step("b", reply)

    assert progress_of(raft, "b").stance is SNAPSHOT


def test_nothing_else_is_sent_to_a_follower_while_it_takes_a_snapshot() -> None:
    """§7: it couldn't use it; heartbeats keep it from starting an election."""
    raft = behind()
    settle(raft)
    raft.propose(COMMANDS, b"x", count=1)
    time_out(raft)

    sent = [message for target, message in settle(raft) if target == "b"]

    assert [message.entries for message in sent] == [()]


def test_the_next_chunk_is_read_when_the_last_was_taken() -> None:
    """Figure 13: chunks are sent in order."""
    raft = sending_a_snapshot()

    raft.step("b", SnapshotReply(raft.term, EntryId(2, 20), next_offset=7))

    assert raft.take_output().sent_chunks == [("b", SnapshotReply(raft.term, EntryId(2, 20), next_offset=7))]


def sending_a_snapshot() -> Raft:
    """As above, and its host has been told to send the snapshot."""
    raft = behind()
    settle(raft)
    return raft


def test_a_follower_that_has_the_snapshot_gets_what_follows_it() -> None:
    """§7: then replication goes on behind it."""
    raft = sending_a_snapshot()

    raft.step("b", SnapshotReply(raft.term, EntryId(2, 20), installed=20))
    sent = [message for target, message in settle(raft) if target == "b"]

    assert sent[0].previous == (2, 20)
    assert [held.index for held in sent[0].entries] == list(range(21, 32))
    assert progress_of(raft, "b").stance is REPLICATE
    assert progress_of(raft, "b").match == 20


def test_a_follower_that_caught_up_by_appends_needs_its_snapshot_no_more() -> None:
    """§7: an ack that comes late may show that."""
    raft = sending_a_snapshot()

    raft.step("b", AppendReply(raft.term, 0, 25))

    assert progress_of(raft, "b").stance is REPLICATE


def test_a_snapshot_is_sent_again_when_its_follower_is_heard_and_nothing_moves() -> None:
    """§5.5: a chunk or its answer was lost; the leader retries, from the last chunk asked for."""
    raft = sending_a_snapshot()
    raft.step("b", SnapshotReply(raft.term, EntryId(2, 20), next_offset=7))
    settle(raft)
    seen = []

    for _ in range(70):
        time_out(raft)
        seen += raft.take_output().sent_chunks
        for peer in "bc":
            raft.step(peer, AppendReply(raft.term, 0, 0))

    assert seen == [("b", SnapshotReply(raft.term, EntryId(2, 20), next_offset=7))]


def test_a_snapshot_whose_first_chunk_was_lost_begins_again() -> None:
    """§5.5, as above, when the follower never answered."""
    raft = sending_a_snapshot()
    seen = []

    for _ in range(70):
        time_out(raft)
        seen += raft.take_output().snapshots
        for peer in "bc":
            raft.step(peer, AppendReply(raft.term, 0, 0))

    assert seen == ["b"]


def test_a_snapshot_to_a_silent_follower_is_given_up_until_it_is_heard_again() -> None:
    """§7: nobody is there to take it; the log may be compacted further meanwhile."""
    raft = sending_a_snapshot()
    for _ in range(70):
        time_out(raft)
        assert raft.take_output().snapshots == []
        raft.step("c", AppendReply(raft.term, 0, 0))
    assert progress_of(raft, "b").stance is PROBE

    for _ in range(3):
        raft.step("b", AppendReply(raft.term, 0, 0))
        time_out(raft)
    seen = raft.take_output().snapshots

    assert seen == ["b"]


def test_a_lost_connection_restarts_the_snapshot_once_the_follower_is_back() -> None:
    """§5.5: what was on its way is lost."""
    raft = sending_a_snapshot()

    raft.on_peer_lost("b")
    assert raft.take_output().snapshots == []
    time_out(raft)
    raft.step("b", AppendReply(raft.term, 0, 0))
    time_out(raft)

    assert raft.take_output().snapshots == ["b"]


def test_an_ack_of_more_than_the_leader_has_is_no_installed_snapshot() -> None:
    """A peer's nonsense."""
    raft = sending_a_snapshot()

    raft.step("b", SnapshotReply(raft.term, EntryId(2, 20), installed=99))

    assert raft.dropped == 1
    assert progress_of(raft, "b").match == 0


def test_a_snapshot_reply_to_a_leader_that_sends_none_is_harmless() -> None:
    """§5.5: it may come twice, or late."""
    raft = replicating()

    raft.step("b", SnapshotReply(raft.term, EntryId(1, 1), next_offset=5))

    assert raft.take_output().sent_chunks == []


# --- all of it ---


def test_a_follower_too_far_behind_gets_the_snapshot_and_the_rest() -> None:
    """§7, end to end, in two chunks."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.crash("c")
    for number in range(10):
        cluster.put(b"%d" % number)
    cluster.snapshot("a")
    cluster.put(b"after")

    cluster.start("c")
    cluster.pass_time(300)

    assert cluster.applied["c"] == cluster.applied["a"]
    assert cluster["c"].log.base == cluster.snapshots["a"].id
    installs = [message for _, target, message in cluster.said if isinstance(message, InstallSnapshot)]
    assert [chunk.offset for chunk in installs] == [0, 1]


def test_a_follower_that_crashes_in_the_middle_of_a_snapshot_starts_over() -> None:
    """§7 with §5.5."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.crash("c")
    for number in range(10):
        cluster.put(b"%d" % number)
    cluster.snapshot("a")
    cluster.start("c")
    cluster.cut("c", "a", one_way=True)
    cluster.pass_time(100)
    cluster.crash("c")
    cluster.heal()

    cluster.start("c")
    cluster["a"].on_peer_lost("c")
    cluster.pass_time(600)

    assert cluster.applied["c"] == cluster.applied["a"]


def test_all_nodes_restart_from_snapshots_and_go_on() -> None:
    """§7: log behind, snapshot in front, on every node a different one."""
    cluster = Cluster("abc")
    cluster.elect("a")
    for number in range(6):
        cluster.put(b"%d" % number)
        cluster.pass_time(60)
        cluster.snapshot("abc"[number % 3], keep_from=cluster["abc"[number % 3]].applied_to)
    for name in "abc":
        cluster.crash(name)
    for name in "abc":
        cluster.start(name)

    cluster.pass_time(1000)
    last = cluster.put(b"last")
    cluster.pass_time(100)

    assert all(cluster.applied[name][-1] == last.id for name in "abc")
