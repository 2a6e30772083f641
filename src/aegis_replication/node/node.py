"""What does a node do, turn after turn? Peers and time, then clients, then out: messages, one flush, what it allows."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from aegis_replication import wire
from aegis_replication.consensus.changes import Introduction
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.consensus.configuration import Configuration
from aegis_replication.engine.effects import Effects
from aegis_replication.engine.engine import ReplicationEngine
from aegis_replication.engine.events import Event, PeerLost, PeerSeen, Persisted, Received, Requested, Ticked
from aegis_replication.engine.replica import Replica
from aegis_replication.engine.spec import GroupSpec
from aegis_replication.errors import DiskFailed, ProtocolError, WrongIdentity
from aegis_replication.ids import DATA_GROUP, GroupId, NodeId
from aegis_replication.log import NOTHING, HardState, LogWrite, RecoveredGroup
from aegis_replication.node.backup_work import BackupWork
from aegis_replication.node.clock import now_ms, now_seconds
from aegis_replication.node.door_handler import DoorHandler
from aegis_replication.node.drain import Drain
from aegis_replication.node.log_work import LogWork
from aegis_replication.node.replying import reply_all
from aegis_replication.node.snapshot_work import SnapshotWork
from aegis_replication.node.status import node_status
from aegis_replication.state_machine.base import Machine
from aegis_replication.storage.base import Storage
from aegis_replication.transport.base import ClientDoor, PeerTransport

log = logging.getLogger("aegis.node")

_SLICE_SECONDS = 0.005  # of client work in one turn, so that peers and ticks never wait long
_GRANULARITY_SECONDS = 0.001  # a timer this much too early isn't armed again

_encode = msgspec.msgpack.Encoder().encode


class NodeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a node is started with, apart from its parts."""

    config: RaftConfig
    cluster: str = "aegis"
    client_address: str = ""
    peer_address: str = ""  # where its peers connect, as they are to know it
    peer_addresses: Mapping[NodeId, str] = {}  # where the others are, for as long as the configuration doesn't say
    remember_events: int = 0  # how many events the story of a broken invariant shows


