"""What does every server hold, whatever its role? (Raft Figure 2, "State", "persistent" and "volatile" on all servers.)

Here is also what holds promises back: a sentence about this node's disk leaves only after the write that makes it true.
"""

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, ClassVar, Final

import msgspec

from aegis_replication.consensus.changes import Introduction
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.consensus.configuration import Configuration, ConfigurationStack
from aegis_replication.consensus.freshness import Freshness
from aegis_replication.consensus.lease import NEVER
from aegis_replication.consensus.messages import InstallSnapshot, Message, RequestVote, SnapshotReply, VoteReply
from aegis_replication.ids import GroupId, LogIndex, NodeId, Term
from aegis_replication.log import Entry, EntryId, HardState, LogWrite, ReplicatedLog, SnapshotMeta

RECORD_BYTES: Final = 64
"""What an entry takes in the log beside its frame, at the most."""

FOLLOWER: Final = "follower"
PRE_CANDIDATE: Final = "pre-candidate"
CANDIDATE: Final = "candidate"
LEADER: Final = "leader"


class Transition(msgspec.Struct, frozen=True):
    """What a handler wants to become; only Raft._become carries it out."""

    role: str
    why: str
    leader: NodeId | None = None
    force: bool = False  # to_candidate: the leader itself asked for it
    redeliver: bool = False  # hand the message that caused this to the new role too


def to_follower(leader: NodeId | None, why: str, *, redeliver: bool = False) -> Transition:
    """Follow `leader`, or nobody yet."""
    return Transition(FOLLOWER, why, leader=leader, redeliver=redeliver)


def to_pre_candidate(why: str) -> Transition:
    """Ask whether an election could be won."""
    return Transition(PRE_CANDIDATE, why)


def to_candidate(why: str, *, force: bool = False) -> Transition:
    """Start an election."""
    return Transition(CANDIDATE, why, force=force)


def to_leader(why: str) -> Transition:
    """Lead."""
    return Transition(LEADER, why)


class Change(msgspec.Struct, frozen=True):
    """A replica's role, term or leader changed: one log line."""

    term: Term
    role: str
    leader: NodeId | None
    why: str


