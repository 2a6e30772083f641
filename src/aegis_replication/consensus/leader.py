"""What does a leader do? (Raft Figure 2, "Leaders"; §5.3, §5.4.2; thesis §6.2 for stepping down, §6.4 for reads.)"""

from collections.abc import Collection
from typing import ClassVar

import msgspec

from aegis_replication.consensus.changes import Change
from aegis_replication.consensus.configuration import Configuration, decode_configuration
from aegis_replication.consensus.contact import Contact
from aegis_replication.consensus.handover import PAUSE, Handover, best_target, better_target, check_target
from aegis_replication.consensus.member import LEADER, Member, Transition, to_follower
from aegis_replication.consensus.membership import Membership
from aegis_replication.consensus.messages import (
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    ReadIndex,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
)
from aegis_replication.consensus.progress import PROBE, REPLICATE, SNAPSHOT, Progress
from aegis_replication.consensus.quorum import is_supported, jointly_committed
from aegis_replication.consensus.role import Handler, Role
from aegis_replication.errors import ChangePending, ChangeRefused, Overloaded
from aegis_replication.ids import LogIndex, NodeId
from aegis_replication.log import NOTHING, Entry, EntryId, Kind

NO_OP, CONFIGURATION = int(Kind.NO_OP), int(Kind.CONFIGURATION)

SNAPSHOT_PATIENCE = 10
"""For how many maximum election timeouts a snapshot may stand still before its follower is asked where it stands."""


