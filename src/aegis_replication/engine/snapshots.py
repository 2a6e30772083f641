"""What does a replica know of its own snapshots? The newest one, the next one's time, and what has come since."""

from aegis_replication.consensus.node import Raft
from aegis_replication.engine.effects import Effects, SaveSnapshot
from aegis_replication.engine.events import SnapshotSaved
from aegis_replication.engine.snapshot_policy import first_to_keep, is_due
from aegis_replication.ids import GroupId, LogIndex
from aegis_replication.log import Entry, RecoveredGroup, SnapshotMeta
from aegis_replication.state_machine.base import DurableMachine, Machine


class Snapshots:
    """The snapshots of one group on this node. Which one is newest on disk is told by the host, never assumed."""

    __slots__ = ("_group", "_raft", "_saving", "applied_bytes", "applied_commands", "newest", "size_bytes")

    def __init__(self, group: GroupId, raft: Raft, recovered: RecoveredGroup) -> None:
        self._group, self._raft = group, raft
        # Complete and named on disk: what a follower that is too far behind is sent.
        self.newest: SnapshotMeta | None = recovered.snapshot
        self._saving: SnapshotMeta | None = None
        self.size_bytes = 0  # of the newest, as far as it is known
        # Applied since the last one was begun.
        self.applied_commands = sum(entry.count for entry in recovered.entries)
        self.applied_bytes = sum(len(entry.frame) for entry in recovered.entries)

    @property
    def is_saving(self) -> bool:
        """Is one being written?"""
        return self._saving is not None

    def on_applied(self, entry: Entry) -> None:
        """One more entry that the next snapshot makes needless."""
        self.applied_bytes += len(entry.frame)
        self.applied_commands += entry.count

    def is_due(self, *, is_sending: bool) -> bool:
        """Is it time for the next one?"""
        return self._saving is None and is_due(
            self._raft.config,
            commands=self.applied_commands,
            size_bytes=self.applied_bytes,
            snapshot_bytes=self.size_bytes,
            is_sending=is_sending,
        )

    def save(self, machine: Machine, applied: LogIndex, effects: Effects) -> None:
        """Have the state written as it is now."""
        self._saving = self._raft.snapshot_meta()
        assert self._saving.index == applied, f"a snapshot at {self._saving.id} of a state at {applied}"
        self.applied_commands = self.applied_bytes = 0
        if isinstance(machine, DurableMachine):
            machine.sync(self._saving.id)  # before the log that it came from may go
        effects.requests.append(SaveSnapshot(self._group, self._saving, machine.freeze()))

    def on_saved(self, event: SnapshotSaved) -> bool:
        """It is on disk: the log before it may go, except for a tail for followers a little behind.

        False when a leader's snapshot overtook ours.
        """
        assert self._saving == event.meta, f"snapshot {event.meta.id} saved, {self._saving} was asked for"
        self._saving = None
        if self.newest is not None and self.newest.index >= event.meta.index:
            return False
        self._adopt(event.meta, event.size_bytes)
        return True

    def on_failed(self) -> None:
        """Try again when as much has been applied once more."""
        self._saving = None
        self.applied_commands = self.applied_bytes = 0

    def on_installed(self, meta: SnapshotMeta, size_bytes: int) -> None:
        """A leader's snapshot has taken the place of state and log."""
        self.newest, self.size_bytes = meta, size_bytes
        self.applied_commands = self.applied_bytes = 0

    def on_stored(self, meta: SnapshotMeta, size_bytes: int, applied: LogIndex) -> None:
        """The log got to a leader's snapshot by itself meanwhile; on disk it has taken the place of ours all the same.

        Whoever needs a snapshot of this node must be sent the one that is there.
        """
        is_ours = self._raft.log.term_at(meta.index) == meta.term
        if is_ours and (self.newest is None or self.newest.index < meta.index <= applied):
            self._adopt(meta, size_bytes)

    def _adopt(self, meta: SnapshotMeta, size_bytes: int) -> None:
        self.newest, self.size_bytes = meta, size_bytes
        self._raft.on_snapshot_saved(meta, first_to_keep(self._raft, meta.index))
