"""Does a replica answer what it must, when it may, and never more than that?"""

import pytest
from engines import GROUP, Engines

from aegis_replication import wire
from aegis_replication.consensus.messages import AppendEntries, VoteReply
from aegis_replication.engine.effects import Effects
from aegis_replication.engine.engine import ReplicationEngine
from aegis_replication.engine.events import ChunkStored, PeerLost, Received, Requested, Ticked
from aegis_replication.engine.spec import ReplicaLimits
from aegis_replication.events import NodeEvent, SnapshotInstalled
from aegis_replication.ids import LogIndex
from aegis_replication.log import NOTHING, Kind
from aegis_replication.state_machine import commands


@pytest.fixture
def cluster() -> Engines:
    engines = Engines()
    engines.elect()
    return engines


def commands_in(cluster: Engines, name: str) -> list[int]:
    log = cluster.replica(name).raft.log
    entries = log.slice(log.first, log.last_index + 1)
    return [entry.count for entry in entries if entry.kind == Kind.COMMANDS]


def test_a_write_is_answered_with_its_version_and_held_by_all(cluster: Engines) -> None:
    request = cluster.put(cluster.leader, b"k", b"v")

    cluster.run()
    cluster.pass_time(100)

    assert cluster.answer(request) == (wire.OK, 1)
    assert len({cluster.replica(name).machine.digest() for name in cluster.names}) == 1
    assert {cluster.replica(name).applied for name in cluster.names} == {cluster.replica("n1").raft.log.last_index}


def test_a_write_is_not_answered_before_a_majority_of_disks_has_it(cluster: Engines) -> None:
    leader = cluster.leader
    followers = [name for name in cluster.names if name != leader]
    for name in followers:
        cluster.held[name] = []

    request = cluster.put(leader, b"k", b"v")
    cluster.run()
    answered_before = cluster.is_answered(request)
    cluster.finish_writes(followers[0])

    assert not answered_before
    assert cluster.answer(request) == (wire.OK, 1)


def test_the_leaders_own_disk_is_one_of_the_majority_only_when_it_has_finished(cluster: Engines) -> None:
    leader = cluster.leader
    late = next(name for name in cluster.names if name != leader)
    cluster.held[leader], cluster.held[late] = [], []

    request = cluster.put(leader, b"k", b"v")
    cluster.run()
    answered_before = cluster.is_answered(request)
    cluster.finish_writes(leader)

    assert not answered_before
    assert cluster.answer(request) == (wire.OK, 1)


def test_commands_of_one_turn_are_one_entry(cluster: Engines) -> None:
    leader = cluster.leader

    requests = [cluster.put(leader, b"k%d" % i, b"v") for i in range(50)]
    cluster.run()

    assert commands_in(cluster, leader) == [50]
    assert [cluster.answer(request) for request in requests] == [(wire.OK, version) for version in range(1, 51)]


def test_commands_gather_while_the_leaders_disk_is_busy(cluster: Engines) -> None:
    leader = cluster.leader
    cluster.held[leader] = []

    cluster.put(leader, b"a", b"1")
    cluster.run()
    later = [cluster.put(leader, b"b%d" % i, b"1") for i in range(10)]
    cluster.run()
    entries_before = commands_in(cluster, leader)
    cluster.finish_writes(leader)

    assert entries_before == [1]
    assert commands_in(cluster, leader) == [1, 10]
    assert all(cluster.answer(request)[0] == wire.OK for request in later)


def test_a_frame_is_bounded_in_bytes_and_commands() -> None:
    cluster = Engines(limits=ReplicaLimits(frame_bytes=1000, frame_commands=20))
    leader = cluster.elect()

    large = [cluster.put(leader, b"l%d" % i, b"x" * 400) for i in range(5)]
    huge = cluster.put(leader, b"h", b"x" * 5000)
    small = [cluster.put(leader, b"s%d" % i, b"") for i in range(30)]
    cluster.run()

    assert commands_in(cluster, leader) == [2, 2, 1, 1, 20, 10]
    assert all(cluster.answer(request)[0] == wire.OK for request in [*large, huge, *small])


def test_a_follower_names_the_leader_and_its_address(cluster: Engines) -> None:
    leader = cluster.leader
    follower = next(name for name in cluster.names if name != leader)

    write, read = cluster.put(follower, b"k", b"v"), cluster.get(follower, b"k")
    cluster.run()

    assert cluster.answer(write) == (wire.NOT_LEADER, [leader, f"{leader}:7480"])
    assert cluster.answer(read) == (wire.NOT_LEADER, [leader, f"{leader}:7480"])


