"""What becomes of writes for which a full disk has no room? They wait, in their order, until there is some."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from aegis_replication.errors import DiskFull
from aegis_replication.log import LogWrite
from aegis_replication.storage.base import Storage


class Backlog:
    """Between a host and its storage: the same for a real node and a simulated one.

    `write(writes)` hands them to the storage, however the host does that, and says whether all is done with that.
    """

    __slots__ = ("_storage", "_told_bytes", "_waiting", "_write")

    def __init__(self, storage: Storage, write: Callable[[Sequence[LogWrite]], bool]) -> None:
        self._storage, self._write = storage, write
        # In order; the first of them was begun.
        self._waiting: deque[Sequence[LogWrite]] = deque()
        self._told_bytes: int | None = None  # the room there was when `news` was asked last

    def __bool__(self) -> bool:
        """Does anything wait?"""
        return bool(self._waiting)

    @property
    def is_full(self) -> bool:
        """Was the disk full when `news` was asked last?"""
        return self._told_bytes is not None

    def write(self, writes: Sequence[LogWrite]) -> bool:
        """What `write` says of them; False when they wait, for room or behind those that do."""
        if not self._waiting:
            try:
                return self._write(writes)
            except DiskFull:
                pass
        self._waiting.append(writes)
        return False

    def retry(self) -> Iterator[tuple[Sequence[LogWrite], bool]]:
        """What finds room now, one after the other, and what `write` says of it."""
        while self._waiting:
            try:
                is_done = self._write(self._waiting[0])
            except DiskFull:
                return
            yield self._waiting.popleft(), is_done

    def mark(self) -> bool:
        """Mark the log's end; False when something waits, or there is no room for it."""
        if self._waiting:
            return False
        try:
            self._storage.mark()
        except DiskFull:
            return False
        return True

    def news(self) -> tuple[int | None, str] | None:
        """How many bytes of entries find room (None: the disk isn't full), and why no more; None: as it was before."""
        room_bytes = self._storage.room_bytes
        if room_bytes == self._told_bytes:
            return None
        self._told_bytes = room_bytes
        return room_bytes, self._storage.stats().full
