"""One simulated node: the production engine and storage in a process that can be paused, killed and started.

It does what `aegis_replication.node` does on a real machine, in the same order: messages leave before the flush,
promises after it. Only the clock, the network and the files are others.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from aegis_replication import wire
from aegis_replication.consensus.changes import Introduction
from aegis_replication.engine.effects import Effects
from aegis_replication.engine.engine import ReplicationEngine
from aegis_replication.engine.events import Event, PeerHeard, PeerLost, PeerSeen, Received, Requested, Ticked
from aegis_replication.engine.replica import Replica
from aegis_replication.engine.spec import GroupSpec
from aegis_replication.errors import DiskFailed, IncompatibleVersion, InvariantBroken, StorageError
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.log import FORMAT_HIGHEST, RecoveredGroup
from aegis_replication.simulation.clock import Clock, drawn_clock
from aegis_replication.simulation.disk import Losing, PowerCut, SimulatedDisk
from aegis_replication.simulation.host_settings import WALL_EPOCH_MS, HostSettings, HostState, Watcher, empty_group
from aegis_replication.simulation.log_work import LogWork
from aegis_replication.simulation.snapshot_saving import SnapshotSaving
from aegis_replication.simulation.trace import Trace
from aegis_replication.storage.base import Storage


class Host:
    """One node's machine: its disk stays, its processes come and go."""

    # fmt: off
    __slots__ = ("_busy_until_ms", "_had_log", "_inbox", "_log_work", "_random", "_saving", "_turn_at_ms", "clock",
                 "damage", "disk", "engine", "flushes", "incarnation", "is_founder", "is_retired", "life", "met",
                 "node", "own_clock", "peers", "send", "settings", "stall_ms", "state", "storage", "trace",
                 "watcher")
    # fmt: on

    def __init__(
        self,
        node: NodeId,
        settings: HostSettings,
        clock: Clock,
        disk: SimulatedDisk,
        send: Callable[[str, str, bytes], None],
        watcher: Watcher,
        trace: Trace,
        *,
        incarnation: int = 0,
        is_founder: bool = True,
    ) -> None:
        # Of the data directory on its disk.
        self.incarnation = incarnation
        self._had_log = False  # what the last handshake said of it: one may arrive when it is down already
        # Was it there at the first start? Then it is started with the list of peers, else it waits to be added.
        self.is_founder = is_founder
        # Is it off for good?
        self.is_retired = False
        # Which process, on which disk, each connection to this one was made with.
        self.met: dict[NodeId, tuple[int, int]] = {}
        # Whom it has connections to.
        self.peers: dict[NodeId, str] = {}
        self.node = node
        self.settings = settings
        if not is_founder:
            self.upgrade()
        self.clock = clock
        # What this machine shows as the time: not what the others show, and not at their pace.
        self.own_clock = drawn_clock(clock, node, settings.clock_error)
        # The process stands still for so long in its next turn, between the clock and its clients.
        self.stall_ms = 0.0
        self.disk = disk
        self.send = send
        self.watcher = watcher
        self.trace = trace
        self.state: HostState = "down"
        # Which process this is: rises with each start, so that what was meant for an earlier one finds nobody.
        self.life = 0
        self.damage: StorageError | None = None
        self.flushes = 0  # of this process
        self.engine: ReplicationEngine
        self.storage: Storage
        self._random: Random = clock.random(f"node {node}")
        self._inbox: list[Event] = []
        self._busy_until_ms = 0.0  # blocked in a flush until then
        self._turn_at_ms = 0.0  # the turn asked for; 0: none
        self._log_work: LogWork
        self._saving = SnapshotSaving(
            self, self._random, guard=self._guard, is_busy=self._is_busy, carry_out=self._carry_out
        )

    @property
    def is_up(self) -> bool:
        return self.state == "up"

    def replica(self, group: GroupId) -> Replica:
        return self.engine.replicas[group]

    @property
    def writes_in_flight(self) -> int:
        """How many writes of this process are on their way to the disk."""
        if self.state != "up":
            return 0
        return self._log_work.under_way + self.disk.is_awaited

    def upgrade(self) -> None:
        """Its next process is of the newest program."""
        self.settings.config = self.settings.config.replace(format_highest=FORMAT_HIGHEST)

    def renew(self, disk: SimulatedDisk, incarnation: int) -> None:
        """Another disk with a directory made anew, and the newest program: as a machine that takes its place."""
        self.disk, self.incarnation, self._had_log = disk, incarnation, False
        self.upgrade()

    # --- life and death ---

    def start(self) -> None:
        """A new process: recover from the disk and take part; `refused` when the disk is damaged."""
        assert self.state in ("down", "refused"), f"{self.node} is {self.state}"
        self.life += 1
        self.state, self.damage = "down", None
        self._guard(self._recover)

    def _recover(self) -> None:
        self.storage = self.settings.open_storage(self.disk, self.node)
        recovered = self.storage.recover()
        self.watcher.on_recovered(self, recovered)
        found = ", ".join(
            f"group {group} {each.base} + {len(each.entries)}" for group, each in sorted(recovered.items())
        )
        self.trace.note(self.node, "starts from", found or "an empty disk")
        self.engine = ReplicationEngine(
            node=self.node,
            groups={group: self._spec(group, recovered.get(group)) for group in self.settings.groups},
            random=self._random,
            now_ms=self.own_clock.now_ms,
        )
        self.state, self.damage = "up", None
        self._inbox = []
        self._log_work = LogWork(self, block=self._block, when_free=self._when_free, go_on=self._go_on)
        self._busy_until_ms = self._turn_at_ms = 0.0
        self.disk.spent_ms = 0.0
        self.peers, self.met = {}, {}
        self.flushes = 0
        self._ask_for_turn(self.clock.now_ms)

    def _spec(self, group: GroupId, found: RecoveredGroup | None) -> GroupSpec:
        recovered = found or empty_group()
        config = self.settings.config.replace(node_id=self.node, peers=self.settings.config.voters)
        pieces = self.storage.snapshots.chunks(group, recovered.snapshot.id) if recovered.snapshot else None
        return GroupSpec(
            config,
            self.settings.make_machine(self.node, group),
            recovered,
            bootstrap=self.settings.first_configuration(config) if self.is_founder else None,
            snapshot_pieces=pieces,
            limits=self.settings.limits,
            introduction=self.introduction,
            client_address=self.client_address,
        )

    @property
    def leads(self) -> bool:
        """Does it think that it leads one of its groups?"""
        return any(replica.raft.is_leader for replica in self.engine.replicas.values())

    # --- what it says of itself, and of others ---

    @property
    def client_address(self) -> str:
        return f"{self.node}:clients"

    @property
    def introduction(self) -> Introduction:
        """What it says of itself in a handshake."""
        index = self.engine.configuration_index if self.is_up else 0
        config, address = self.settings.config, f"{self.node}.test:7481"
        if self.state in ("up", "paused"):
            self._had_log = self.engine.has_log
        return Introduction(self.incarnation, address, config.priority, index, config.format_highest, self._had_log)

    def why_not(self, other: "Host") -> str:
        """Why it refuses a connection with `other`; "" when it doesn't, or is down and can't."""
        return self.engine.why_not(other.node, other.introduction) if self.is_up else ""

    def meet(self, other: "Host") -> None:
        """A connection with `other` is up."""
        self.met[other.node] = (other.incarnation, other.life)
        self.tell(PeerSeen(other.node, other.client_address, other.introduction))

    def why_apart(self, other: "Host") -> str:
        """Why there is no connection between the two; each hears who the other is all the same."""
        why_not = other.why_not(self) or self.why_not(other)
        if why_not:
            self.hear(other)
            other.hear(self)
        return why_not

    def hear(self, other: "Host") -> None:
        """No connection came of it, but `other` has said who it is."""
        if self.is_up and self.engine.founding is not None:
            self.tell(PeerHeard(other.node, other.introduction))

    def crash(self, losing: Losing = "some") -> None:
        """The machine loses its power, or with losing="nothing" only the process its life."""
        if self.state in ("up", "paused"):
            self.trace.note(self.node, f"crashes, losing {losing}")
            self._die(losing)

    def _die(self, losing: Losing) -> None:
        self._had_log = self.engine.has_log
        self.state = "down"
        self.life += 1
        if losing == "nothing":
            self.disk.kill()
        else:
            self.disk.cut_power(losing)
        self._inbox.clear()

    def stop(self) -> None:
        """The process ends in good order."""
        if self.state in ("up", "paused"):
            self._guard(self.storage.close)
            self.crash("nothing")

    def pause(self) -> None:
        """The process gets no time (SIGSTOP); what comes waits for it."""
        if self.state == "up":
            self.state = "paused"
            self.trace.note(self.node, "pauses")

    def resume(self) -> None:
        """It goes on, and learns what time it is."""
        if self.state == "paused":
            self.state = "up"
            self.trace.note(self.node, "goes on")
            self._turn_at_ms = 0.0
            self._ask_for_turn(max(self.clock.now_ms, self._busy_until_ms))

    # --- what comes in ---

    def receive(self, source: str, packet: bytes) -> None:
        """A peer's packet arrived."""
        if self.state in ("up", "paused"):
            group, message = wire.decode_message(packet[4], packet[5:])
            self._inbox.append(Received(source, group, message))
            self.trace.note(self.node, f"<- {source}", message, mark=packet)
            self._ask_for_turn(self.clock.now_ms)

    def request(self, connection: int, packet: bytes) -> None:
        """A client's packet arrived."""
        if self.state in ("up", "paused"):
            kind, group, request = wire.REQUEST_HEAD.unpack_from(packet, 4)
            body = packet[4 + wire.REQUEST_HEAD.size :]
            self._inbox.append(Requested(connection, request, kind, group, body))
            self.trace.note(self.node, f"asked by {connection}", request, mark=packet)
            self._ask_for_turn(self.clock.now_ms)

    def tell(self, event: PeerHeard | PeerLost | PeerSeen) -> None:
        """News of a connection."""
        if self.state in ("up", "paused"):
            self._inbox.append(event)
            self._ask_for_turn(self.clock.now_ms)

    # --- turns ---

    def _ask_for_turn(self, when_ms: float) -> None:
        """See that a turn comes at `when_ms`, or as soon as the process is free again."""
        when_ms = max(when_ms, self._busy_until_ms)
        if self._turn_at_ms and self._turn_at_ms <= when_ms:
            return
        self._turn_at_ms = when_ms
        self.clock.at(when_ms, self._turn, self.life, when_ms)

    def _turn(self, life: int, asked_ms: float) -> None:
        if life != self.life or self.state != "up" or asked_ms != self._turn_at_ms:
            return  # another process, a paused one, or a turn that came earlier instead
        self._turn_at_ms = 0.0
        if self.clock.now_ms < self._busy_until_ms:
            self._ask_for_turn(self._busy_until_ms)
            return
        self._guard(self._take_turn)

    def _guard(self, work: Callable[..., None], *arguments: Any) -> None:
        """Do `work` as this process would: a failed disk ends it, damage there does, and so does the power."""
        try:
            work(*arguments)
        except PowerCut:
            self.trace.note(self.node, "loses its power in the middle of a call")
            self.disk.faults["crash_in_call"] += 1
            self._die("some")
        except StorageError as error:
            self.trace.note(self.node, "stops:", str(error))
            self._die("nothing")
            if not isinstance(error, DiskFailed):
                if not self.disk.is_damaged:
                    raise InvariantBroken(
                        "starts after every crash", f"{self.node} refuses a disk that nothing was done to: {error}"
                    ) from error
                self.state, self.damage = "refused", error
        except InvariantBroken:
            raise
        except IncompatibleVersion as error:
            raise InvariantBroken("a format is written when all members know it", str(error)) from error
        except AssertionError as error:
            said = str(error).partition("\n")[0]  # test runners add what differs from run to run
            raise InvariantBroken("the node's own assertions", f"{self.node}: {said}") from error
        except Exception as error:
            raise InvariantBroken("no crash of our own making", f"{self.node}: {error!r}") from error

    def _take_turn(self) -> None:
        engine = self.engine
        wall_ms = WALL_EPOCH_MS + int(self.clock.now_ms + self.settings.wall_skew_ms)
        engine.handle(Ticked(self.own_clock.now_ms, wall_ms))
        events, self._inbox = self._inbox, []
        for event in events:
            engine.handle(event)
        if self.stall_ms:
            self._block(self.stall_ms, self._after_stall)
            return
        self._log_work.mark_when_quiet()
        self._carry_out()

    def _after_stall(self) -> None:
        """The turn goes on with the time it began with, also for clients who asked meanwhile."""
        self.stall_ms, events, self._inbox = 0.0, self._inbox, []
        for event in events:
            if isinstance(event, Requested):
                self.engine.handle(event)
            else:
                self._inbox.append(event)
        self._carry_out()

    def _carry_out(self) -> None:
        """Messages first, then one flush for all groups, then what the flush allows; until nothing follows any more."""
        engine = self.engine
        is_seen = False
        while True:
            effects = engine.take_effects()
            if effects.leased:
                engine.settle_leased(effects, self.own_clock.now_ms)
            if not effects and engine.has_more:
                continue
            if effects or not is_seen:
                is_seen = True
                self.watcher.on_turn(self)
            if not effects:
                break
            self.watcher.on_effects(self, effects)
            self._send(effects)
            if effects.peers is not None:
                self.peers = effects.peers
                self.met = {node: life for node, life in self.met.items() if node in effects.peers}
            for request in effects.requests:
                self._saving.carry_out(request)
            if effects.writes and not self._log_work.write(effects.writes):
                return  # goes on when the flush is over
        is_news = self._log_work.see_room()
        self._ask_for_turn(self.clock.now_ms if self._inbox or is_news else self.own_clock.at(engine.deadline_ms))

    def _go_on(self) -> None:
        """A flush that this process was blocked in, or waited for, is over."""
        self._carry_out()
        if self._inbox:
            self._ask_for_turn(self.clock.now_ms)

    def _send(self, effects: Effects) -> None:
        for target, group, message in effects.messages:
            if target not in self.peers:
                continue
            packet = wire.encode_message(group, message)
            self.trace.note(self.node, f"-> {target}", message, mark=packet)
            self.send(self.node, target, packet)
        for connection, packet in effects.replies:
            self.trace.note(self.node, f"answers {connection}", None, mark=packet)
            self.send(self.node, f"#{connection}", packet)
        for change in effects.changes:
            self.trace.note(self.node, f"becomes {change.role} of term {change.term}:", change.why)

    # --- time that it doesn't have ---

    def _block(self, duration_ms: float, then: Callable[..., None], *arguments: Any) -> None:
        self._busy_until_ms = self.clock.now_ms + duration_ms
        self.clock.at(self._busy_until_ms, self._when_free, self.life, then, *arguments)

    def _when_free(self, life: int, then: Callable[..., None], *arguments: Any) -> None:
        """Go on as soon as the process has time, if it is still the same one."""
        if life != self.life:
            return
        if self.state == "paused" or self.clock.now_ms < self._busy_until_ms:
            self.clock.after(1.0, self._when_free, life, then, *arguments)
            return
        self._guard(then, *arguments)

    def _is_busy(self) -> bool:
        return self.state == "paused" or self.clock.now_ms < self._busy_until_ms
