"""One group on this node: its Raft, its machine, and the requests that wait for either."""

from collections import deque
from collections.abc import Callable, Iterator
from random import Random

import msgspec

from aegis_replication import wire
from aegis_replication.consensus.changes import Introduction
from aegis_replication.consensus.configuration import Configuration
from aegis_replication.consensus.founding import Founding
from aegis_replication.consensus.leader import SNAPSHOT_PATIENCE, Leader
from aegis_replication.consensus.messages import InstallSnapshot, Message
from aegis_replication.consensus.node import Raft
from aegis_replication.consensus.output import Output
from aegis_replication.engine.administration import Administration
from aegis_replication.engine.backups import Backups
from aegis_replication.engine.effects import ConfigurationChanged, Effects, RoleChanged, StoreChunk
from aegis_replication.engine.events import ChunkRead, ChunkStored, Requested, SnapshotSaved
from aegis_replication.engine.intake import Intake
from aegis_replication.engine.proposals import Proposals
from aegis_replication.engine.reads import Reads
from aegis_replication.engine.replies import Caller, answer, reply_error, reply_refused
from aegis_replication.engine.snapshot_sending import Pace, SnapshotSending
from aegis_replication.engine.snapshots import Snapshots
from aegis_replication.engine.spec import GroupSpec
from aegis_replication.engine.standing import become, stand
from aegis_replication.errors import ChangePending, ChangeRefused, InvalidArgument
from aegis_replication.events import SnapshotInstalled, SnapshotMade
from aegis_replication.ids import GroupId, LogIndex, NodeId, Term
from aegis_replication.log import Entry, Kind

_encode = msgspec.msgpack.Encoder().encode

_QUICK_COMMIT_MS = 3.0
_ENTRIES_IN_FLIGHT = 2
_SMOOTHING = 0.1  # weight of the newest commit in the running mean of how long they take


class _Waiting(msgspec.Struct, frozen=True):
    """The commands of one entry, proposed here and not applied yet."""

    term: Term
    callers: list[Caller]
    since_ms: float


