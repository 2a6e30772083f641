"""Do we lose what others lost? Power cuts at each acknowledgement, restarts under load, messages of long ago."""

from aegis_replication.admin import Transfer
from aegis_replication.consensus.changes import AddLearner, Remove
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.simulation import Cluster
from aegis_replication.simulation.cluster import GROUP

SMALL_SNAPSHOTS = RaftConfig(snapshot_threshold=5, trailing_entries=0)


def test_a_single_node_has_flushed_whatever_it_acknowledges() -> None:
    """etcd#14370: a cluster of one acknowledged writes that its disk didn't hold yet."""
    cluster = Cluster(1, seed=1)
    for number in range(30):
        cluster.put("k", f"{number}")

        cluster.crash("a", losing="unsynced")
        cluster.start("a")

        assert cluster.get("k") == b"%d" % number


def test_a_majority_that_loses_what_it_has_not_flushed_loses_nothing_acknowledged() -> None:
    """Jepsen's findings in NATS, dragonboat#201: logs flushed now and then, and acknowledged before."""
    for aside in (False, True):
        cluster = Cluster(3, seed=2, flush_aside=aside)
        for number in range(20):
            cluster.put("k", f"{number}")
            for node in [cluster.leader(), next(each for each in cluster.nodes if each != cluster.leader())]:
                cluster.crash(node, losing="unsynced")

            cluster.recover()

            assert cluster.get("k") == b"%d" % number, f"aside={aside}"


def test_all_nodes_start_again_and_again_while_snapshots_are_taken() -> None:
    """canonical/raft#199, redisraft#43: after a kill the log lay behind the snapshot, and the node didn't start."""
    cluster = Cluster(3, seed=3, config=SMALL_SNAPSHOTS, segment_bytes=16 * 1024)
    random = cluster.clock.random("this story")
    acknowledged = 0
    for turn in range(25):
        for _ in range(random.randint(1, 12)):
            acknowledged = cluster.increment("n")
        for node in cluster.nodes:
            for number in range(4):
                cluster.send(f"k{number}", "x" * 200, at=node)
        cluster.run(8.0 * random.random())
        for node in cluster.nodes:
            cluster.crash(node, losing=random.choice(("some", "unsynced", "nothing")))

        cluster.recover()

        assert cluster.increment("n", 0) == acknowledged, f"turn {turn}"
    assert all(host.replica(GROUP).snapshots.newest is not None for host in cluster.hosts.values())


def test_a_follower_that_loses_power_in_any_call_while_it_takes_a_snapshot_starts_and_is_level_again() -> None:
    """rqlite#2759, etcd#17780, #13766: state and applied index apart after a crash in the middle of a restore."""
    for call in range(1, 40):
        cluster = Cluster(3, seed=4, config=SMALL_SNAPSHOTS)
        cluster.put("k", "0")
        late = next(node for node in cluster.nodes if node != cluster.leader())
        cluster.crash(late)
        for _ in range(20):
            cluster.increment("n")
        cluster.start(late)
        host = cluster.hosts[late]
        host.disk.cut_at = host.disk.calls + call
        cluster.run(400.0)

        cluster.recover()
        cluster.check()

        replica, leading = host.replica(GROUP), cluster.hosts[cluster.leader()].replica(GROUP)
        assert replica.machine.digest() == leading.machine.digest(), f"call {call}"


def test_messages_of_long_ago_bring_back_no_removed_replica() -> None:
    """tikv#5852, #15919, cockroach/pull/1865: a late message made a removed replica anew, or spoke for it."""
    cluster = Cluster(3, seed=5)
    cluster.put("k", "1")
    host = cluster.add_node("d")
    told = host.introduction
    heard: list[tuple[str, str, bytes]] = []
    deliver = cluster.network._deliver

    def note(source: str, target: str, packet: bytes) -> None:
        if "d" in (source, target) and "#" not in source + target:
            heard.append((source, target, packet))
        deliver(source, target, packet)

    cluster.network._deliver = note
    assert cluster.administer(AddLearner("d", told.address, told.incarnation, promote=True))
    cluster.recover()
    assert cluster.administer(Transfer("d")) or cluster.leader() == "d"
    cluster.put("k", "2")
    assert cluster.administer(Remove("d"))
    cluster.put("k", "3")
    cluster.run(1_000.0)
    cluster.network._deliver = deliver
    assert {each[0] == "d" for each in heard} == {True, False}, "nothing was said to it, or nothing by it"

    for source, target, packet in heard:
        cluster._deliver(source, target, packet)
    cluster.run(3_000.0)
    leader = cluster.hosts[cluster.leader()].replica(GROUP).raft
    assert leader.node != "d"
    assert leader.configuration.members == {"a", "b", "c"}

    # Added anew it is another life of the same node: what it said in the one before says nothing of this one.
    assert cluster.administer(AddLearner("d", told.address, told.incarnation, promote=True))
    for source, target, packet in heard:
        cluster._deliver(source, target, packet)
    cluster.recover()

    assert "d" in cluster.hosts[cluster.leader()].replica(GROUP).raft.configuration.voters
    assert cluster.get("k") == b"3"
    cluster.check()
