"""Raft §7: how does a snapshot, one's own or a leader's, take the place of the log?"""

from raft_replicas import (
    append,
    entry,
    leader,
    log_of,
    only,
    replica,
    settle,
    snapshot_meta,
    terms_of,
    told,
)

from aegis_replication.consensus.messages import AppendReply, InstallSnapshot, SnapshotReply
from aegis_replication.log import Entry, EntryId, SnapshotMeta


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


def test_a_snapshot_that_no_leader_can_have_is_dropped() -> None:
    """A peer's nonsense: of nothing, of a term that hasn't come, or with a configuration that is none."""
    raft = replica(term=3)
    metas = [snapshot_meta(0, 0), snapshot_meta(9, 20), snapshot_meta(0, 5)]
    metas += [snapshot_meta(2, 5, configuration_index=6), SnapshotMeta(2, 5, 5, b"\xc1", 1)]

    for meta in metas:
        assert told(raft, "b", install(meta, 3)) == []

    assert raft.dropped == 5


def test_a_snapshot_that_contradicts_what_is_committed_is_not_installed() -> None:
    """Figure 3, State Machine Safety: while it was coming, something else was committed at its place."""
    raft = replica(term=3, log=(1, 2))
    meta = snapshot_meta(2, 4)
    raft.step("b", install(meta, 3))
    raft.take_output()
    raft.step("b", append(3, (2, 2), [3, 3, 3], commit=5))

    assert not raft.on_snapshot_installed("b", meta)

    assert (raft.dropped, raft.log.committed, terms_of(raft)) == (1, 5, [1, 2, 3, 3, 3])