def test_a_malformed_command_is_refused_and_its_neighbours_are_not(cluster: Engines) -> None:
    leader = cluster.leader

    good = cluster.put(leader, b"a", b"1")
    bad = [cluster.ask(leader, body) for body in (b"", b"\xc1", b"\x93\x00\x00\x00", b"\x94\xc4\x00\x01\x01\x91\x63")]
    also_good = cluster.put(leader, b"b", b"1")
    cluster.run()

    assert [cluster.answer(request)[0] for request in bad] == [wire.INVALID] * 4
    assert [cluster.answer(request) for request in (good, also_good)] == [(wire.OK, 1), (wire.OK, 2)]
    assert commands_in(cluster, leader) == [2]


def test_a_malformed_query_is_refused(cluster: Engines) -> None:
    request = cluster.ask(cluster.leader, b"\xc1", kind=wire.QUERY)

    cluster.run()

    assert cluster.answer(request)[0] == wire.INVALID


def test_a_request_for_a_group_that_is_not_here_is_refused(cluster: Engines) -> None:
    cluster.tell("n1", Requested(7, 99, wire.COMMAND, 42, b""))

    cluster.run()

    status, text = cluster.answer(99)
    assert status == wire.INVALID
    assert "group 42" in text


def test_too_much_waiting_is_refused_and_room_comes_back() -> None:
    cluster = Engines(limits=ReplicaLimits(waiting_commands=3))
    leader = cluster.elect()

    requests = [cluster.put(leader, b"k", b"v") for _ in range(5)]
    cluster.run()
    after = cluster.put(leader, b"k", b"v")
    cluster.run()

    assert [cluster.answer(request)[0] for request in requests] == [wire.OK] * 3 + [wire.OVERLOADED] * 2
    assert cluster.answer(after) == (wire.OK, 4)


def test_too_many_uncommitted_bytes_are_refused_but_one_large_command_is_not() -> None:
    cluster = Engines(max_uncommitted_bytes=1000)
    leader = cluster.elect()

    first, second = cluster.put(leader, b"k", b"x" * 2000), cluster.put(leader, b"k", b"x")
    cluster.run()
    after = cluster.put(leader, b"k", b"x")
    cluster.run()

    assert cluster.answer(first)[0] == wire.OK
    assert cluster.answer(second)[0] == wire.OVERLOADED
    assert "not yet committed" in cluster.answer(second)[1]
    assert cluster.answer(after)[0] == wire.OK


def test_a_leader_whose_followers_hang_holds_no_more_than_its_limit_and_goes_on_with_them() -> None:
    cluster = Engines(max_uncommitted_bytes=5000, check_quorum=False)
    leader = cluster.elect()
    followers = [name for name in cluster.names if name != leader]
    cluster.cut.update(followers)

    requests = []
    for _ in range(40):
        requests.append(cluster.put(leader, b"k", b"x" * 300))
        cluster.run()
    refused = [request for request in requests if cluster.is_answered(request)]
    replica = cluster.replica(leader)
    held_bytes = replica.raft.log.uncommitted_bytes + replica.intake.size_bytes
    cluster.cut.clear()
    cluster.pass_time(200)

    assert 4000 < held_bytes < 5100
    assert refused == requests[-len(refused) :]
    assert {cluster.answer(request)[0] for request in refused} == {wire.OVERLOADED}
    assert {cluster.answer(request)[0] for request in requests[: -len(refused)]} == {wire.OK}


def test_a_tail_that_an_earlier_office_left_behind_counts() -> None:
    cluster = Engines(max_uncommitted_bytes=5000)
    leader = cluster.elect()
    followers = [name for name in cluster.names if name != leader]
    cluster.cut.update(followers)
    for _ in range(14):
        cluster.put(leader, b"k", b"x" * 300)
    cluster.run()
    cluster.pass_time(1000)  # the office is lost, since nobody answers
    assert not cluster.replica(leader).raft.is_leader
    left_behind = cluster.replica(leader).raft.log.uncommitted_bytes

    raft = cluster.replica(leader).raft
    while not raft.is_leader:  # elected once more, and still nobody takes entries
        cluster.pass_time(10)
        for follower in followers:
            cluster.tell(leader, Received(follower, GROUP, VoteReply(raft.term + 1, True, pre=True)))
            cluster.tell(leader, Received(follower, GROUP, VoteReply(raft.term, True)))
            cluster.run()
    requests = [cluster.put(leader, b"k", b"x" * 300) for _ in range(10)]
    cluster.run()

    assert left_behind > 4000
    assert [cluster.is_answered(request) for request in requests].count(False) <= 2
    assert raft.log.uncommitted_bytes + cluster.replica(leader).intake.size_bytes < 5200


