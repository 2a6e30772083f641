"""How does a snapshot get to followers? In chunks: a few at once, no faster than allowed, resumed where it broke.

A follower's answer names the offset that it wants next, and so acknowledges all before it. It is the only thing that is
believed about where a transfer stands: after a lost connection, or on a new leader, the first chunk asks for it.
"""

from typing import Final

from aegis_replication.consensus.messages import SnapshotReply
from aegis_replication.engine.effects import ReadChunk
from aegis_replication.engine.events import ChunkRead
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.log import SnapshotMeta

WINDOW_CHUNKS: Final = 4
"""Sent to one follower and not acknowledged: enough for a network's round trip, and little for its memory."""

_BURST_MS: Final = 50.0  # of the allowed rate may be caught up with: timers are late
_CHUNK_BYTES_MIN: Final = 256
_FALLS_MAX: Final = 3  # times that a transfer may fall back without getting further; then it waits to be begun anew


class Pace:
    """How fast a node sends snapshots, all groups and followers together."""

    __slots__ = ("_bytes_per_ms", "_waiting", "ready_ms")

    def __init__(self, bytes_per_second: int) -> None:
        """`bytes_per_second` 0: as fast as the followers take them."""
        self._bytes_per_ms = bytes_per_second / 1000.0
        # When the next chunk may leave.
        self.ready_ms = 0.0
        # Which transfers were ready before; the first of them goes first, so that none takes it all.
        self._waiting: dict[tuple[GroupId, NodeId], None] = {}

    def bound(self, chunk_bytes: int) -> int:
        """How large a chunk may be: one takes a tenth of a second at the most, so that a slow transfer still moves."""
        if not self._bytes_per_ms:
            return chunk_bytes
        return min(chunk_bytes, max(int(100 * self._bytes_per_ms), _CHUNK_BYTES_MIN))

    def may_spend(self, transfer: tuple[GroupId, NodeId], size_bytes: int, now_ms: float) -> bool:
        """May a chunk of that size leave? It does, then."""
        if not self._bytes_per_ms:
            return True
        self._waiting.setdefault(transfer)
        if now_ms < self.ready_ms or next(iter(self._waiting)) != transfer:
            return False
        del self._waiting[transfer]
        self.ready_ms = max(self.ready_ms, now_ms - _BURST_MS) + size_bytes / self._bytes_per_ms
        return True

    def withdraw(self, transfer: tuple[GroupId, NodeId]) -> None:
        """It has nothing to send now."""
        self._waiting.pop(transfer, None)


class _Transfer:
    """One follower's snapshot on its way."""

    __slots__ = ("acknowledged", "best", "falls", "fell_at", "is_reading", "meta", "moved_ms", "sent", "total_bytes")

    def __init__(self, meta: SnapshotMeta, now_ms: float) -> None:
        self.meta = meta
        # Bytes that the follower has, as it said last, and where the next read begins.
        # Invariant: sent - acknowledged <= WINDOW_CHUNKS chunks.
        self.acknowledged = self.sent = 0
        self.total_bytes = 0  # 0: nothing was read yet
        self.is_reading = False  # the host was asked for the chunk at `sent`
        # Where it fell back last: the answers to what was under way then say the same once more.
        self.fell_at = -1
        self.best, self.falls = 0, 0
        self.moved_ms = now_ms

    def fall_back(self, offset: int) -> None:
        self.acknowledged = self.sent = self.fell_at = offset
        self.is_reading = False  # an answer that still comes is for another offset
        self.falls += 1


