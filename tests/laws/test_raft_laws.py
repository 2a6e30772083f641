"""Do the five properties of Figure 3 hold under any schedule of delays, losses, duplicates, slow disks and crashes?"""

from random import Random

import pytest
from raft_cluster import Cluster

from aegis_replication.log import Entry, EntryId


class Witness:
    """Remembers what may never be contradicted, over all nodes and their restarts."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.leader_of: dict[int, str] = {}
        self.applied_at: dict[int, EntryId] = {}
        self.committed: dict[int, EntryId] = {}
        self.judged: set[tuple[str, int]] = set()

    def look(self) -> None:
        for name, raft in self.cluster.rafts.items():
            if raft.is_leader:
                other = self.leader_of.setdefault(raft.term, name)
                assert other == name, f"election safety: {other} and {name} lead term {raft.term}"
                if (name, raft.term) not in self.judged:
                    self.judged.add((name, raft.term))
                    self._complete(name)
            for held in self.cluster.applied[name]:
                first = self.applied_at.setdefault(held.index, held)
                assert first == held, f"state machine safety: {first} and {held} were applied"
            if raft.log.committed > raft.log.base.index:
                top = raft.log.committed
                known = self.committed.setdefault(top, raft.log.get(top).id)
                assert known == raft.log.get(top).id, f"{known} and {raft.log.get(top).id} are committed"
            indexes = [held.index for held in self.cluster.applied[name]]
            assert indexes == list(range(1, len(indexes) + 1)), f"{name} applied {indexes[-5:]}"

    def _complete(self, name: str) -> None:
        """Leader completeness: whatever was committed before is in a new leader's log."""
        log = self.cluster[name].log
        for index, held in self.committed.items():
            if index > log.base.index and held.term < self.cluster[name].term:
                assert log.term_at(index) == held.term, f"leader {name} lacks committed {held}"

    def disks_hold_what_logs_hold(self) -> None:
        """What was rewritten in memory was rewritten on disk: a restart finds the log that this node spoke of."""
        for name, raft in self.cluster.rafts.items():
            self.cluster.take(name)
            self.cluster.finish_writes(name)
            disk, log = self.cluster.disks[name], raft.log
            first = max(log.first, disk.base.index + 1)
            assert disk.entries[first - disk.base.index - 1 :] == log.slice(first, log.last_index + 1), name
            assert (disk.hard_state.term, disk.hard_state.voted_for) == (raft.term, raft.voted_for), name

    def logs_match(self) -> None:
        """Log matching: the same id at one index means the same log up to there."""
        rafts = list(self.cluster.rafts.values())
        for one in rafts:
            for other in rafts:
                first = max(one.log.first, other.log.first)
                last = min(one.log.last_index, other.log.last_index)
                must_match = False
                for index in range(last, first - 1, -1):
                    mine, theirs = one.log.get(index), other.log.get(index)
                    must_match = must_match or mine.id == theirs.id
                    assert not must_match or _same(mine, theirs), f"{mine.id} and {theirs.id}"


def _same(mine: Entry, theirs: Entry) -> bool:
    return mine.id == theirs.id and mine.frame == theirs.frame


def disturb(cluster: Cluster, random: Random) -> None:
    """One step of anything that can happen."""
    names = cluster.names
    alive = sorted(cluster.rafts)
    dice = random.random()
    if dice < 0.45 and cluster.network:
        position = random.randrange(min(len(cluster.network), 8))
        if random.random() < 0.05:
            cluster.network.append(cluster.network[position])
        if random.random() < 0.05:
            cluster.network.pop(position)
        else:
            cluster.deliver(position)
    elif dice < 0.65 and alive:
        cluster.take(random.choice(alive))
    elif dice < 0.80 and alive:
        cluster.finish_writes(random.choice(alive), count=1)
    elif dice < 0.90 and alive:
        cluster.now_ms += random.choice((1, 5, 20, 20, 60))
        for name in alive:
            cluster[name].tick(cluster.now_ms)
    elif dice < 0.955 and cluster.leaders:
        leader = random.choice(cluster.leaders)
        if random.random() < 0.3:
            cluster[leader].read()
        else:
            cluster.propose(b"%d" % random.randrange(1000), to=leader)
    elif dice < 0.970 and alive:
        name = random.choice(alive)
        if cluster[name].applied_to > cluster[name].log.base.index:
            cluster.snapshot(name, keep_from=random.randint(cluster[name].log.first, cluster[name].applied_to + 1))
    elif dice < 0.980:
        dead = sorted(set(names) - set(alive))
        if dead and (len(dead) > 1 or random.random() < 0.7):
            cluster.start(random.choice(dead))
        elif alive:
            cluster.crash(random.choice(alive))
    elif dice < 0.985:
        for name in alive:
            peer = random.choice(names)
            if peer != name:
                cluster[name].on_peer_lost(peer)
    elif dice < 0.992:
        if random.random() < 0.5:
            cluster.heal()
        else:
            cluster.cut(random.choice(names), random.choice(names), one_way=random.random() < 0.5)


@pytest.mark.parametrize("seed", range(40))
def test_nothing_that_was_committed_is_ever_contradicted(seed: int) -> None:
    random = Random(seed)
    options = {"pre_vote": random.random() < 0.7, "check_quorum": random.random() < 0.7}
    cluster = Cluster("abcde" if seed % 4 == 0 else "abc", seed=seed, append_bytes_max=100, **options)
    witness = Witness(cluster)

    for _ in range(3000):
        disturb(cluster, random)
        witness.look()
    witness.logs_match()
    witness.disks_hold_what_logs_hold()

    # Healed and left alone, the cluster must come together again: one leader, everybody caught up.
    cluster.heal()
    for name in cluster.names:
        if name not in cluster.rafts:
            cluster.start(name)
    cluster.pass_time(8000, step_ms=50)
    last = cluster.put(b"last")
    cluster.pass_time(8000, step_ms=50)
    witness.look()
    witness.logs_match()
    assert all(cluster.applied[name][-1] == last.id for name in cluster.names), (
        f"seed {seed}: {[(name, raft.role, raft.log.last, raft.applied_to) for name, raft in cluster.rafts.items()]}"
    )
