"""What does a follower do? (Raft Figure 2, "Followers", and what it makes of AppendEntries; §5.2, §5.3, §7.)"""

from collections.abc import Sequence
from typing import ClassVar

from aegis_replication.consensus.configuration import Configuration, decode_configuration
from aegis_replication.consensus.member import (
    FOLLOWER,
    Handler,
    Member,
    Role,
    Transition,
    to_candidate,
    to_pre_candidate,
)
from aegis_replication.consensus.messages import (
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
)
from aegis_replication.errors import ProtocolError
from aegis_replication.ids import LogIndex, NodeId
from aegis_replication.log import Entry, EntryId, Kind, SnapshotMeta

CONFIGURATION = int(Kind.CONFIGURATION)


class Follower(Role):
    """Answers candidates and leaders; starts asking for votes when no leader is heard (§5.2)."""

    __slots__ = (
        "_has_complained",
        "_has_stood_back",
        "acknowledged",
        "asked",
        "heard_ms",
        "is_owed",
        "round",
        "verified",
    )

    name: ClassVar[str] = FOLLOWER

    def __init__(self, member: Member, transition: Transition) -> None:
        super().__init__(member, transition)
        # When the leader of this term was last heard.
        self.heard_ms = member.now_ms if transition.leader is not None else float("-inf")
        # Highest index that this term's leader has shown to be as in its own log. Only rises.
        self.verified: LogIndex = 0
        # Highest round of this term seen. Only rises.
        self.round = 0
        # Highest `matched` told to this term's leader.
        self.acknowledged: LogIndex = 0
        # Is there more to acknowledge once it is durable?
        self.is_owed = False
        # Questions that this term's leader hasn't answered: by number, the read's ticket, when it was asked first, and
        # when last.
        self.asked: dict[int, tuple[int, float, float]] = {}
        # Has it left it to others to stand for election, because its own disk is full?
        self._has_stood_back = False
        # Was it said that this leader contradicts what is committed? Once is enough.
        self._has_complained = False

    # --- AppendEntries ---

    def on_append_entries(self, source: NodeId, message: AppendEntries) -> None:
        """Take a leader's entries, or its heartbeat (Figure 2, AppendEntries 2 to 5).

        The reply is one: after the flush, for entries; at once, for a heartbeat. A new round, or a disk that is busy
        with earlier entries, gets contact at once and the ack later: a slow disk must not look like a lost follower.
        """
        if not self._follow(source):
            return
        member = self.member
        log = member.log
        entries = message.entries
        if entries and not member.takes(entries):
            entries = ()  # no room: contact is all that this append gets; the leader tries again later
        is_new_round = message.round > self.round
        if is_new_round:
            self.round = message.round
        if not log.matches(message.previous):
            self._refuse(source, message.previous)
            return
        if entries:
            if not self._adopt(message):
                return
            verified = entries[-1].index
        else:
            verified = message.previous.index
        if verified > self.verified:
            self.verified = verified
        # No further than what this leader has shown to match: what lies behind may be another leader's (Figure 2, 5).
        if message.commit > log.committed:
            log.commit_to(min(message.commit, self.verified))
        self.is_owed = log.durable < self.verified
        if not entries or is_new_round or member.is_writing or log.durable >= verified:
            self._acknowledge(source)

    def on_persisted(self) -> None:
        """Tell the leader what has become durable since the last ack."""
        if not self.is_owed:
            return
        log = self.member.log
        self.is_owed = log.durable < self.verified
        if self.member.leader is not None and min(self.verified, log.durable) > self.acknowledged:
            self._acknowledge(self.member.leader)

    def _follow(self, leader: NodeId) -> bool:
        """Note that this term's leader lives; False if it can't be: a term has one leader (§5.2)."""
        member = self.member
        if member.leader != leader:
            if member.leader is not None:
                member.drop()
                return False
            member.leader = leader
            member.changed(f"heard from leader {leader}")
        self.heard_ms = member.heard_ms = member.now_ms
        self.deadline_ms = member.draw_election_deadline()
        if self.asked:
            self._ask_again()
        return True

    def _acknowledge(self, leader: NodeId) -> None:
        matched = min(self.verified, self.member.log.durable)
        if matched > self.acknowledged:
            self.acknowledged = matched
        self.member.reply(leader, AppendReply(self.member.term, self.round, matched))

    def _refuse(self, leader: NodeId, previous: EntryId) -> None:
        """The logs don't meet at `previous`: say where they might, so that whole terms are skipped (§5.3)."""
        hint = self.member.log.last_at_most(previous.index, previous.term)
        self.member.reply(leader, AppendReply(self.member.term, self.round, 0, previous.index, hint))

    def _adopt(self, message: AppendEntries) -> bool:
        """Take the entries, and the configurations among them; False, and nothing done, if they make no sense."""
        member = self.member
        log = member.log
        try:
            configurations = _checked(message.previous, message.entries, message.term)
        except ProtocolError:
            member.drop()
            return False
        for entry in message.entries:
            if entry.index > log.committed:
                break
            if entry.index > log.base.index and log.term_at(entry.index) != entry.term:
                member.drop()
                if not self._has_complained:
                    self._has_complained = True
                    member.changed(f"refused an append of {member.leader} against committed entry {entry.index}")
                return False
        log.adopt(message.previous, message.entries)
        stack = member.configurations
        if len(stack) > 1:
            stack.roll_back(log)
        for at, configuration in configurations:
            if at.index > stack.index:
                stack.push(at, configuration)
        return True

    # --- InstallSnapshot ---

    def on_install_snapshot(self, source: NodeId, message: InstallSnapshot) -> None:
        """Take a chunk of the leader's snapshot, unless this log holds what it stands for already (§7)."""
        if not self._follow(source):
            return
        member, meta = self.member, message.meta
        if not _is_possible(meta, message.term):
            member.drop()
            return
        if member.log.term_at(meta.index) == meta.term:
            # The same id means the same log up to there, and a snapshot holds committed entries only.
            member.log.commit_to(meta.index)
        if meta.index <= member.log.committed:
            self.on_installed(meta.id)
        else:
            member.chunks.append((source, message))

    def on_chunk_stored(self, snapshot: EntryId, next_offset: int) -> None:
        """A chunk of the leader's snapshot was taken: ask for the next."""
        if self.member.leader is not None:
            self.member.reply(self.member.leader, SnapshotReply(self.member.term, snapshot, next_offset))

    def on_installed(self, snapshot: EntryId) -> None:
        """The log holds `snapshot` or starts at it: say so, once that is durable."""
        member = self.member
        self.verified = max(self.verified, member.log.committed)
        if member.leader is not None:
            member.promise(member.leader, SnapshotReply(member.term, snapshot, installed=member.log.committed))

    # --- reads ---

    def read(self, ticket: int) -> None:
        """Ask the leader which entry a read has to wait for (thesis §6.4)."""
        member = self.member
        assert member.leader is not None, "a follower without a leader takes a read"
        number = member.draw_read_number()
        self.asked[number] = (ticket, member.now_ms, member.now_ms)
        member.reply(member.leader, ReadIndex(member.term, number))

    def _ask_again(self) -> None:
        """Questions or answers may be lost. Under its number: any answer to it was made after the question."""
        member = self.member
        assert member.leader is not None, "asks nobody"
        least_ms = member.now_ms - 2 * member.config.heartbeat_interval_ms
        for number, (ticket, first_ms, last_ms) in self.asked.items():
            if last_ms <= least_ms:
                self.asked[number] = (ticket, first_ms, member.now_ms)
                member.reply(member.leader, ReadIndex(member.term, number))

    def on_read_index_reply(self, source: NodeId, message: ReadIndexReply) -> None:
        """The leader knows that it still leads: what was asked may be answered at that entry."""
        member = self.member
        asked = self.asked.pop(message.number, None) if source == member.leader else None
        if asked is None:
            return  # an answer that came twice, or to an earlier life of this node
        ticket, first_ms, _ = asked
        member.freshness.prove(first_ms, message.index)
        member.reads.append((ticket, message.index))

    def leave(self) -> str:
        """Reads that wait for this leader are lost with it; whoever asked must ask again."""
        return self._lose_reads()

    def _lose_reads(self) -> str:
        count = len(self.asked)
        self.member.lost_reads += [ticket for ticket, _, _ in self.asked.values()]
        self.asked.clear()
        return f"; {count} waiting {'read' if count == 1 else 'reads'} dropped" if count else ""

    # --- elections ---

    def on_request_vote(self, source: NodeId, message: RequestVote) -> None:
        """Answer a candidate; a granted vote gives it time to win (Figure 2, Followers)."""
        member = self.member
        if message.pre:
            member.answer_pre_vote(source, message, is_leader_fresh=self.has_fresh_leader())
        elif member.answer_vote(source, message):
            self.deadline_ms = member.draw_election_deadline()

    def on_timeout_now(self, source: NodeId, message: TimeoutNow) -> Transition | None:
        """The leader hands over: start an election at once, without asking whether (thesis §3.10)."""
        member = self.member
        if source != member.leader:
            member.drop()
            return None
        if not member.may_lead or member.is_full:
            return None  # it could take no writes: better that the old leader looks for another
        return to_candidate(f"leader {source} handed over", force=True)

    def on_deadline(self) -> Transition | None:
        """No leader was heard, and no vote given, for an election timeout (§5.2)."""
        member = self.member
        why = f"no word from leader {member.leader}" if member.leader is not None else "no leader in sight"
        if member.holds_votes:  # its own vote too
            self.deadline_ms = member.draw_held_deadline()
            return None
        if not member.may_lead:
            self.deadline_ms = member.draw_election_deadline()
            if member.leader is not None:
                lost = self._lose_reads()
                member.leader = None
                member.changed(why + lost)
                self.is_owed = False
            return None
        if member.is_full and not self._has_stood_back:
            self._has_stood_back = True
            self.deadline_ms = member.now_ms + member.config.election_timeout_max_ms
            return None
        return to_pre_candidate(why) if member.config.pre_vote else to_candidate(why)

    def on_peer_lost(self, peer: NodeId) -> None:
        """With the leader's connection gone, ask early whether an election would be won: never start one for that.

        All who lost it do so within a heartbeat interval, each in a slot of its own, so that they don't split the vote.
        """
        member = self.member
        if peer != member.leader:
            return
        self.heard_ms = float("-inf")
        if member.config.pre_vote and member.may_lead and not member.is_full:
            configuration = member.configuration
            others = sorted({*configuration.voters, *configuration.outgoing, member.node} - {peer})
            slot = (others.index(member.node) + member.random.random()) / len(others)
            earliest_ms = max(member.now_ms, member.votes_held_until_ms)
            self.deadline_ms = min(self.deadline_ms, earliest_ms + slot * member.config.heartbeat_interval_ms)

    def has_fresh_leader(self) -> bool:
        """Was the leader heard within the minimum election timeout?"""
        return self.member.now_ms - self.heard_ms < self.member.config.election_timeout_min_ms

    handlers: ClassVar[dict[type, Handler]] = {
        AppendEntries: on_append_entries,
        InstallSnapshot: on_install_snapshot,
        RequestVote: on_request_vote,
        TimeoutNow: on_timeout_now,
        ReadIndexReply: on_read_index_reply,
    }


def _checked(previous: EntryId, entries: Sequence[Entry], term: int) -> list[tuple[EntryId, Configuration]]:
    """The configurations among `entries`. Raises ProtocolError unless they follow `previous` in a log of `term`."""
    configurations: list[tuple[EntryId, Configuration]] = []
    last_term, index = previous
    for entry in entries:
        index += 1
        if entry.index != index or not last_term <= entry.term <= term:
            raise ProtocolError(f"entry {entry.id} where index {index} of terms {last_term} to {term} must follow")
        last_term = entry.term
        if entry.kind == CONFIGURATION:
            configurations.append((entry.id, decode_configuration(entry.payload)))
    return configurations


def _is_possible(meta: SnapshotMeta, term: int) -> bool:
    """Could a leader of `term` have such a snapshot?"""
    try:
        decode_configuration(meta.configuration)
    except ProtocolError:
        return False
    return 0 < meta.term <= term and 0 <= meta.configuration_index <= meta.index and meta.index > 0
