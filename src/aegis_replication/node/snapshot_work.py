"""How do snapshots come and go beside the work? One's own piece by piece, a peer's chunk by chunk."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, ClassVar

from aegis_replication.engine.effects import ReadChunk, SaveSnapshot, StoreChunk
from aegis_replication.engine.events import ChunkRead, ChunkStored, Event, SnapshotFailed, SnapshotSaved
from aegis_replication.errors import DiskFull
from aegis_replication.ids import NodeId
from aegis_replication.node.clock import now_seconds
from aegis_replication.node.news import News
from aegis_replication.storage.base import SnapshotWriter, Storage

log = logging.getLogger("aegis.node")

CHUNK_BYTES = 256 * 1024
"""Of a snapshot, in one message to a follower."""

_UNFLUSHED_BYTES = 1024 * 1024  # of a snapshot, before it is flushed: a long flush would hold up those of the log


class SnapshotWork:
    """Carries out what the engine asks of snapshots, and hands it the answers."""

    def __init__(
        self,
        node: NodeId,
        storage: Storage,
        loop: asyncio.AbstractEventLoop,
        *,
        answer: Callable[[Event], None],
        news: News,
    ) -> None:
        self._node, self._storage, self._loop, self._answer, self._news = node, storage, loop, answer, news
        self._saving: set[asyncio.Task[None]] = set()

    def carry_out(self, request: SaveSnapshot | ReadChunk | StoreChunk) -> None:
        """Begin it; the answer comes now or later. Raises DiskFailed."""
        self._by_type[type(request)](self, request)

    def _save(self, request: SaveSnapshot) -> None:
        task = self._loop.create_task(self._write(request))
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)

    async def _write(self, request: SaveSnapshot) -> None:
        """Piece by piece between turns, flushed a little at a time, off the loop."""
        writer: SnapshotWriter | None = None
        unflushed, began = 0, now_seconds()
        try:
            writer = self._storage.snapshots.create(request.group, request.meta)
            for piece in request.chunks:
                writer.write(piece)
                unflushed += len(piece)
                if unflushed < _UNFLUSHED_BYTES:
                    await asyncio.sleep(0)
                else:
                    unflushed = 0
                    await self._loop.run_in_executor(None, writer.flush)
            size_bytes = await self._loop.run_in_executor(None, writer.finish)
        except asyncio.CancelledError:
            if writer is not None:
                writer.abort()
            raise
        except Exception as error:  # a full disk must not take the node down: the log is still whole
            log.error("group=%d node=%s: no snapshot at %s: %s", request.group, self._node, request.meta.id, error)
            self._news.snapshot_failures += 1
            if writer is not None:
                writer.abort()
            self._answer(SnapshotFailed(request.group))
        else:
            self._news.snapshot_durations.observe(now_seconds() - began)
            self._news.snapshot("saved a snapshot", request.group, request.meta, size_bytes)
            self._answer(SnapshotSaved(request.group, request.meta, size_bytes))

    def _read(self, request: ReadChunk) -> None:
        data, total = self._storage.snapshots.read(request.group, request.meta.id, request.offset, CHUNK_BYTES)
        self._answer(ChunkRead(request.group, request.target, request.meta, request.offset, total, data))

    def _store(self, request: StoreChunk) -> None:
        snapshots = self._storage.snapshots
        try:
            wanted = snapshots.receive(request.group, request.meta, request.offset, request.total_bytes, request.data)
        except DiskFull as error:  # no answer: after a while the leader begins anew
            log.error(
                "group=%d node=%s: no room for snapshot %s: %s", request.group, self._node, request.meta.id, error
            )
            return
        complete = wanted == request.total_bytes
        if complete:
            self._news.snapshot(
                f"has the whole snapshot of {request.source}", request.group, request.meta, request.total_bytes
            )
        self._answer(
            ChunkStored(
                request.group,
                request.source,
                request.meta.id,
                wanted,
                complete=complete,
                meta=request.meta,
                chunks=snapshots.chunks(request.group, request.meta.id) if complete else (),
                size_bytes=request.total_bytes,
            )
        )

    _by_type: ClassVar[dict[type, Callable[["SnapshotWork", Any], None]]] = {
        SaveSnapshot: _save,
        ReadChunk: _read,
        StoreChunk: _store,
    }

    async def stop(self) -> None:
        """Give up what is being written."""
        for task in self._saving:
            task.cancel()
        await asyncio.gather(*self._saving, return_exceptions=True)
