"""Members come and go in a few lines, on simulated time, network and disks. All promises are checked at each step."""

import pytest

from aegis_replication.admin import Jointly, Transfer
from aegis_replication.consensus.changes import AddLearner, Demote, Promote, Remove, Replace
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.errors import Unavailable
from aegis_replication.simulation import Cluster
from aegis_replication.simulation.cluster import GROUP

SMALL_SNAPSHOTS = RaftConfig(snapshot_threshold=10, trailing_entries=0)


def configuration(cluster: Cluster, node: str = ""):
    return cluster.hosts[node or cluster.leader()].replica(GROUP).raft.configuration


def knows_everybody(cluster: Cluster) -> bool:
    """Does every node have it in its log which directory each member has?"""
    wanted = {name: host.incarnation for name, host in cluster.hosts.items()}
    return all(host.replica(GROUP).raft.configurations.oldest.incarnations == wanted for host in cluster.hosts.values())


def join(cluster: Cluster, name: str, *, promote: bool = True) -> bool:
    host = cluster.add_node(name)
    told = host.introduction
    return cluster.administer(AddLearner(name, told.address, told.incarnation, promote=promote))


def others(cluster: Cluster) -> list[str]:
    return [node for node in cluster.nodes if node != cluster.leader()]


def test_a_new_node_becomes_a_voter_by_itself() -> None:
    cluster = Cluster(3, seed=1)
    cluster.put("k", "1")

    assert join(cluster, "d")
    cluster.recover()

    assert configuration(cluster, "d").voters == ("a", "b", "c", "d")


def test_a_new_node_far_behind_comes_in_by_snapshot() -> None:
    cluster = Cluster(3, seed=2, config=SMALL_SNAPSHOTS)
    for number in range(100):
        cluster.put(f"k{number}", "v")

    assert join(cluster, "d")
    cluster.recover()

    replica = cluster.hosts["d"].replica(GROUP)
    assert replica.snapshots.newest is not None
    assert replica.raft.configuration.voters == ("a", "b", "c", "d")


def test_a_voter_that_was_replaced_is_missed_by_nobody() -> None:
    cluster = Cluster(3, seed=3)
    cluster.put("k", "1")
    dead = others(cluster)[0]
    cluster.crash(dead)
    new = cluster.add_node("d")

    assert cluster.administer(Replace(dead, "d", new.introduction.address, new.incarnation))
    cluster.wait_until(lambda: dead not in configuration(cluster).members, "new voter in its place")
    cluster.crash(next(node for node in others(cluster) if node != "d"))

    assert configuration(cluster).voters == tuple(sorted({*"abcd"} - {dead}))
    assert cluster.get("k") == b"1"


def test_all_founders_are_replaced_and_one_that_slept_finds_back() -> None:
    """It knows nobody of those who are there now; that they know later members than it does is enough."""
    cluster = Cluster(3, seed=4)
    cluster.put("k", "1")
    sleeper = others(cluster)[0]
    for name in "defg":
        assert join(cluster, name)
        cluster.wait_until(lambda name=name: name in configuration(cluster).voters, "new voter")
    cluster.crash(sleeper)
    for founder in [node for node in "abc" if node != sleeper]:
        assert cluster.administer(Remove(founder))
        cluster.crash(founder)
        cluster.hosts[founder].is_retired = True
    cluster.put("k", "2")

    cluster.start(sleeper)
    cluster.recover()

    assert configuration(cluster, sleeper).voters == tuple(sorted({sleeper, *"defg"}))
    cluster.check()


def test_a_removed_leader_hands_over_without_losing_a_write() -> None:
    cluster = Cluster(3, seed=5)
    cluster.put("k", "1")
    removed = cluster.leader()

    assert cluster.administer(Remove(removed))
    cluster.wait_until(lambda: cluster.leader() != removed, "another leader", within_ms=500)

    assert cluster.put("k", "2") == 2
    assert removed not in configuration(cluster).members


