"""Reads that once went wrong elsewhere, and how they go here. All promises are checked at each step."""

import pytest

from aegis_replication.admin import SetLease, Transfer
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.errors import Unavailable
from aegis_replication.simulation import Cluster

CONFIG = RaftConfig(election_timeout=(150, 300), heartbeat_interval=50)


def leasing(seed: int, nodes: int = 3) -> Cluster:
    """A cluster whose leader has a lease, and "k" is "old"."""
    cluster = Cluster(nodes, seed=seed, config=CONFIG, lease=True)
    cluster.put("k", "old")
    cluster.run(200)
    return cluster


def others(cluster: Cluster, node: str) -> list[str]:
    return [each for each in cluster.nodes if each != node]


def has_lease(cluster: Cluster, node: str) -> bool:
    host = cluster.hosts[node]
    return host.replica(1).raft.lease_until_ms > host.own_clock.now_ms


# --- every read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["leader", "follower"])
def test_a_read_right_after_an_election_waits_for_the_new_leaders_first_commit(at: str) -> None:
    """Before its own no-op is committed a leader doesn't know what is (a read index once fell behind a write)."""
    cluster = Cluster(3, seed=11, config=CONFIG)
    for round_ in range(5):
        cluster.put("k", str(round_))
        cluster.crash(cluster.leader(), losing="unsynced")
        leader = cluster.leader()
        node = leader if at == "leader" else next(each for each in others(cluster, leader) if cluster.hosts[each].is_up)

        seen = cluster.get("k", at=node, anywhere=True)

        assert seen == str(round_).encode()
        cluster.recover()


def test_a_read_right_after_a_hand_over_sees_what_the_leader_before_acknowledged() -> None:
    cluster = Cluster(3, seed=12, config=CONFIG)
    for round_ in range(6):
        cluster.put("k", str(round_))
        target = others(cluster, cluster.leader())[round_ % 2]
        cluster.administer(Transfer(target))

        assert cluster.get("k", at=target, anywhere=True) == str(round_).encode()


def test_a_leader_that_sleeps_with_followers_questions_in_hand_serves_nothing_stale_when_it_wakes() -> None:
    """Late answers to a question that was sent twice once confirmed a newer read."""
    cluster = Cluster(3, seed=13, config=CONFIG)
    cluster.put("k", "old")
    sleeper = cluster.leader()
    follower = others(cluster, sleeper)[0]
    cluster.pause(sleeper)
    with pytest.raises(Unavailable):
        cluster.get("k", at=follower, anywhere=True, within_ms=20)
    with pytest.raises(Unavailable):
        cluster.get("k", at=sleeper, within_ms=20)
    cluster.put("k", "new")

    cluster.resume(sleeper)

    assert cluster.get("k", at=sleeper, anywhere=True) == b"new"
    assert cluster.get("k", at=follower, anywhere=True) == b"new"


def test_a_follower_that_is_cut_off_answers_no_linearizable_read() -> None:
    cluster = Cluster(3, seed=14, config=CONFIG)
    cluster.put("k", "old")
    lonely = others(cluster, cluster.leader())[0]
    cluster.isolate(lonely)
    cluster.put("k", "new")

    with pytest.raises(Unavailable):
        cluster.get("k", at=lonely, anywhere=True, within_ms=2_000)

    cluster.heal()
    assert cluster.get("k", at=lonely, anywhere=True) == b"new"


# --- leases ---------------------------------------------------------------------------------------------------------


def test_a_leader_with_a_lease_asks_nobody() -> None:
    cluster = leasing(21)
    leader = cluster.leader()

    cluster.isolate(leader)

    assert cluster.get("k", at=leader, within_ms=20) == b"old"


def test_a_lease_is_over_before_others_lead() -> None:
    cluster = leasing(22)
    leader = cluster.leader()
    cluster.isolate(leader)
    cluster.put("k", "new")

    with pytest.raises(Unavailable):
        cluster.get("k", at=leader, within_ms=2_000)


def test_a_wall_clock_that_jumps_back_prolongs_no_lease() -> None:
    """Leases by the wall clock once served stale reads after it was set back."""
    cluster = leasing(23)
    leader = cluster.leader()
    cluster.isolate(leader)
    cluster.hosts[leader].settings.wall_skew_ms -= 10_000.0
    cluster.put("k", "new")

    with pytest.raises(Unavailable):
        cluster.get("k", at=leader, within_ms=2_000)


def test_a_leader_whose_clock_is_slow_and_whose_voters_clocks_are_fast_serves_nothing_stale() -> None:
    for seed in range(24, 34):
        cluster = leasing(seed)
        leader = cluster.leader()
        for node, host in cluster.hosts.items():
            host.own_clock.set_rate(0.9 if node == leader else 1.1)
        cluster.run(300)
        leader = cluster.leader()

        cluster.isolate(leader)
        cluster.put("k", "new")

        with pytest.raises(Unavailable):
            cluster.get("k", at=leader, within_ms=500)


