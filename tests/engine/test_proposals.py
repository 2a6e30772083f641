"""Do a replica's counts of its proposals tell what became of them?"""

from engines import Engines

from aegis_replication.engine.events import RoomChanged
from aegis_replication.engine.spec import ReplicaLimits
from aegis_replication.storage.flush_policy import FlushPolicy


def counts(cluster: Engines, name: str) -> tuple[int, int, int, int]:
    proposals = cluster.replica(name).proposals
    return proposals.proposed, proposals.failed, proposals.refused, proposals.durations.count


def test_commands_that_were_answered_are_counted_once_and_their_entries_timed() -> None:
    cluster = Engines()
    leader = cluster.elect()

    for number in range(50):
        cluster.put(leader, b"k%d" % number, b"v")
    cluster.run()
    cluster.put(leader, b"k", b"v")
    cluster.run()

    assert counts(cluster, leader) == (51, 0, 0, 2)
    assert all(counts(cluster, name) == (0, 0, 0, 0) for name in cluster.names if name != leader)


def test_an_entry_is_timed_from_the_log_to_the_machine() -> None:
    cluster = Engines()
    leader = cluster.elect()
    followers = [name for name in cluster.names if name != leader]
    cluster.held = {name: [] for name in followers}

    cluster.put(leader, b"k", b"v")
    cluster.pass_time(40)
    for name in followers:
        cluster.finish_writes(name)

    durations = cluster.replica(leader).proposals.durations
    assert durations.count == 1
    assert 0.03 <= durations.total <= 0.05


def test_commands_whose_outcome_nobody_knows_have_failed() -> None:
    cluster = Engines()
    old = cluster.elect()
    cluster.cut = {old}

    cluster.put(old, b"k", b"lost")
    cluster.put(old, b"k", b"lost as well")
    cluster.run()
    cluster.elect()
    cluster.cut = set()
    cluster.pass_time(300)

    assert counts(cluster, old) == (2, 2, 0, 0)


def test_commands_that_were_turned_away_are_counted_apart() -> None:
    """Two find no room, then the disk is full: one that waits for its entry and one that comes later are sent away."""
    cluster = Engines(limits=ReplicaLimits(waiting_commands=3))
    leader = cluster.elect()

    for _ in range(5):
        cluster.put(leader, b"k", b"v")
    cluster.run()
    cluster.put(leader, b"k", b"waits")
    cluster.tell(leader, RoomChanged(0, "the disk is full"))
    cluster.put(leader, b"k", b"comes later")
    cluster.run()

    assert counts(cluster, leader) == (3, 0, 2, 1)
    assert cluster.replica(leader).intake.refused == 2


def test_every_flush_is_timed_whoever_does_it() -> None:
    policy = FlushPolicy()

    for elapsed_ms in (0.5, 1.0, 400.0, 2.0):
        policy.record(elapsed_ms)

    assert policy.mode == "aside"
    assert (policy.durations.count, round(policy.durations.total, 4)) == (4, 0.4035)
