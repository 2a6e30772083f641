"""How is a snapshot given out to those who back it up? By the chunk, from a file that stays until they are done."""

import asyncio
from typing import Final

import msgspec

from aegis_replication import wire
from aegis_replication.errors import DiskFailed, ProtocolError
from aegis_replication.ids import GroupId
from aegis_replication.log import EntryId
from aegis_replication.node.clock import now_seconds
from aegis_replication.storage.base import SnapshotHold, Storage

CHUNK_BYTES: Final = 256 * 1024
HOLDS_MAX: Final = 4  # snapshots kept for backups: each is disk space that a newer one doesn't give free
IDLE_SECONDS: Final = 60.0  # without a question, until a hold is given up

_encode = msgspec.msgpack.Encoder().encode


class _Held:
    __slots__ = ("file", "used")

    def __init__(self, file: SnapshotHold, used: float) -> None:
        self.file, self.used = file, used


class BackupWork:
    """Answers requests for a snapshot's bytes. Whoever asks sets the pace: one chunk for each question."""

    def __init__(self, storage: Storage, loop: asyncio.AbstractEventLoop) -> None:
        self._storage, self._loop = storage, loop
        self._whose = (storage.identity.cluster, storage.identity.node)
        self._held: dict[tuple[GroupId, EntryId], _Held] = {}  # the one used last is the last
        self._timer: asyncio.TimerHandle | None = None

    def answer(self, group: GroupId, request: int, body: bytes) -> bytes:
        """The reply: [bytes of the file, those from the offset on, cluster, node]; none if this node lacks it."""
        try:
            snapshot, offset = wire.decode_backup_read(body)
            file = self._hold(group, snapshot)
            found = (0, b"") if file is None else (file.size, file.read(offset, CHUNK_BYTES))
        except ProtocolError as error:
            return wire.encode_reply(request, wire.INVALID, _encode(str(error)))
        except (DiskFailed, OSError) as error:
            return wire.encode_reply(request, wire.DROPPED, _encode(str(error)))
        return wire.encode_reply(request, wire.OK, _encode((*found, *self._whose)))

    def _hold(self, group: GroupId, snapshot: EntryId) -> SnapshotHold | None:
        held = self._held.pop((group, snapshot), None)
        if held is None:
            file = self._storage.snapshots.hold(group, snapshot)
            if file is None:
                return None
            held = _Held(file, 0.0)
            if len(self._held) >= HOLDS_MAX:
                self._drop(next(iter(self._held)))
        held.used = now_seconds()
        self._held[group, snapshot] = held
        if self._timer is None:
            self._timer = self._loop.call_later(IDLE_SECONDS, self._drop_idle)
        return held.file

    def _drop_idle(self) -> None:
        self._timer = None
        idle = now_seconds() - IDLE_SECONDS
        for key in [key for key, held in self._held.items() if held.used <= idle]:
            self._drop(key)
        if self._held:
            self._timer = self._loop.call_later(IDLE_SECONDS / 2, self._drop_idle)

    def _drop(self, key: tuple[GroupId, EntryId]) -> None:
        self._held.pop(key).file.close()

    def stop(self) -> None:
        """Give all of them free."""
        if self._timer is not None:
            self._timer.cancel()
        for key in list(self._held):
            self._drop(key)
