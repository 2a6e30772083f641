"""A whole node, as a value that takes events and gives effects: finds the replica an event is for, and nothing more."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from aegis_replication import wire
from aegis_replication.consensus.changes import Introduction
from aegis_replication.consensus.founding import PATIENCE, Founding
from aegis_replication.consensus.recovery import is_unused
from aegis_replication.engine.effects import Effects, no_effects
from aegis_replication.engine.events import (
    ChunkRead,
    ChunkStored,
    Event,
    LeavingSoon,
    PeerHeard,
    PeerLost,
    PeerSeen,
    Persisted,
    Received,
    Requested,
    RoomChanged,
    SnapshotFailed,
    SnapshotSaved,
    Ticked,
)
from aegis_replication.engine.recorder import Recorder
from aegis_replication.engine.replica import Replica
from aegis_replication.engine.replies import reply_error
from aegis_replication.engine.snapshot_sending import Pace
from aegis_replication.engine.spec import GroupSpec
from aegis_replication.events import DiskFilled, DiskHasRoom
from aegis_replication.ids import GroupId, NodeId


class ReplicationEngine:
    """All replicas of one node. `handle` events as they come, then `take_effects` until there is nothing more to do."""

    # fmt: off
    __slots__ = ("_dirty", "_effects", "_handlers", "_peers", "addresses", "founding", "has_log", "node", "now_ms",
                 "recorder", "replicas", "strays")
    # fmt: on

    def __init__(
        self, *, node: NodeId, groups: Mapping[GroupId, GroupSpec], random: Random, now_ms: float, remember: int = 0
    ) -> None:
        self.node = node
        self.now_ms = now_ms
        self.addresses: dict[NodeId, str] = {}  # where each peer's clients connect, as it said last
        self.founding = _founding(node, groups, now_ms)
        pace = Pace(min((spec.config.snapshot_bytes_per_second for spec in groups.values()), default=0))
        self.replicas = {
            group: Replica(
                node,
                group,
                spec,
                random=random,
                now_ms=now_ms,
                addresses=self.addresses,
                pace=pace,
                founding=self.founding,
            )
            for group, spec in sorted(groups.items())
        }
        # Is there more than the entry that every founder makes for itself? The others are told in handshakes.
        self.has_log = any(replica.raft.log.last_index > 1 for replica in self.replicas.values())
        self._peers: dict[NodeId, str] = {}  # as told to the host last
        self.recorder = Recorder(remember)
        self.strays = 0  # events for groups that aren't here
        self._effects = no_effects()
        self._dirty: dict[GroupId, Replica] = dict(self.replicas)  # who may have something to say; in order
        self._handlers: dict[type, Callable[[Any], None]] = {
            Ticked: self._on_ticked,
            Received: self._on_received,
            Requested: self._on_requested,
            Persisted: self._on_persisted,
            PeerHeard: self._on_peer_heard,
            PeerLost: self._on_peer_lost,
            PeerSeen: self._on_peer_seen,
            LeavingSoon: self._on_leaving_soon,
            RoomChanged: self._on_room_changed,
            SnapshotSaved: self._on_snapshot_saved,
            SnapshotFailed: self._on_snapshot_failed,
            ChunkRead: self._on_chunk_read,
            ChunkStored: self._on_chunk_stored,
        }

    @property
    def deadline_ms(self) -> float:
        """When Ticked must come at the latest."""
        return min(replica.deadline_ms for replica in self.replicas.values())

    def handle(self, event: Event) -> None:
        """Take one event. What it causes is in the next take_effects."""
        if self.recorder.limit:
            self.recorder.record(self.now_ms, event)
        self._handlers[type(event)](event)

    def take_effects(self) -> Effects:
        """Everything to be done now; empty when there is nothing."""
        effects = self._effects
        self._effects = no_effects()
        dirty = self._dirty
        if dirty:
            self._dirty = {}
            for group, replica in dirty.items():
                if replica.collect(effects):
                    self._dirty[group] = replica
            if not self.has_log and any(replica.raft.log.last_index > 1 for replica in dirty.values()):
                self._begin_log(effects)
            if any(replica.has_new_members for replica in dirty.values()):
                self._tell_peers(effects)
        return effects

    def settle_leased(self, effects: Effects, now_ms: float) -> None:
        """Let those replies of `effects` go that are still good at `now_ms`, a clock read just now.

        The other reads take the way of a round. However long this process stood still while it computed them: what
        covers the moment after covers the moment of each read.
        """
        for leased in effects.leased:
            if now_ms < leased.until_ms:
                effects.replies += leased.replies
            elif replica := self._replica(leased.group):
                replica.reads.again(leased.queries)
        effects.leased = []

    def _begin_log(self, effects: Effects) -> None:
        """This node is a member like any other now: it may begin what other groups it has."""
        self.has_log = True
        if self.founding is not None:
            self.founding.is_over = True
        self._peers = {}
        self._tell_peers(effects)  # with what handshakes say from now on

    def _tell_peers(self, effects: Effects) -> None:
        for replica in self.replicas.values():
            replica.has_new_members = False
        peers = self.peers
        if peers != self._peers:
            self._peers = effects.peers = peers
            for gone in self.addresses.keys() - peers.keys():
                del self.addresses[gone]

    @property
    def peers(self) -> dict[NodeId, str]:
        """Whom this node is to speak with, and where they are; "" where that isn't known."""
        peers: dict[NodeId, str] = {}
        for replica in self.replicas.values():
            for node, address in replica.raft.peers.items():
                peers[node] = address or peers.get(node, "")
        return peers

    @property
    def has_more(self) -> bool:
        """Is there work left for another turn although no event comes?"""
        return bool(self._dirty)

    def why_not(self, node: NodeId, introduction: Introduction) -> str:
        """Why `node` isn't to be spoken with; "" when it is: asked at every handshake, before anything else."""
        for replica in self.replicas.values():
            if why_not := replica.raft.why_not(node, introduction):
                return why_not
        return ""

    @property
    def configuration_index(self) -> int:
        """How new the members are that this node knows of, for its own handshakes."""
        return max(replica.raft.configuration_index for replica in self.replicas.values())

    # --- one line per kind of event ---

    def _replica(self, group: GroupId) -> Replica | None:
        replica = self.replicas.get(group)
        if replica is None:
            self.strays += 1
        else:
            self._dirty[group] = replica
        return replica

    def _on_ticked(self, event: Ticked) -> None:
        self.now_ms = event.now_ms
        for group, replica in self.replicas.items():
            replica.now_ms, replica.wall_ms = event.now_ms, event.wall_ms
            if event.now_ms >= replica.deadline_ms:
                self._dirty[group] = replica
            replica.raft.tick(event.now_ms)

    def _on_received(self, event: Received) -> None:
        if replica := self._replica(event.group):
            replica.on_message(event.source, event.message)

    def _on_requested(self, event: Requested) -> None:
        if replica := self._replica(event.group):
            replica.on_request(event, self._effects)
        else:
            self._effects.replies.append(
                reply_error(
                    (event.connection, event.request), wire.INVALID, f"there is no group {event.group} on this node"
                )
            )

    def _on_persisted(self, event: Persisted) -> None:
        if replica := self._replica(event.group):
            replica.on_persisted(event.number)

    def _on_peer_lost(self, event: PeerLost) -> None:
        for group, replica in self.replicas.items():
            replica.raft.on_peer_lost(event.peer)
            self._dirty[group] = replica

    def _on_peer_heard(self, event: PeerHeard) -> None:
        if self.founding is not None:
            self.founding.hear(event.peer, event.introduction.has_log)

    def _on_peer_seen(self, event: PeerSeen) -> None:
        if self.founding is not None:
            self.founding.hear(event.peer, event.introduction.has_log)
        if event.client_address:
            self.addresses[event.peer] = event.client_address
        for group, replica in self.replicas.items():
            replica.introduce(event.peer, event.introduction)
            self._dirty[group] = replica

    def _on_leaving_soon(self, event: LeavingSoon) -> None:
        for group, replica in self.replicas.items():
            replica.hand_over()
            self._dirty[group] = replica

    def _on_room_changed(self, event: RoomChanged) -> None:
        is_full = event.room_bytes is not None
        if is_full != any(replica.full for replica in self.replicas.values()):
            self._effects.news.append(DiskFilled(event.why) if is_full else DiskHasRoom())
        share = None if event.room_bytes is None else event.room_bytes // len(self.replicas)
        for group, replica in self.replicas.items():
            replica.on_room_changed(share, event.why, self._effects)
            self._dirty[group] = replica

    def _on_snapshot_saved(self, event: SnapshotSaved) -> None:
        if replica := self._replica(event.group):
            replica.on_snapshot_saved(event, self._effects)

    def _on_snapshot_failed(self, event: SnapshotFailed) -> None:
        if replica := self._replica(event.group):
            replica.on_snapshot_failed(self._effects)

    def _on_chunk_read(self, event: ChunkRead) -> None:
        if replica := self._replica(event.group):
            replica.on_chunk_read(event, self._effects)

    def _on_chunk_stored(self, event: ChunkStored) -> None:
        if replica := self._replica(event.group):
            replica.on_chunk_stored(event, self._effects)


def _founding(node: NodeId, groups: Mapping[GroupId, GroupSpec], now_ms: float) -> Founding | None:
    """What a node with a new directory has to ask before it begins a cluster; None if it has no new one or is alone."""
    others: set[NodeId] = set()
    patience_ms = 0.0
    for spec in groups.values():
        if spec.bootstrap is None or not is_unused(spec.recovered):
            return None
        others.update(spec.bootstrap.voters)
        patience_ms = PATIENCE * spec.config.election_timeout_max_ms
    others.discard(node)
    return Founding(others, now_ms + patience_ms) if others else None
