"""Raft: one replica of one group, as values in and values out (Raft Figure 2, "Rules for Servers"; §5.1).

Nothing here reads a clock, a socket or a file. The host calls `tick`, `step`, `propose` and `read`, then takes one
`Output`; what promises something about this node's disk is in a later output, once `on_persisted` was called.
"""

from collections.abc import Mapping
from random import Random

from aegis_replication.consensus.candidate import Candidate, PreCandidate
from aegis_replication.consensus.changes import Change, Introduction
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.consensus.configuration import Configuration, ConfigurationStack, decode_configuration
from aegis_replication.consensus.follower import Follower
from aegis_replication.consensus.handover import Handover
from aegis_replication.consensus.leader import Leader
from aegis_replication.consensus.lease import NEVER
from aegis_replication.consensus.member import (
    CANDIDATE,
    FOLLOWER,
    LEADER,
    PRE_CANDIDATE,
    Role,
    Transition,
    to_follower,
)
from aegis_replication.consensus.messages import (
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    Message,
    RequestVote,
    SnapshotReply,
    VoteReply,
)
from aegis_replication.consensus.output import Output
from aegis_replication.consensus.recovery import is_new, recover
from aegis_replication.errors import NotLeader
from aegis_replication.ids import GroupId, LogIndex, NodeId, Term
from aegis_replication.log import Entry, EntryId, Kind, RecoveredGroup, ReplicatedLog, SnapshotMeta

ROLES: dict[str, type[Role]] = {
    FOLLOWER: Follower,
    PRE_CANDIDATE: PreCandidate,
    CANDIDATE: Candidate,
    LEADER: Leader,
}


