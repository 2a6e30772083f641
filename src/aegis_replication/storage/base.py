"""What does a node need of its disk? The contract that directories, memory and the simulated disk all keep."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from aegis_replication.errors import DiskFailed
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.log import EntryId, LogWrite, RecoveredGroup, SnapshotMeta
from aegis_replication.storage.flush_policy import FlushPolicy

FORMAT_VERSION = 2
"""Of a data directory, the newest that this program knows. Those of every version up to this one open; later ones are
refused. A directory has the lowest that can say what it holds, so that an earlier program can still be started on it.
"""
FORMAT_FIRST = 1  # all that a directory holds, but for ...
FORMAT_RENEWED = 2  # ... an incarnation that isn't the one that its log is marked with


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Whose directory this is; written before anything else, changed by nothing but a recovery from a lost majority."""

    cluster: str
    node: NodeId
    incarnation: int  # 64 random bits: a directory that was lost and made anew has another one
    format_version: int = FORMAT_FIRST
    joins: bool = False  # made to join a cluster: its node never begins one, even while it knows of none
    first_incarnation: int = 0  # from format 2 on: what its log is marked with, if that is another one; 0: the same

    @property
    def log_incarnation(self) -> int:
        """What segments and records carry, so that none of another directory is taken for one of these."""
        return self.first_incarnation or self.incarnation

    def renewed(self, incarnation: int) -> "Identity":
        """The same directory as one that its former peers don't know, and that begins no cluster anew.

        A program that doesn't know of it would take the whole log for another directory's, so it is to refuse this one.
        """
        return msgspec.structs.replace(
            self,
            incarnation=incarnation,
            format_version=max(self.format_version, FORMAT_RENEWED),
            joins=False,
            first_incarnation=self.log_incarnation,
        )


class StorageStats(msgspec.Struct, frozen=True):
    """What a status shows of the disk."""

    flushes: int
    flush_p50_ms: float
    flush_p99_ms: float
    flush_mode: str  # "inline", "aside" (helper process) or "memory"
    live_bytes: int  # log records still needed, and snapshots
    allocated_bytes: int  # what the directory takes on disk
    segments: int
    filesystem: str
    full: str = ""  # why there is no room for more: writes are refused meanwhile, reads go on
    reserve_bytes: int = 0  # set aside, so that votes and what makes room always find some
    free_bytes: int = 0  # on the file system, for this process; with its size 0 when that can't be told
    size_bytes: int = 0


class SnapshotWriter(Protocol):
    """A snapshot being written under a temporary name."""

    def write(self, chunk: bytes) -> None:
        """Append one piece of the machine's state (a restore gets the same pieces back)."""

    def flush(self) -> None:
        """Flush what was written so far, so that `finish` has little left; may be called in another thread."""

    def finish(self) -> int:
        """Flush, name and make durable; the size in bytes. Older snapshots of the group are deleted afterwards."""

    def abort(self) -> None:
        """Forget what was written."""


