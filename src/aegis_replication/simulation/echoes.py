"""What if acknowledgements of long ago arrive? A leader gets them when it leads again, in a later term."""

from random import Random
from typing import Final

import msgspec

from aegis_replication.admin import AdminRequest, Transfer
from aegis_replication.simulation.clock import Agenda
from aegis_replication.simulation.cluster import GROUP, Cluster
from aegis_replication.simulation.host import Host
from aegis_replication.simulation.operator import Operator, Task
from aegis_replication.simulation.plan import Plan

ECHO: Final = "echo"

COUNTED: Final = ("acknowledgement_echoed",)


def about_echoes(plan: Plan, random: Random) -> Plan:
    """`plan`, or one with five nodes and nothing but echoes: it takes many steps until one could do harm."""
    if random.random() >= 0.08:
        return plan
    return msgspec.structs.replace(
        plan, nodes=5, groups=1, gap_ms=80.0, frame_commands=1, without_session=1.0, kinds=(ECHO,)
    )


class Echoes:
    """Keeps what one follower says to a leader without a majority, until that one leads in a later term.

    The two gather a tail that the others replace by theirs, which are quiet meanwhile: so the new log is hardly longer,
    and what was acknowledged then names entries that are others now.
    """

    __slots__ = ("_agenda", "_cluster", "_kept", "_later", "_operator", "_random", "is_under_way")

    def __init__(self, cluster: Cluster, random: Random) -> None:
        self._cluster = cluster
        self._random = random
        self._operator: Operator | None = None
        self._kept: list[bytes] = []
        self._agenda = Agenda(cluster.clock)
        self._later = self._agenda.later
        # Anything else would spoil it.
        self.is_under_way = False

    def begin(self) -> None:
        """A leader and one follower are cut off, and asked for a lot."""
        cluster = self._cluster
        leading = [host for host in cluster.hosts.values() if host.is_up and host.replica(GROUP).raft.is_leader]
        if len(leading) != 1 or self.is_under_way:
            return
        leader = leading[0]
        term, timeout_ms = leader.replica(GROUP).raft.term, leader.settings.config.election_timeout_max_ms
        friend, *others = self._random.sample([name for name in cluster.nodes if name != leader.node], 4)
        self.is_under_way, self._kept = True, []
        cluster.network.keep(friend, leader.node, self._kept)
        cluster.partition([leader.node, friend], others)
        for number in range(15):
            self._later(4.0 * number, self._press, leader)
        self._later(64.0, self._quiet, True)
        self._later(64.0 + 3.0 * timeout_ms, cluster.heal)
        self._later(64.0 + 5.0 * timeout_ms, self._ask_to_lead, leader)
        self._later(64.0 + 5.0 * timeout_ms, self._repeat_when_leading, leader, friend, others, term, 8.0 * timeout_ms)

    def _ask_to_lead(self, leader: Host) -> None:
        if self._operator is None:
            self._operator = self._cluster.add_operator()
        if self._operator.is_idle:
            self._operator.do(Task([Transfer(leader.node)], self._on_transferred, must=False))

    def _on_transferred(self, request: AdminRequest, done: bool) -> None:
        """Whether it leads is seen by itself."""

    def _repeat_when_leading(self, leader: Host, friend: str, others: list[str], term: int, patience_ms: float) -> None:
        cluster = self._cluster
        is_leading = leader.is_up and leader.replica(GROUP).raft.is_leader and leader.replica(GROUP).raft.term > term
        if not is_leading and patience_ms > 0:
            self._later(0.5, self._repeat_when_leading, leader, friend, others, term, patience_ms - 0.5)
            return
        timeout_ms = leader.settings.config.election_timeout_min_ms
        if is_leading:  # of the others only one still reaches it
            for other in (friend, *others[1:]):
                cluster.network.split([leader.node], [other])
            self._quiet(False)
            for number in range(12):
                self._later(4.0 * number, self._press, leader)
                self._later(4.0 * number + 2.0, self._repeat, leader, friend)
        self._later(timeout_ms, self._end)

    def _repeat(self, leader: Host, friend: str) -> None:
        if leader.is_up:
            for packet in self._kept:
                leader.receive(friend, packet)
            self._cluster.faults["acknowledgement_echoed"] += len(self._kept)

    def _end(self) -> None:
        self._cluster.network.keep_nothing()
        self._cluster.heal()
        self._quiet(False)
        self.is_under_way = False

    def _press(self, host: Host) -> None:
        for client in self._cluster.clients.values():
            if client.index > 0:
                client.press(host.node, 1)

    def _quiet(self, is_quiet: bool) -> None:
        for client in self._cluster.clients.values():
            if client.index > 0 and client.stopped != is_quiet:
                client.stopped = is_quiet
                if is_quiet:
                    client.crash()  # or it would ask the others for what the two have taken
                else:
                    client.begin()

    def settle(self) -> None:
        """Nothing more of it."""
        self._agenda.is_over = True
        self._cluster.network.keep_nothing()
        if self._operator is not None:
            self._operator.forget_what_may()
        if self.is_under_way:
            self._quiet(False)
