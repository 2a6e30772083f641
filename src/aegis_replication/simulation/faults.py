"""What goes wrong in a run? The nemesis strikes by its plan while clients are at work, and heals what it broke."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from aegis_replication import wire
from aegis_replication.consensus.messages import AppendReply, Message, RequestVote, VoteReply
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.log import EntryId
from aegis_replication.simulation import churn as churning
from aegis_replication.simulation import clocks, links
from aegis_replication.simulation.churn import Churn
from aegis_replication.simulation.clock import Agenda
from aegis_replication.simulation.clocks import ClockFaults, ClockPlan
from aegis_replication.simulation.cluster import Cluster
from aegis_replication.simulation.disk import ROOT, DiskSpeed, Losing
from aegis_replication.simulation.echoes import ECHO, Echoes
from aegis_replication.simulation.host import Host
from aegis_replication.simulation.links import LinkFaults
from aegis_replication.simulation.plan import HEAVY, KINDS, Plan
from aegis_replication.simulation.pressure import PRESSURE, Pressure
from aegis_replication.simulation.rot import Rot
from aegis_replication.simulation.sectors import SECTOR_BYTES
from aegis_replication.simulation.transfers import TransferFaults, TransferPlan
from aegis_replication.simulation.workload import Client


class Nemesis:
    """Strikes at random moments; what it broke heals after a while, or when it is dismissed."""

    # fmt: off
    __slots__ = ("churn", "clocks", "cluster", "echoes", "links", "plan", "pressure", "random", "rot", "transfers",
                 "_agenda", "_awaited", "_kinds", "_later", "_timeout_ms", "_weights")
    # fmt: on

    def __init__(self, cluster: Cluster, plan: Plan, clock_plan: ClockPlan, transfers: TransferPlan) -> None:
        self.cluster = cluster
        self.plan = plan
        self.random: Random = cluster.clock.random("nemesis")
        self._agenda = Agenda(cluster.clock)
        self._later = self._agenda.later
        self.churn = Churn(cluster, cluster.clock.random("churn"))
        self.clocks = ClockFaults(cluster, clock_plan, cluster.clock.random("clock faults"))
        self.transfers = TransferFaults(cluster, transfers, cluster.clock.random("transfer faults"))
        self.echoes = Echoes(cluster, cluster.clock.random("echoes"))
        self.pressure = Pressure(cluster, cluster.clock.random("pressure"), self._later)
        self.links = LinkFaults(
            cluster, plan, self.random, victim=self._victim, later=self._later, alone=self._spoil_tail
        )
        self._kinds = clock_plan.kinds if clock_plan.is_alone and clock_plan.kinds else (*plan.kinds, *clock_plan.kinds)
        self._timeout_ms = plan.config().election_timeout_max_ms  # what durations of faults are measured by
        self.rot = Rot(cluster, cluster.clock.random("rot"))
        self._weights = [3 if kind in HEAVY else 1 for kind in self._kinds]
        self._awaited: set[NodeId] = set()  # down, their start is planned

    def begin(self) -> None:
        self._later(self.random.expovariate(1.0) * self.plan.gap_ms, self._strike)
        self._later(50.0, self._revive)
        self.transfers.begin()

    def dismiss(self) -> None:
        """Nothing more goes wrong. What is broken stays so until the cluster recovers."""
        self._agenda.is_over = True
        self.churn.settle()
        self.clocks.settle()
        self.transfers.settle()
        self.echoes.settle()
        for host in self.cluster.hosts.values():
            host.disk.put_back()

    def _strike(self) -> None:
        # What is under way there anything else would spoil.
        if not (self.clocks.is_quiet or self.clocks.is_overtaking or self.echoes.is_under_way):
            self._strike_now()
        self._later(self.random.expovariate(1.0) * self.plan.gap_ms, self._strike)

    def _strike_now(self) -> None:
        kind = self.random.choices(self._kinds, self._weights)[0]
        self.cluster.trace.note("nemesis", kind)
        if kind in churning.STRIKES:
            churning.STRIKES[kind](self.churn)
        elif kind in clocks.STRIKES:
            clocks.STRIKES[kind](self.clocks)
        elif kind in links.STRIKES:
            links.STRIKES[kind](self.links)
        elif kind == ECHO:
            self.echoes.begin()
        elif kind == PRESSURE:
            self.pressure.begin()
        else:
            _STRIKES[kind](self)

    def _count(self, kind: str) -> None:
        self.cluster.faults[kind] += 1

    def _revive(self) -> None:
        """Whoever is down starts again after a while; damage is put back once it was refused, as from a backup."""
        for name, host in self.cluster.hosts.items():
            if host.state in ("down", "refused") and name not in self._awaited:
                self._awaited.add(name)
                self._later(self.random.choice((20.0, 200.0, 1000.0)) * self.random.random(), self._start, name)
        self._later(50.0, self._revive)

    def _start(self, name: NodeId) -> None:
        self._awaited.discard(name)
        host = self.cluster.hosts[name]
        if host.state == "refused":
            self._count("damage_refused")
            host.disk.put_back()
            self.rot.struck.discard(name)
        if host.state in ("down", "refused"):
            self.cluster.start(name)

    def _up(self) -> list[Host]:
        return [host for host in self.cluster.hosts.values() if host.is_up]

    def _clients(self) -> list[Client]:
        return [client for client in self.cluster.clients.values() if client.index > 0]

    def _victim(self) -> Host | None:
        """Half of the time a leader, else anybody who is up."""
        up = self._up()
        leading = [host for host in up if host.leads]
        chosen = leading if leading and self.random.random() < 0.5 else up
        return self.random.choice(chosen) if chosen else None

    def _some_ms(self) -> float:
        """How long a fault lasts: mostly around an election timeout, now and then much longer."""
        return self._timeout_ms * self.random.choice((0.3, 1.0, 3.0, 8.0)) * self.random.random()

    # --- processes ---

    def _crash(self) -> None:
        if host := self._victim():
            self._cut_when_writing(host, host.life, self.random.choice((0, 1, 1, 1, 2, 3)), 400)

    def _cut_when_writing(self, host: Host, life: int, least: int, patience: int) -> None:
        """The power fails while at least so many writes are on their way to the disk, or when that takes too long."""
        if host.life != life or not host.is_up:
            return
        if host.writes_in_flight < least and patience:
            self._later(0.5 * self.random.random(), self._cut_when_writing, host, life, least, patience - 1)
            return
        self._count("crash")
        self.cluster.crash(host.node, losing=self.random.choice(("some", "some", "some", "unsynced")))

    def _kill(self) -> None:
        if host := self._victim():
            self._count("kill")
            self.cluster.crash(host.node, losing="nothing")

    def _crash_all(self) -> None:
        self._count("crash_all")
        for host in self.cluster.hosts.values():
            self.cluster.crash(host.node, losing=self.random.choice(("some", "unsynced", "nothing")))

    def _crash_in_call(self) -> None:
        """The power fails in one of the next changing calls to the files, whichever it is."""
        if host := self._victim():
            host.disk.cut_at = host.disk.calls + self.random.choice((1, 2, 3, 5, 8, 20))

    def _crash_loop(self) -> None:
        """A node that comes up and loses its power again and again, at work each time."""
        if host := self._victim():
            self._loop(host.node, self.random.randint(2, 6))

    def _loop(self, name: NodeId, left: int) -> None:
        """Start it, and cut its power after a flush or two, `left` times."""
        host = self.cluster.hosts[name]
        if host.state == "down":
            self.cluster.start(name)
        if left and host.is_up:
            flushes = self.random.choice((1,) if self.plan.is_about_beginnings else (0, 1, 1, 2, 3))
            self._cut_after(host, host.life, flushes, 60)
            self._later(5.0 + 60.0 * self.random.random(), self._loop, name, left - 1)

    def _cut_after(self, host: Host, life: int, flushes: int, patience: int) -> None:
        if host.life != life or not host.is_up:
            return
        if patience and (host.flushes < flushes or host.writes_in_flight):
            self._later(self.random.random(), self._cut_after, host, life, flushes, patience - 1)
            return
        self._count("crash_loop")
        self.cluster.crash(host.node, losing="some")

    def _restart(self) -> None:
        if host := self._victim():
            self._count("restart")
            self.cluster.stop(host.node)

    def _pause(self) -> None:
        if host := self._victim():
            self._count("pause")
            self.cluster.pause(host.node)
            self._later(2.0 * self._some_ms(), self.cluster.resume, host.node)

    def _spoil_tail(self, host: Host) -> None:
        if {"rot", "damage"} & {*self._kinds}:
            self.rot.rot_tail(host, is_wanted="rot" in self._kinds)

    # --- peers ---

    def _stranger(self) -> None:
        """Somebody who is no member speaks as if it were one, with knowledge of everything."""
        host = self._victim()
        if host is None:
            return
        for group in host.engine.replicas:
            self._lie(host, group, self.random.randint(0, 2), 12)

    def _lie(self, host: Host, group: GroupId, which: int, left: int) -> None:
        if host.is_up and left:
            raft = host.replica(group).raft
            lie: Message
            if which == 0:
                lie = AppendReply(raft.term, 0, matched=raft.log.last_index)
            elif which == 1:
                lie = VoteReply(raft.term, True)
            else:
                lie = RequestVote(raft.term + 1, EntryId(raft.term + 1, raft.log.last_index + 1), force=True)
            self._count("stranger")
            host.receive("stranger", wire.encode_message(group, lie))
            self._later(3.0 * self.random.random(), self._lie, host, group, which, left - 1)

    # --- disks ---

    def _slow_disk(self) -> None:
        if host := self._victim():
            host.disk.speed = DiskSpeed(
                self.plan.flush_ms, slow=0.3, slow_max_ms=self.random.choice((50.0, 300.0, 1000.0))
            )
            self._later(3.0 * self._some_ms(), self._quick_disk, host)

    def _quick_disk(self, host: Host) -> None:
        host.disk.speed = DiskSpeed(self.plan.flush_ms)

    def _crash_while_flushing(self) -> None:
        """A follower has to catch up on a slow disk; while a write of several sectors is on its way, the power goes."""
        following = [host for host in self._up() if not host.leads]
        if following:
            host = self.random.choice(following)
            host.pause()
            if self.plan.is_about_beginnings:
                self._make_late()
                self._later(self._timeout_ms * (0.1 + 0.3 * self.random.random()), self._catch_up, host)
            else:
                self._later(self._timeout_ms * (0.2 + 2.0 * self.random.random()), self._catch_up, host)

    def _make_late(self) -> None:
        """Clients see to it that who is paused lacks a good deal soon."""
        leading = [host for host in self._up() if host.leads]
        for client in self._clients():
            if leading and len(client.pending) < 8:
                client.press(leading[0].node, self.random.randint(1, 12))

    def _catch_up(self, host: Host) -> None:
        host.disk.speed = DiskSpeed(30.0 + 100.0 * self.random.random())
        self.cluster.resume(host.node)
        sectors = self.random.choice((2, 3) if self.plan.is_about_beginnings else (0, 1, 3))
        self._cut_short(host, host.life, max(1, sectors * SECTOR_BYTES), 300)

    def _cut_short(self, host: Host, life: int, least_bytes: int, patience: int) -> None:
        if host.life != life or not host.is_up:
            self._quick_disk(host)
        elif patience and host.disk.unsynced_bytes(f"{ROOT}/data/log") < least_bytes:
            self._later(1.0, self._cut_short, host, life, least_bytes, patience - 1)
        else:
            self._quick_disk(host)
            self._count("crash_while_flushing")
            losing: Losing = "beginning" if self.plan.is_about_beginnings else "some"
            self.cluster.crash(host.node, losing=losing)
            self._loop(host.node, self.random.randint(2, 8))

    def _failing_disk(self) -> None:
        if host := self._victim():
            host.disk.failing = True

    def _full_disk(self) -> None:
        """No file grows on one disk, or on all of them; or, where each write takes new blocks, nothing is written."""
        if host := self._victim():
            for full in self._up() if self.random.random() < 0.3 else [host]:
                full.disk.full = True
                full.disk.full_in_place = self.random.random() < 0.3
                self._later(5.0 * self._some_ms(), self._emptier_disk, full)

    def _emptier_disk(self, host: Host) -> None:
        host.disk.full = host.disk.full_in_place = False

    def _garbage(self) -> None:
        """Bits turn behind the log's end, where nothing is written yet or old records lie: the node must start."""
        host = self._victim()
        if host is None:
            return
        self.cluster.crash(host.node, losing=self.random.choice(("nothing", "some", "unsynced")))
        ends = [write for write in host.disk.durable_writes if write.path.startswith(f"{ROOT}/data/log")]
        if ends:
            path, after = ends[-1].path, ends[-1].offset + ends[-1].length
            for _ in range(self.random.randint(1, 4)):
                # Well behind, so that writes not flushed yet, which the next start may still find, stay as they are.
                if host.disk.flip(path, after + 4096 + self.random.randrange(4096), self.random.randrange(8)):
                    self._count("garbage_behind_tail")

    # --- clocks and clients ---

    def _clock_jump(self) -> None:
        if host := self._victim():
            self._count("clock_jump")
            host.settings.wall_skew_ms += (
                self.random.choice((-60_000.0, -500.0, 200.0, 700.0, 60_000.0)) * self.random.random()
            )

    def _client_crash(self) -> None:
        self._count("client_crash")
        self.random.choice(self._clients()).crash()


_STRIKES: Final[Mapping[str, Callable[[Nemesis], None]]] = {
    "crash": Nemesis._crash,
    "kill": Nemesis._kill,
    "crash_all": Nemesis._crash_all,
    "crash_in_call": Nemesis._crash_in_call,
    "crash_loop": Nemesis._crash_loop,
    "restart": Nemesis._restart,
    "pause": Nemesis._pause,
    "stranger": Nemesis._stranger,
    "slow_disk": Nemesis._slow_disk,
    "crash_while_flushing": Nemesis._crash_while_flushing,
    "failing_disk": Nemesis._failing_disk,
    "full_disk": Nemesis._full_disk,
    "damage": lambda nemesis: nemesis.rot.damage(),
    "rot": lambda nemesis: nemesis.rot.rot(),
    "garbage": Nemesis._garbage,
    "clock_jump": Nemesis._clock_jump,
    "client_crash": Nemesis._client_crash,
}

assert {*_STRIKES, *links.STRIKES} == {*KINDS}, (
    f"plans draw from {KINDS}, the nemesis knows {[*_STRIKES, *links.STRIKES]}"
)
