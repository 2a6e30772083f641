"""Three engines with instant networks and disks that a test can hold back: what replicas do, without a host."""

from collections.abc import Iterable
from random import Random
from typing import Any

import msgspec

from aegis_replication import wire
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.consensus.configuration import make_configuration
from aegis_replication.engine.effects import Effects, ReadChunk, RoleChanged, SaveSnapshot, StoreChunk
from aegis_replication.engine.engine import ReplicationEngine
from aegis_replication.engine.events import (
    ChunkRead,
    ChunkStored,
    Event,
    PeerSeen,
    Persisted,
    Received,
    Requested,
    SnapshotSaved,
    Ticked,
)
from aegis_replication.engine.replica import Replica
from aegis_replication.engine.spec import GroupSpec, ReplicaLimits
from aegis_replication.log import NOTHING, HardState, LogWrite, RecoveredGroup
from aegis_replication.state_machine import commands
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine

GROUP = 1
NAMES = ("n1", "n2", "n3")


class Engines:
    """A cluster of engines; `run` lets everything happen that can."""

    def __init__(self, names: Iterable[str] = NAMES, *, limits: ReplicaLimits | None = None, **config: Any) -> None:
        self.now_ms = 1000.0
        self.names = tuple(names)
        self.engines: dict[str, ReplicationEngine] = {}
        for name in self.names:
            spec = GroupSpec(
                RaftConfig(node_id=name, peers=list(self.names), **config),
                SessionMachine(KeyValueMachine()),
                RecoveredGroup(HardState(), NOTHING, []),
                bootstrap=make_configuration(self.names),
                limits=limits or ReplicaLimits(),
            )
            self.engines[name] = ReplicationEngine(
                node=name, groups={GROUP: spec}, random=Random(name), now_ms=self.now_ms, remember=100
            )
            for peer in self.names:
                if peer != name:
                    self.engines[name].handle(PeerSeen(peer, f"{peer}:7480"))
        self.cut: set[str] = set()  # who can't be reached
        self.held: dict[str, list[LogWrite]] = {}  # disks that don't finish: name -> what they have not finished
        self.held_snapshots = False
        self.replies: list[tuple[str, int, int, Any]] = []  # node, request, status, decoded body
        self.changes: list[tuple[str, RoleChanged]] = []
        self.snapshots: dict[str, tuple[Any, list[bytes]]] = {}
        self.messages: list[tuple[str, str, Any]] = []  # all that were sent
        self.writes: list[tuple[str, LogWrite]] = []
        self._arriving: dict[tuple[str, str], bytearray] = {}
        self._next_request = 0

    def replica(self, name: str) -> Replica:
        return self.engines[name].replicas[GROUP]

    @property
    def leader(self) -> str:
        leaders = [name for name in self.names if self.replica(name).raft.is_leader and name not in self.cut]
        assert len(leaders) == 1, f"leaders: {leaders}"
        return leaders[0]

    def elect(self) -> str:
        """Let time pass until somebody leads and everybody knows."""
        for _ in range(40):
            self.pass_time(50)
            if any(self.replica(name).raft.is_leader for name in self.names if name not in self.cut):
                self.pass_time(100)
                return self.leader
        raise AssertionError("nobody leads after 2 s")

    def pass_time(self, ms: float) -> None:
        until = self.now_ms + ms
        while self.now_ms < until:
            self.now_ms += 10
            for name in self.names:
                self.tell(name, Ticked(self.now_ms, int(self.now_ms)))
            self.run()

    def tell(self, name: str, event: Event) -> None:
        self.engines[name].handle(event)

    def ask(self, name: str, body: bytes, *, kind: int = wire.COMMAND, connection: int = 7) -> int:
        """Hand over one request without running; its number."""
        self._next_request += 1
        self.tell(name, Requested(connection, self._next_request, kind, GROUP, body))
        return self._next_request

    def put(self, name: str, key: bytes, value: bytes) -> int:
        return self.ask(name, commands.encode_command(b"", 1, 1, commands.Put(key, value)))

    def get(self, name: str, key: bytes) -> int:
        return self.ask(name, commands.encode_query(commands.Get(key)), kind=wire.QUERY)

    def answer(self, request: int) -> tuple[int, Any]:
        """Status and body of the only reply to `request`."""
        found = [(status, body) for _, number, status, body in self.replies if number == request]
        assert len(found) == 1, f"replies to {request}: {found}"
        return found[0]

    def is_answered(self, request: int) -> bool:
        return any(number == request for _, number, _, _ in self.replies)

    def run(self) -> None:
        """Carry out effects until there are none."""
        for _ in range(1000):
            busy = False
            for name in self.names:
                effects = self.engines[name].take_effects()
                if effects.leased:
                    self.engines[name].settle_leased(effects, self.now_ms)
                if effects:
                    busy = True
                    self._carry_out(name, effects)
            if not busy:
                return
        raise AssertionError("the engines never come to rest")

    def finish_writes(self, name: str) -> None:
        """A held disk finishes what it has, and is quick again."""
        for write in self.held.pop(name):
            self.tell(name, Persisted(write.group, write.number))
        self.run()

    def _carry_out(self, name: str, effects: Effects) -> None:
        self.changes.extend((name, change) for change in effects.changes)
        for _, packet in effects.replies:
            request, status, body = wire.decode_reply(packet[4:])
            self.replies.append((name, request, status, msgspec.msgpack.decode(body)))
        for target, group, message in effects.messages:
            self.messages.append((name, target, message))
            if name not in self.cut and target not in self.cut and target in self.engines:
                packet = wire.encode_message(group, message)
                self.tell(target, Received(name, *wire.decode_message(packet[4], packet[5:])))
        for write in effects.writes:
            self.writes.append((name, write))
            if name in self.held:
                self.held[name].append(write)
            else:
                self.tell(name, Persisted(write.group, write.number))
        for request in effects.requests:
            self._carry_out_request(name, request)

    def _carry_out_request(self, name: str, request: Any) -> None:
        if isinstance(request, SaveSnapshot):
            pieces = list(request.chunks)
            self.snapshots[name] = (request.meta, pieces)
            self.tell(name, SnapshotSaved(GROUP, request.meta, sum(map(len, pieces))))
        elif isinstance(request, ReadChunk):
            meta, pieces = self.snapshots[name]
            data = msgspec.msgpack.encode(pieces)
            part = data[request.offset : request.offset + 1000] if meta == request.meta else b""
            self.tell(name, ChunkRead(GROUP, request.target, request.meta, request.offset, len(data), part))
        elif isinstance(request, StoreChunk):
            buffer = self._arriving.setdefault((name, request.source), bytearray())
            if request.offset == 0:
                buffer.clear()
            if len(buffer) == request.offset:
                buffer += request.data
            complete = len(buffer) == request.total_bytes
            pieces = msgspec.msgpack.decode(bytes(buffer)) if complete else []
            if complete:
                self.snapshots[name] = (request.meta, pieces)
            self.tell(
                name,
                ChunkStored(
                    GROUP,
                    request.source,
                    request.meta.id,
                    len(buffer),
                    complete=complete,
                    meta=request.meta,
                    chunks=pieces,
                    size_bytes=len(buffer),
                ),
            )
