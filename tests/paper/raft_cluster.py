"""What do tests of the core play with, when one replica isn't enough? Clusters whose network, disks and clock obey."""

from collections.abc import Iterable
from random import Random
from typing import Any

from raft_replicas import COMMANDS, GROUP, CheckedRaft

from aegis_replication.consensus.config import RaftConfig
from aegis_replication.consensus.configuration import Configuration, make_configuration
from aegis_replication.consensus.messages import InstallSnapshot, Message
from aegis_replication.consensus.output import Output
from aegis_replication.log import NOTHING, Entry, EntryId, HardState, LogWrite, RecoveredGroup, SnapshotMeta


class Disk:
    """What survives a crash of one node: writes in order, durable when `finish` says so."""

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.base = NOTHING
        self.entries: list[Entry] = []
        self.snapshot: SnapshotMeta | None = None
        self.unfinished: list[LogWrite] = []

    def finish(self) -> LogWrite:
        """The oldest unfinished write is on disk."""
        write = self.unfinished.pop(0)
        if write.snapshot is not None:
            self.snapshot = write.snapshot
            if write.reset:
                self.base, self.entries = write.snapshot.id, []
        if write.forget_below > self.base.index + 1:
            gone = [held for held in self.entries if held.index < write.forget_below]
            if gone:
                self.base = gone[-1].id
                self.entries = self.entries[len(gone) :]
        if write.hard_state is not None:
            self.hard_state = write.hard_state
        for new in write.entries:
            del self.entries[new.index - self.base.index - 1 :]
            assert new.index == self.base.index + len(self.entries) + 1, f"hole before {new.id} on disk"
            self.entries.append(new)
        return write

    def recovered(self) -> RecoveredGroup:
        return RecoveredGroup(self.hard_state, self.base, list(self.entries), self.snapshot)


