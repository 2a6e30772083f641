"""How do snapshots come and go beside the work? One's own piece by piece, a peer's chunk by chunk."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar, Final

from aegis_replication.engine.effects import ReadChunk, SaveSnapshot, StoreChunk
from aegis_replication.engine.events import ChunkRead, ChunkStored, Event, SnapshotFailed, SnapshotSaved
from aegis_replication.errors import StorageError
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.node.clock import now_seconds
from aegis_replication.node.news import News
from aegis_replication.storage.base import SnapshotWriter, Storage

log = logging.getLogger("aegis.node")

_UNFLUSHED_BYTES: Final = 1024 * 1024  # of a snapshot, then it is flushed: a long flush would hold up the log's
_WAITING_CHUNKS_MAX: Final = 16  # of one group: a leader keeps to its window, which is less


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
        self._tasks: set[asyncio.Task[None]] = set()
        # What comes of a leader's snapshot while an earlier chunk is being flushed; a task works for each group here.
        self._coming: dict[GroupId, deque[StoreChunk]] = {}
        self._complaint = ""  # the last one said
        self._flusher = ThreadPoolExecutor(2, "aegis-snapshot")

    def carry_out(self, request: SaveSnapshot | ReadChunk | StoreChunk) -> None:
        """Begin it; the answer comes now or later. Raises DiskFailed when a snapshot can't be read."""
        self._by_type[type(request)](self, request)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- one's own ---

    def _save(self, request: SaveSnapshot) -> None:
        self._start(self._write(request))

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
                    await self._loop.run_in_executor(self._flusher, writer.flush)
            size_bytes = await self._loop.run_in_executor(self._flusher, writer.finish)
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

    # --- to followers ---

    def _read(self, request: ReadChunk) -> None:
        data, total = self._storage.snapshots.read(request.group, request.meta.id, request.offset, request.size_bytes)
        self._answer(ChunkRead(request.group, request.target, request.meta, request.offset, total, data))

    # --- from a leader ---

    def _store(self, request: StoreChunk) -> None:
        waiting = self._coming.get(request.group)
        if waiting is not None:
            if len(waiting) < _WAITING_CHUNKS_MAX:
                waiting.append(request)
            return
        self._coming[request.group] = deque([request])
        self._start(self._take(request.group))

    async def _take(self, group: GroupId) -> None:
        """Write what has come, and flush it off the loop; each answer opens the leader's window by a chunk."""
        waiting = self._coming[group]
        try:
            while waiting:
                request = waiting.popleft()
                try:
                    await self._take_chunk(request)
                except StorageError as error:  # not this node's log: it lives on, and the leader asks again in a while
                    self._complain(group, request, error)
        finally:
            del self._coming[group]

    async def _take_chunk(self, request: StoreChunk) -> None:
        group, snapshots = request.group, self._storage.snapshots
        if snapshots.can_resume(group, request.meta):
            resume = partial(snapshots.resume, group, request.meta, request.total_bytes)
            held = await self._loop.run_in_executor(self._flusher, resume)
            log.info(
                "node=%s group=%d: goes on with %s's snapshot %s: %d of %d bytes are here",
                *(self._node, group, request.source, request.meta.id, held, request.total_bytes),
            )
        wanted = snapshots.receive(group, request.meta, request.offset, request.total_bytes, request.data)
        complete = wanted == request.total_bytes
        if complete:
            await self._loop.run_in_executor(self._flusher, snapshots.keep_received, group)
            self._news.snapshot(f"has the whole snapshot of {request.source}", group, request.meta, request.total_bytes)
        elif snapshots.unflushed_received(group) >= _UNFLUSHED_BYTES:
            await self._loop.run_in_executor(self._flusher, snapshots.flush_received, group)
        self._answer(
            ChunkStored(
                group,
                request.source,
                request.meta.id,
                wanted,
                complete=complete,
                meta=request.meta,
                chunks=snapshots.chunks(group, request.meta.id) if complete else (),
                size_bytes=request.total_bytes,
            )
        )

    def _complain(self, group: GroupId, request: StoreChunk, error: StorageError) -> None:
        if str(error) != self._complaint:
            self._complaint = str(error)
            log.error("node=%s group=%d: %s's snapshot isn't taken: %s", self._node, group, request.source, error)

    _by_type: ClassVar[dict[type, Callable[["SnapshotWork", Any], None]]] = {
        SaveSnapshot: _save,
        ReadChunk: _read,
        StoreChunk: _store,
    }

    async def stop(self) -> None:
        """Give up what is being written."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # What runs there uses files that are closed next.
        await self._loop.run_in_executor(None, self._flusher.shutdown)
