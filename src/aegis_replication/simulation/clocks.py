"""What is done with time in a run? Clocks that drift, processes that stand still, leases switched on and off."""

from collections.abc import Callable, Collection
from random import Random

import msgspec

from aegis_replication.admin import AdminRequest, SetLease, Transfer
from aegis_replication.consensus.leader import Leader
from aegis_replication.consensus.lease import CLOCK_ERROR
from aegis_replication.simulation import churn
from aegis_replication.simulation.clock import Agenda
from aegis_replication.simulation.cluster import Cluster
from aegis_replication.simulation.host import Host
from aegis_replication.simulation.operator import Operator, Task
from aegis_replication.simulation.workload import Ask, Client

Choose = Callable[[Client, Random], Ask]

RACE = ("overtake",)
"""The strikes of a run in which leaders are overtaken, one after another, and nothing else."""


class ClockPlan(msgspec.Struct, frozen=True):
    """How time goes in one run, and where its reads go."""

    lease: bool = False  # on from the first entry
    clock_error: float = 0.0  # how much too fast or slow a clock may run; CLOCK_ERROR is what must be survived
    reads_elsewhere: float = 0.0  # part of the reads that any replica is asked
    kinds: tuple[str, ...] = ()  # of the strikes here
    is_alone: bool = False  # nothing else goes wrong, that would end a lease before it could do harm


def draw_clock_plan(random: Random, others: Collection[str] = ()) -> ClockPlan:
    """Half of the runs know nothing of leases; of the others, most have one from the start.

    `others` are the run's other faults: where members come and go, clocks must not crowd that out. In many of the rest
    clocks are alone, and as wrong as they may be: among other faults a lease seldom lasts until it could do harm.
    """
    has_churn = bool(set(others) & churn.STRIKES.keys())
    if random.random() < (0.75 if has_churn else 0.4):
        return ClockPlan()
    is_alone = not has_churn and random.random() < 0.6
    plan = ClockPlan(
        lease=is_alone or random.random() < 0.75,
        is_alone=is_alone,
        clock_error=CLOCK_ERROR if is_alone else random.choice((0.0, 0.01, CLOCK_ERROR, CLOCK_ERROR)),
        reads_elsewhere=random.choice((0.4, 0.8) if is_alone else (0.0, 0.4, 0.8)),
        kinds=(1 if has_churn else 4) * tuple(kind for kind in STRIKES if random.random() < 0.75),
    )
    # It takes many leaders overtaken until one is by the few milliseconds that a lease's margin is for.
    is_race = is_alone and random.random() < 0.2
    return msgspec.structs.replace(plan, kinds=RACE) if is_race else plan


def elsewhere(choose: Choose, part: float) -> Choose:
    """As `choose`, but so many of the reads go to any replica, and half of those may be somewhat old."""

    def spread(client: Client, random: Random) -> Ask:
        asked = choose(client, random)
        if not asked.is_query or random.random() >= part:
            return asked
        staleness_ms = random.choice((0, 20, 20, 150, 1000))
        return msgspec.structs.replace(asked, is_anywhere=True, staleness_ms=staleness_ms)

    return spread


