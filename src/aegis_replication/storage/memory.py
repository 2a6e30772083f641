"""What if a node needs no disk? The same contract in memory: for tests, and for a database that is only embedded."""

import errno
import os
from collections.abc import Sequence
from typing import Final

from aegis_replication.errors import DiskFailed
from aegis_replication.ids import GroupId
from aegis_replication.log import Entry, HardState, LogWrite, RecoveredGroup
from aegis_replication.storage.base import Identity, StorageStats
from aegis_replication.storage.files import Mode
from aegis_replication.storage.flush_policy import FlushPolicy
from aegis_replication.storage.live import LiveRecords
from aegis_replication.storage.snapshots import FileSnapshots

_SNAPSHOTS: Final = "snapshots"


class MemoryStorage:
    """A node's storage that lives as long as this object; closed and recovered again it is a node's restart."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.flushes = FlushPolicy(can_change=False)
        files = MemoryFiles()
        files.make_directory(_SNAPSHOTS)
        # Kept as files, so that a node on a disk and one in memory can send each other the same bytes.
        self.snapshots = FileSnapshots(files, _SNAPSHOTS, cluster=identity.cluster)
        # The same account that a log on disk keeps, with places that mean nothing.
        self._live = LiveRecords()
        self._entries: dict[GroupId, list[Entry]] = {}
        self._failed: str | None = None

    notes: tuple[str, ...] = ()

    def recover(self) -> dict[GroupId, RecoveredGroup]:
        """What was written so far."""
        newest = self.snapshots.find()
        self.snapshots.tidy()
        for group, meta in sorted(newest.items()):  # named, and then the node went down
            records = self._live.of(group)
            if records.snapshot is None or records.snapshot.index < meta.index:
                behind = records.hard_state is None or records.hard_state.term < meta.term
                self._keep(LogWrite(group, 0, HardState(meta.term) if behind else None, snapshot=meta))
        found = {}
        for group, records in sorted(self._live.groups.items()):
            state = records.hard_state or HardState()
            found[group] = RecoveredGroup(state, records.base, list(self._entries[group]), newest.get(group))
        return found

    def write(self, writes: Sequence[LogWrite], *, durable: bool) -> None:
        """Keep all of them."""
        self._check_alive()
        for write in writes:
            self._keep(write)

    def _keep(self, write: LogWrite) -> None:
        live, group = self._live, write.group
        records, held = live.of(group), self._entries.setdefault(group, [])
        base = records.base_after(write)
        if base is not None:
            live.place_base(records, base, 0, 0)
            del held[: len(held) - len(records.places)]
        if write.hard_state is not None:
            live.place_hard_state(records, write.hard_state, 0, 0)
        for entry in write.entries:
            live.place_entry(records, entry, 0, len(entry.frame))
            del held[len(records.places) - 1 :]
            held.append(entry)

    @property
    def room_bytes(self) -> int | None:
        """Memory has no limit that is known."""
        return None

    def flush(self) -> None:
        """Nothing to do."""
        self._check_alive()

    def unflushed(self) -> tuple[Sequence[int], int]:
        """Nothing waits for a flush."""
        self._check_alive()
        return (), 0

    def flushed(self, position: int) -> None:
        """Nothing to do."""

    def fail(self, why: str) -> DiskFailed:
        """Refuse everything from now on."""
        self._failed = self._failed or why
        return DiskFailed(self._failed)

    def _check_alive(self) -> None:
        if self._failed is not None:
            raise DiskFailed(self._failed)

    def mark(self) -> None:
        """Nothing to do."""
        self._check_alive()

    def maintain(self) -> bool:
        """Nothing to do."""
        self._check_alive()
        return False

    def stats(self) -> StorageStats:
        """For status."""
        size = self._live.total_bytes + self.snapshots.total_bytes
        return StorageStats(self.flushes.count, 0.0, 0.0, "memory", size, size, 0, "memory")

    def close(self) -> None:
        """What was kept stays until this object goes."""
        self.snapshots.close()


class MemoryFiles:
    """Files in memory, as `storage.files.Files` asks for; durable from the first moment."""

    def __init__(self) -> None:
        self._directories = {""}
        self._files: dict[str, bytearray] = {}
        self._handles: dict[int, bytearray] = {}
        self._next_handle = 1

    def make_directory(self, path: str) -> None:
        self._directories.add(path)

    def list(self, path: str) -> list[str]:
        if path not in self._directories:
            raise _no_such(path)
        return sorted(name.removeprefix(f"{path}/") for name in self._files if name.rpartition("/")[0] == path)

    def open(self, path: str, mode: Mode, *, dsync: bool = False) -> int:
        if mode == "create":
            if path in self._files:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            self._files[path] = bytearray()
        if path not in self._files:
            raise _no_such(path)
        handle = self._next_handle
        self._next_handle += 1
        self._handles[handle] = self._files[path]
        return handle

    def close(self, handle: int) -> None:
        del self._handles[handle]

    def size(self, handle: int) -> int:
        return len(self._handles[handle])

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        return bytes(self._handles[handle][offset : offset + size])

    def forget_cached(self, handle: int) -> None: ...

    def pwritev(self, handle: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        content, data = self._handles[handle], b"".join(buffers)
        if offset > len(content):
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data

    def allocate(self, handle: int, size: int) -> None:
        content = self._handles[handle]
        content.extend(bytes(max(0, size - len(content))))

    def sync(self, handle: int) -> None: ...

    def rename(self, source: str, target: str) -> None:
        if source not in self._files:
            raise _no_such(source)
        self._files[target] = self._files.pop(source)

    def unlink(self, path: str) -> None:
        if self._files.pop(path, None) is None:
            raise _no_such(path)

    def sync_directory(self, path: str) -> None: ...

    def lock(self, path: str, owner: bytes | None) -> int:
        if owner is not None:
            self._files.setdefault(path, bytearray(owner))
        return self.open(path, "write")

    def space(self, path: str) -> tuple[int, int]:
        return 0, 0

    def filesystem(self, path: str) -> str:
        return "memory"


def _no_such(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
