"""What do tests of the core play with? Single replicas in any state, and messages from whoever they need."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from msgspec.structs import replace

from aegis_replication.consensus.config import RaftConfig
from aegis_replication.consensus.configuration import make_configuration
from aegis_replication.consensus.invariants import Marks, check
from aegis_replication.consensus.messages import (
    AppendEntries,
    AppendReply,
    Message,
    RequestVote,
    VoteReply,
)
from aegis_replication.consensus.node import Raft
from aegis_replication.consensus.output import Output
from aegis_replication.log import (
    FRAME_HEADER_BYTES,
    NOTHING,
    Entry,
    EntryId,
    HardState,
    Kind,
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


def broken(whole: Entry) -> Entry:
    """The entry as a damaged disk gives it back: its head is right, its payload is not."""
    return replace(whole, frame=whole.frame[:FRAME_HEADER_BYTES] + b"\xee" * len(whole.payload))


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
    damaged: Sequence[int] = (),
    applied: int = 0,
    seed: int = 0,
    **config: Any,
) -> CheckedRaft:
    """A follower that has just started with this term, vote and log on its disk, the `damaged` entries not whole."""
    if entries is None:
        entries = log_of(*log, voters=voters)
        if learners:
            payload = make_configuration(voters, learners=learners).encode()
            entries[0] = entry(entries[0].term, 1, payload, kind=CONFIGURATION, count=0)
    last_term = entries[-1].term if entries else base.term
    entries = [broken(each) if each.index in damaged else each for each in entries]
    hard_state = HardState(last_term if term is None else term, vote)
    return CheckedRaft(
        node=name,
        group=GROUP,
        config=RaftConfig(node_id=name, peers=list(voters), **config),
        recovered=RecoveredGroup(hard_state, base, entries, snapshot, tuple(damaged)),
        applied=applied,
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
