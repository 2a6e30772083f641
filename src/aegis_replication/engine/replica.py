"""One group on this node: its Raft, its machine, and the requests that wait for either."""

from collections import deque
from collections.abc import Callable
from random import Random

import msgspec

from aegis_replication import wire
from aegis_replication.consensus.changes import Introduction
from aegis_replication.consensus.configuration import Configuration
from aegis_replication.consensus.founding import Founding
from aegis_replication.consensus.messages import InstallSnapshot, Message
from aegis_replication.consensus.node import Raft
from aegis_replication.consensus.output import Output
from aegis_replication.engine.administration import Administration
from aegis_replication.engine.backups import Backups
from aegis_replication.engine.effects import (
    ConfigurationChanged,
    Effects,
    ReadChunk,
    RoleChanged,
    SaveSnapshot,
    StoreChunk,
)
from aegis_replication.engine.events import ChunkRead, ChunkStored, Requested, SnapshotSaved
from aegis_replication.engine.intake import Intake
from aegis_replication.engine.proposals import Proposals
from aegis_replication.engine.reads import Reads
from aegis_replication.engine.replies import Caller, answer, reply_error, reply_refused
from aegis_replication.engine.spec import GroupSpec
from aegis_replication.engine.standing import restore, stand
from aegis_replication.errors import ChangePending, ChangeRefused, InvalidArgument
from aegis_replication.events import SnapshotInstalled, SnapshotMade
from aegis_replication.ids import GroupId, LogIndex, NodeId, Term
from aegis_replication.log import Entry, Kind, SnapshotMeta
from aegis_replication.state_machine.base import DurableMachine

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
        "_saving",
        "_unpersisted",
        "_configuration",
        "_waiting",
        "addresses",
        "administration",
        "applied",
        "backups",
        "commands_since_snapshot",
        "bytes_since_snapshot",
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
        "snapshot",
        "snapshot_bytes",
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
        founding: Founding | None = None,
    ) -> None:
        self.node, self.group, self.limits = node, group, spec.limits
        self.machine = spec.machine
        self.snapshot: SnapshotMeta | None = spec.recovered.snapshot
        # Highest entry whose effect the machine shows. Only rises. Invariant: snapshot <= applied <= committed.
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
        self._saving: SnapshotMeta | None = None
        self.snapshot_bytes = 0  # size of the last snapshot
        self.commands_since_snapshot = sum(entry.count for entry in spec.recovered.entries)
        self.bytes_since_snapshot = sum(len(entry.frame) for entry in spec.recovered.entries)

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
        if self._saving is None and not self._apply_queue and self.bytes_since_snapshot:
            self._save_snapshot(effects)

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
        """Our own snapshot is on disk: the log before it may go, except for a tail for followers a little behind."""
        assert self._saving == event.meta, f"snapshot {event.meta.id} saved, {self._saving} was asked for"
        self._saving = None
        if self.snapshot is not None and self.snapshot.index >= event.meta.index:
            return  # a leader's snapshot overtook ours
        self.snapshot = event.meta
        self.snapshot_bytes = event.size_bytes
        effects.news.append(SnapshotMade(self.group, event.meta.term, event.meta.index, event.size_bytes))
        self.raft.on_snapshot_saved(event.meta, self._first_of_tail(event.meta.index))

    def on_snapshot_failed(self, effects: Effects) -> None:
        """Try again when as much has been applied once more."""
        self._saving = None
        self.backups.fail(effects.replies)
        self.commands_since_snapshot = self.bytes_since_snapshot = 0

    def _first_of_tail(self, index: LogIndex) -> LogIndex:
        """Where the log begins that is kept behind a snapshot at `index`: bounded in entries and bytes."""
        log, config = self.raft.log, self.raft.config
        first, size = index + 1, 0
        while first > log.first and index + 1 - first < config.trailing_entries:
            size += len(log.get(first - 1).frame)
            if size > config.trailing_bytes:
                break
            first -= 1
        return first

    def on_chunk_read(self, event: ChunkRead, effects: Effects) -> None:
        """Bytes of our snapshot for a follower; when that snapshot is gone, its successor from the start."""
        if not self.raft.is_leader:
            return
        if event.data:
            message = InstallSnapshot(self.raft.term, event.meta, event.offset, event.total_bytes, event.data)
            effects.messages.append((event.target, self.group, message))
        elif self.snapshot is not None and self.snapshot.id != event.meta.id:
            effects.requests.append(ReadChunk(self.group, event.target, self.snapshot, 0))

    def on_chunk_stored(self, event: ChunkStored, effects: Effects) -> None:
        """A chunk of a leader's snapshot was taken; with the last one the machine becomes that state."""
        if not event.complete:
            self.raft.on_snapshot_stored(event.source, event.snapshot, event.next_offset)
            return
        meta = event.meta
        assert meta is not None, f"a complete snapshot {event.snapshot} without its head"
        if not self.raft.on_snapshot_installed(event.source, meta):
            self._keep_stored(meta, event.size_bytes)
            return
        restore(self.machine, event.chunks, meta)
        self._apply_queue.clear()
        self.applied = meta.index
        self.snapshot = meta
        self.snapshot_bytes = event.size_bytes
        self.commands_since_snapshot = self.bytes_since_snapshot = 0
        effects.news.append(SnapshotInstalled(self.group, meta.term, meta.index, event.size_bytes, event.source))

    def _keep_stored(self, meta: SnapshotMeta, size_bytes: int) -> None:
        """The log got to a leader's snapshot by itself meanwhile; on disk it has taken the place of ours all the same.

        Whoever needs a snapshot of this node must be sent the one that is there.
        """
        is_ours = self.raft.log.term_at(meta.index) == meta.term
        if is_ours and (self.snapshot is None or self.snapshot.index < meta.index <= self.applied):
            self.snapshot, self.snapshot_bytes = meta, size_bytes
            self.raft.on_snapshot_saved(meta, self._first_of_tail(meta.index))

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
        if output.committed:
            self._apply_queue.extend(output.committed)
        if self._apply_queue:
            self._apply(effects)
        if self.backups.is_waited_for:
            is_wanted = self.backups.look(self.applied, self.snapshot, effects.replies)
            if is_wanted and self._saving is None and not self._apply_queue:
                self._save_snapshot(effects)
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
        return bool(self._apply_queue) or (bool(self.intake.commands) and self._may_propose())

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
                self.commands_since_snapshot += entry.count
                if waiting is not None and waiting.term == entry.term:
                    answer(waiting.callers, results, effects.replies)
            self.bytes_since_snapshot += len(entry.frame)
            self.applied = entry.index
            if waiting is not None:
                self._let_go(waiting, entry, effects)
        if not queue and self._snapshot_due():
            self._save_snapshot(effects)

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

    def _snapshot_due(self) -> bool:
        """Has enough come since the last snapshot, and is it worth writing the whole state again?

        The second condition keeps the cost of snapshots below that of the log itself: none is taken before the log has
        grown to twice the last one's size, up to four times snapshot_log_bytes.
        """
        config = self.raft.config
        if self._saving is not None:
            return False
        if (
            self.commands_since_snapshot < config.snapshot_threshold
            and self.bytes_since_snapshot < config.snapshot_log_bytes
        ):
            return False
        return self.bytes_since_snapshot >= min(2 * self.snapshot_bytes, 4 * config.snapshot_log_bytes)

    def _save_snapshot(self, effects: Effects) -> None:
        self._saving = self.raft.snapshot_meta()
        assert self._saving.index == self.applied, f"a snapshot at {self._saving.id} of a state at {self.applied}"
        self.commands_since_snapshot = self.bytes_since_snapshot = 0
        if isinstance(self.machine, DurableMachine):
            self.machine.sync(self._saving.id)  # before the log that it came from may go
        effects.requests.append(SaveSnapshot(self.group, self._saving, self.machine.freeze()))

    def _stream_snapshots(self, output: Output, effects: Effects) -> None:
        """Snapshots travel in chunks: to followers too far behind, and from a leader."""
        for target in output.snapshots:
            assert self.snapshot is not None, f"{target} needs a snapshot, there is none"
            effects.requests.append(ReadChunk(self.group, target, self.snapshot, 0))
        for source, reply in output.sent_chunks:
            if self.snapshot is None:
                continue
            offset = reply.next_offset if reply.snapshot == self.snapshot.id else 0
            effects.requests.append(ReadChunk(self.group, source, self.snapshot, offset))
        for source, chunk in output.chunks:
            effects.requests.append(
                StoreChunk(self.group, source, chunk.meta, chunk.offset, chunk.total_bytes, chunk.data)
            )

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
        self._waiting = {}
        self.intake.taken = 0

    def _not_leader(self, caller: Caller) -> tuple[int, bytes]:
        leader = self.raft.leader if self.raft.leader != self.node else None
        address = self.addresses.get(leader) if leader is not None else None
        return caller[0], wire.encode_reply(caller[1], wire.NOT_LEADER, _encode((leader, address)))