def test_too_many_unapplied_bytes_are_refused_until_some_are_applied() -> None:
    cluster = Engines(max_unapplied_bytes=2000)
    leader = cluster.elect()
    taken = [cluster.put(leader, b"k", b"x" * 300) for _ in range(10)]
    cluster.held[leader] = []
    cluster.run()  # the followers have them, and this one's own disk does not: committed, and not to be applied

    refused = cluster.put(leader, b"k", b"x" * 300)
    cluster.run()
    is_refused = cluster.is_answered(refused)
    cluster.finish_writes(leader)
    after = cluster.put(leader, b"k", b"x" * 300)
    cluster.run()

    assert is_refused
    assert cluster.answer(refused)[0] == wire.OVERLOADED
    assert "not yet applied" in cluster.answer(refused)[1]
    assert {cluster.answer(request)[0] for request in (*taken, after)} == {wire.OK}


def test_a_read_sees_the_writes_before_it(cluster: Engines) -> None:
    leader = cluster.leader
    cluster.put(leader, b"k", b"old")
    cluster.run()

    read = cluster.get(leader, b"k")
    cluster.run()

    assert cluster.answer(read) == (wire.OK, [b"old", 1])


def test_a_read_is_not_answered_without_a_majority(cluster: Engines) -> None:
    leader = cluster.leader
    cluster.cut = {name for name in cluster.names if name != leader}

    read = cluster.get(leader, b"k")
    cluster.run()
    answered_before = cluster.is_answered(read)
    cluster.pass_time(400)  # it hears no majority and steps down

    assert not answered_before
    assert cluster.answer(read)[0] == wire.NOT_LEADER


def test_a_leader_whose_connection_broke_is_still_named_with_its_address(cluster: Engines) -> None:
    follower = next(name for name in cluster.names if name != cluster.leader)
    leader = cluster.leader
    cluster.tell(follower, PeerLost(leader))

    request = cluster.put(follower, b"k", b"v")
    cluster.run()

    assert cluster.answer(request) == (wire.NOT_LEADER, [leader, f"{leader}:7480"])


def test_a_command_over_a_limit_is_refused_with_the_numbers(cluster: Engines) -> None:
    request = cluster.put(cluster.leader, b"k" * 70_000, b"v")
    cluster.run()

    assert cluster.answer(request) == (wire.LIMIT_EXCEEDED, ["a key", 70_000, 65_536, "bytes"])


def test_a_deposed_leader_says_that_it_does_not_know(cluster: Engines) -> None:
    old = cluster.leader
    cluster.cut = {old}

    waiting = cluster.put(old, b"k", b"lost")
    cluster.run()
    new = cluster.elect()
    cluster.pass_time(200)
    cluster.cut = set()
    cluster.pass_time(300)

    assert cluster.answer(waiting)[0] == wire.UNKNOWN
    assert new != old
    assert len({cluster.replica(name).machine.digest() for name in cluster.names}) == 1


def test_a_long_backlog_is_applied_in_slices() -> None:
    cluster = Engines(limits=ReplicaLimits(apply_commands=10, frame_commands=10))
    leader = cluster.elect()
    follower = next(name for name in cluster.names if name != leader)
    cluster.cut = {follower}
    for i in range(100):
        cluster.put(leader, b"%d" % i, b"v")
    cluster.run()

    cluster.cut = set()
    turns = 0
    while cluster.replica(follower).applied < cluster.replica(leader).applied:
        cluster.pass_time(10)
        turns += 1

    assert cluster.replica(follower).machine.digest() == cluster.replica(leader).machine.digest()


def test_a_snapshot_is_taken_after_enough_commands_and_the_log_is_cut() -> None:
    cluster = Engines(snapshot_threshold=20, trailing_entries=2)
    leader = cluster.elect()

    for _ in range(30):
        cluster.put(leader, b"k", b"v")
        cluster.run()

    replica = cluster.replica(leader)
    assert replica.snapshots.newest is not None
    assert len(replica.raft.log) < 20
    assert any(write.snapshot == replica.snapshots.newest for name, write in cluster.writes if name == leader)


def test_a_snapshot_is_not_taken_for_less_log_than_it_is_large() -> None:
    cluster = Engines(snapshot_threshold=5)
    leader = cluster.elect()
    for i in range(5):
        cluster.put(leader, b"large%d" % i, b"x" * 20_000)
    cluster.run()
    first = cluster.replica(leader).snapshots.newest

    for _ in range(30):
        cluster.put(leader, b"small", b"v")
        cluster.run()

    assert first is not None
    assert cluster.replica(leader).snapshots.newest == first


