"""How does a simulated node save a snapshot? A piece at a time, with turns between; and chunks come and go.

The state goes on changing meanwhile.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

from aegis_replication.engine.effects import ReadChunk, SaveSnapshot, StoreChunk
from aegis_replication.engine.events import SnapshotFailed, SnapshotSaved
from aegis_replication.errors import StorageError
from aegis_replication.simulation.snapshot_chunks import read_chunk, store_chunk

PAUSE_MS: Final = 5.0
"""At the most, between two pieces."""


class SnapshotSaving:
    """What a host does for the engine's requests to save a snapshot, and to read or store a chunk of one.

    `guard` carries work out as the process does it: a power cut or a failed disk in it ends the process.
    """

    __slots__ = ("_carry_out", "_guard", "_host", "_is_busy", "_random")

    def __init__(
        self,
        host: Any,
        random: Random,
        *,
        guard: Callable[..., None],
        is_busy: Callable[[], bool],
        carry_out: Callable[[], None],
    ) -> None:
        self._host, self._random = host, random
        self._guard, self._is_busy, self._carry_out = guard, is_busy, carry_out

    def carry_out(self, request: SaveSnapshot | ReadChunk | StoreChunk) -> None:
        """Begin to save; or read or store a chunk at once."""
        host = self._host
        if isinstance(request, SaveSnapshot):
            self._begin(request)
        elif isinstance(request, ReadChunk):
            host.engine.handle(read_chunk(host.storage.snapshots, request))
        else:
            stored = store_chunk(host.storage.snapshots, request)
            if stored is None:
                return
            if stored.complete:
                host.trace.note(host.node, "has received snapshot", request.meta.id)
                host.watcher.on_snapshot(host, request.group, request.meta)
            host.engine.handle(stored)

    def _begin(self, request: SaveSnapshot) -> None:
        """Open its file, and go on a little later."""
        try:
            writer = self._host.storage.snapshots.create(request.group, request.meta)
        except StorageError as error:
            self._fail(request, error)
        else:
            self._later(self._host.life, request, writer, request.chunks)

    def _later(self, *arguments: Any) -> None:
        self._host.clock.after(self._random.random() * PAUSE_MS, self._write_piece, *arguments)

    def _fail(self, request: SaveSnapshot, error: Exception) -> None:
        self._host.trace.note(self._host.node, "has no snapshot:", str(error))
        self._host.engine.handle(SnapshotFailed(request.group))

    def _write_piece(self, life: int, request: SaveSnapshot, writer: Any, pieces: Iterator[bytes]) -> None:
        host = self._host
        if life != host.life:
            return
        if self._is_busy():
            host.clock.after(1.0, self._write_piece, life, request, writer, pieces)
            return
        self._guard(self._continue, request, writer, pieces)

    def _continue(self, request: SaveSnapshot, writer: Any, pieces: Iterator[bytes]) -> None:
        host = self._host
        try:
            piece = next(pieces, None)
            if piece is not None:
                writer.write(piece)
                self._later(host.life, request, writer, pieces)
                return
            size_bytes = writer.finish()
        except StorageError as error:
            writer.abort()
            self._fail(request, error)
        else:
            host.trace.note(host.node, "has saved snapshot", request.meta.id)
            host.watcher.on_snapshot(host, request.group, request.meta)
            host.engine.handle(SnapshotSaved(request.group, request.meta, size_bytes))
        host.disk.spent_ms = 0.0
        self._carry_out()
