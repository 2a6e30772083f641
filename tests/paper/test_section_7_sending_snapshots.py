"""Raft §7: how does a leader bring up a follower that lacks what is no longer in the log?"""

from raft_cluster import Cluster
from raft_replicas import (
    COMMANDS,
    elected,
    entry,
    replica,
    replicating,
    settle,
    snapshot_meta,
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


def compacted(*, last: int = 30, keep_from: int = 21) -> tuple[list[Entry], EntryId, SnapshotMeta]:
    """A log of term 2 up to `last`, with a snapshot at 20 and the entries from `keep_from` on."""
    entries = [entry(2, index) for index in range(keep_from, last + 1)]
    return entries, EntryId(2, keep_from - 1), snapshot_meta(2, 20)


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
    """§5.5: a chunk or its answer was lost; the follower is asked where it stands."""
    raft = sending_a_snapshot()
    raft.step("b", SnapshotReply(raft.term, EntryId(2, 20), next_offset=7))
    settle(raft)
    seen = []

    for _ in range(70):
        time_out(raft)
        seen += raft.take_output().snapshots
        for peer in "bc":
            raft.step(peer, AppendReply(raft.term, 0, 0))

    assert seen == ["b"]


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


# --- end to end ---


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
