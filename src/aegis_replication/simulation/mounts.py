"""What if a majority of the founders starts without its data, since the volumes aren't mounted?"""

from collections.abc import Callable
from random import Random
from typing import Final

import msgspec

from aegis_replication.ids import NodeId
from aegis_replication.simulation.cluster import Cluster
from aegis_replication.simulation.plan import Plan

COUNTED: Final = ("majority_unmounted",)


def about_mounts(plan: Plan, random: Random) -> Plan:
    """`plan`, or one in which nothing else goes wrong, since what a founder asks must be answered."""
    if random.random() >= 0.1:
        return plan
    return msgspec.structs.replace(
        plan, nodes=random.choice((3, 3, 5)), duration_ms=5_000.0, gap_ms=1e9, kinds=("restart",), is_about_mounts=True
    )


class Mounts:
    """Starts a majority on empty directories, and after a while on its own again."""

    __slots__ = ("_cluster", "_random")

    def __init__(self, cluster: Cluster, random: Random) -> None:
        self._cluster, self._random = cluster, random

    def begin(self) -> None:
        """Some time after the cluster has begun."""
        self._cluster.clock.after(self._random.uniform(500.0, 2000.0), self._unmount)

    def _unmount(self) -> None:
        cluster, names = self._cluster, self._cluster.nodes
        victims = self._random.sample(names, len(names) // 2 + 1)
        mounts = [self._mount_empty(name) for name in victims]
        cluster.faults["majority_unmounted"] += 1
        for name in victims:
            cluster.clock.after(self._random.uniform(0.0, 100.0), self._start, name)
        timeout_ms = cluster.hosts[names[0]].settings.config.election_timeout_max_ms
        cluster.clock.after(100.0 + 4.0 * timeout_ms, self._mount_own, victims, mounts)

    def _mount_empty(self, node: NodeId) -> Callable[[], None]:
        """In the place of its own, which what comes back mounts again."""
        cluster = self._cluster
        host = cluster.hosts[node]
        disk, incarnation = host.disk, host.incarnation
        cluster.crash(node, losing="nothing")
        put_back = cluster.watch.set_aside(node)
        cluster.wipe(node)

        def mount_own() -> None:
            cluster.crash(node, losing="nothing")
            put_back()
            host.renew(disk, incarnation)

        return mount_own

    def _mount_own(self, victims: list[NodeId], mounts: list[Callable[[], None]]) -> None:
        for mount_own in mounts:
            mount_own()
        for node in victims:
            self._start(node)

    def _start(self, node: NodeId) -> None:
        if self._cluster.hosts[node].state == "down":
            self._cluster.start(node)
