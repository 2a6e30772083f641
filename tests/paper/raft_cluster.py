"""What do tests of the core play with? Single replicas in any state, and clusters whose network and disks obey."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from aegis_replication.consensus.config import RaftConfig
from aegis_replication.consensus.configuration import Configuration, make_configuration
from aegis_replication.consensus.invariants import Marks, check
from aegis_replication.consensus.messages import (
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    Message,
    RequestVote,
    VoteReply,
)
from aegis_replication.consensus.node import Raft
from aegis_replication.consensus.output import Output
from aegis_replication.log import (
    NOTHING,
    Entry,
    EntryId,
    HardState,
    Kind,
    LogWrite,
    RecoveredGroup,
    SnapshotMeta,
    make_entry,
)

GROUP = 7
NO_OP, COMMANDS, CONFIGURATION = Kind.NO_OP, Kind.COMMANDS, Kind.CONFIGURATION


class CheckedRaft(Raft):
    """A replica that checks its invariants after each input."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.marks: Marks = check(self)

    def _checked(self) -> None:
        self.marks = check(self, self.marks)

    def tick(self, now_ms: float) -> None:
        super().tick(now_ms)
        self._checked()

    def step(self, source: str, message: Message) -> None:
        super().step(source, message)
        self._checked()

    def propose(self, kind: int, payload: bytes, *, count: int = 0, stamp: int = 0) -> Entry:
        entry = super().propose(kind, payload, count=count, stamp=stamp)
        self._checked()
        return entry

    def on_persisted(self, number: int) -> None:
        super().on_persisted(number)
        self._checked()

    def on_peer_lost(self, peer: str) -> None:
        super().on_peer_lost(peer)
        self._checked()

    def on_snapshot_installed(self, source: str, meta: SnapshotMeta) -> bool:
        is_news = super().on_snapshot_installed(source, meta)
        self._checked()
        return is_news

    def take_output(self) -> Output:
        output = super().take_output()
        self._checked()
        return output


# --- single replicas ------------------------------------------------------------------------------------------------


def entry(term: int, index: int, payload: bytes = b"", *, kind: int = COMMANDS, count: int = 1) -> Entry:
    """An entry as a leader of `term` made it; its stamp is its index."""
    return make_entry(GROUP, term, index, kind, payload, count=count, stamp=index)


def log_of(*terms: int, voters: Iterable[str] = "abc") -> list[Entry]:
    """A log with an entry of each of these terms; the first is the group's configuration."""
    entries = [entry(term, index, b"%d" % index) for index, term in enumerate(terms, 1)]
    if terms:
        payload = make_configuration(voters).encode()
        entries[0] = entry(terms[0], 1, payload, kind=CONFIGURATION, count=0)
    return entries


def replica(
    name: str = "a",
    *,
    log: Sequence[int] = (1,),
    term: int | None = None,
    vote: str | None = None,
    voters: Iterable[str] = "abc",
    learners: Iterable[str] = (),
    entries: Sequence[Entry] | None = None,
    snapshot: SnapshotMeta | None = None,
    base: EntryId = NOTHING,
    seed: int = 0,
    **config: Any,
) -> CheckedRaft:
    """A follower that has just started with this term, vote and log on its disk."""
    if entries is None:
        entries = log_of(*log, voters=voters)
        if learners:
            payload = make_configuration(voters, learners=learners).encode()
            entries[0] = entry(entries[0].term, 1, payload, kind=CONFIGURATION, count=0)
    last_term = entries[-1].term if entries else base.term
    return CheckedRaft(
        node=name,
        group=GROUP,
        config=RaftConfig(node_id=name, peers=list(voters), **config),
        recovered=RecoveredGroup(HardState(last_term if term is None else term, vote), base, list(entries), snapshot),
        bootstrap=None,
        random=Random(seed),
        now_ms=0.0,
    )


Sent = list[tuple[str, Message]]