class ClockFaults:
    """Somebody who turns clocks, stops processes for a moment, and can't decide about leases."""

    # fmt: off
    __slots__ = ("_agenda", "_cluster", "_error", "_is_race", "_later", "_operator", "_random", "is_overtaking",
                 "is_quiet")
    # fmt: on

    def __init__(self, cluster: Cluster, plan: ClockPlan, random: Random) -> None:
        self._cluster = cluster
        self._error = plan.clock_error
        self._random = random
        self._operator: Operator | None = None
        self._agenda = Agenda(cluster.clock)
        self._later = self._agenda.later
        # Is nothing done but leaders overtaken, one after another?
        self._is_race = plan.kinds == RACE
        self.is_overtaking = False
        # Is something under way that any other trouble would spoil?
        self.is_quiet = False

    def drift(self) -> None:
        """A clock runs faster or slower than before."""
        if host := self._somebody():
            host.own_clock.set_rate(self._random.uniform(1.0 - self._error, 1.0 + self._error))
            self._cluster.faults["clock_drift"] += 1

    def stall(self) -> None:
        """A process stands still in the middle of a turn, often for longer than anybody's patience."""
        if host := self._somebody():
            self._cluster.faults["process_stalled"] += 1
            host.stall_ms = host.settings.config.election_timeout_max_ms * self._random.choice((0.5, 1.5, 3.0, 8.0))

    def overtake(self) -> None:
        """A leader is cut off from the others and not from clients, who press it; just when it begins to be too late.

        Often they only don't hear it any more, while what they said before still comes, late.
        """
        host = self._leading()
        if host is None or len(self._cluster.nodes) < 3:
            return
        cluster, random = self._cluster, self._random
        config = host.settings.config
        if random.random() < 0.75:
            host.own_clock.set_rate(1.0 - self._error)
            for other in self._others(host):
                other.own_clock.set_rate(1.0 + self._error)
        if random.random() < 0.3:
            host.stall_ms = config.election_timeout_max_ms * random.uniform(0.5, 3.0)
        cut_ms = 0.0
        if random.random() < 0.5:
            cluster.isolate(host.node)
        else:
            cut_ms = 2.0 * config.heartbeat_interval_ms
            for other in self._others(host):
                cluster.network.slow(other.node, host.node, config.election_timeout_min_ms * random.uniform(0.2, 0.8))
                self._later(cut_ms, cluster.cut, host.node, other.node)
        for _ in range(30):
            delay_ms = cut_ms + config.election_timeout_max_ms * random.uniform(0.0, 2.5)
            self._later(delay_ms, self._press, host)
        whole = 1.2 if self._is_race else 3.0  # by then others lead, or have missed the lease's end by far
        self._later(whole * config.election_timeout_max_ms, self._end_overtaking)
        self.is_overtaking = self._is_race
        cluster.faults["leader_overtaken"] += 1

    def _end_overtaking(self) -> None:
        self._cluster.network.heal()
        self._later(100.0, self._race_on)

    def _race_on(self) -> None:
        self.is_overtaking = False

    def lag(self) -> None:
        """All that a leader says comes late at one replica, which is asked all the while what it knows."""
        host = self._leading()
        others = [] if host is None else self._others(host)
        if host is None or not others:
            return
        random, config = self._random, host.settings.config
        late = random.choice(others)
        self._cluster.network.slow(host.node, late.node, config.election_timeout_min_ms * random.uniform(0.2, 0.8))
        for _ in range(60):
            self._later(config.election_timeout_min_ms * random.uniform(0.0, 4.0), self._press, host, late)
        self._later(4.0 * config.election_timeout_min_ms, self._cluster.network.heal)
        self._cluster.faults["replica_late"] += 1

    def hand_over(self) -> None:
        """A leader hands over and hears nothing of what comes of it, while clients ask it and its successor."""
        host = self._leading()
        if host is None or len(self._cluster.nodes) < 3:
            return
        operator = self._asked_operator()
        if operator.is_idle:
            operator.do(Task([Transfer(None)], lambda request, done: None, must=False))
            self._deafen_when_sent(host, 200)

    def _deafen_when_sent(self, host: Host, patience_ms: int) -> None:
        roles = [replica.raft.current_role for replica in host.engine.replicas.values()] if host.is_up else []
        if any(isinstance(role, Leader) and role.handover is not None and role.handover.is_sent for role in roles):
            for other in self._others(host):
                self._cluster.cut(other.node, host.node)
            timeout_ms = host.settings.config.election_timeout_min_ms
            for _ in range(30):
                self._later(self._random.uniform(0.0, timeout_ms), self._press, host)
            self._later(2.0 * timeout_ms, self._cluster.network.heal)
            self._cluster.faults["deaf_handover"] += 1
        elif roles and patience_ms > 0:
            self._later(1.0, self._deafen_when_sent, host, patience_ms - 1)

    def forget(self) -> None:
        """A leader keeps a bare majority, whose other members restart: they have heard it and don't remember.

        Those who hear no leader ask them for their votes all the time. Clients are quiet, so that nobody's log is late.
        """
        host = self._leading()
        others = [] if host is None else self._others(host)
        if host is None or len(others) < 2 or self.is_quiet:
            return
        cluster, random = self._cluster, self._random
        timeout_ms = host.settings.config.election_timeout_max_ms
        random.shuffle(others)
        deaf = (len(others) + 1) // 2
        self._quiet(True)
        until_ms = 0.5 * timeout_ms
        self._later(until_ms, self._deafen, host, others[:deaf])
        until_ms += timeout_ms
        for _ in range(6):
            until_ms += timeout_ms * random.uniform(0.3, 0.7)
            self._later(until_ms, self._deafen, host, others[:deaf])  # others may have healed it
            for other in others[deaf:]:
                self._later(until_ms, self._restart, host, other)
        self._later(until_ms + timeout_ms, cluster.network.heal)
        self._later(until_ms + timeout_ms, self._quiet, False)
        cluster.faults["leader_forgotten"] += 1

    def _deafen(self, leader: Host, others: list[Host]) -> None:
        for other in others:
            self._cluster.cut(leader.node, other.node)
            self._cluster.cut(other.node, leader.node)

    def _quiet(self, is_quiet: bool) -> None:
        """Clients ask nothing more, or begin again."""
        self.is_quiet = is_quiet
        for client in self._cluster.clients.values():
            if client.index > 0:
                client.stopped = is_quiet
                if not is_quiet:
                    client.begin()

    def _restart(self, leader: Host, voter: Host) -> None:
        cluster = self._cluster
        if voter.is_up and leader.is_up:
            cluster.cut(leader.node, voter.node)
            cluster.crash(voter.node, losing="nothing")
            self._later(1.0, self._start, voter)
            after_ms = voter.settings.config.election_timeout_max_ms * self._random.uniform(0.3, 1.0)
            self._later(after_ms, cluster.network.mend, leader.node, voter.node)

    def _press(self, host: Host, other: Host | None = None) -> None:
        """One client asks the leader that is cut off, another `other`, or one of those that may have a new one."""
        clients = [client for client in self._cluster.clients.values() if client.index > 0]
        self._random.choice(clients).press(host.node, 1)
        self._random.choice(clients).press((other or self._random.choice(self._others(host))).node, 1)

    def _others(self, host: Host) -> list[Host]:
        return [other for other in self._cluster.hosts.values() if other is not host]

    def _start(self, host: Host) -> None:
        if host.state == "down":
            self._cluster.start(host.node)

    def switch_lease(self) -> None:
        """An operator wants leases, or doesn't want them any more."""
        operator = self._asked_operator()
        if operator.is_idle:
            operator.do(Task([SetLease(self._random.random() < 0.75)], self._on_switched, must=False))

    def _asked_operator(self) -> Operator:
        if self._operator is None:
            self._operator = self._cluster.add_operator()
        return self._operator

    def _on_switched(self, request: AdminRequest, done: bool) -> None:
        if done:
            self._cluster.faults["lease_switched"] += 1

    def settle(self) -> None:
        """No more wishes, and nothing of what was planned. Who is down or cut off is helped by others."""
        self._agenda.is_over = True
        if self.is_quiet:
            self._quiet(False)
        if self._operator is not None:
            self._operator.forget_what_may()
        for host in self._cluster.hosts.values():
            host.stall_ms = 0.0

    def _somebody(self) -> Host | None:
        up = [host for host in self._cluster.hosts.values() if host.is_up]
        leading = self._leading()
        return leading if leading is not None and self._random.random() < 0.6 else self._random.choice(up or [None])

    def _leading(self) -> Host | None:
        leading = [host for host in self._cluster.hosts.values() if host.is_up and host.leads]
        return self._random.choice(leading) if leading else None


STRIKES: dict[str, Callable[[ClockFaults], None]] = {
    "drift": ClockFaults.drift,
    "stall": ClockFaults.stall,
    "overtake": ClockFaults.overtake,
    "lag": ClockFaults.lag,
    "hand_over": ClockFaults.hand_over,
    "forget": ClockFaults.forget,
    "switch_lease": ClockFaults.switch_lease,
}

COUNTED: tuple[str, ...] = (
    "clock_drift",
    "process_stalled",
    "leader_overtaken",
    "replica_late",
    "deaf_handover",
    "leader_forgotten",
    "lease_switched",
)
