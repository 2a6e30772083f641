"""What goes wrong between nodes? Links are cut, slow or flapping, the weather is bad; all of it heals after a while."""

from collections.abc import Callable
from random import Random

from aegis_replication.ids import NodeId
from aegis_replication.simulation.cluster import Cluster
from aegis_replication.simulation.disk import DiskSpeed
from aegis_replication.simulation.host import Host
from aegis_replication.simulation.network import Weather
from aegis_replication.simulation.plan import Plan
from aegis_replication.simulation.workload import Client


class LinkFaults:
    """Somebody who pulls cables.

    The nemesis says whom it meets (`victim`), does what comes `later`, and what befalls a leader `alone`.
    """

    __slots__ = ("_alone", "_cluster", "_later", "_plan", "_random", "_timeout_ms", "_victim")

    def __init__(
        self,
        cluster: Cluster,
        plan: Plan,
        random: Random,
        *,
        victim: Callable[[], Host | None],
        later: Callable[..., None],
        alone: Callable[[Host], None],
    ) -> None:
        self._cluster, self._plan, self._random = cluster, plan, random
        self._victim, self._later, self._alone = victim, later, alone
        self._timeout_ms = plan.config().election_timeout_max_ms

    def _some_ms(self) -> float:
        """How long a fault lasts: mostly around an election timeout, now and then much longer."""
        return self._timeout_ms * self._random.choice((0.3, 1.0, 3.0, 8.0)) * self._random.random()

    def _clients(self) -> list[Client]:
        return [client for client in self._cluster.clients.values() if client.index > 0]

    def partition(self) -> None:
        """Two sides that don't reach each other."""
        nodes = self._cluster.nodes
        self._random.shuffle(nodes)
        cut = self._random.randint(1, max(1, len(nodes) - 1))
        self._cluster.partition(nodes[:cut], nodes[cut:])
        self._later(2.0 * self._some_ms(), self._mend_all)

    def isolate(self) -> None:
        """A node that nobody reaches, and that reaches nobody."""
        if host := self._victim():
            self._cluster.isolate(host.node)
            self._later(2.0 * self._some_ms(), self._mend_all)

    def lonely_leader(self) -> None:
        """A leader cut off while clients press it: it gathers a long tail that nobody else will ever have."""
        up = [host for host in self._cluster.hosts.values() if host.is_up]
        leading = [host for host in up if host.leads]
        if leading and len(self._cluster.nodes) > 2:
            host = self._random.choice(leading)
            self._cluster.faults["lonely_leader"] += 1
            self._cluster.isolate(host.node)
            host.pause()  # so that all of it comes in one turn
            for client in self._clients():
                client.press(host.node, self._random.randint(1, 12))
            self._later(20.0 * self._random.random(), self._cluster.resume, host.node)
            # Others lead by then; whoever still asks this one must not be told what was true before.
            self._later(self._timeout_ms * (2.0 + 3.0 * self._random.random()), self._press, host)
            if self._random.random() < 0.6:  # so that it is still writing when it is told that its tail is in vain
                host.disk.speed = DiskSpeed(self._timeout_ms * (1.0 + 5.0 * self._random.random()))
                self._later(10.0 * self._timeout_ms, self._quick_disk, host)
            self._later(self._timeout_ms * (3.0 + 2.0 * self._random.random()), self._alone, host)
            self._later(self._timeout_ms * (3.0 + 5.0 * self._random.random()), self._mend_all)

    def _press(self, host: Host) -> None:
        for client in self._clients():
            client.press(host.node, self._random.randint(1, 3))

    def _mend_all(self) -> None:
        self._cluster.network.heal()

    def one_way(self) -> None:
        """A node that is heard and hears nobody, or hears and isn't heard; or a single link, one way."""
        if host := self._victim():
            others = [name for name in self._cluster.nodes if name != host.node]
            if others and self._random.random() < 0.4:
                others = self._random.sample(others, 1)
            is_mute = self._random.random() < 0.5
            for other in others:
                self._cluster.cut(*((host.node, other) if is_mute else (other, host.node)))
            if not is_mute:
                self._press(host)  # what a deaf leader takes is committed by others, if at all
            self._later(2.0 * self._some_ms(), self._mend_all)

    def ring(self) -> None:
        """Each node reaches only its two neighbours: every majority overlaps, nobody sees all."""
        nodes = self._cluster.nodes
        self._random.shuffle(nodes)
        if len(nodes) > 3:
            for position, node in enumerate(nodes):
                for step in range(2, len(nodes) - 1):
                    self._cluster.network.cut(node, nodes[(position + step) % len(nodes)], kind="partition_ring")
            self._later(2.0 * self._some_ms(), self._mend_all)

    def flap(self) -> None:
        """A link that is cut and whole in turn."""
        if len(self._cluster.nodes) > 1:
            one, other = self._random.sample(self._cluster.nodes, 2)
            self._toggle(one, other, self._random.randint(4, 10))

    def _toggle(self, one: NodeId, other: NodeId, left: int) -> None:
        network = self._cluster.network
        for source, target in ((one, other), (other, one)):
            if left % 2:
                network.mend(source, target)
            else:
                network.cut(source, target, kind="link_flapping")
        if left > 1:
            self._later(self._some_ms() / 3.0, self._toggle, one, other, left - 1)
        else:
            self._mend_all()

    def slow_link(self) -> None:
        """Packets take long, one way."""
        if len(self._cluster.nodes) > 1:
            one, other = self._random.sample(self._cluster.nodes, 2)
            extra_ms = self._random.choice((20.0, 100.0, 400.0))
            self._cluster.network.slow(one, other, extra_ms)
            self._later(self._some_ms() * 2.0, self._cluster.network.slow, one, other, 0.0)

    def storm(self) -> None:
        """Bad weather on all links: packets are lost, doubled and late."""
        network = self._cluster.network
        network.weather = Weather(
            delay_mean_ms=self._random.choice((2.0, 20.0, 60.0)),
            drop=self._random.choice((0.05, 0.2, 0.3)),
            duplicate=self._random.choice((0.0, 0.2, 0.5)),
            straggle=self._random.choice((0.0, 0.1, 0.3)),
        )
        self._later(self._some_ms() * 2.0, self._calm_down)

    def _calm_down(self) -> None:
        self._cluster.network.weather = self._plan.weather

    def _quick_disk(self, host: Host) -> None:
        host.disk.speed = DiskSpeed(self._plan.flush_ms)


STRIKES: dict[str, Callable[[LinkFaults], None]] = {
    "partition": LinkFaults.partition,
    "isolate": LinkFaults.isolate,
    "lonely_leader": LinkFaults.lonely_leader,
    "one_way": LinkFaults.one_way,
    "ring": LinkFaults.ring,
    "flap": LinkFaults.flap,
    "slow_link": LinkFaults.slow_link,
    "storm": LinkFaults.storm,
}