def settle(raft: Raft) -> Sent:
    """Let the disk finish all writes; everything the replica says meanwhile."""
    sent: Sent = []
    while output := raft.take_output():
        sent += output.messages
        if output.write is not None:
            raft.on_persisted(output.write.number)
    return sent


def told(raft: Raft, source: str, message: Message) -> Sent:
    """What a replica says to a message, its disk being fast."""
    raft.step(source, message)
    return settle(raft)


def only(sent: Sent, kind: type) -> list[Any]:
    """The messages of one type, whoever they are for."""
    return [message for _, message in sent if type(message) is kind]


def time_out(raft: Raft) -> None:
    """Let the replica's deadline come."""
    raft.tick(raft.deadline_ms)


def campaign(raft: Raft) -> Raft:
    """Make a follower a candidate of the next term, its own vote durable, nobody else's counted."""
    time_out(raft)
    voters = [voter for voter in raft.configuration.voters if voter != raft.node]
    for voter in voters:
        if raft.role == "pre-candidate":
            raft.step(voter, VoteReply(raft.term + 1, True, pre=True))
    settle(raft)
    return raft


def elected(name: str = "a", **arguments: Any) -> CheckedRaft:
    """A replica that has just won the next term and has said nothing yet."""
    raft = replica(name, **arguments)
    campaign(raft)
    for voter in raft.configuration.voters:
        if voter != name and raft.role == "candidate":
            raft.step(voter, VoteReply(raft.term, True))
    assert raft.is_leader, raft.role
    return raft


def leader(name: str = "a", **arguments: Any) -> CheckedRaft:
    """A replica that has just won the next term; its no-op is durable here and nothing of it is acknowledged."""
    raft = elected(name, **arguments)
    settle(raft)
    return raft


def replicating(name: str = "a", **arguments: Any) -> CheckedRaft:
    """A leader whose followers have acknowledged its no-op: it is committed, and appends flow."""
    raft = leader(name, **arguments)
    for peer in sorted(raft.configuration.members - {name}):
        raft.step(peer, AppendReply(raft.term, 0, raft.log.last_index))
    settle(raft)
    assert raft.log.committed == raft.log.last_index
    return raft


def request_vote(term: int, last: tuple[int, int] = (9, 99), **fields: bool) -> RequestVote:
    """By default from a candidate whose log is ahead of everybody's."""
    return RequestVote(term, EntryId(*last), **fields)


def append(
    term: int,
    previous: tuple[int, int] = (0, 0),
    terms: Sequence[int] = (),
    *,
    commit: int = 0,
    round: int = 0,
) -> AppendEntries:
    """A leader's append of entries with these terms behind `previous`."""
    entries = tuple(entry(of_term, index, b"%d" % index) for index, of_term in enumerate(terms, previous[1] + 1))
    return AppendEntries(term, EntryId(*previous), commit, round, entries)


def snapshot_meta(
    term: int, index: int, *, voters: Iterable[str] = "abc", configuration_index: int = 1, stamp: int | None = None
) -> SnapshotMeta:
    """What a snapshot at this position says of itself."""
    configuration = make_configuration(voters).encode()
    return SnapshotMeta(term, index, index if stamp is None else stamp, configuration, configuration_index)


def converse(one: Raft, other: Raft, appends_max: int = 1000) -> int:
    """Let a leader bring one follower up; how many appends it took until the logs were the same."""
    count = 0
    name, peer = one.node, other.node
    while other.log.last != one.log.last or other.log.durable != other.log.last_index:
        sent = [message for target, message in settle(one) if target == peer]
        assert sent, "the leader has nothing more to say"
        for message in sent:
            count += isinstance(message, AppendEntries)
            assert count <= appends_max, f"{count} appends and no end"
            for _, reply in told(other, name, message):
                one.step(peer, reply)
    return count


def terms_of(raft: Raft) -> list[int]:
    """The terms of the entries held."""
    return [held.term for held in raft.log.slice(raft.log.first, raft.log.last_index + 1)]


# --- clusters -------------------------------------------------------------------------------------------------------


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