def test_a_follower_behind_the_log_gets_the_snapshot() -> None:
    cluster = Engines(snapshot_threshold=20, trailing_entries=0)
    leader = cluster.elect()
    late = next(name for name in cluster.names if name != leader)
    cluster.cut = {late}
    cluster.pass_time(1000)  # so that nobody counts on it any more
    session = b"s" * 16
    cluster.ask(leader, commands.encode_open(session))
    for i in range(60):
        cluster.ask(leader, commands.encode_command(session, i + 1, i + 1, commands.Put(b"%d" % i, b"x" * 100)))
        cluster.run()

    cluster.cut = set()
    cluster.pass_time(1000)

    assert cluster.replica(late).applied == cluster.replica(leader).applied
    assert cluster.replica(late).machine.digest() == cluster.replica(leader).machine.digest()
    assert any(type(message).__name__ == "InstallSnapshot" for _, target, message in cluster.messages if target == late)


def test_an_installed_snapshot_is_told_when_its_state_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when its last byte has come: restoring a large state takes many turns."""
    cluster = Engines(snapshot_threshold=20, trailing_entries=0, limits=ReplicaLimits(restore_pieces=1))
    leader = cluster.elect()
    late = next(name for name in cluster.names if name != leader)
    turns: list[tuple[bool, LogIndex, list[NodeEvent]]] = []
    take_effects = ReplicationEngine.take_effects

    def watched(engine: ReplicationEngine) -> Effects:
        effects = take_effects(engine)
        if engine.node == late:
            replica = cluster.replica(late)
            turns.append((replica._restoring is not None, replica.applied, list(effects.news)))
        return effects

    monkeypatch.setattr(ReplicationEngine, "take_effects", watched)
    cluster.cut = {late}
    cluster.pass_time(1000)
    session = b"s" * 16
    cluster.ask(leader, commands.encode_open(session))
    for i in range(60):
        cluster.ask(leader, commands.encode_command(session, i + 1, i + 1, commands.Put(b"%d" % i, b"x" * 100)))
        cluster.run()

    cluster.cut = set()
    cluster.pass_time(1000)

    told = [(applied, each) for _, applied, news in turns for each in news if isinstance(each, SnapshotInstalled)]
    assert any(is_restoring for is_restoring, _, _ in turns), "it was restored in one turn"
    assert [each.source for _, each in told] == [leader]
    assert all(applied >= each.index for applied, each in told)


def test_commands_of_an_office_that_ends_before_it_is_seen_are_answered() -> None:
    """Won and lost again between two calls of take_effects: nobody may wait here until this node leads once more."""
    cluster = Engines()
    while not any(type(message) is VoteReply and not message.pre for _, _, message in cluster.messages):
        cluster.now_ms += 1
        for name in cluster.names:
            cluster.tell(name, Ticked(cluster.now_ms, 0))
        for name in cluster.names:
            if cluster.replica(name).raft.is_leader:
                break
            cluster._carry_out(name, cluster.engines[name].take_effects())
        assert cluster.now_ms < 5000
    winner = next(name for name in cluster.names if cluster.replica(name).raft.is_leader)
    other = next(name for name in cluster.names if name != winner)

    request = cluster.put(winner, b"k", b"v")
    read = cluster.get(winner, b"k")
    later = AppendEntries(cluster.replica(winner).raft.term + 1, NOTHING, 0, 0)
    cluster.tell(winner, Received(other, GROUP, later))
    cluster.cut = {*cluster.names}
    cluster.run()

    assert cluster.answer(request)[0] == cluster.answer(read)[0] == wire.NOT_LEADER
    assert not cluster.engines[winner].has_more


def test_a_snapshot_that_the_log_overtook_is_the_one_that_is_sent_on() -> None:
    """It has replaced this node's own on disk: asked for that one, a follower would get nothing."""
    cluster = Engines(snapshot_threshold=1000)
    leader = cluster.elect()
    for i in range(20):
        cluster.put(leader, b"%d" % i, b"v")
        cluster.run()
    cluster.pass_time(100)
    follower = next(name for name in cluster.names if name != leader)
    replica = cluster.replica(follower)
    meta = replica.raft.snapshot_meta()

    stored = ChunkStored(GROUP, leader, meta.id, 10, complete=True, meta=meta, size_bytes=10)
    cluster.tell(follower, stored)
    cluster.run()

    assert replica.snapshots.newest == meta
    assert any(write.snapshot == meta for name, write in cluster.writes if name == follower)


def test_the_story_shows_the_last_events(cluster: Engines) -> None:
    cluster.put(cluster.leader, b"k", b"v")

    story = cluster.engines[cluster.leader].recorder.story()

    assert len(story) <= 100
    assert "Requested" in story[-1]