class Member:
    """One replica's state that outlives its roles, its outbox, and the promises it may not make yet."""

    __slots__ = (
        "applied_to",
        "changes",
        "chunks",
        "config",
        "configurations",
        "dropped",
        "freshness",
        "group",
        "guests",
        "heard_ms",
        "introductions",
        "leader",
        "leased",
        "log",
        "lost_reads",
        "messages",
        "node",
        "now_ms",
        "random",
        "reads",
        "role_name",
        "room_bytes",
        "sent_chunks",
        "snapshots",
        "started_ms",
        "term",
        "voted_for",
        "_hard_state_write",
        "_promises",
        "_writes",
        "_write_number",
        "_snapshot_point",
    )

    def __init__(
        self,
        node: NodeId,
        group: GroupId,
        config: RaftConfig,
        random: Random,
        now_ms: float,
        *,
        hard_state: HardState,
        log: ReplicatedLog,
        configurations: ConfigurationStack,
    ) -> None:
        self.node = node
        self.group = group
        self.config = config
        self.random = random
        self.now_ms = now_ms
        # Latest term seen. Only rises. On disk before anything is said in it.
        self.term: Term = hard_state.term
        # Who got this node's vote in `term`. Cleared by a new term only. On disk before the vote is told.
        self.voted_for: NodeId | None = hard_state.voted_for
        self.log = log
        self.configurations = configurations
        # Highest index handed out for applying. Only rises. Invariant: applied_to <= committed, durable.
        self.applied_to: LogIndex = log.committed
        # Whose appends this node takes in `term`; itself while it leads.
        self.leader: NodeId | None = None
        self.role_name = FOLLOWER
        # When this process began: what it had promised to leaders before, it has forgotten.
        self.started_ms = now_ms
        # When any leader was heard last, whichever role and term this node has now.
        self.heard_ms = NEVER
        # How old what is applied here can be.
        self.freshness = Freshness()
        # What each node said of itself when it connected last, this one included.
        self.introductions: dict[NodeId, Introduction] = {}
        # Nodes that aren't members here and have a later configuration, and its index: listened to until that is here.
        self.guests: dict[NodeId, LogIndex] = {}
        # Messages from peers that made no sense and were dropped.
        self.dropped = 0
        # How much of entries this node's full disk still takes; None: it isn't full.
        self.room_bytes: int | None = None
        # The outbox: what `Output` is made of.
        self.messages: list[tuple[NodeId, Message]] = []
        self.reads: list[tuple[int, LogIndex]] = []
        self.snapshots: list[NodeId] = []
        self.chunks: list[tuple[NodeId, InstallSnapshot]] = []
        self.sent_chunks: list[tuple[NodeId, SnapshotReply]] = []
        self.changes: list[Change] = []
        self.leased: list[tuple[int, LogIndex, float]] = []
        self.lost_reads: list[int] = []
        # Number of the last write handed out.
        self._write_number = 0
        # Writes handed out and not yet durable, oldest first: (number, when).
        self._writes: deque[tuple[int, float]] = deque()
        # The write that holds (term, voted_for); 0 when they are durable.
        self._hard_state_write = 0
        # What may be said, in this term, only once a write is durable: (its number, to whom, what).
        self._promises: deque[tuple[int, NodeId, Message]] = deque()
        # A snapshot point to be written down: (meta, first entry to keep, nothing of the old log survives).
        self._snapshot_point: tuple[SnapshotMeta, LogIndex, bool] | None = None

    # --- looking ---

    @property
    def configuration(self) -> Configuration:
        """The configuration in force."""
        return self.configurations.current

    @property
    def is_voter(self) -> bool:
        return self.configurations.current.is_voter(self.node)

    @property
    def may_lead(self) -> bool:
        """May this node stand for election?

        Also one that the newest configuration leaves out, until it has applied that: it may be the only one that holds
        the entry, and nobody could be elected without it. It doesn't count itself then (thesis §4.2.2).
        """
        return self.config.priority > 0 and self.configurations.may_vote(self.node)

    @property
    def is_full(self) -> bool:
        """Is there no room on this node's disk? Then it leads only if nobody else does, and takes few entries more."""
        return self.room_bytes is not None

    def takes(self, entries: Sequence[Entry]) -> bool:
        """Is there room for those of `entries` that aren't held yet? It counts as used then."""
        if self.room_bytes is None:
            return True
        log = self.log
        new = [len(entry.frame) + RECORD_BYTES for entry in entries if log.term_at(entry.index) != entry.term]
        if sum(new) > self.room_bytes:
            return False
        self.room_bytes -= sum(new)
        return True

    def priority_of(self, node: NodeId) -> int:
        """How much `node` wants to lead, as it said itself; as most do, if it didn't."""
        told = self.introductions.get(node)
        return 1 if told is None else told.priority

    def is_stranger(self, node: NodeId) -> bool:
        """Is `node` nobody to listen to? A replica that knows no configuration listens to all its host lets in."""
        stack = self.configurations
        members = stack.members
        return bool(members) and node not in members and self.guests.get(node, 0) <= stack.index

    def forget_strangers(self) -> None:
        """Members have left: should one of them be added again, it may be another node under the same name."""
        for node in [node for node in self.introductions if self.is_stranger(node) and node != self.node]:
            del self.introductions[node]

    @property
    def is_writing(self) -> bool:
        """Is a write handed out and not yet durable?"""
        return bool(self._writes)

    @property
    def is_term_durable(self) -> bool:
        return not self._hard_state_write

    @property
    def unfinished_write_ms(self) -> float:
        """For how long the oldest unfinished write has been on its way; 0 without one."""
        return self.now_ms - self._writes[0][1] if self._writes else 0.0

    @property
    def votes_held_until_ms(self) -> float:
        """Until when this node helps nobody into office who wasn't asked to take over: a leader may count on it.

        A node that has just started doesn't know whom it heard before, so it waits as long as that may matter.
        """
        lease_ms = self.configurations.current.lease_ms
        if not lease_ms:
            return NEVER
        return max(self.heard_ms + lease_ms, self.started_ms + max(lease_ms, self.config.election_timeout_max_ms))

    @property
    def holds_votes(self) -> bool:
        return self.now_ms < self.votes_held_until_ms

    def draw_election_deadline(self) -> float:
        """When to lose patience with the leader: anew at each call, evenly from the configured range (§5.2)."""
        config = self.config
        low = config.election_timeout_min_ms
        return self.now_ms + low + (config.election_timeout_max_ms - low) * self.random.random()

    def draw_held_deadline(self) -> float:
        """When to stand for election after votes were held: soon, and not all voters at once."""
        return self.votes_held_until_ms + self.config.heartbeat_interval_ms * self.random.random()

    def draw_read_number(self) -> int:
        """A number for a question to the leader that no other question ever had (62 random bits)."""
        return self.random.getrandbits(62)

    # --- the persistent state ---

    def enter_term(self, term: Term, vote: NodeId | None = None) -> None:
        """Go to a later term, with a vote for nobody yet, or for `vote`.

        What was to be promised in the earlier one is dropped: whoever it was for has no use for it, and an ack among it
        could help to commit, there, what this node is about to replace.
        """
        assert term > self.term, f"term would go from {self.term} to {term}"
        self._promises.clear()
        self.term = term
        self.voted_for = vote
        self._hard_state_write = self._write_number + 1

    def vote_for(self, candidate: NodeId) -> None:
        """Give this term's only vote (Figure 2, RequestVote)."""
        assert self.voted_for in (None, candidate), f"second vote in term {self.term}: {self.voted_for}, {candidate}"
        if self.voted_for is None:
            self.voted_for = candidate
            self._hard_state_write = self._write_number + 1

    # --- the outbox ---

    def send(self, target: NodeId, message: Message) -> None:
        """Say something that doesn't depend on this node's disk."""
        self.messages.append((target, message))

    def reply(self, target: NodeId, message: Message) -> None:
        """Answer in this term: at once if the disk knows the term and the vote, else when it does (§5.1)."""
        self._say(self._hard_state_write, target, message)

    def promise(self, target: NodeId, message: Message) -> None:
        """Say something that holds once all that this replica has taken so far is durable."""
        number = self._hard_state_write
        if self.log.has_unwritten or self._snapshot_point is not None:
            number = self._write_number + 1
        elif self._writes:
            number = self._write_number
        self._say(number, target, message)

    def _say(self, number: int, target: NodeId, message: Message) -> None:
        """Say it once write `number` is durable (0: now). The same again, while the disk is slow, is said once."""
        if not number:
            self.messages.append((target, message))
        elif not self._promises or self._promises[-1] != (number, target, message):
            self._promises.append((number, target, message))

    def changed(self, why: str) -> None:
        """Note a change of role, term or leader."""
        self.changes.append(Change(self.term, self.role_name, self.leader, why))

    def drop(self) -> None:
        """A peer's message makes no sense: count it, do nothing else."""
        self.dropped += 1

    # --- the disk ---

    def take_write(self) -> LogWrite | None:
        """Everything that is to be made durable and wasn't handed out yet, as one numbered write."""
        log = self.log
        next_number = self._write_number + 1
        is_dirty = self._hard_state_write == next_number
        point = self._snapshot_point
        if not (is_dirty or point is not None or log.has_unwritten):
            return None
        self._write_number = next_number
        self._writes.append((next_number, self.now_ms))
        hard_state = HardState(self.term, self.voted_for) if is_dirty else None
        entries = log.take_unwritten(next_number)
        if point is None:
            return LogWrite(self.group, next_number, hard_state, entries)
        self._snapshot_point = None
        meta, keep_from, reset = point
        return LogWrite(self.group, next_number, hard_state, entries, keep_from, meta, reset)

    def on_persisted(self, number: int) -> list[Message]:
        """Writes up to `number` are durable: let go of what waited for them; returns what this node told itself."""
        assert number <= self._write_number, (
            f"write {number} is durable, the last one handed out is {self._write_number}"
        )
        writes = self._writes
        while writes and writes[0][0] <= number:
            writes.popleft()
        self.log.on_written(number)
        if self._hard_state_write and self._hard_state_write <= number:
            self._hard_state_write = 0
        to_self: list[Message] = []
        promises = self._promises
        while promises and promises[0][0] <= number:
            _, target, message = promises.popleft()
            if target == self.node:
                to_self.append(message)
            else:
                self.messages.append((target, message))
        return to_self

    def keep_snapshot(self, meta: SnapshotMeta, keep_from: LogIndex, *, reset: bool = False) -> None:
        """A durable snapshot stands for the log below `keep_from`: have that written down."""
        if self._snapshot_point is not None:
            reset = reset or self._snapshot_point[2]
        self._snapshot_point = (meta, keep_from, reset)

    # --- votes, the same in every role ---

    def would_vote(self, last: EntryId) -> bool:
        """Is a log that ends in `last` at least as up-to-date as this one? Terms count before length (§5.4.1)."""
        return last >= self.log.last

    def answer_pre_vote(self, source: NodeId, message: RequestVote, *, is_leader_fresh: bool) -> None:
        """Would this node vote for `source` in the term it names? Binds nobody (thesis §9.6).

        A refusal carries this node's own term, so that a candidate behind it catches up instead of asking for ever.
        """
        granted = (
            (message.force or not (is_leader_fresh or self.holds_votes))
            and self.would_vote(message.last)
            and (message.term > self.term or (message.term == self.term and self.voted_for in (None, source)))
        )
        self.reply(source, VoteReply(message.term if granted else self.term, granted, pre=True))

    def answer_vote(self, source: NodeId, message: RequestVote) -> bool:
        """Vote for `source` in this term if nobody else has this node's vote and its log will do (Figure 2).

        The same candidate gets the same vote again: its first answer may have been lost.
        """
        granted = self.voted_for in (None, source) and self.would_vote(message.last)
        if self.holds_votes and not message.force:
            granted = False
        if granted:
            self.vote_for(source)
        self.reply(source, VoteReply(self.term, granted))
        return granted