class Cluster:
    """Replicas with one clock, a network and disks that a test can hold back, cut or crash."""

    def __init__(
        self, names: Iterable[str] = "abc", *, seed: int = 0, voters: Iterable[str] | None = None, **config: Any
    ):
        self.names = sorted(names)
        self.config = config
        self.random = Random(seed)
        self.now_ms = 0.0
        self.bootstrap: Configuration = make_configuration(voters or self.names)
        self.disks = {name: Disk() for name in self.names}
        self.rafts: dict[str, CheckedRaft] = {}
        self.network: list[tuple[str, str, Message]] = []
        self.cuts: set[tuple[str, str]] = set()  # (source, target): messages are lost
        self.held_disks: set[str] = set()  # whose writes don't finish by themselves
        self.applied: dict[str, list[EntryId]] = {name: [] for name in self.names}
        self.reads: dict[str, list[tuple[int, int]]] = {name: [] for name in self.names}
        self.states: dict[EntryId, list[EntryId]] = {}  # what each snapshot holds
        self.snapshots: dict[str, SnapshotMeta] = {}  # the newest of each node
        self.said: list[tuple[str, str, Message]] = []  # all that was ever sent
        for name in self.names:
            self.start(name)

    # --- faults ---

    def start(self, name: str) -> None:
        """(Re)start a node from its disk."""
        disk = self.disks[name]
        disk.unfinished.clear()
        self.rafts[name] = CheckedRaft(
            node=name,
            group=GROUP,
            config=RaftConfig(node_id=name, peers=self.names, **self.config),
            recovered=disk.recovered(),
            bootstrap=self.bootstrap,
            random=Random(self.random.random()),
            now_ms=self.now_ms,
        )
        snapshot = disk.snapshot
        self.applied[name] = list(self.states[snapshot.id]) if snapshot is not None else []
        if snapshot is not None:
            self.snapshots[name] = snapshot

    def crash(self, name: str) -> None:
        """Stop a node; writes that aren't finished are lost."""
        del self.rafts[name]
        self.disks[name].unfinished.clear()
        self.network = [packet for packet in self.network if name not in packet[:2]]

    def cut(self, source: str, target: str, *, one_way: bool = False) -> None:
        self.cuts.add((source, target))
        if not one_way:
            self.cuts.add((target, source))

    def isolate(self, name: str) -> None:
        for other in self.names:
            if other != name:
                self.cut(name, other)

    def heal(self) -> None:
        self.cuts.clear()

    # --- looking ---

    def __getitem__(self, name: str) -> CheckedRaft:
        return self.rafts[name]

    @property
    def leaders(self) -> list[str]:
        return [name for name, raft in sorted(self.rafts.items()) if raft.is_leader]

    @property
    def leader(self) -> str:
        """The leader of the latest term."""
        assert self.leaders, "nobody leads"
        return max(self.leaders, key=lambda name: self.rafts[name].term)

    # --- time ---

    def take(self, name: str) -> bool:
        """Take one replica's output and carry it out as far as nothing is held back; says whether there was any."""
        raft = self.rafts[name]
        output = raft.take_output()
        if output:
            self.on_output(name, output)
        for target, message in output.messages:
            self.said.append((name, target, message))
            self.network.append((name, target, message))
        if output.write is not None:
            self.disks[name].unfinished.append(output.write)
        self.applied[name] += [held.id for held in output.committed]
        self.reads[name] += output.reads
        for target in output.snapshots:
            self._send_chunk(name, target, 0)
        for target, reply in output.sent_chunks:
            meta = self.snapshots[name]
            self._send_chunk(name, target, reply.next_offset if reply.snapshot == meta.id else 0)
        for source, chunk in output.chunks:
            self._store_chunk(name, source, chunk)
        return bool(output)

    def on_output(self, name: str, output: Output) -> None:
        """Somebody may want to tell what was said."""

    def _send_chunk(self, name: str, target: str, offset: int) -> None:
        meta = self.snapshots[name]
        message = InstallSnapshot(self.rafts[name].term, meta, offset, 2, b"x")
        self.said.append((name, target, message))
        self.network.append((name, target, message))

    def _store_chunk(self, name: str, source: str, chunk: InstallSnapshot) -> None:
        raft, meta = self.rafts[name], chunk.meta
        if chunk.offset + len(chunk.data) < chunk.total_bytes:
            raft.on_snapshot_stored(source, meta.id, chunk.offset + len(chunk.data))
        elif raft.on_snapshot_installed(source, meta):
            self.applied[name] = list(self.states[meta.id])
            self.snapshots[name] = meta

    def finish_writes(self, name: str, count: int = 1_000) -> int:
        """Let the disk finish this many of its writes; how many it was."""
        disk = self.disks[name]
        count = min(count, len(disk.unfinished))
        for _ in range(count):
            self.rafts[name].on_persisted(disk.finish().number)
        return count

    def deliver(self, position: int = 0) -> None:
        """Deliver one message from the network, if nothing is in its way."""
        source, target, message = self.network.pop(position)
        if (source, target) not in self.cuts and target in self.rafts:
            self.rafts[target].step(source, message)

    def run(self, rounds: int | None = None) -> None:
        """Let everything happen that can without time passing, or only this many rounds of it."""
        for _ in range(10_000 if rounds is None else rounds):
            is_quiet = True
            for name in list(self.rafts):
                is_quiet = not self.take(name) and is_quiet
                if name not in self.held_disks:
                    is_quiet = not self.finish_writes(name) and is_quiet
            is_quiet = is_quiet and not self.network
            packets, self.network = self.network, []
            for source, target, message in packets:
                if (source, target) not in self.cuts and target in self.rafts:
                    self.rafts[target].step(source, message)
            if is_quiet and rounds is None:
                return
        assert rounds is not None, "never quiet"

    def pass_time(self, duration_ms: float, step_ms: float = 10.0) -> None:
        """Let time pass for all, in steps, with everything happening that can."""
        until = self.now_ms + duration_ms
        while self.now_ms < until:
            self.now_ms = min(self.now_ms + step_ms, until)
            for raft in list(self.rafts.values()):
                raft.tick(self.now_ms)
            self.run()

    def elect(self, name: str) -> None:
        """Let `name` be the first to lose patience, by holding back the other clocks."""
        raft = self.rafts[name]
        self.run()
        self.now_ms = max(self.now_ms, raft.deadline_ms)
        for other, other_raft in self.rafts.items():
            if other != name:
                other_raft.tick(min(self.now_ms, other_raft.deadline_ms - 0.001))
        raft.tick(self.now_ms)
        self.run()

    def propose(self, payload: bytes = b"", *, to: str | None = None, count: int = 1) -> Entry:
        """Propose to the leader; nothing happens yet."""
        return self.rafts[to or self.leader].propose(COMMANDS, payload, count=count)

    def put(self, payload: bytes = b"") -> Entry:
        """Propose to the leader and let everything happen."""
        new = self.propose(payload)
        self.run()
        return new

    def snapshot(self, name: str, *, keep_from: int | None = None) -> SnapshotMeta:
        """Let a node save a snapshot of what it has applied, and forget the log below `keep_from`."""
        raft = self.rafts[name]
        meta = raft.snapshot_meta()
        self.states[meta.id] = list(self.applied[name])
        self.snapshots[name] = meta
        raft.on_snapshot_saved(meta, meta.index + 1 if keep_from is None else keep_from)
        self.take(name)
        self.finish_writes(name)
        return meta