class Leader(Contact):
    """Takes proposals, copies them to followers, and commits what a majority holds."""

    __slots__ = ("_declined", "_is_heartbeat_due", "_is_step_due", "_settled_ms", "handover", "membership", "progress")

    name: ClassVar[str] = LEADER

    def __init__(self, member: Member, transition: Transition) -> None:
        super().__init__(member, transition)
        self.deadline_ms = member.now_ms + member.config.heartbeat_interval_ms
        # What is known of each other member. Invariant: its keys are the members of all configurations held but this
        # node: one that is being removed gets entries until its removal is applied.
        self.progress: dict[NodeId, Progress] = {}
        self.membership = Membership(member, self.progress, self.first_own)
        # The attempt to hand over that is under way: no proposals meanwhile.
        self.handover: Handover | None = None
        # Who didn't take over from this leader while its disk was full: perhaps theirs are, too.
        self._declined: set[NodeId] = set()
        self._is_heartbeat_due = False
        # A configuration was committed, or a heartbeat has passed: see whether another one is due by itself.
        self._is_step_due = False
        # Since when this leader has had no reason to look for a better one.
        self._settled_ms = member.now_ms

    def enter(self, transition: Transition) -> None:
        """Begin the term with a no-op: what earlier terms left commits together with it (§5.4.2, §8)."""
        self.member.leader = self.member.node
        self._meet_members(self.first_own)
        self.propose(NO_OP, b"")

    # --- proposals ---

    def propose(self, kind: int, payload: bytes, *, count: int = 0, stamp: int = 0) -> Entry:
        """Append a new entry; it leaves for the followers with the next output (§5.3).

        Raises Overloaded while this leader hands over, ChangePending for a configuration that may not begin yet.
        """
        member = self.member
        if self.handover is not None:
            raise Overloaded(f"the leader hands over to {self.handover.target}: propose again in a moment")
        if kind != CONFIGURATION:
            format = member.configurations.current.format
            return member.log.append_new(member.term, kind, payload, count=count, stamp=stamp, format=format)
        self._check_change()
        return self._append(decode_configuration(payload))

    def _append(self, configuration: Configuration) -> Entry:
        member = self.member
        format = member.configurations.current.format  # whoever doesn't know the new one can read that, and refuse
        assert configuration.format >= format, f"from format {format} back to {configuration.format}"
        entry = member.log.append_new(member.term, CONFIGURATION, configuration.encode(), format=format)
        member.configurations.push(entry.id, configuration)  # in force when appended (thesis §4.1)
        self.lease.start_over(self.round + 1)
        self._meet_members(entry.index)
        return entry

    def propose_change(self, change: Change, *, joint: bool) -> Entry | None:
        """Append the first configuration on the way to `change`; None when it is so already (thesis §4.1)."""
        if self.handover is not None:
            raise ChangePending(f"the leader hands over to {self.handover.target}: ask again in a moment")
        wanted = self.membership.decide(change, joint=joint)
        return None if wanted is None else self._append(wanted)

    def set_lease(self, lease_ms: int) -> Entry | None:
        """Append a configuration with a lease of `lease_ms` (0: none); None when it is so already."""
        self._check_change()
        configuration = self.member.configuration
        if configuration.lease_ms == lease_ms:
            return None
        return self._append(msgspec.structs.replace(configuration, lease_ms=lease_ms))

    def _check_change(self) -> None:
        """Raises ChangePending while no configuration may be appended."""
        if self.handover is not None:
            raise ChangePending(f"the leader hands over to {self.handover.target}: ask again in a moment")
        why_not = self.membership.why_not_now()
        if why_not:
            raise ChangePending(f"one change at a time: {why_not}; ask again in a moment")

    def transfer(self, target: NodeId | None) -> None:
        """Begin to hand over (thesis §3.10); again to the same target changes nothing, to this node neither."""
        member = self.member
        if target == member.node:
            return
        if self.handover is not None:
            if target in (None, self.handover.target):
                return
            raise ChangePending(f"the leader hands over to {self.handover.target} already: ask again in a moment")
        if target is None:
            target = best_target(member, self.progress)
            if target is None:
                raise ChangeRefused(f"no other voter that may lead gives a sign of life: {member.node} goes on leading")
        check_target(member, self.progress, target)
        self._begin_handover(target)

    def _begin_handover(self, target: NodeId, *, is_last: bool = False) -> None:
        member = self.member
        self.handover = Handover(target, member.now_ms + member.config.election_timeout_max_ms, is_last=is_last)

    # --- what followers answer ---

    def on_append_reply(self, source: NodeId, message: AppendReply) -> None:
        """Contact, an ack, or a refusal (Figure 2, Leaders 3 and 4)."""
        member = self.member
        progress = self.progress.get(source)
        if progress is None or message.round > self.round or message.matched > member.log.last_index:
            member.drop()
            return
        progress.heard_ms = member.now_ms
        if message.round > progress.round:
            progress.round = self.rounds[source] = message.round
            if self.reads.is_confirming:
                self.confirm_reads()
        if message.refused:
            self._on_refusal(progress, message)
        elif progress.acknowledge(message.matched, member.now_ms):
            self._on_match(source, progress)

    def on_snapshot_reply(self, source: NodeId, message: SnapshotReply) -> None:
        """A follower wants the next chunk, or has the whole snapshot (§7)."""
        member = self.member
        progress = self.progress.get(source)
        if progress is None or message.installed > member.log.last_index:
            member.drop()
            return
        progress.heard_ms = member.now_ms
        if message.installed:
            if progress.acknowledge(message.installed, member.now_ms):
                self._on_match(source, progress)
            if progress.stance is SNAPSHOT:
                progress.replicate(member.now_ms)
        elif progress.stance is SNAPSHOT:
            progress.moved_ms = member.now_ms
            member.sent_chunks.append((source, message))

    def on_persisted(self) -> None:
        """This node's own ack, like any follower's: its entries count once they are durable here (thesis §10.2.1)."""
        member = self.member
        durable = member.log.durable
        if durable > self.matches[member.node]:
            self.matches[member.node] = durable
            self._commit()

    def _on_match(self, source: NodeId, progress: Progress) -> None:
        self.matches[source] = progress.match
        if progress.stance is SNAPSHOT and progress.match >= self.member.log.base.index:
            progress.replicate(self.member.now_ms)  # it has got by other means what the snapshot was for
        if progress.match > self.member.log.committed:
            self._commit()

    def _commit(self) -> None:
        """Commit what a majority holds durably, if it is of this term (§5.3, §5.4.2)."""
        member = self.member
        configuration = member.configurations.current
        index = jointly_committed(configuration.voters, configuration.outgoing, self.matches)
        # Own term only: an older entry on a majority may still be overwritten (§5.4.2, Figure 8).
        if index > member.log.committed and member.log.term_at(index) == member.term:
            is_first = member.log.committed < self.first_own
            if is_first or member.log.committed < member.configurations.index <= index:
                self._is_step_due = True
            member.log.commit_to(index)

    def _on_refusal(self, progress: Progress, message: AppendReply) -> None:
        """The logs don't meet there: go back to where they might, a term at a time (§5.3)."""
        member = self.member
        log = member.log
        refused, hint = message.refused, message.hint
        is_stale = refused <= progress.match or progress.stance is SNAPSHOT
        if is_stale or (progress.stance is PROBE and refused != progress.next - 1):
            return
        if hint.index > refused or refused > log.last_index:
            member.drop()
            return
        meeting = log.last_at_most(hint.index, hint.term)
        if hint.index < log.base.index or meeting.index >= refused:
            progress.probe(log.base.index, member.now_ms)  # before the log's start: `_replicate` sees to the snapshot
        else:
            progress.probe(meeting.index + 1, member.now_ms, is_searching=meeting != hint and meeting.index > 0)

    # --- what followers are sent ---

    def before_output(self) -> Transition | None:
        """Send what this turn has brought: new entries, a round for the reads that wait, a heartbeat that is due."""
        member = self.member
        log = member.log
        if self._is_step_due and (transition := self._take_step()) is not None:
            return transition
        last_index = log.last_index
        is_heartbeat_due = self._is_heartbeat_due
        is_round_due = self.begin_round(is_heartbeat_due)
        self._is_heartbeat_due = False
        for peer, progress in self.progress.items():
            is_sent = progress.next <= last_index and self._replicate(peer, progress)
            if is_heartbeat_due or (is_round_due and not is_sent):
                self._send_heartbeat(peer, progress)
        if is_round_due:
            self.confirm_reads()  # a single voter needs nobody else
        if self.handover is not None:
            self._push_handover(self.handover)
        return None

    def _take_step(self) -> Transition | None:
        """What follows from a configuration by itself: the end of a leader that is no voter in it, or the next one."""
        self._is_step_due = False
        member = self.member
        if self.handover is not None:
            return None
        if self.membership.has_left_leader_out:
            target = best_target(member, self.progress)
            if target is None:
                return to_follower(None, "is no voter any more")
            self._begin_handover(target, is_last=True)
        elif (wanted := self.membership.next_step()) is not None:
            self._append(wanted)
        return None

    def _push_handover(self, handover: Handover) -> None:
        """Tell the target to stand for election as soon as it holds the whole log."""
        member = self.member
        if handover.may_send(self.progress.get(handover.target), member.log.last_index):
            handover.last_index = member.log.last_index
            self.lease.give_up()  # from now on another may lead at any time
            member.send(handover.target, TimeoutNow(member.term))

    def _replicate(self, peer: NodeId, progress: Progress) -> bool:
        """Send entries to a follower as far as its window allows; says whether any append has left."""
        member = self.member
        log, config = member.log, member.config
        is_sent = False
        while progress.next <= log.last_index:
            stance = progress.stance
            if stance is REPLICATE:
                if progress.in_flight_bytes >= config.inflight_bytes_max:
                    break
            elif stance is SNAPSHOT or progress.is_probing:
                break
            if progress.next < log.first:
                self._need_snapshot(peer, progress)
                break
            previous = EntryId(log.term_at(progress.next - 1) or 0, progress.next - 1)
            entries: tuple[Entry, ...] = ()
            if not progress.is_searching:
                entries = tuple(
                    log.since(
                        progress.next, bytes_max=config.append_bytes_max, commands_max=config.max_entries_per_request
                    )
                )
            member.send(peer, AppendEntries(member.term, previous, log.committed, self.round, entries))
            is_sent = True
            size_bytes = sum([len(entry.frame) for entry in entries])
            progress.sent(previous.index + len(entries), size_bytes, member.now_ms)
        return is_sent

    def _send_heartbeat(self, peer: NodeId, progress: Progress) -> None:
        """An empty append behind what is known durable there: it may overtake entries on the way and still match."""
        log = self.member.log
        term = log.term_at(progress.match)
        previous = NOTHING if term is None else EntryId(term, progress.match)
        self.member.send(peer, AppendEntries(self.member.term, previous, log.committed, self.round))

    def _need_snapshot(self, peer: NodeId, progress: Progress) -> None:
        """What `peer` lacks is gone from the log: have the snapshot sent, if anybody is there to take it (§7)."""
        if self._is_heard(progress):
            progress.snapshot(self.member.now_ms)
            self.member.snapshots.append(peer)

    def on_member_behind(self, peer: NodeId) -> None:
        """A member whose disk is damaged asks for what this log has forgotten: it is in the snapshot."""
        if (progress := self.progress.get(peer)) is not None and progress.stance is not SNAPSHOT:
            self._need_snapshot(peer, progress)

    # --- time ---

    def on_deadline(self) -> Transition | None:
        """A heartbeat is due; first see whether this node still leads anybody, and whether its disk still works."""
        member = self.member
        if (why := self._reason_to_step_down()) is not None:
            return to_follower(None, why)
        if self.handover is not None and self._is_handover_over(self.handover):
            if self.handover.is_last:
                return to_follower(None, "is no voter any more")
            self._declined.add(self.handover.target)
            self.handover, self._settled_ms = None, member.now_ms
        self._is_step_due = True
        self.deadline_ms = member.now_ms + member.config.heartbeat_interval_ms
        self._is_heartbeat_due = True
        for peer, progress in self.progress.items():
            self._look_after(peer, progress)
            progress.look(member.log.last_index, member.now_ms, member.config.election_timeout_min_ms)
        self._maybe_prefer_another()
        return None

    def _is_handover_over(self, handover: Handover) -> bool:
        """Has it taken too long, or can the target no longer lead? (thesis §3.10)"""
        member = self.member
        return member.now_ms >= handover.deadline_ms or handover.target not in member.configuration.voters

    def _maybe_prefer_another(self) -> None:
        """Hand over to a voter of higher priority that is level, unless that was tried lately."""
        member = self.member
        if member.is_full:
            self._make_way()
            return
        pause_ms = PAUSE * member.config.election_timeout_max_ms
        if self.handover is not None or member.now_ms - self._settled_ms < pause_ms or self.membership.why_not_now():
            return
        target = better_target(member, self.progress)
        if target is not None:
            self._begin_handover(target)

    def _make_way(self) -> None:
        """This leader's disk is full: another one may have room. One after the other is asked, reads go on meanwhile.

        One at the time, and none again before all were asked: where every disk is full it goes on leading.
        """
        member = self.member
        if self.handover is not None or self.membership.why_not_now():
            return
        target = best_target(member, self.progress, without=self._declined)
        if target is not None and self.progress[target].match == member.log.last_index:
            self._begin_handover(target)
        elif member.now_ms - self._settled_ms > PAUSE * member.config.election_timeout_max_ms:
            self._declined.clear()
            self._settled_ms = member.now_ms

    def _reason_to_step_down(self) -> str | None:
        """A leader that hears no majority, or whose disk hangs, must not keep others from leading (thesis §6.2)."""
        member = self.member
        if not self.progress:
            return None
        stuck_ms = member.unfinished_write_ms
        if stuck_ms > member.config.election_timeout_max_ms and not member.is_full:
            return f"its disk has not finished a write for {stuck_ms:.0f} ms"
        if not member.config.check_quorum:
            return None
        least = member.now_ms - member.config.election_timeout_min_ms
        heard = {peer for peer, progress in self.progress.items() if progress.heard_ms > least} | {member.node}
        configuration = member.configurations.current
        if is_supported(configuration.voters, configuration.outgoing, heard):
            return None
        return f"no majority was heard for {member.config.election_timeout_min_ms:.0f} ms"

    def _look_after(self, peer: NodeId, progress: Progress) -> None:
        """Take what was on its way to a follower for lost, when nothing has come of it for long."""
        member = self.member
        config = member.config
        if progress.stance is PROBE:
            if progress.heard_ms > progress.moved_ms:  # it is there, and doesn't answer: one of the two was lost
                progress.is_probing = progress.is_searching = False
        elif progress.stance is REPLICATE:
            if progress.has_stalled(member.now_ms, config.election_timeout_min_ms):
                progress.probe(progress.match + 1, member.now_ms)
        elif progress.has_stalled(member.now_ms, SNAPSHOT_PATIENCE * config.election_timeout_max_ms):
            if not self._is_heard(progress):
                progress.probe(progress.match + 1, member.now_ms)
            else:
                progress.moved_ms = member.now_ms
                member.snapshots.append(peer)

    def on_peer_lost(self, peer: NodeId) -> None:
        """What was on its way to `peer` may be lost: ask where it stands, once it is heard again."""
        if (progress := self.progress.get(peer)) is not None:
            progress.probe(progress.match + 1, self.member.now_ms)
            progress.is_probing = True

    def has_fresh_leader(self) -> bool:
        """This node leads, and steps down by itself when nobody listens."""
        return True

    def _is_heard(self, progress: Progress) -> bool:
        return self.member.now_ms - progress.heard_ms < self.member.config.election_timeout_max_ms

    def heard_matches(self) -> dict[NodeId, LogIndex]:
        """How far each follower is that was heard lately."""
        return {peer: progress.match for peer, progress in self.progress.items() if self._is_heard(progress)}

    def _meet_members(self, next_index: LogIndex) -> None:
        """Make `progress` fit the configurations held; newcomers are first asked for what precedes `next_index`."""
        member = self.member
        self._part_with(self.progress.keys() - member.configurations.members)
        configuration = member.configuration
        for peer in sorted(member.configurations.members - {member.node}):
            progress = self.progress.get(peer)
            incarnation = configuration.incarnations.get(peer, 0)
            if progress is not None and peer not in configuration.members:
                continue  # it is leaving, and gets what is left to say
            # Under another data directory it holds nothing of what it acknowledged.
            if progress is None or progress.incarnation not in (0, incarnation):
                progress = self.progress[peer] = Progress(next_index, member.now_ms)
                self.matches[peer] = self.rounds[peer] = 0
            progress.incarnation = incarnation
        self.matches[member.node] = member.log.durable
        self.rounds[member.node] = self.round

    def on_members_forgotten(self) -> None:
        """A configuration was applied: those that only earlier ones named get a last word, so that they know it."""
        member = self.member
        gone = self.progress.keys() - member.configurations.members
        for peer in sorted(gone):
            self._send_heartbeat(peer, self.progress[peer])
        self._part_with(gone)

    def _part_with(self, gone: Collection[NodeId]) -> None:
        for peer in list(gone):
            del self.progress[peer], self.matches[peer], self.rounds[peer]

    handlers: ClassVar[dict[type, Handler]] = {
        AppendEntries: Contact.on_other_leader,
        InstallSnapshot: Contact.on_other_leader,
        AppendReply: on_append_reply,
        SnapshotReply: on_snapshot_reply,
        ReadIndex: Contact.on_read_index,
        RequestVote: Role.on_request_vote,
    }