class Raft:
    """One replica of one group."""

    __slots__ = ("_member", "_role", "_ticket")

    def __init__(
        self,
        *,
        node: NodeId,
        group: GroupId,
        config: RaftConfig,
        recovered: RecoveredGroup,
        bootstrap: Configuration | None,
        random: Random,
        now_ms: float,
    ) -> None:
        """Start as a follower with what the disk holds; an empty disk and `bootstrap` make the group's first entry.

        That entry is (term 1, index 1, stamp 1) and the same bytes on every node, so it counts as held by all.
        Raises StorageError when what was recovered can't be one replica's state.
        """
        self._member = recover(node, group, config, recovered, random, now_ms)
        self._role: Role = Follower(self._member, to_follower(None, "started"))
        # Ticket of the last read taken. Never used twice.
        self._ticket = 0
        if bootstrap is not None and is_new(recovered):
            self._bootstrap(bootstrap)

    # --- looking ---

    @property
    def node(self) -> NodeId:
        return self._member.node

    @property
    def group(self) -> GroupId:
        return self._member.group

    @property
    def term(self) -> Term:
        return self._member.term

    @property
    def voted_for(self) -> NodeId | None:
        """Who got this node's vote in this term."""
        return self._member.voted_for

    @property
    def leader(self) -> NodeId | None:
        """Whom this replica takes for the leader of its term."""
        return self._member.leader

    @property
    def is_leader(self) -> bool:
        return type(self._role) is Leader

    @property
    def role(self) -> str:
        """ "follower", "pre-candidate", "candidate" or "leader"."""
        return self._member.role_name

    @property
    def log(self) -> ReplicatedLog:
        return self._member.log

    @property
    def config(self) -> RaftConfig:
        return self._member.config

    @property
    def configuration(self) -> Configuration:
        """The configuration in force: the newest one in the log, committed or not."""
        return self._member.configurations.current

    @property
    def configurations(self) -> ConfigurationStack:
        """All configurations that may still be needed. For invariants and status; look only."""
        return self._member.configurations

    @property
    def configuration_index(self) -> LogIndex:
        return self._member.configurations.index

    @property
    def applied_to(self) -> LogIndex:
        """Highest index handed out for applying."""
        return self._member.applied_to

    @property
    def dropped(self) -> int:
        """How many messages from peers made no sense."""
        return self._member.dropped

    @property
    def deadline_ms(self) -> float:
        """When `tick` must be called at the latest."""
        return self._role.deadline_ms

    @property
    def lease_until_ms(self) -> float:
        """Until when no other replica can lead, by this node's clock; in the past when this one has no lease."""
        return self._role.lease_until_ms if isinstance(self._role, Leader) else NEVER

    def fresh_until_ms(self, age_ms: float, applied: LogIndex) -> float:
        """Until when the state at `applied` certainly holds every write acknowledged more than `age_ms` before."""
        return self._member.freshness.until_ms(age_ms, applied)

    @property
    def current_role(self) -> Role:
        """The role object: what is known in this role only. For invariants and status; changes nothing."""
        return self._role

    def snapshot_meta(self) -> SnapshotMeta:
        """What a snapshot of the state taken now, with everything applied that was handed out, has to say of itself."""
        member = self._member
        index = member.applied_to
        at, configuration = member.configurations.at(index)
        term = member.log.term_at(index)
        assert term is not None, f"entry {index} was applied and is not in [{member.log.base}, {member.log.last}]"
        return SnapshotMeta(term, index, member.log.stamp_at(index), configuration.encode(), at.index)

    # --- input ---

    def tick(self, now_ms: float) -> None:
        """Time has passed. Comes before whatever else happened in the same turn."""
        member = self._member
        member.now_ms = max(member.now_ms, now_ms)
        if member.now_ms >= self._role.deadline_ms:
            self._follow_up(self._role.on_deadline())

    def step(self, source: NodeId, message: Message) -> None:
        """A peer's message: first the terms (Figure 2, "All Servers"), then what this role makes of it.

        A stranger's message and one that makes no sense are counted in `dropped`, and nothing else happens.
        """
        member = self._member
        if source == member.node or member.is_stranger(source):
            member.drop()
            return
        if message.term != member.term and not self._settle_terms(source, message):
            return
        self._deliver(source, message)

    def propose(self, kind: int, payload: bytes, *, count: int = 0, stamp: int = 0) -> Entry:
        """Append an entry and return it; it leaves for the followers with the next output. Raises NotLeader."""
        return self._leading().propose(kind, payload, count=count, stamp=stamp)

    def propose_change(self, change: Change, *, joint: bool = False) -> Entry | None:
        """Begin a change of members; the entry it starts with, or None when it is so already.

        A change of one voter takes one step, of more (or with `joint`) two, the second by itself. Raises NotLeader,
        ChangePending, ChangeRefused, InvalidArgument.
        """
        return self._leading().propose_change(change, joint=joint)

    def transfer(self, target: NodeId | None = None) -> None:
        """Hand leadership over to `target`, or to the best there is; it is done when this replica no longer leads.

        Proposals are refused meanwhile. Given up after an election timeout. Raises NotLeader, ChangePending,
        ChangeRefused.
        """
        self._leading().transfer(target)

    @property
    def handover(self) -> Handover | None:
        """The attempt to hand over that is under way."""
        return self._role.handover if isinstance(self._role, Leader) else None

    @property
    def may_propose(self) -> bool:
        """Does this replica lead, and take proposals now?"""
        return isinstance(self._role, Leader) and self._role.handover is None

    def introduce(self, node: NodeId, introduction: Introduction) -> None:
        """What `node`, perhaps this one, says of itself on a connection that `why_not` let pass."""
        member = self._member
        member.introductions[node] = introduction
        if node not in member.configurations.members and introduction.configuration > member.configurations.index:
            member.guests[node] = introduction.configuration

    @property
    def introductions(self) -> Mapping[NodeId, Introduction]:
        """What each node said of itself last."""
        return self._member.introductions

    def why_not(self, node: NodeId, introduction: Introduction) -> str:
        """Why `node` isn't to be spoken with; "" when it is: as ConfigurationStack.why_not."""
        return self._member.configurations.why_not(node, introduction.incarnation, introduction.configuration)

    @property
    def peers(self) -> dict[NodeId, str]:
        """Whom this replica speaks with, and where, "" where that isn't known: all members held, and guests."""
        member = self._member
        stack = member.configurations
        guests = [node for node, index in member.guests.items() if index > stack.index]
        addresses = {node: told.address for node, told in member.introductions.items()}
        addresses.update(stack.current.addresses)
        return {node: addresses.get(node, "") for node in sorted({*stack.members, *guests} - {member.node})}

    def read(self, *, by_lease: bool = True, here: bool = False) -> int:
        """A ticket for a linearizable read; `Output.reads` says when it may be served. Raises NotLeader.

        With a lease it is in `Output.leased`, to be served before that ends; if it wasn't, ask with by_lease=False.
        With here=True a follower takes it too, asking its leader which entry to wait for. A leader that stops leading
        drops its reads: the change of role says so; a follower that loses its leader names them in `Output.lost_reads`.
        """
        self._ticket += 1
        role = self._role
        if here and isinstance(role, Follower) and self._member.leader is not None:
            role.read(self._ticket)
        else:
            self._leading().read(self._ticket, by_lease=by_lease)
        return self._ticket

    def set_lease(self, lease_ms: int) -> Entry | None:
        """Have a lease of `lease_ms` (0: none) from now on; None when it is so. Raises NotLeader, ChangePending."""
        return self._leading().set_lease(lease_ms)

    def on_persisted(self, number: int) -> None:
        """Write `number`, and all before it, are durable."""
        for message in self._member.on_persisted(number):
            self._deliver(self._member.node, message)
        self._follow_up(self._role.on_persisted())

    def on_peer_lost(self, peer: NodeId) -> None:
        """The connection to `peer` ended: what was on its way may be lost, and who calls next need not be the same."""
        self._member.introductions.pop(peer, None)
        self._follow_up(self._role.on_peer_lost(peer))

    def on_room_changed(self, room_bytes: int | None) -> None:
        """This node's disk is full and takes so many bytes of entries more; None: it isn't full."""
        self._member.room_bytes = room_bytes

    def on_snapshot_saved(self, meta: SnapshotMeta, keep_entries_from: LogIndex) -> None:
        """This replica's own snapshot is durable: forget the log below `keep_entries_from`, at most up to its index."""
        member = self._member
        log = member.log
        assert meta.index <= member.applied_to, f"snapshot {meta.id} is ahead of applied {member.applied_to}"
        if meta.index < log.base.index:
            return  # a leader's newer snapshot came in between
        log.compact(min(keep_entries_from - 1, meta.index))
        member.keep_snapshot(meta, log.first)

    def on_snapshot_stored(self, source: NodeId, snapshot: EntryId, next_offset: int) -> None:
        """A chunk that came from `source` was stored, or refused: it goes on at `next_offset`."""
        role = self._role
        if isinstance(role, Follower) and source == self._member.leader:
            role.on_chunk_stored(snapshot, next_offset)

    def on_snapshot_installed(self, source: NodeId, meta: SnapshotMeta) -> bool:
        """A leader's snapshot is complete and durable here; says whether the state is to be replaced by it.

        Entries behind it stay if the log holds its last entry; else the whole log goes: it conflicts, or ends before
        (§7). One that isn't ahead of what was applied changes nothing.
        """
        member = self._member
        log = member.log
        is_held = log.term_at(meta.index) == meta.term
        if not is_held and log.base.index < meta.index <= log.committed:
            member.drop()  # it contradicts what is committed here: no leader of this group made it
            return False
        is_news = meta.index > member.applied_to
        if is_news:
            if is_held:
                log.commit_to(meta.index)
                log.compact(meta.index)
            else:
                configuration = decode_configuration(meta.configuration)
                log.reset(meta.id, meta.stamp)
                member.configurations.reset(EntryId(meta.term, meta.configuration_index), configuration)
            member.applied_to = meta.index
            member.configurations.forget_before(meta.index)
            member.keep_snapshot(meta, log.first, reset=not is_held)
        if isinstance(self._role, Follower) and source == member.leader:
            self._role.on_installed(meta.id)
        return is_news

    # --- output ---

    def take_output(self) -> Output:
        """Hand over what is to be done, and forget it."""
        member = self._member
        role = self._role
        if isinstance(role, Leader):
            self._follow_up(role.before_output())
        write = member.take_write()
        log = member.log
        committed: list[Entry] = []
        # Only what is durable here as well: a state must not know more than its own log after a crash.
        ready = min(log.committed, log.durable)
        if ready > member.applied_to:
            committed = log.slice(member.applied_to + 1, ready + 1)
            member.applied_to = ready
            if len(member.configurations) > 1:
                member.configurations.forget_before(ready)
                member.forget_strangers()
                if isinstance(self._role, Leader):
                    self._role.on_members_forgotten()
        # fmt: off
        output = Output(
            member.messages, write, committed, member.reads, member.snapshots, member.chunks, member.sent_chunks,
            member.changes, member.leased, member.lost_reads,
        )
        # fmt: on
        member.messages, member.reads, member.snapshots = [], [], []
        member.chunks, member.sent_chunks, member.changes = [], [], []
        member.leased, member.lost_reads = [], []
        return output

    # --- rules for all servers ---

    def _settle_terms(self, source: NodeId, message: Message) -> bool:
        """Adopt a later term, answer an earlier one; says whether the message is still to be looked at (§5.1)."""
        member = self._member
        if message.term < member.term:
            self._answer_earlier_term(source, message)
            return False
        leader = None
        if isinstance(message, RequestVote):
            if message.pre:
                return True  # it names a term, nobody has entered it
            if not message.force and (
                member.holds_votes or (member.config.check_quorum and self._role.has_fresh_leader())
            ):
                return False  # whoever doesn't hear our leader must not unseat it (§6); a leader may have a lease
        elif isinstance(message, VoteReply):
            if message.pre and message.granted:
                return True  # likewise
        elif isinstance(message, AppendEntries | InstallSnapshot):
            leader = source
        # Later terms are adopted, which is not yet a vote for anybody.
        self._become(to_follower(leader, f"{source} is in term {message.term}"), term=message.term)
        return True

    def _answer_earlier_term(self, source: NodeId, message: Message) -> None:
        """Tell who lives in an earlier term of the later one; an answer from there is of no use (§5.1).

        A pre-vote and an append too are answered: else a candidate or a leader that was cut off would never learn.
        """
        member = self._member
        if isinstance(message, RequestVote):
            member.reply(source, VoteReply(member.term, False, message.pre))
        elif isinstance(message, AppendEntries):
            member.reply(source, AppendReply(member.term, 0))
        elif isinstance(message, InstallSnapshot):
            member.reply(source, SnapshotReply(member.term, message.meta.id))

    def _deliver(self, source: NodeId, message: Message) -> None:
        """What this role makes of a message of its own term; one it doesn't know is of no interest to it."""
        handler = self._role.handlers.get(type(message))
        if handler is None:
            return
        transition = handler(self._role, source, message)
        if transition is not None:
            self._become(transition)
            if transition.redeliver:
                self._deliver(source, message)

    def _follow_up(self, transition: Transition | None) -> None:
        if transition is not None:
            self._become(transition)

    def _become(self, transition: Transition, *, term: Term = 0) -> None:
        """Change the role, and first the term if `term` is a later one. A role may want to be another at once."""
        member = self._member
        next_transition: Transition | None = transition
        while next_transition is not None:
            transition, next_transition = next_transition, None
            old = self._role
            before = (member.role_name, member.term, member.leader)
            lost = old.leave()
            if term > member.term:
                member.enter_term(term)
            member.leader = transition.leader
            role = ROLES[transition.role](member, transition)
            if isinstance(old, Follower) and transition.role == FOLLOWER and transition.leader is None:
                # Only a leader or a vote given buys time (Figure 2, Followers), not somebody's later term.
                role.deadline_ms = old.deadline_ms
            self._role = role
            member.role_name = role.name
            next_transition = role.enter(transition)
            if before != (member.role_name, member.term, member.leader):
                member.changed(transition.why + lost)

    def _leading(self) -> Leader:
        role = self._role
        if not isinstance(role, Leader):
            raise NotLeader(self._member.group, self._member.leader)
        return role

    # --- beginning ---

    def _bootstrap(self, configuration: Configuration) -> None:
        """The first entry of a new group, made by every node for itself."""
        member = self._member
        if member.term == 0:
            member.enter_term(1)
        entry = member.log.append_new(1, int(Kind.CONFIGURATION), configuration.encode(), stamp=1)
        member.configurations.push(entry.id, configuration)