def test_a_leader_that_sleeps_with_a_lease_wakes_without_one() -> None:
    cluster = leasing(35)
    sleeper = cluster.leader()
    cluster.pause(sleeper)
    cluster.put("k", "new")

    cluster.resume(sleeper)

    try:
        assert cluster.get("k", at=sleeper, within_ms=1_000) == b"new"
    except Unavailable:
        pass  # it leads no more, and says so


def test_a_leader_that_stands_still_in_the_middle_of_a_turn_looks_at_the_clock_again() -> None:
    """It answers what came meanwhile with the time it began with, unless it looks again."""
    cluster = leasing(36)
    sleeper = cluster.leader()
    cluster.hosts[sleeper].stall_ms = 3_000.0
    cluster.run(60)
    cluster.isolate(sleeper)
    cluster.put("k", "new")

    with pytest.raises(Unavailable):
        cluster.get("k", at=sleeper, within_ms=4_000)


def test_a_voter_that_restarts_lets_nobody_lead_beside_a_lease() -> None:
    """It has forgotten whom it heard, and was once asked at once for its vote."""
    for seed in range(37, 47):
        cluster = leasing(seed)
        leader = cluster.leader()
        voter, deaf = others(cluster, leader)
        cluster.partition([leader], [deaf])
        cluster.run(350)  # the deaf one asks for votes by now
        cluster.partition([leader], [voter])
        cluster.crash(voter, losing="nothing")
        cluster.start(voter)

        cluster.put("k", "new")  # by a new leader; the cluster checks that the lease was over

        assert cluster.leader() != leader


def test_a_hand_over_ends_the_lease_whether_it_succeeds_or_not() -> None:
    cluster = leasing(47)
    leader = cluster.leader()
    target = others(cluster, leader)[0]
    assert has_lease(cluster, leader)

    cluster.cut(target, leader)
    cluster.administer(Transfer(target), within_ms=1_000)

    assert not has_lease(cluster, leader) or not cluster.hosts[leader].replica(1).raft.is_leader


def test_leases_are_switched_while_the_cluster_is_at_work() -> None:
    cluster = Cluster(3, seed=48, config=CONFIG)
    cluster.put("k", "1")
    leader = cluster.leader()

    assert cluster.administer(SetLease(True))
    cluster.run(200)
    with_lease = has_lease(cluster, leader)
    assert cluster.administer(SetLease(False))
    cluster.run(200)

    assert with_lease
    assert not has_lease(cluster, leader)
    assert cluster.get("k") == b"1"


def test_a_lease_survives_restarts_of_everybody() -> None:
    cluster = leasing(49)

    for node in cluster.nodes:
        cluster.crash(node, losing="unsynced")
    cluster.recover()
    cluster.run(200)

    assert has_lease(cluster, cluster.leader())


# --- answers of a bounded age ---------------------------------------------------------------------------------------


def test_a_follower_that_was_told_lately_answers_by_itself() -> None:
    cluster = Cluster(3, seed=61, config=CONFIG)
    cluster.put("k", "old")
    follower = others(cluster, cluster.leader())[0]
    assert cluster.get("k", at=follower, staleness_ms=5_000) == b"old"

    cluster.isolate(follower)

    assert cluster.get("k", at=follower, staleness_ms=5_000, within_ms=50) == b"old"


def test_a_follower_that_can_not_prove_its_age_does_not_answer() -> None:
    cluster = Cluster(3, seed=62, config=CONFIG)
    cluster.put("k", "old")
    follower = others(cluster, cluster.leader())[0]
    assert cluster.get("k", at=follower, staleness_ms=500) == b"old"
    cluster.isolate(follower)
    cluster.put("k", "new")
    cluster.run(1_000)

    with pytest.raises(Unavailable):
        cluster.get("k", at=follower, staleness_ms=500, within_ms=2_000)
    cluster.heal()

    assert cluster.get("k", at=follower, staleness_ms=500) == b"new"


def test_a_follower_far_behind_asks_the_leader_instead_of_showing_old_state() -> None:
    cluster = Cluster(3, seed=63, config=CONFIG)
    cluster.put("k", "old")
    follower = others(cluster, cluster.leader())[0]
    cluster.isolate(follower)
    cluster.put("k", "new")
    cluster.run(1_000)
    cluster.heal()

    assert cluster.get("k", at=follower, staleness_ms=300) == b"new"


def test_the_leader_too_answers_by_itself_what_may_be_a_little_old() -> None:
    cluster = Cluster(3, seed=64, config=CONFIG)
    cluster.put("k", "old")
    leader = cluster.leader()
    assert cluster.get("k", at=leader, staleness_ms=5_000) == b"old"

    cluster.isolate(leader)

    assert cluster.get("k", at=leader, staleness_ms=5_000, within_ms=50) == b"old"
