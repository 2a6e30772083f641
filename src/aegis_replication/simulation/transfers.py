"""What goes wrong with snapshots on their way? Followers fall behind; the transfer's ends die, and bytes turn in it."""

from random import Random
from struct import unpack_from
from typing import Final

import msgspec

from aegis_replication import wire
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.ids import NodeId
from aegis_replication.simulation.clock import Agenda
from aegis_replication.simulation.cluster import Cluster
from aegis_replication.simulation.host import Host

_META_LENGTH_AT: Final = 33  # of an INSTALL_SNAPSHOT packet: its head's last field
_DATA_AFTER: Final = 37  # and the meta
_STEP_MS: Final = 1.0
_PATIENCE: Final = 1500  # steps, for a transfer to begin

COUNTED: tuple[str, ...] = ("follower_left_behind", "sender_died", "receiver_died", "transfer_cut", "chunk_damaged")


class TransferPlan(msgspec.Struct, frozen=True):
    """How snapshots fare in one run."""

    is_active: bool = False
    damaged: float = 0.0  # part of the chunks in which a bit turns
    bytes_per_second: int = 0  # of virtual time


def draw_transfer_plan(random: Random) -> TransferPlan:
    """Half of the runs leave them alone."""
    if random.random() < 0.5:
        return TransferPlan(bytes_per_second=random.choice((0, 100_000)))
    return TransferPlan(
        is_active=True,
        damaged=random.choice((0.0, 0.05, 0.3)),
        bytes_per_second=random.choice((0, 5_000, 20_000)),
    )


def quick_to_forget(config: RaftConfig, plan: TransferPlan) -> RaftConfig:
    """The settings of a run in which followers fall behind: hardly anything stays in a log."""
    config = config.replace(snapshot_bytes_per_second=plan.bytes_per_second)
    return config.replace(snapshot_threshold=12, trailing_entries=0) if plan.is_active else config


class TransferFaults:
    """Somebody who lets a follower fall behind, and strikes in the middle of the transfer that brings it up."""

    __slots__ = ("_agenda", "_cluster", "_later", "_plan", "_random")

    def __init__(self, cluster: Cluster, plan: TransferPlan, random: Random) -> None:
        self._cluster, self._plan, self._random = cluster, plan, random
        self._agenda = Agenda(cluster.clock)
        self._later = self._agenda.later

    def begin(self) -> None:
        """From now on."""
        if self._plan.is_active:
            self._cluster.network.spoil = self._spoil
            self._next()

    def settle(self) -> None:
        """No more of it."""
        self._agenda.is_over = True
        self._cluster.network.spoil = None

    def _next(self) -> None:
        self._later(self._random.expovariate(1.0) * 250.0, self._leave_behind)

    def _leave_behind(self) -> None:
        """A follower stands still while the others go on and forget what it would need."""
        following = [host for host in self._cluster.hosts.values() if host.is_up and not host.leads]
        if not following:
            self._next()
            return
        host = self._random.choice(following)
        host.pause()
        timeout_ms = host.settings.config.election_timeout_max_ms
        self._later(timeout_ms * self._random.uniform(2.0, 8.0), self._bring_back, host.node)

    def _bring_back(self, node: NodeId) -> None:
        self._cluster.resume(node)
        self._watch(node, _PATIENCE, self._random.choice((1, 200, 500, 1000)))

    def _watch(self, node: NodeId, patience: int, bytes_sent: int) -> None:
        """Wait until so much of a snapshot has left for `node`."""
        for host in self._cluster.hosts.values():
            replicas = host.engine.replicas.values() if host.is_up else ()
            if any(each.sending.sent_bytes(node) >= bytes_sent for each in replicas):
                self._cluster.faults["follower_left_behind"] += 1
                self._strike(host, self._cluster.hosts[node])
                self._next()
                return
        if patience and self._cluster.hosts[node].is_up:
            self._later(_STEP_MS, self._watch, node, patience - 1, bytes_sent)
        else:
            self._next()

    def _strike(self, sender: Host, receiver: Host) -> None:
        cluster, random = self._cluster, self._random
        what = random.choice(("sender_died", "receiver_died", "transfer_cut", ""))
        if what == "transfer_cut":
            cluster.network.split([sender.node], [receiver.node])
            self._later(random.uniform(5.0, 800.0), self._mend, sender.node, receiver.node)
        elif what:
            victim = sender if what == "sender_died" else receiver
            cluster.crash(victim.node, losing=random.choice(("nothing", "some", "unsynced")))
        if what:
            cluster.faults[what] += 1

    def _mend(self, one: NodeId, other: NodeId) -> None:
        self._cluster.network.mend(one, other)
        self._cluster.network.mend(other, one)

    def _spoil(self, packet: bytes) -> bytes:
        """A bit turns in the data of some chunks; everything around it would be noticed at once."""
        if packet[4] != wire.INSTALL_SNAPSHOT or self._random.random() >= self._plan.damaged:
            return packet
        first = _DATA_AFTER + unpack_from("<I", packet, _META_LENGTH_AT)[0]
        at = self._random.randrange(first, len(packet))
        self._cluster.faults["chunk_damaged"] += 1
        return packet[:at] + bytes([packet[at] ^ (1 << self._random.randrange(8))]) + packet[at + 1 :]