Handler = Callable[[Any, NodeId, Any], Transition | None]


class Role:
    """What the three roles have in common: a deadline, and a table of what they answer."""

    __slots__ = ("deadline_ms", "member")

    name: ClassVar[str]
    handlers: ClassVar[dict[type, Handler]]

    def __init__(self, member: Member, transition: Transition) -> None:
        self.member = member
        # When on_deadline is due.
        self.deadline_ms = member.draw_election_deadline()

    def enter(self, transition: Transition) -> Transition | None:
        """Begin, once this is the replica's role."""
        return None

    def leave(self) -> str:
        """End; returns what is lost by it, for the log line."""
        return ""

    def on_deadline(self) -> Transition | None:
        """`deadline_ms` has come."""
        return None

    def on_persisted(self) -> Transition | None:
        """More of the log is durable."""
        return None

    def on_peer_lost(self, peer: NodeId) -> Transition | None:
        """The connection to `peer` ended."""
        return None

    def has_fresh_leader(self) -> bool:
        """Was a leader heard within the minimum election timeout? Then nobody needs an election (§6)."""
        return False

    def on_request_vote(self, source: NodeId, message: RequestVote) -> Transition | None:
        """Answer a candidate (§5.2)."""
        if message.pre:
            self.member.answer_pre_vote(source, message, is_leader_fresh=self.has_fresh_leader())
        else:
            self.member.answer_vote(source, message)
        return None