class SnapshotSending:
    """A leader's snapshots on their way to followers."""

    __slots__ = ("_chunk_bytes", "_group", "_pace", "_transfers")

    def __init__(self, group: GroupId, pace: Pace, chunk_bytes: int) -> None:
        self._group, self._pace, self._chunk_bytes = group, pace, pace.bound(chunk_bytes)
        self._transfers: dict[NodeId, _Transfer] = {}

    def begin(self, target: NodeId, meta: SnapshotMeta, now_ms: float) -> None:
        """`target` needs the snapshot, or nothing has come of what was sent: its answer says where to go on."""
        self._transfers[target] = _Transfer(meta, now_ms)

    def on_reply(self, target: NodeId, reply: SnapshotReply, newest: SnapshotMeta, now_ms: float) -> None:
        """The follower has everything before `reply.next_offset`."""
        transfer = self._transfers.get(target)
        if transfer is None or reply.snapshot != transfer.meta.id or transfer.meta != newest:
            if transfer is None or transfer.meta != newest:
                self.begin(target, newest, now_ms)
            return
        offset = reply.next_offset
        if offset > transfer.total_bytes > 0:
            return  # a peer's nonsense
        transfer.moved_ms = now_ms
        if offset > transfer.acknowledged:
            transfer.acknowledged = offset
            if offset > transfer.sent:
                transfer.sent, transfer.is_reading = offset, False
            if offset > transfer.best:
                transfer.best, transfer.falls, transfer.fell_at = offset, 0, -1
        elif offset < transfer.sent and transfer.falls < _FALLS_MAX and offset != transfer.fell_at:
            transfer.fall_back(offset)  # a chunk was lost, or damaged, or the follower begins anew

    def reads(self, now_ms: float) -> list[ReadChunk]:
        """What may be read and sent now."""
        found: list[ReadChunk] = []
        for target, transfer in self._transfers.items():
            if not self._may_read(transfer):
                self._pace.withdraw((self._group, target))
            elif self._pace.may_spend((self._group, target), self._chunk_bytes, now_ms):
                transfer.is_reading = True
                found.append(ReadChunk(self._group, target, transfer.meta, transfer.sent, self._chunk_bytes))
        return found

    def _may_read(self, transfer: _Transfer) -> bool:
        if transfer.is_reading or transfer.sent >= transfer.total_bytes > 0:
            return False
        # Until its first answer the follower may have much of it already, or be gone.
        chunks = WINDOW_CHUNKS if transfer.best else 1
        return transfer.sent - transfer.acknowledged <= (chunks - 1) * self._chunk_bytes

    def on_read(self, event: ChunkRead, now_ms: float) -> bool:
        """The host has read a chunk; says whether it is still to be sent."""
        transfer = self._transfers.get(event.target)
        if transfer is None or not transfer.is_reading or (event.meta, event.offset) != (transfer.meta, transfer.sent):
            return False
        if not event.data:
            self.forget({event.target})  # the file is gone: another one has taken its place, or will
            return False
        transfer.is_reading = False
        transfer.total_bytes = event.total_bytes
        transfer.sent += len(event.data)
        transfer.moved_ms = now_ms
        return True

    @property
    def due_ms(self) -> float:
        """When a chunk may leave that only the pace holds back; infinite when there is none."""
        if any(map(self._may_read, self._transfers.values())):
            return self._pace.ready_ms
        return float("inf")

    def sent_bytes(self, target: NodeId) -> int:
        """How far the transfer to `target` is."""
        transfer = self._transfers.get(target)
        return transfer.sent if transfer is not None else 0

    def in_flight_bytes(self, target: NodeId) -> int:
        """How much was sent to `target` and not acknowledged."""
        transfer = self._transfers.get(target)
        return transfer.sent - transfer.acknowledged if transfer is not None else 0

    def forget(self, targets: set[NodeId]) -> None:
        """These need no snapshot any more."""
        for target in targets & self._transfers.keys():
            del self._transfers[target]
            self._pace.withdraw((self._group, target))

    def stop(self) -> None:
        """No longer the leader."""
        self.forget(set(self._transfers))

    def targets(self) -> dict[NodeId, SnapshotMeta]:
        """Who is being sent what."""
        return {target: transfer.meta for target, transfer in self._transfers.items()}

    @property
    def is_busy(self) -> bool:
        """Is anybody being sent a snapshot?"""
        return bool(self._transfers)

    def is_moving(self, since_ms: float) -> bool:
        """Has anything been sent or acknowledged since then?"""
        return any(transfer.moved_ms >= since_ms for transfer in self._transfers.values())
