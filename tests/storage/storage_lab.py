"""A node's storage on a simulated disk, and short makers of what is written to it: what the storage tests share."""

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from aegis_replication.ids import GroupId, LogIndex, NodeId, Term
from aegis_replication.log import Entry, HardState, Kind, LogWrite, RecoveredGroup, SnapshotMeta, make_entry
from aegis_replication.simulation.disk import ROOT, Losing, SimulatedDisk
from aegis_replication.storage.base import Identity
from aegis_replication.storage.directory import DirectoryStorage
from aegis_replication.storage.files import Files
from aegis_replication.storage.memory import MemoryFiles


class Lab:
    """One node's data directory on a simulated disk; the node may be stopped, killed, or lose power."""

    path = f"{ROOT}/data"
    log = f"{ROOT}/data/log"
    identity = Identity("lab", "n1", 0x0123_4567_89AB_CDEF)

    def __init__(
        self,
        seed: int = 0,
        *,
        segment_bytes: int = 64 * 1024,
        wrap: Callable[[Files], Files] = lambda files: files,
        memory: MemoryFiles | None = None,
    ) -> None:
        self.disk = SimulatedDisk(Random(seed), Counter())
        if memory is not None:
            memory.make_directory(ROOT)
        self.files: Files = wrap(self.disk if memory is None else memory)
        self.segment_bytes = segment_bytes
        self.storage: DirectoryStorage

    def open(self) -> DirectoryStorage:
        """Lock the directory, making it at first."""
        self.storage = DirectoryStorage.open(
            self.path, self.identity, files=self.files, segment_bytes=self.segment_bytes
        )
        return self.storage

    def start(self) -> dict[GroupId, RecoveredGroup]:
        """Open and recover."""
        return self.open().recover()

    def restart(self) -> dict[GroupId, RecoveredGroup]:
        """A clean stop, and a start."""
        self.storage.close()
        return self.start()

    def lose_power(self, losing: Losing = "unsynced") -> None:
        """Everything that isn't durable goes."""
        self.disk.cut_power(losing)

    def write(self, *writes: LogWrite, durable: bool = True) -> None:
        """One flush."""
        self.storage.write(writes, durable=durable)

    def maintain(self) -> None:
        """Housekeeping until there is nothing left to do."""
        for _ in range(10_000):
            if not self.storage.maintain():
                return
        raise AssertionError("housekeeping doesn't come to an end")

    # --- bytes on the disk ---

    def segment_path(self, segment: int) -> str:
        return f"{self.log}/{segment:010}.wal"

    def read(self, path: str) -> bytes:
        handle = self.files.open(path, "read")
        data = self.files.pread(handle, self.files.size(handle), 0)
        self.files.close(handle)
        return data

    def overwrite(self, path: str, offset: int, data: bytes) -> None:
        """Change bytes behind the node's back, durably."""
        handle = self.files.open(path, "write", dsync=True)
        self.files.pwritev(handle, (data,), offset)
        self.files.close(handle)

    # --- makers ---

    @staticmethod
    def entry(
        index: LogIndex, term: Term = 1, group: GroupId = 1, *, size: int = 100, kind: int = Kind.COMMANDS
    ) -> Entry:
        payload = (f"{group}:{term}:{index};".encode() * (size // 4 + 1))[:size]
        return make_entry(group, term, index, kind, payload, count=1, stamp=index << 16)

    @classmethod
    def entries(
        cls, first: LogIndex, after: LogIndex, term: Term = 1, group: GroupId = 1, *, size: int = 100
    ) -> tuple[Entry, ...]:
        return tuple(cls.entry(index, term, group, size=size) for index in range(first, after))

    @classmethod
    def append(
        cls, first: LogIndex, after: LogIndex, term: Term = 1, group: GroupId = 1, *, size: int = 100
    ) -> LogWrite:
        """A write of entries [first, after) only."""
        return LogWrite(group, first, entries=cls.entries(first, after, term, group, size=size))

    @staticmethod
    def vote(term: Term, voted_for: NodeId | None = None, group: GroupId = 1) -> LogWrite:
        """A write of a hard state only."""
        return LogWrite(group, term, hard_state=HardState(term, voted_for))

    @staticmethod
    def meta(index: LogIndex, term: Term = 1) -> SnapshotMeta:
        return SnapshotMeta(term, index, index << 16, b"configuration", 1)

    def save(
        self, index: LogIndex, term: Term = 1, group: GroupId = 1, *, pieces: Sequence[bytes] = (b"state",)
    ) -> SnapshotMeta:
        """A finished snapshot."""
        meta = self.meta(index, term)
        writer = self.storage.snapshots.create(group, meta)
        for piece in pieces:
            writer.write(piece)
        writer.finish()
        return meta


def copy_of(files: MemoryFiles) -> MemoryFiles:
    """The same files, to be changed apart."""
    copy = MemoryFiles()
    copy._directories = set(files._directories)
    copy._files = {path: bytearray(content) for path, content in files._files.items()}
    return copy


def forgotten(lab: Lab, index: LogIndex, group: GroupId = 1, *, term: Term = 1) -> LogWrite:
    """A write that gives up the group's log up to `index`, after a snapshot there."""
    return LogWrite(group, index, snapshot=lab.save(index, term, group))
