"""Who runs which program in a run? Some begin with the one before this, and are upgraded node by node under way."""

from random import Random
from typing import Final

import msgspec

from aegis_replication.log import FORMAT_HIGHEST, FORMAT_LOWEST
from aegis_replication.simulation.cluster import Cluster
from aegis_replication.simulation.host import Host

COUNTED: Final = ("node_upgraded", "old_program_away", "format_raised")


class UpgradePlan(msgspec.Struct, frozen=True):
    """When nodes are upgraded."""

    format_highest: int  # of the founders' first program
    every_ms: float = 0.0  # mean, between two nodes


def draw_upgrade_plan(random: Random, *, is_off: bool) -> UpgradePlan:
    """Most runs have one program only; half of the others get through with all nodes."""
    if is_off or random.random() > 0.35:
        return UpgradePlan(FORMAT_HIGHEST)
    return UpgradePlan(FORMAT_HIGHEST - 1, random.choice((150.0, 400.0, 1500.0)))


class Upgrades:
    """An operator who stops one node after the other and starts a newer program in its place."""

    __slots__ = ("_cluster", "_is_over", "_plan", "_random")

    def __init__(self, cluster: Cluster, plan: UpgradePlan, random: Random) -> None:
        self._cluster, self._plan, self._random = cluster, plan, random
        self._is_over = False

    def begin(self) -> None:
        if self._plan.every_ms:
            self._later()

    def _later(self) -> None:
        self._cluster.clock.after(self._random.expovariate(1.0) * self._plan.every_ms, self._upgrade)

    def _upgrade(self) -> None:
        """The next node, whatever it is doing; one that is down gets the newer program for its next start."""
        older = [host for host in self._cluster.hosts.values() if host.settings.config.format_highest < FORMAT_HIGHEST]
        if self._is_over or not older:
            return
        host = self._random.choice(older)
        was_up = host.is_up
        if was_up:
            if self._random.random() < 0.5:
                self._cluster.stop(host.node)
            else:
                self._cluster.crash(host.node, losing="nothing")
        if was_up and len(older) == 1 and self._random.random() < 0.7:
            self._cluster.faults["old_program_away"] += 1  # the last one, while all others know more: it may come back
        elif host.state in ("down", "refused"):
            host.upgrade()
            self._cluster.faults["node_upgraded"] += 1
        self._later()

    def settle(self) -> None:
        """No more of it: who runs the older program now stays with it."""
        self._is_over = True

    def judge(self) -> None:
        """Was the way gone to its end?"""
        if self._plan.every_ms and any(_format(host) > FORMAT_LOWEST for host in self._cluster.hosts.values()):
            self._cluster.faults["format_raised"] += 1


def _format(host: Host) -> int:
    """The newest format that any group on `host` writes."""
    return max(each.raft.configuration.format for each in host.engine.replicas.values()) if host.is_up else 0