class Node:
    """A node with its groups on one disk and one network, living on the running event loop.

    `await start()`, then requests come by its client doors; `await stop()` leaves everything durable.
    `await wait_failed()` returns the reason when it had to stop by itself: a failed disk, or a bug of ours.
    """

    def __init__(
        self,
        options: NodeOptions,
        *,
        storage: Storage,
        peers: PeerTransport,
        doors: Sequence[ClientDoor],
        machines: Mapping[GroupId, Machine],
        random: Random | None = None,
    ) -> None:
        self.options = options
        self.id: NodeId = options.config.node_id
        self.storage = storage
        self.peers = peers
        self.doors = list(doors)
        self._machines = dict(machines)
        self._random = random or Random()
        self.engine: ReplicationEngine
        self._loop: asyncio.AbstractEventLoop
        self._log_work: LogWork
        self._snapshot_work: SnapshotWork
        self._backup_work: BackupWork
        self._from_peers: list[Received | PeerLost | PeerSeen] = []
        self._from_clients: list[Requested] = []
        self._from_disk: list[Event] = []  # answers that came between two turns
        self._wake_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._running = False
        self._failed: asyncio.Future[BaseException]
        self._drain = Drain(lambda: self.engine.replicas.values(), self._on_event)
        self._started_at = 0.0
        self._observers: list[Callable[[Any], None]] = []
        self.protocol_errors = 0
        self.slow_turns = 0  # turns that began later than half a heartbeat after they were due
        self.turns = 0
        self.elections = 0
        self._known = dict(options.peer_addresses)

    # --- life ---

    async def start(self) -> None:
        """Recover from disk, listen, and take part. Raises StorageError or ConfigError before anything is changed."""
        self._loop = asyncio.get_running_loop()
        self._failed = self._loop.create_future()
        self._log_work = LogWork(
            self.storage,
            self._loop,
            quiet_ms=self.options.config.heartbeat_interval_ms,
            stall_ms=self.options.config.election_timeout_min_ms,
            on_flushed=self._on_flushed,
            on_failed=self._fail,
            on_room=self._on_event,
        )
        self._snapshot_work = SnapshotWork(self.id, self.storage, self._loop, answer=self._on_event)
        self._backup_work = BackupWork(self.storage, self._loop)
        self._started_at = now_seconds()
        recovered = self.storage.recover()
        self.engine = ReplicationEngine(
            node=self.id,
            groups={group: self._spec(group, each, recovered.get(group)) for group, each in self._machines.items()},
            random=self._random,
            now_ms=now_ms(),
            remember=self.options.remember_events,
        )
        self._check_voters()
        self._running = True
        try:
            await self.peers.start(self)
            for position, door in enumerate(self.doors):
                await door.start(DoorHandler(self, position, len(self.doors)))
        except BaseException:  # an address that can't be had, mostly: what is open already must not stay so
            await self.stop()
            raise
        self._wake()

    def _check_voters(self) -> None:
        """A configuration names the voters of the first start only; after that the disk knows who they are."""
        told = self.options.config.voters
        for group, replica in self.engine.replicas.items():
            configuration = replica.raft.configuration
            known, founders = configuration.voters, configuration.founders or configuration.voters
            if configuration.members and told not in (known, founders, (self.id,)):
                raise WrongIdentity(
                    f"node {self.id}: its disk knows {', '.join(known)} as the voters of group {group} (at first they "
                    f"were {', '.join(founders)}), its peers say {', '.join(told)}: leave the peers out, since they "
                    "count at the first start only, or give the directory that belongs to them"
                )

    def _spec(self, group: GroupId, machine: Machine, found: RecoveredGroup | None) -> GroupSpec:
        options, config = self.options, self.options.config
        recovered = found or RecoveredGroup(HardState(), NOTHING, [])
        pieces: Iterable[bytes] | None = None
        if recovered.snapshot is not None:
            pieces = self.storage.snapshots.chunks(group, recovered.snapshot.id)
        # Names only: were addresses among them, two spellings of one host would make two different first entries.
        identity = self.storage.identity
        return GroupSpec(
            config,
            machine,
            recovered,
            bootstrap=None if identity.joins else Configuration(config.voters),
            snapshot_pieces=pieces,
            introduction=Introduction(identity.incarnation, options.peer_address, config.priority),
            client_address=options.client_address,
        )

    async def stop(self) -> None:
        """Stop taking part; everything acknowledged is on disk already."""
        if not self._running:
            return
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        await self._snapshot_work.stop()
        for door in self.doors:
            await door.stop()
        await self.peers.stop()
        self._log_work.close()
        self._backup_work.stop()
        self.storage.close()

    async def drain(self, *, timeout: float | None = None) -> bool:
        """Let others lead what this node leads, before it stops; says whether they do.

        Takes three maximum election timeouts at the most: after that they elect a leader when this node is gone.
        """
        longest = 3.0 * self.options.config.election_timeout_max_ms / 1000.0
        return not self._running or await self._drain.run(longest if timeout is None else timeout)

    async def wait_failed(self) -> BaseException:
        """Why the node had to stop by itself; waits until it does."""
        return await asyncio.shield(self._failed)

    def _fail(self, error: BaseException) -> None:
        """Nothing more is written, sent or acknowledged: the reason goes to the log and to whoever waits."""
        if self._failed.done():
            return
        log.critical("node=%s: stopped by itself: %s", self.id, error, exc_info=not isinstance(error, DiskFailed))
        for line in self.engine.recorder.story():
            log.error("story %s", line)
        self._failed.set_result(error)  # from here on no turn begins: see `_is_at_work`
        self._loop.create_task(self.stop())

    @property
    def _is_at_work(self) -> bool:
        """May a turn begin? Not after a failure, although `stop` has yet to run.

        The turn that failed may have lost a write on its way to the disk. The next one would write a later one, and
        `Persisted` of that would speak for both: a promise for something that was never written.
        """
        return self._running and not self._failed.done()

    # --- what comes in ---

    def on_peer_packet(self, source: NodeId, kind: int, body: bytes) -> None:
        """A packet of a peer whose identity the transport has proved."""
        try:
            group, message = wire.decode_message(kind, body)
        except ProtocolError as error:
            self.protocol_errors += 1
            if self.protocol_errors < 10 or self.protocol_errors % 1000 == 0:
                log.warning(
                    "node=%s peer=%s: dropped a packet: %s (%d so far)", self.id, source, error, self.protocol_errors
                )
            return
        self._from_peers.append(Received(source, group, message))
        self._wake()

    def why_not_peer(self, hello: wire.Hello) -> str | None:
        """Why that node gets no connection: a member with another data directory, or no member at all."""
        return self.engine.why_not(hello.node, wire.introduction(hello))

    def on_peer_met(self, hello: wire.Hello) -> None:
        """A peer has called."""
        self._from_peers.append(PeerSeen(hello.node, hello.client_address, wire.introduction(hello)))
        self._wake()

    def on_peer_up(self, hello: wire.Hello) -> None:
        """A peer can be reached."""
        self.on_peer_met(hello)

    def on_peer_down(self, peer: NodeId) -> None:
        """A peer's connection ended."""
        self._from_peers.append(PeerLost(peer))
        self._wake()

    def on_requests(self, connection: int, requests: Sequence[wire.Request]) -> None:
        """What one read brought from a client."""
        for kind, group, request, body in requests:
            if kind == wire.STATUS:
                reply_all(self.doors, [(connection, wire.encode_reply(request, wire.OK, _encode(self.status())))])
            elif kind == wire.BACKUP and body:
                reply_all(self.doors, [(connection, self._backup_work.answer(group, request, body))])
            else:
                self._from_clients.append(Requested(connection, request, kind, group, body))
        self._wake()

    def _wake(self) -> None:
        if not self._wake_scheduled:
            self._wake_scheduled = True
            self._loop.call_soon(self._turn)

    # --- one turn ---

    def _turn(self) -> None:
        """Handle what has come, carry out what follows: peers and time first, then clients for a bounded while."""
        self._wake_scheduled = False
        if not self._is_at_work:
            return
        try:
            self._take_turn()
        except Exception as error:  # a failed disk, or an invariant of ours: either way this node is done
            self._fail(error)

    def _take_turn(self) -> None:
        engine = self.engine
        self.turns += 1
        started = now_seconds()
        engine.handle(Ticked(started * 1000.0, time.time_ns() // 1_000_000))
        handle = engine.handle
        if self._from_disk:
            answers, self._from_disk = self._from_disk, []
            for answer in answers:
                handle(answer)
        if self._from_peers:
            events, self._from_peers = self._from_peers, []
            for event in events:
                handle(event)
        if self._from_clients:
            self._take_clients(started)
        self._carry_out()
        if self._from_clients or self._from_peers or engine.has_more:
            self._wake()
        self._arm(engine.deadline_ms / 1000.0)
        self._drain.look()

    def _take_clients(self, started: float) -> None:
        """All that waits, or as much as fits a slice of time."""
        requests, self._from_clients = self._from_clients, []
        handle = self.engine.handle
        until = started + _SLICE_SECONDS
        for first in range(0, len(requests), 256):
            for request in requests[first : first + 256]:
                handle(request)
            if now_seconds() > until:
                self._from_clients = requests[first + 256 :] + self._from_clients
                return

    def _carry_out(self) -> None:
        """Messages first, then one flush for all groups, then what the flush allows; until nothing follows any more."""
        engine = self.engine
        for _ in range(4):
            effects = engine.take_effects()
            if not effects:
                return
            if effects.leased:
                engine.settle_leased(effects, now_ms())
            self._send(effects)
            if effects.peers is not None:
                self._set_peers(effects.peers)
            if effects.changes:
                self._tell(effects)
            if effects.replies:
                reply_all(self.doors, effects.replies)
            for request in effects.requests:
                self._snapshot_work.carry_out(request)
            if effects.writes:
                if not self._log_work.write(effects.writes):
                    return
                self._persisted(effects.writes)

    def _send(self, effects: Effects) -> None:
        send = self.peers.send
        for target, group, message in effects.messages:
            send(target, wire.encode_message(group, message), bulk=wire.is_bulk(message))

    def _set_peers(self, peers: Mapping[NodeId, str]) -> None:
        """Who the members are has changed, or where: after what was still to be said to those who leave."""
        listed = {node: address or self._known.get(node, "") for node, address in peers.items()}
        self.peers.set_peers(listed, configuration=self.engine.configuration_index)

    def _tell(self, effects: Effects) -> None:
        for change in effects.changes:
            if change.role == "candidate":
                self.elections += 1
            log.info(
                "group=%d node=%s term=%d role=%s leader=%s: %s",
                change.group,
                self.id,
                change.term,
                change.role,
                change.leader,
                change.why,
            )
            for observer in self._observers:
                observer(change)

    def observe(self, observer: Callable[[Any], None]) -> None:
        """Call `observer` with every RoleChanged from now on."""
        self._observers.append(observer)

    # --- what the disk answers ---

    def _persisted(self, writes: Sequence[LogWrite]) -> None:
        for write in writes:
            self.engine.handle(Persisted(write.group, write.number))

    # What comes between turns is handled in the next one: after its time, and where a broken invariant ends the node.

    def _on_flushed(self, writes: Sequence[LogWrite]) -> None:
        self._from_disk.extend([Persisted(write.group, write.number) for write in writes])
        self._wake()

    def _on_event(self, event: Event) -> None:
        self._from_disk.append(event)
        self._wake()

    # --- time ---

    def _arm(self, due: float) -> None:
        """Wake up at `due` at the latest; a timer that is armed for earlier serves as well."""
        due = min(due, self._log_work.mark_due + _GRANULARITY_SECONDS)
        if self._timer is not None:
            if self._timer_due <= due + _GRANULARITY_SECONDS:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_later(max(due - now_seconds(), 0.0), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._is_at_work:
            return
        late_ms = (now_seconds() - self._timer_due) * 1000.0
        if late_ms > self.options.config.heartbeat_interval_ms / 2:
            self.slow_turns += 1
            log.warning(
                "node=%s: the event loop was busy elsewhere for %.0f ms (%d times so far): elections may follow",
                self.id,
                late_ms,
                self.slow_turns,
            )
        try:
            self._log_work.mark_when_quiet()
        except Exception as error:
            self._fail(error)
            return
        self._turn()

    # --- what it shows ---

    def replica(self, group: GroupId = DATA_GROUP) -> Replica:
        """The replica of `group` on this node."""
        return self.engine.replicas[group]

    @property
    def is_leader(self) -> bool:
        """Does this node think that it leads the data group?"""
        return self._running and self.replica().raft.is_leader

    @property
    def leader(self) -> NodeId | None:
        """Who leads the data group, as far as this node knows."""
        return self.replica().raft.leader

    def status(self) -> dict[str, Any]:
        """What an operator wants to see, as plain values."""
        shown = node_status(self.engine, self.storage, self.peers)
        shown |= {
            "cluster": self.options.cluster,
            "uptime_s": round(now_seconds() - self._started_at, 3),
            "loop": type(self._loop).__module__.partition(".")[0],
            "client_address": self.options.client_address,
            "peer_address": self.options.peer_address,
        }
        for name in ("turns", "slow_turns", "elections", "protocol_errors"):
            shown[name] = getattr(self, name)
        return shown
