"""Do we repeat what others got wrong, where a transcript would be too long? The table in docs/testing.md names all."""

from itertools import product

import pytest
from raft_cluster import Cluster

from aegis_replication.consensus.changes import AddLearner, Promote

ELECTIONS = 300  # more than ten thousand in 5,000 simulated seeds


def test_links_that_come_and_go_give_each_term_one_leader() -> None:
    """camunda#1068, #5356: links cut and mended every one or two election timeouts, through very many elections."""
    led: dict[int, str] = {}
    seed = 0
    while len(led) < ELECTIONS:
        seed += 1
        names = "abcde" if seed % 2 else "abcd"
        cluster = Cluster(names, seed=seed, pre_vote=seed % 3 > 0)
        random = cluster.random
        seen = len(led)
        for _ in range(60):
            cluster.heal()
            for one, other in product(names, repeat=2):
                if one != other and random.random() < 0.3:
                    cluster.cut(one, other, one_way=random.random() < 0.5)
            cluster.pass_time(150.0 + 150.0 * random.random(), step_ms=25.0)
            for name in cluster.leaders:
                term = (seed << 32) + cluster[name].term
                assert led.setdefault(term, name) == name, f"seed {seed}: {name} and {led[term]} lead the same term"
        assert len(led) > seen, f"seed {seed}: nobody was elected"


def test_what_was_overwritten_under_a_snapshot_does_not_come_back() -> None:
    """etcd#22442: entries that a new leader replaced were there again when the log was read back."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.isolate("a")
    for number in range(4):
        cluster["a"].propose(1, b"lost %d" % number, count=1)
    cluster.run()
    lost = cluster["a"].log.last
    cluster.elect("b")
    cluster.heal()
    cluster.pass_time(300)
    for _ in range(lost.index):
        cluster.put(b"kept")
    cluster.pass_time(100)
    cluster.snapshot("a", keep_from=lost.index - 1)
    before = [held.id for held in cluster["a"].log.since(cluster["a"].log.first, bytes_max=10**6, commands_max=10**6)]

    cluster.crash("a")
    cluster.start("a")
    cluster.crash("b")
    cluster.elect("a")

    log = cluster["a"].log
    again = [held.id for held in log.since(log.first, bytes_max=10**6, commands_max=10**6)]
    assert again[: len(before)] == before
    assert lost not in again
    assert cluster.leader == "a"


@pytest.mark.parametrize("holders", list(product((0, 1, 2), repeat=3)), ids=lambda each: "".join(map(str, each)))
def test_whoever_holds_which_configuration_the_leader_that_dies_is_followed_by_another(
    holders: tuple[int, ...],
) -> None:
    """camunda#57386, openraft#1796: a joint change and PreVote, each split of who holds C-old,new and C-new.

    Of two other voters and the newcomer each holds none (0), the first (1) or both (2) of the two entries.
    """
    cluster = Cluster("abcde", voters="abcd", seed=sum(holders))
    cluster.elect("a")
    cluster["a"].propose_change(AddLearner("e"))
    cluster.pass_time(200)
    cluster["a"].propose_change(Promote("e"), joint=True)
    reach(cluster, [name for name, held in zip("bce", holders, strict=True) if held])
    cluster.held_disks.update("bce")  # they hold the first entry and haven't said so: it isn't committed yet
    cluster.run()
    reach(cluster, [name for name, held in zip("bce", holders, strict=True) if held == 2])
    cluster.held_disks.clear()
    cluster.run()
    cluster.crash("a")
    is_committed = all(holders[:2])  # with the leader three of the four old voters; the second entry follows
    assert [held_by(cluster, name) for name in "bce"] == [held if is_committed else min(held, 1) for held in holders]

    cluster.heal()
    cluster.pass_time(3_000, step_ms=20)

    new = cluster.put(b"x")
    cluster.pass_time(200)
    in_force = cluster[cluster.leader].configuration
    assert not in_force.is_joint
    assert all(cluster[name].configuration == in_force for name in in_force.voters if name != "a")
    assert cluster[cluster.leader].log.committed >= new.index


def reach(cluster: Cluster, names: list[str]) -> None:
    """What the leader says arrives at these only."""
    cluster.heal()
    for other in "bcde":
        if other not in names:
            cluster.cut("a", other, one_way=True)


def held_by(cluster: Cluster, name: str) -> int:
    """How many of the change's two entries a node has."""
    configuration = cluster[name].configuration
    return 1 if configuration.is_joint else 2 * ("e" in configuration.voters)
