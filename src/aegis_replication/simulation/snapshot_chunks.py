"""How does a snapshot travel in pieces? What a host does for the engine's requests to read and to store one."""

from aegis_replication.engine.effects import ReadChunk, StoreChunk
from aegis_replication.engine.events import ChunkRead, ChunkStored
from aegis_replication.errors import DiskFull
from aegis_replication.storage.base import SnapshotStore


def read_chunk(snapshots: SnapshotStore, request: ReadChunk) -> ChunkRead:
    """Some bytes of this node's snapshot, for a follower."""
    data, total = snapshots.read(request.group, request.meta.id, request.offset, request.size_bytes)
    return ChunkRead(request.group, request.target, request.meta, request.offset, total, data)


def store_chunk(snapshots: SnapshotStore, request: StoreChunk) -> ChunkStored | None:
    """Take some bytes of a leader's snapshot; with the last ones it is whole, durable and named. None: no room."""
    try:
        wanted = snapshots.receive(request.group, request.meta, request.offset, request.total_bytes, request.data)
    except DiskFull:
        return None
    complete = wanted == request.total_bytes
    if complete:
        snapshots.keep_received(request.group)
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
