"""How does a snapshot travel in pieces? What a host does for the engine's requests to read and to store one."""

from typing import Final

from aegis_replication.engine.effects import ReadChunk, StoreChunk
from aegis_replication.engine.events import ChunkRead, ChunkStored
from aegis_replication.errors import DiskFull
from aegis_replication.storage.base import SnapshotStore

UNFLUSHED_BYTES: Final = 600
"""Of what comes in, until it is flushed: states are small here."""


def read_chunk(snapshots: SnapshotStore, request: ReadChunk) -> ChunkRead:
    """Some bytes of this node's snapshot, for a follower."""
    data, total = snapshots.read(request.group, request.meta.id, request.offset, request.size_bytes)
    return ChunkRead(request.group, request.target, request.meta, request.offset, total, data)


def store_chunk(snapshots: SnapshotStore, request: StoreChunk) -> ChunkStored | None:
    """Take some bytes of a leader's snapshot; with the last ones it is whole, durable and named. None: no room."""
    try:
        if snapshots.can_resume(request.group, request.meta):
            snapshots.resume(request.group, request.meta, request.total_bytes)
        wanted = snapshots.receive(request.group, request.meta, request.offset, request.total_bytes, request.data)
        complete = wanted == request.total_bytes
        if complete:
            snapshots.keep_received(request.group)
        elif snapshots.unflushed_received(request.group) >= UNFLUSHED_BYTES:
            snapshots.flush_received(request.group)
    except DiskFull:
        return None
    return ChunkStored(
        request.group,
        request.source,
        request.meta.id,
        wanted,
        complete=complete,
        meta=request.meta,
        chunks=snapshots.chunks(request.group, request.meta.id) if complete else (),
        size_bytes=request.total_bytes,
    )