class SnapshotHold(Protocol):
    """A snapshot that stays readable while somebody carries it away, also when a newer one has taken its place."""

    @property
    def size(self) -> int:
        """Of the file, in bytes."""

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` raw bytes of the file at `offset`. Raises DiskFailed."""

    def close(self) -> None:
        """It may go."""


class SnapshotStore(Protocol):
    """Snapshots of all groups, the newest of each kept."""

    def create(self, group: GroupId, meta: SnapshotMeta) -> SnapshotWriter:
        """Begin a snapshot of one's own state."""

    def newest(self, group: GroupId) -> SnapshotMeta | None:
        """Which snapshot of the group is on disk, complete and named; verified by its head, not read whole."""

    def chunks(self, group: GroupId, snapshot: EntryId) -> Iterable[bytes]:
        """The machine's pieces of a snapshot, in order, verified as they are read (CorruptRecord when damaged)."""

    def read(self, group: GroupId, snapshot: EntryId, offset: int, size: int) -> tuple[bytes, int]:
        """Up to `size` raw bytes of the snapshot's file at `offset`, and the file's total size;
        (b"", 0) when it is gone.
        """

    def hold(self, group: GroupId, snapshot: EntryId) -> SnapshotHold | None:
        """Keep a snapshot's file readable until the hold is closed; None when it is gone already."""

    def receive(self, group: GroupId, meta: SnapshotMeta, offset: int, total_bytes: int, data: bytes) -> int:
        """Take raw bytes of a peer's file, verified as they come, into a temporary one; the offset wanted next.

        A gap, a repetition or damaged bytes change nothing that was good before: the offset says where to go on, 0 for
        a snapshot that isn't the one that was coming. `total_bytes`: all is there and good, `keep_received` comes next.
        Raises WrongIdentity for a snapshot of another cluster or group; DiskFull when there is no room for it. After an
        error, here or in a flush, nothing of it is left.
        """

    def can_resume(self, group: GroupId, meta: SnapshotMeta) -> bool:
        """Is there a part of this snapshot that a former process of this node was sent, and nobody asked for yet?"""

    def resume(self, group: GroupId, meta: SnapshotMeta, total_bytes: int) -> int:
        """Go on with what `can_resume`, as far as it is good, and say how far; all of it is read.

        May be called in another thread, while nothing is received for the group.
        """

    def unflushed_received(self, group: GroupId) -> int:
        """How many bytes of what comes in wait for a flush."""

    def flush_received(self, group: GroupId) -> None:
        """Flush what has come in; may be called in another thread, while nothing more is received for the group."""

    def keep_received(self, group: GroupId) -> None:
        """Flush and name what came in whole; may be called in another thread. Older ones are deleted afterwards."""


class Storage(Protocol):
    """One node's disk. Not thread-safe: one owner."""

    @property
    def identity(self) -> Identity:
        """Whose disk this is."""

    @property
    def snapshots(self) -> SnapshotStore:
        """The snapshots beside the log."""

    @property
    def room_bytes(self) -> int | None:
        """The disk is full, and so many bytes of entries may still be written; None: it isn't full.

        Term and vote, and what makes room, find some in the reserve; `maintain` sees whether there is more again.
        """

    @property
    def flushes(self) -> FlushPolicy:
        """Told of each flush by whoever has a clock."""

    def recover(self) -> dict[GroupId, RecoveredGroup]:
        """What the directory holds, once, before the first write. Raises CorruptRecord when part of it is damaged."""

    @property
    def notes(self) -> Sequence[str]:
        """What `recover` has put right, for people."""

    def write(self, writes: Sequence[LogWrite], *, durable: bool) -> None:
        """Write all of them; with `durable` they, and all before them, are on disk when it returns (one flush for all).

        Raises DiskFailed, after which nothing more may be written or acknowledged; or DiskFull: nothing is lost then,
        and nothing else may be written before the same call was made again, and ended well.
        """

    def flush(self) -> None:
        """Everything written so far is on disk when it returns. Raises DiskFailed likewise."""

    def unflushed(self) -> tuple[Sequence[int], int]:
        """File descriptors whose flush, by whomever, makes durable all written so far, and what to tell `flushed` then.

        None: all is on disk already.
        """

    def flushed(self, position: int) -> None:
        """The flush asked for with `position` has ended well."""

    def fail(self, why: str) -> DiskFailed:
        """A flush done elsewhere failed: nothing may be written or acknowledged any more. The error to raise."""

    def mark(self) -> None:
        """Write and flush one mark record, so that the last batch is covered by a later record (call when quiet).

        Nothing happens when the last record is a mark already.
        """

    def maintain(self) -> bool:
        """One bounded step of housekeeping (prepare the next segment, carry live records forward, recycle);
        more to do?
        """

    def stats(self) -> StorageStats:
        """For status."""

    def close(self) -> None:
        """Give the directory free."""