class Replica:
    """A member of one group. Its host hands it events; `collect` gives back what is to be done."""

    __slots__ = (
        "_apply_queue",
        "_commit_ms",
        "_restoring",
        "_sending_patience_ms",
        "_unpersisted",
        "_configuration",
        "_waiting",
        "addresses",
        "administration",
        "applied",
        "backups",
        "full",
        "group",
        "has_new_members",
        "intake",
        "limits",
        "machine",
        "node",
        "now_ms",
        "proposals",
        "raft",
        "reads",
        "sending",
        "snapshots",
        "wall_ms",
        "was_leader",
    )

    def __init__(
        self,
        node: NodeId,
        group: GroupId,
        spec: GroupSpec,
        *,
        random: Random,
        now_ms: float,
        addresses: dict[NodeId, str],
        pace: Pace,
        founding: Founding | None = None,
    ) -> None:
        self.node, self.group, self.limits = node, group, spec.limits
        self.machine = spec.machine
        # Highest entry whose effect the machine shows. Only rises. Invariant: applied <= committed, and snapshot <=
        # applied unless one is being restored.
        self.applied: LogIndex = stand(self.machine, group, spec.recovered, spec.snapshot_pieces).index
        self.raft = Raft(
            node=node,
            group=group,
            config=spec.config,
            recovered=spec.recovered,
            bootstrap=spec.bootstrap,
            random=random,
            now_ms=now_ms,
            applied=self.applied,
            founding=founding,
        )
        self.was_leader = False
        self.now_ms = now_ms
        self.wall_ms = 0
        self.addresses = addresses  # where each node's clients connect; shared by the engine's replicas
        self.administration = Administration(self.raft, addresses, spec.client_address)
        # Has whom to speak with, or where they are, perhaps changed since the host was told?
        self.has_new_members = True
        self._configuration: Configuration | None = None  # as of the last `collect`
        self.backups = Backups(self.raft)
        self.introduce(node, spec.introduction)
        self.intake = Intake(self.raft, spec.limits)
        # Commands in entries of this leadership that are not applied yet.
        self._waiting: dict[LogIndex, _Waiting] = {}
        self.proposals = Proposals()
        self._commit_ms = 0.0  # running mean, from proposing an entry to applying it
        self.reads = Reads(self.raft, self.machine, spec.limits)
        # Committed entries not yet applied.
        self._apply_queue: deque[Entry] = deque()
        self.full = ""  # why this node's disk takes no writes of clients; "" while it does
        self._unpersisted = 0  # highest write number handed out; equal to the last persisted one when the disk is idle
        self.snapshots = Snapshots(group, self.raft, spec.recovered)
        self.sending = SnapshotSending(group, pace, spec.limits.chunk_bytes)
        # How long a transfer may stand still, its connection lost perhaps, and still keep the snapshot that it sends.
        self._sending_patience_ms = SNAPSHOT_PATIENCE * spec.config.election_timeout_max_ms
        # A snapshot that a leader sent is taking the machine's place, step by step; and what is so after the last one.
        self._restoring: tuple[Iterator[None], SnapshotInstalled] | None = None

    @property
    def deadline_ms(self) -> float:
        """When time must pass for it at the latest."""
        return min(self.raft.deadline_ms, self.sending.due_ms)

    # --- events ---

    def on_request(self, event: Requested, effects: Effects) -> None:
        """A client's command or query: checked here, carried out by way of `collect`."""
        caller = (event.connection, event.request)
        if not self.raft.is_leader and event.kind != wire.READ:
            effects.replies.append(self._not_leader(caller))
            return
        try:
            if event.kind == wire.COMMAND:
                self._take_command(event.body, caller, effects)
            elif event.kind == wire.ADMIN:
                self.administration.on_request(event.body, caller, effects.replies)
            elif event.kind == wire.BACKUP:
                self.backups.begin(caller, effects.replies)
            else:
                self.reads.take(event.kind, event.body, caller, effects)
        except InvalidArgument as error:
            effects.replies.append(reply_refused(caller, error))

    def _take_command(self, body: bytes, caller: Caller, effects: Effects) -> None:
        self.machine.check(body)
        if self.full:
            self.proposals.refused += 1
            effects.replies.append(self._no_room(caller))
            return
        if why_not := self.intake.take(body, caller, self.applied):
            effects.replies.append(reply_error(caller, wire.OVERLOADED, why_not))

    def on_message(self, source: NodeId, message: Message) -> None:
        """A peer's word: Raft decides (§5.1)."""
        self.raft.step(source, message)

    def introduce(self, node: NodeId, introduction: Introduction) -> None:
        """What a node says of itself."""
        self.raft.introduce(node, introduction)
        self.has_new_members = True

    def hand_over(self) -> None:
        """Let another lead, if this replica does and there is another."""
        if self.raft.is_leader:
            try:
                self.raft.transfer()
            except (ChangePending, ChangeRefused):
                pass  # nobody else can: they will elect one when this node is gone

    def on_room_changed(self, room_bytes: int | None, why: str, effects: Effects) -> None:
        """The disk is full, or has room again: what isn't in the log yet stays out of it, and a snapshot makes room."""
        self.raft.on_room_changed(room_bytes)
        is_news, self.full = bool(self.full) != (room_bytes is not None), "" if room_bytes is None else why
        if not self.full or not is_news:
            return
        self._turn_away(self._no_room, effects)
        if self._may_save and self.snapshots.applied_bytes:
            self.snapshots.save(self.machine, self.applied, effects)

    def _turn_away(self, answer: Callable[[Caller], tuple[int, bytes]], effects: Effects) -> None:
        """The commands of this turn, in no entry yet, stay out of the log."""
        callers = self.intake.turn_away()
        self.proposals.refused += len(callers)
        effects.replies.extend(map(answer, callers))

    def _no_room(self, caller: Caller) -> tuple[int, bytes]:
        what = f"node {self.node} takes no writes: {self.full}, then they go on by themselves; reads go on"
        return reply_error(caller, wire.DISK_FULL, what)

    def on_persisted(self, number: int) -> None:
        """Write `number` and all before it are on disk."""
        self.raft.on_persisted(number)
        if number == self._unpersisted:
            self._unpersisted = 0

    def on_snapshot_saved(self, event: SnapshotSaved, effects: Effects) -> None:
        """Our own snapshot is on disk."""
        if self.snapshots.on_saved(event):
            effects.news.append(SnapshotMade(self.group, event.meta.term, event.meta.index, event.size_bytes))

    def on_snapshot_failed(self, effects: Effects) -> None:
        """The log stays as it is, and nobody waits for it any longer."""
        self.snapshots.on_failed()
        self.backups.fail(effects.replies)

    def on_chunk_read(self, event: ChunkRead, effects: Effects) -> None:
        """Bytes of our snapshot for a follower; when that snapshot is gone, its successor."""
        if not self.raft.is_leader:
            return
        newest = self.snapshots.newest
        if self.sending.on_read(event, self.now_ms):
            message = InstallSnapshot(self.raft.term, event.meta, event.offset, event.total_bytes, event.data)
            effects.messages.append((event.target, self.group, message))
        elif not event.data and newest is not None and newest.id != event.meta.id:
            self.sending.begin(event.target, newest, self.now_ms)

    def on_chunk_stored(self, event: ChunkStored, effects: Effects) -> None:
        """A chunk of a leader's snapshot was taken; with the last one the machine begins to become that state."""
        if not event.complete:
            self.raft.on_snapshot_stored(event.source, event.snapshot, event.next_offset)
            return
        meta = event.meta
        assert meta is not None, f"a complete snapshot {event.snapshot} without its head"
        if not self.raft.on_snapshot_installed(event.source, meta):
            self.snapshots.on_stored(meta, event.size_bytes, self.applied)
            return
        self._apply_queue.clear()
        self.snapshots.on_installed(meta, event.size_bytes)
        installed = SnapshotInstalled(self.group, meta.term, meta.index, event.size_bytes, event.source)
        self._restoring = become(self.machine, event.chunks, meta), installed
        self._restore(effects)

    def _restore(self, effects: Effects) -> None:
        """A bounded part of the way to an installed snapshot's state; the former one is shown until the end."""
        assert self._restoring is not None, "nothing is being restored"
        steps, installed = self._restoring
        for _ in range(self.limits.restore_pieces):
            if next(steps, self) is self:
                self._restoring, self.applied = None, installed.index
                effects.news.append(installed)
                return

    # --- what follows from them ---

    def collect(self, effects: Effects) -> bool:
        """Add all that is to be done now to `effects`; says whether there is more to do at once."""
        self.intake.forget_room()
        if self.intake.commands and self.raft.is_leader and self._may_propose():
            self._propose()
        if self.reads.is_waiting:
            lost = self.reads.ask(self.applied, self.now_ms, effects)
            effects.replies.extend(self._not_leader(caller) for caller in lost)
        output = self.raft.take_output()
        if output.changes:
            self._on_changes(output, effects)
        for target, message in output.messages:
            effects.messages.append((target, self.group, message))
        if output.write is not None:
            effects.writes.append(output.write)
            self._unpersisted = output.write.number
        if output.snapshots or output.sent_chunks or output.chunks:
            self._stream_snapshots(output, effects)
        if self.sending.is_busy:
            self._send_snapshots(effects)
        if output.committed:
            self._apply_queue.extend(output.committed)
        if self._restoring is not None:
            self._restore(effects)
        elif self._apply_queue:
            self._apply(effects)
        if self.backups.is_waited_for:
            is_wanted = self.backups.look(self.applied, self.snapshots.newest, effects.replies)
            if is_wanted and self._may_save:
                self.snapshots.save(self.machine, self.applied, effects)
        if self.administration.is_waited_for:
            self.administration.look(effects.replies)
        if self.raft.configuration is not self._configuration:
            self._configuration = self.raft.configuration
            effects.configurations.append(
                ConfigurationChanged(self.group, self.raft.configuration_index, self._configuration)
            )
            self.has_new_members = True
        if output.reads or output.leased or output.lost_reads:
            self.reads.on_output(output, effects)
        self.reads.serve(self.applied, effects)
        is_at_work = bool(self._apply_queue) or self._restoring is not None
        return is_at_work or (bool(self.intake.commands) and self._may_propose())

    def _may_propose(self) -> bool:
        """Is it time for the next entry? While one is on its way, commands gather, and the next one is larger.

        Over quick networks and disks one entry at a time costs the least work a command, and a command waits for less
        than a commit takes. Where a commit takes long, two are under way at once.
        """
        if self._unpersisted or not self.raft.may_propose:
            return False  # the time of the write in flight is the batching window; and of a hand-over
        waiting = self._waiting
        return not waiting or (self._commit_ms > _QUICK_COMMIT_MS and len(waiting) < _ENTRIES_IN_FLIGHT)

    def _propose(self) -> None:
        """Gather waiting commands into entries: one batch, one frame, encoded once."""
        intake = self.intake
        while intake.commands:
            commands, callers = intake.next_batch()
            payload = self.machine.join(commands)
            entry = self.raft.propose(Kind.COMMANDS, payload, count=len(commands), stamp=self.wall_ms << 16)
            self._waiting[entry.index] = _Waiting(entry.term, callers, self.now_ms)
            self.proposals.proposed += len(commands)

    def _apply(self, effects: Effects) -> None:
        """Apply committed entries in order, a bounded number of commands a turn, and answer who waits for them."""
        queue, budget = self._apply_queue, self.limits.apply_commands
        while queue and budget > 0:
            entry = queue.popleft()
            assert entry.index == self.applied + 1, f"entry {entry.index} after applied {self.applied}"
            waiting = self._waiting.pop(entry.index, None) if self._waiting else None
            if entry.kind == Kind.COMMANDS:
                budget -= entry.count
                results = self.machine.apply(entry)
                if waiting is not None and waiting.term == entry.term:
                    answer(waiting.callers, results, effects.replies)
            self.snapshots.on_applied(entry)
            self.applied = entry.index
            if waiting is not None:
                self._let_go(waiting, entry, effects)
        if not queue and self._snapshot_due():
            self.snapshots.save(self.machine, self.applied, effects)

    def _let_go(self, waiting: _Waiting, entry: Entry, effects: Effects) -> None:
        """What waited for the entry at this place is answered, or learns that it was never applied."""
        self.intake.taken -= len(waiting.callers)
        if waiting.term == entry.term:
            self._commit_ms += _SMOOTHING * (self.now_ms - waiting.since_ms - self._commit_ms)
            self.proposals.durations.observe((self.now_ms - waiting.since_ms) / 1000.0)
        else:
            self.proposals.failed += len(waiting.callers)
            why = "a later leader's entry took its place"
            effects.replies.extend(reply_error(caller, wire.DROPPED, why) for caller in waiting.callers)

    @property
    def _may_save(self) -> bool:
        """Does the machine show all that is committed, and is no snapshot under way?"""
        return not self.snapshots.is_saving and self._restoring is None and not self._apply_queue

    def _snapshot_due(self) -> bool:
        return self.snapshots.is_due(is_sending=self.sending.is_moving(self.now_ms - self._sending_patience_ms))

    def _stream_snapshots(self, output: Output, effects: Effects) -> None:
        """Snapshots travel in chunks: to followers too far behind, and from a leader."""
        newest = self.snapshots.newest
        for target in output.snapshots:
            assert newest is not None, f"{target} needs a snapshot, there is none"
            self.sending.begin(target, newest, self.now_ms)
        for source, reply in output.sent_chunks:
            if newest is not None:
                self.sending.on_reply(source, reply, newest, self.now_ms)
        for source, chunk in output.chunks:
            effects.requests.append(
                StoreChunk(self.group, source, chunk.meta, chunk.offset, chunk.total_bytes, chunk.data)
            )

    def _send_snapshots(self, effects: Effects) -> None:
        """Read what may leave now; whoever has got to its snapshot, or is no follower any more, needs none."""
        role = self.raft.current_role
        matches = role.matches if isinstance(role, Leader) else {}
        done = {to for to, meta in self.sending.targets().items() if matches.get(to, meta.index) >= meta.index}
        self.sending.forget(done)
        effects.requests += self.sending.reads(self.now_ms)

    # --- leadership lost ---

    def _on_changes(self, output: Output, effects: Effects) -> None:
        for change in output.changes:
            effects.changes.append(RoleChanged(self.group, change.term, change.role, change.leader, change.why))
        # An office won and lost between two calls was one, too: commands taken in it must not wait for the next.
        if not self.raft.is_leader or (self.was_leader and len(output.changes) > 1):
            self._give_up(effects)
        self.was_leader = self.raft.is_leader

    def _give_up(self, effects: Effects) -> None:
        """No longer the leader: nobody may wait here for what another leader decides."""
        replies = effects.replies
        self.administration.give_up(replies)
        self._turn_away(self._not_leader, effects)
        replies.extend(self._not_leader(caller) for caller in self.backups.give_up())
        why = "the leader lost its office first"
        for waiting in self._waiting.values():
            self.proposals.failed += len(waiting.callers)
            replies.extend(reply_error(caller, wire.UNKNOWN, why) for caller in waiting.callers)
        replies.extend(self._not_leader(caller) for caller in self.reads.give_up())
        self.sending.stop()
        self._waiting = {}
        self.intake.taken = 0

    def _not_leader(self, caller: Caller) -> tuple[int, bytes]:
        leader = self.raft.leader if self.raft.leader != self.node else None
        address = self.addresses.get(leader) if leader is not None else None
        return caller[0], wire.encode_reply(caller[1], wire.NOT_LEADER, _encode((leader, address)))
