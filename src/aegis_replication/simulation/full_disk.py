"""What does a simulated node do while its disk is full? As a real one: what found no room waits, in its order."""

from collections.abc import Sequence

from aegis_replication.engine.events import RoomChanged
from aegis_replication.errors import DiskFull
from aegis_replication.log import LogWrite
from aegis_replication.storage.base import Storage


class FullDisk:
    """Writes that found no room, and what the engine was told of it last."""

    __slots__ = ("_room_bytes", "stuck")

    def __init__(self) -> None:
        self._room_bytes: int | None = None
        # In order; the first of them was begun.
        self.stuck: list[Sequence[LogWrite]] = []

    def write(self, storage: Storage, writes: Sequence[LogWrite], *, durable: bool) -> bool:
        """Write; False when it has to wait for room."""
        try:
            if not self.stuck:
                storage.write(writes, durable=durable)
                return True
        except DiskFull:
            pass
        self.stuck.append(writes)
        return False

    def _retry(self, storage: Storage, *, durable: bool) -> list[Sequence[LogWrite]]:
        """What of it is written now."""
        written = []
        try:
            while self.stuck:
                storage.write(self.stuck[0], durable=durable)
                written.append(self.stuck.pop(0))
        except DiskFull:
            pass
        return written

    def look(self, storage: Storage, *, durable: bool) -> tuple[list[Sequence[LogWrite]], RoomChanged | None]:
        """Housekeeping; what of it is written now, and what the engine has to be told."""
        storage.maintain()
        return self._retry(storage, durable=durable), self._news(storage)

    def _news(self, storage: Storage) -> RoomChanged | None:
        """What the engine has to be told."""
        room_bytes = storage.room_bytes
        if room_bytes == self._room_bytes:
            return None
        self._room_bytes = room_bytes
        return RoomChanged(room_bytes, "" if room_bytes is None else storage.stats().full)

    def mark(self, storage: Storage) -> None:
        """Mark the log's end, if there is room for it and nothing waits."""
        try:
            if not self.stuck:
                storage.mark()
        except DiskFull:
            pass
