"""Raft: one replica of one group, as values in and values out (Raft Figure 2, "Rules for Servers"; §5.1).

Nothing here reads a clock, a socket or a file. The host calls `tick`, `step`, `propose` and `read`, then takes one
`Output`; what promises something about this node's disk is in a later output, once `on_persisted` was called.
"""

from random import Random

from aegis_replication.consensus.candidate import Candidate, PreCandidate
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.consensus.configuration import Configuration, ConfigurationStack, decode_configuration
from aegis_replication.consensus.follower import Follower
from aegis_replication.consensus.leader import Leader
from aegis_replication.consensus.member import (
    CANDIDATE,
    FOLLOWER,
    LEADER,
    PRE_CANDIDATE,
    Member,
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
from aegis_replication.errors import NotLeader, StorageError
from aegis_replication.ids import GroupId, LogIndex, NodeId, Term
from aegis_replication.log import (
    NOTHING,
    Entry,
    EntryId,
    HardState,
    Kind,
    RecoveredGroup,
    ReplicatedLog,
    SnapshotMeta,
)

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
        self._member = _recover(node, group, config, recovered, random, now_ms)
        self._role: Role = Follower(self._member, to_follower(None, "started"))
        # Ticket of the last read taken. Never used twice.
        self._ticket = 0
        if bootstrap is not None and _is_new(recovered):
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
        members = member.configurations.members
        # A replica that knows no configuration yet listens to everybody its host lets in.
        if source == member.node or (members and source not in members):
            member.drop()
            return
        if message.term != member.term and not self._settle_terms(source, message):
            return
        self._deliver(source, message)

    def propose(self, kind: int, payload: bytes, *, count: int = 0, stamp: int = 0) -> Entry:
        """Append an entry and return it; it leaves for the followers with the next output. Raises NotLeader."""
        return self._leading().propose(kind, payload, count=count, stamp=stamp)

    def read(self) -> int:
        """A ticket for a linearizable read; `Output.reads` says when it may be served. Raises NotLeader.

        A leader that stops leading drops its reads: the change of role says so.
        """
        leader = self._leading()
        self._ticket += 1
        leader.read(self._ticket)
        return self._ticket

    def on_persisted(self, number: int) -> None:
        """Write `number`, and all before it, are durable."""
        for message in self._member.on_persisted(number):
            self._deliver(self._member.node, message)
        self._follow_up(self._role.on_persisted())

    def on_peer_lost(self, peer: NodeId) -> None:
        """The connection to `peer` ended: what was on its way may be lost."""
        self._follow_up(self._role.on_peer_lost(peer))

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
            role.before_output()
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
        output = Output(
            member.messages,
            write,
            committed,
            member.reads,
            member.snapshots,
            member.chunks,
            member.sent_chunks,
            member.changes,
        )
        member.messages, member.reads, member.snapshots = [], [], []
        member.chunks, member.sent_chunks, member.changes = [], [], []
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
            if not message.force and member.config.check_quorum and self._role.has_fresh_leader():
                return False  # whoever doesn't hear our leader must not unseat it (§6)
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


def _is_new(recovered: RecoveredGroup) -> bool:
    """Has this disk never held an entry? Its first write may have been torn between term 1 and the first entry."""
    is_empty = not recovered.entries and recovered.snapshot is None and recovered.base == NOTHING
    return is_empty and recovered.hard_state in (HardState(), HardState(1))


def _recover(
    node: NodeId, group: GroupId, config: RaftConfig, recovered: RecoveredGroup, random: Random, now_ms: float
) -> Member:
    """The state on all servers as the disk holds it. What was committed is known up to the snapshot, no further."""
    snapshot = recovered.snapshot
    stack = ConfigurationStack()
    base_stamp = 0
    if snapshot is not None:
        at = EntryId(snapshot.term, snapshot.configuration_index)
        stack = ConfigurationStack(at, decode_configuration(snapshot.configuration))
        base_stamp = snapshot.stamp if recovered.base == snapshot.id else 0
    log = ReplicatedLog(group, recovered.base, recovered.entries, base_stamp=base_stamp)
    if recovered.hard_state.term < log.last.term:
        raise StorageError(
            f"group {group}: the log ends with an entry of term {log.last.term}, the recorded term is "
            f"{recovered.hard_state.term}: term and log don't belong together. Restore this node from a backup"
        )
    is_reset = False
    if snapshot is not None and snapshot.index > log.base.index:
        is_reset = log.term_at(snapshot.index) != snapshot.term
        if is_reset:  # it was named just before a crash, and the log was to start over from it
            log.reset(snapshot.id, snapshot.stamp)
        else:
            log.commit_to(snapshot.index)
    elif recovered.base.index > (0 if snapshot is None else snapshot.index):
        held = "no snapshot holds" if snapshot is None else f"the snapshot, which ends at {snapshot.index}, lacks"
        raise StorageError(
            f"group {group}: the log starts after {recovered.base.index} and {held} what was before. "
            "Restore this node from a backup"
        )
    for entry in log.since(log.first, bytes_max=2**63):
        if entry.kind == Kind.CONFIGURATION and entry.index > stack.index:
            stack.push(entry.id, decode_configuration(entry.payload))
    member = Member(node, group, config, random, now_ms, hard_state=recovered.hard_state, log=log, configurations=stack)
    if snapshot is not None and is_reset:
        member.keep_snapshot(snapshot, log.first, reset=True)
    return member
