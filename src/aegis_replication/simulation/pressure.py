"""What if followers hang while clients press? A leader takes what it has room for, and no more."""

from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgspec

from aegis_replication.simulation.cluster import GROUP, Cluster
from aegis_replication.simulation.host import Host
from aegis_replication.simulation.plan import Plan

PRESSURE: Final = "pressure"

COUNTED: Final = ("followers_hung", "command_refused")


def about_pressure(plan: Plan, random: Random) -> Plan:
    """`plan`, or one in which a leader soon has as much on its hands as it may have."""
    if random.random() >= 0.1:
        return plan
    limits = {"max_uncommitted_bytes": random.choice((1500, 4000)), "max_unapplied_bytes": random.choice((1500, 4000))}
    return msgspec.structs.replace(
        plan,
        nodes=random.choice((3, 3, 5)),
        groups=1,
        gap_ms=200.0,
        kinds=(*(kind for kind in plan.kinds if random.random() < 0.2), *[PRESSURE] * 3),
        raft={**plan.raft, **limits, "check_quorum": random.random() < 0.5},
    )


class Pressure:
    """Stops all followers of a leader for a while, and has clients ask that leader for far more than its limit."""

    __slots__ = ("_cluster", "_later", "_random")

    def __init__(self, cluster: Cluster, random: Random, later: Callable[..., None]) -> None:
        self._cluster = cluster
        self._random = random
        # later(delay_ms, action, *arguments): not when all trouble is over by then.
        self._later: Callable[..., Any] = later

    def begin(self) -> None:
        """The followers hang, except for one now and then, whose answers make no majority of five."""
        hosts = [host for host in self._cluster.hosts.values() if host.is_up]
        leading = [host for host in hosts if host.replica(GROUP).raft.is_leader]
        if len(leading) != 1 or len(hosts) < 3:
            return
        leader = leading[0]
        followers = [host for host in hosts if host is not leader]
        for host in followers[len(followers) > 2 and self._random.random() < 0.5 :]:
            host.pause()
            self._later(400.0 + 400.0 * self._random.random(), self._cluster.resume, host.node)
        self._cluster.faults["followers_hung"] += 1
        refused = leader.replica(GROUP).intake.refused
        for number in range(20):
            self._later(8.0 * number, self._press, leader, leader.life)
        self._later(300.0, self._count_refused, leader, leader.life, refused)

    def _press(self, leader: Host, life: int) -> None:
        if leader.life == life and leader.is_up and leader.replica(GROUP).raft.is_leader:
            for client in self._cluster.clients.values():
                if client.index > 0:
                    client.press(leader.node, 6)

    def _count_refused(self, leader: Host, life: int, before: int) -> None:
        if leader.life == life and leader.is_up:
            self._cluster.faults["command_refused"] += leader.replica(GROUP).intake.refused - before
