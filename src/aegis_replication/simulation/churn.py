"""Who comes and goes in a run? Members added, promoted, replaced and removed, leaders told to go, disks made anew."""

from collections.abc import Callable
from random import Random

import msgspec

from aegis_replication.admin import AdminRequest, Jointly, Transfer
from aegis_replication.consensus.changes import (
    AddLearner,
    Change,
    Demote,
    Promote,
    Remove,
    Replace,
    SetAddress,
)
from aegis_replication.consensus.configuration import Configuration
from aegis_replication.ids import NodeId
from aegis_replication.simulation.cluster import GROUP, Cluster
from aegis_replication.simulation.operator import Operator, Task
from aegis_replication.simulation.plan import Plan

HOSTS_MAX = 12
MEMBERS_MAX = 7

_COUNTED = {
    AddLearner: "member_added",
    Promote: "member_promoted",
    Demote: "member_demoted",
    Remove: "member_removed",
    Replace: "member_replaced",
    SetAddress: "address_changed",
    Transfer: "leader_transferred",
}


class Churn:
    """An operator with odd wishes; what he began for a wiped node he always ends."""

    __slots__ = ("_cluster", "_is_over", "_operator", "_random", "wiped")

    def __init__(self, cluster: Cluster, random: Random) -> None:
        self._cluster = cluster
        self._random = random
        self._operator: Operator = cluster.add_operator()
        # The member whose disk was made anew and that isn't a member with it yet; never two at once.
        self.wiped: NodeId | None = None
        self._is_over = False

    def change_members(self) -> None:
        """Something that fits the members of the moment, or just doesn't."""
        configuration = self._configuration()
        if configuration is None or self.wiped is not None or not self._operator.is_idle:
            return
        change = self._draw(configuration)
        if change is not None:
            is_joint = self._random.random() < 0.3 and not isinstance(change, AddLearner | Replace | SetAddress)
            self._ask(Jointly(change) if is_joint else change)

    def _draw(self, configuration: Configuration) -> Change | None:
        random, voters, learners = self._random, configuration.voters, configuration.learners
        chance = random.random()
        if learners and chance > 0.7:  # few stay learners for long, so that it is seldom possible
            return Promote(random.choice(learners))
        if chance < 0.25 and len(configuration.members) < MEMBERS_MAX:
            new = self._new_host()
            return None if new is None else AddLearner(*new, promote=random.random() < 0.4)
        if chance < 0.45 and len(voters) > 1:
            new = self._new_host()
            return None if new is None else Replace(random.choice(voters), *new)
        if chance < 0.6 and learners:
            return Promote(random.choice(learners))
        if chance < 0.75 and len(voters) > 1:
            return Demote(random.choice(voters))
        if chance < 0.84:
            return SetAddress(random.choice(voters), f"10.0.0.{random.randint(1, 250)}:7481")
        removable = [*learners, *(voters if len(voters) > 2 else ())]
        return Remove(random.choice(removable)) if removable else None

    def transfer_leader(self) -> None:
        """Leadership is to go to a certain node, or to the best."""
        configuration = self._configuration()
        if configuration is not None and self._operator.is_idle:
            target = self._random.choice((None, *configuration.voters))
            self._ask(Transfer(target))

    def wipe(self) -> None:
        """A voter loses its disk and comes back under its old name; the operator removes it and adds it anew, or
        another node in its place.

        Only when every member has applied a configuration that knows the voter's directory: that is what protects.
        """
        cluster, configuration = self._cluster, self._configuration()
        if configuration is None or self.wiped is not None or not self._operator.is_idle:
            return
        known = [node for node in configuration.voters if self._is_known_to_all(node, configuration)]
        if configuration.is_joint or len(configuration.voters) < 3 or not known:
            return
        victim = self._random.choice(known)
        self.wiped = victim
        leading = [node for node in configuration.voters if cluster.hosts[node].replica(GROUP).raft.is_leader]
        if len(configuration.voters) % 2 and len(leading) == 1 and victim != leading[0] and self._random.random() < 0.5:
            self._wipe_in_majority(victim, leading[0], configuration)
        else:
            self._wipe(victim)

    def _wipe_in_majority(self, victim: NodeId, leader: NodeId, configuration: Configuration) -> None:
        """First a bare majority commits without the others; then these are left alone with the one that was wiped.

        They would be a majority, if it counted, and know nothing of what was committed.
        """
        cluster = self._cluster
        timeout_ms = cluster.hosts[leader].settings.config.election_timeout_max_ms
        rest = [node for node in configuration.voters if node not in (victim, leader)]
        self._random.shuffle(rest)
        half = len(rest) // 2  # of them with the leader
        behind = [node for node in cluster.nodes if node not in (victim, leader, *rest[:half])]
        cluster.partition([leader, victim, *rest[:half]], behind)
        cluster.clock.after(1.5 * timeout_ms, self._wipe_and_isolate, victim, [leader, *rest[:half]], configuration)

    def _wipe_and_isolate(self, victim: NodeId, before: list[NodeId], configuration: Configuration) -> None:
        cluster = self._cluster
        cluster.network.heal()
        if self._is_over or not self._is_known_to_all(victim, configuration):
            self.wiped = None
            return
        cluster.partition(before, [node for node in cluster.nodes if node not in before])
        timeout_ms = cluster.hosts[victim].settings.config.election_timeout_max_ms
        cluster.clock.after(6.0 * timeout_ms, cluster.network.heal)
        self._wipe(victim)

    def _wipe(self, victim: NodeId) -> None:
        """The disk goes, and operators hear of it soon."""
        cluster = self._cluster
        cluster.faults["disk_wiped"] += 1
        cluster.wipe(victim)
        cluster.start(victim)
        new = self._new_host() if self._random.random() < 0.4 else None
        if new is not None:
            # Not `Replace`: it would wait for the newcomer, and meanwhile the wiped one counts among the voters.
            requests: list[AdminRequest] = [Remove(victim), AddLearner(*new, promote=True)]
        else:
            host = cluster.hosts[victim]
            told = host.introduction
            incarnation = told.incarnation if self._random.random() < 0.5 else 0  # operators seldom know it
            requests = [Remove(victim), AddLearner(victim, told.address, incarnation, promote=True)]
        cluster.clock.after(200.0 + 600.0 * self._random.random(), self._repair, requests)

    def _repair(self, requests: list[AdminRequest]) -> None:
        self._operator.do(Task(requests, self._on_repaired, must=True))

    def _is_known_to_all(self, node: NodeId, configuration: Configuration) -> bool:
        """Is each member up, and does what it has applied say which directory `node` has?"""
        hosts = [self._cluster.hosts[member] for member in configuration.members]
        wanted = self._cluster.hosts[node].introduction.incarnation
        return all(
            host.is_up and host.replica(GROUP).raft.configurations.oldest.incarnations.get(node) == wanted
            for host in hosts
        )

    def settle(self) -> None:
        """No new wishes: only what must be done for a wiped node."""
        self._is_over = True
        self._operator.forget_what_may()

    @property
    def is_settled(self) -> bool:
        return self._operator.is_idle and self.wiped is None

    # --- how ---

    def _configuration(self) -> Configuration | None:
        """As the newest leader has it."""
        leading = [
            host.replica(GROUP).raft
            for host in self._cluster.hosts.values()
            if host.is_up and host.replica(GROUP).raft.is_leader
        ]
        return max(leading, key=lambda raft: raft.term).configuration if leading else None

    def _new_host(self) -> tuple[NodeId, str, int] | None:
        """Name, address and directory of a node that is up and empty."""
        cluster = self._cluster
        if len(cluster.hosts) >= HOSTS_MAX:
            return None
        host = cluster.add_node()
        return host.node, host.introduction.address, host.introduction.incarnation

    def _ask(self, request: AdminRequest) -> None:
        self._cluster.trace.note("operator", "asks for", request)
        self._operator.do(Task([request], self._on_done, must=False))

    def _on_done(self, request: AdminRequest, done: bool) -> None:
        if done:
            what = request.change if isinstance(request, Jointly) else request
            self._cluster.faults[_COUNTED[type(what)]] += 1
            if isinstance(request, Jointly):
                self._cluster.faults["change_joint"] += 1

    def _on_repaired(self, request: AdminRequest, done: bool) -> None:
        """One step of what must be done for a wiped node."""
        self._on_done(request, done)
        if isinstance(request, AddLearner) and self.wiped is not None:
            if request.node != self.wiped:
                # Its place is taken. Were it left on, wiped founders could find each other and begin a cluster anew.
                self._cluster.retire(self.wiped)
            self.wiped = None


STRIKES: dict[str, Callable[[Churn], None]] = {
    "change_members": Churn.change_members,
    "transfer_leader": Churn.transfer_leader,
    "wipe": Churn.wipe,
}

COUNTED: tuple[str, ...] = (*_COUNTED.values(), "change_joint", "disk_wiped", "wiped_refused", "stranger_refused")


def with_churn(plan: Plan, random: Random) -> Plan:
    """`plan`, or one with members that come and go: one group, and only some of the other faults."""
    chance = random.random()
    names = [chr(ord("a") + number) for number in range(plan.nodes)]
    if chance > 0.4:
        if chance > 0.9:  # somebody wants to lead more than others; one perhaps never
            priorities = {name: random.choice((1, 1, 2, 3)) for name in names}
            if plan.nodes > 2:
                priorities[random.choice(names)] = 0
            return msgspec.structs.replace(plan, priorities=priorities)
        return plan
    kinds = tuple(kind for kind in plan.kinds if random.random() < 0.5)
    churn = tuple(kind for kind in STRIKES if random.random() < 0.7) or tuple(STRIKES)
    # Often enough that changes meet each other's ends.
    return msgspec.structs.replace(plan, groups=1, kinds=(*kinds, *churn, *churn, "change_members", *churn))