def test_a_wiped_voter_makes_no_majority() -> None:
    """As in bugs of others: one voter away, one wiped; together with the third, the empty one must decide nothing."""
    cluster = Cluster(3, seed=6)
    cluster.put("k", "1")
    cluster.wait_until(lambda: knows_everybody(cluster), "known directories")
    wiped, away = others(cluster)
    cluster.crash(away)
    cluster.wipe(wiped)
    cluster.start(wiped)

    with pytest.raises(Unavailable):
        cluster.get("k", within_ms=3_000)
    cluster.start(away)

    assert cluster.get("k") == b"1"
    assert cluster.faults["wiped_refused"] > 0


def test_a_wiped_voter_that_is_added_anew_is_one_again() -> None:
    cluster = Cluster(3, seed=7)
    cluster.put("k", "1")
    cluster.wait_until(lambda: knows_everybody(cluster), "known directories")
    wiped = others(cluster)[0]
    cluster.wipe(wiped)
    cluster.start(wiped)

    assert cluster.administer(Remove(wiped))
    assert cluster.administer(AddLearner(wiped, promote=True))
    cluster.recover()

    assert wiped in configuration(cluster).voters
    cluster.wait_until(lambda: knows_everybody(cluster), "known directories")
    cluster.check()


def test_a_learner_that_slept_takes_a_voter_that_was_added_anew() -> None:
    """Found by seed 63: the learner knew only the voter's old directory, and refused its leader for ever."""
    cluster = Cluster(3, seed=8)
    cluster.put("k", "1")
    assert join(cluster, "d", promote=False)
    cluster.wait_until(lambda: knows_everybody(cluster), "known directories")
    cluster.crash("d")
    wiped = others(cluster)[0] if others(cluster)[0] != "d" else others(cluster)[1]
    cluster.wipe(wiped)
    cluster.start(wiped)
    assert cluster.administer(Remove(wiped))
    assert cluster.administer(AddLearner(wiped, promote=True))
    cluster.wait_until(lambda: wiped in configuration(cluster).voters, "voter")
    assert cluster.administer(Transfer(wiped)) or cluster.leader() == wiped

    cluster.start("d")
    cluster.recover()

    assert cluster.hosts["d"].replica(GROUP).raft.leader == cluster.leader() == wiped


def test_leadership_goes_where_it_is_sent() -> None:
    cluster = Cluster(3, seed=9)
    cluster.put("k", "1")
    target = others(cluster)[1]

    assert cluster.administer(Transfer(target))

    assert cluster.leader() == target
    assert cluster.get("k") == b"1"


def test_leadership_returns_to_the_highest_priority() -> None:
    cluster = Cluster(3, seed=10, priorities={"a": 1, "b": 9, "c": 0})
    cluster.wait_until(lambda: cluster.leader() == "b", "preferred leader", within_ms=20_000)
    cluster.crash("b")
    cluster.put("k", "1")
    assert cluster.leader() == "a"

    cluster.start("b")

    cluster.wait_until(lambda: cluster.leader() == "b", "preferred leader", within_ms=20_000)


def test_what_can_not_be_is_refused_and_changes_nothing() -> None:
    cluster = Cluster(3, seed=11)
    cluster.put("k", "1")
    before = configuration(cluster).voters

    assert not cluster.administer(Promote("z"))
    assert not cluster.administer(Transfer("z"))

    assert configuration(cluster).voters == before


def test_joint_changes_meet_crashes_at_each_step() -> None:
    """Whoever is elected between the two steps ends what was begun, or it never was."""
    for seed in range(20, 26):
        cluster = Cluster(3, seed=seed)
        cluster.put("k", "1")
        demoted = others(cluster)[0]
        leader = cluster.leader()
        cluster.run(50.0 + seed)
        cluster.hosts[leader].disk.cut_at = cluster.hosts[leader].disk.calls + 1 + seed % 4
        cluster.administer(Jointly(Demote(demoted)))
        cluster.recover()

        assert not configuration(cluster).is_joint
        assert {configuration(cluster, node).voters for node in cluster.nodes} == {configuration(cluster).voters}
        cluster.check()
