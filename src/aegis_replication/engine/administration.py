"""How does a leader answer its operators? Changes of members and hand-overs, answered when they are done."""

from math import ceil

from aegis_replication import wire
from aegis_replication.admin import (
    AdminRequest,
    Jointly,
    MemberList,
    MemberRow,
    Members,
    SetLease,
    Transfer,
    decode_admin,
    encode_members,
)
from aegis_replication.consensus.configuration import Configuration
from aegis_replication.consensus.leader import Leader
from aegis_replication.consensus.node import Raft
from aegis_replication.engine.replies import Caller, reply_error, reply_refused
from aegis_replication.errors import AegisError, ChangePending, ChangeRefused, InvalidArgument
from aegis_replication.ids import LogIndex, NodeId

WAITING_MAX = 1_000
"""So many operators' requests may wait in one group; the next is told to ask again."""

Replies = list[tuple[int, bytes]]


class Administration:
    """The operators' requests of one group that wait. Only its leader has any."""

    __slots__ = ("_addresses", "_changes", "_handovers", "_raft", "client_address")

    def __init__(self, raft: Raft, addresses: dict[NodeId, str], client_address: str) -> None:
        self._raft = raft
        self._addresses = addresses  # where each other node's clients connect
        self.client_address = client_address  # and this one's
        # Who waits for the configuration of which entry to be committed.
        self._changes: list[tuple[LogIndex, Caller]] = []
        self._handovers: list[tuple[NodeId, Caller]] = []

    @property
    def is_waited_for(self) -> bool:
        return bool(self._changes or self._handovers)

    def on_request(self, body: bytes, caller: Caller, replies: Replies) -> None:
        """Begin what is asked for, or answer at once. This replica leads."""
        try:
            request = decode_admin(body)
            if len(self._changes) + len(self._handovers) >= WAITING_MAX:
                raise ChangePending(f"{WAITING_MAX:,} requests about members wait already: ask again later")
            self._begin(request, caller, replies)
        except InvalidArgument as error:
            replies.append(reply_refused(caller, error))
        except (ChangePending, ChangeRefused) as error:
            replies.append(_refuse(caller, error))

    def _begin(self, request: AdminRequest, caller: Caller, replies: Replies) -> None:
        raft = self._raft
        if isinstance(request, Transfer):
            raft.transfer(request.target)
            if raft.handover is None:
                self._tell(caller, replies)  # it leads already
            else:
                self._handovers.append((raft.handover.target, caller))
            return
        if isinstance(request, SetLease):
            lease_ms = ceil(raft.config.election_timeout_min_ms) if request.is_on else 0
            entry = raft.set_lease(lease_ms)
            if entry is not None:
                self._changes.append((entry.index, caller))
                return
        elif not isinstance(request, Members):
            is_joint = isinstance(request, Jointly)
            entry = raft.propose_change(request.change if is_joint else request, joint=is_joint)  # type: ignore[union-attr,arg-type]
            if entry is not None:
                self._changes.append((entry.index, caller))
                return
        self._tell(caller, replies)

    def look(self, replies: Replies) -> None:
        """Answer what is done."""
        raft = self._raft
        if raft.handover is None:
            for target, caller in self._handovers:
                text = f"{target} did not take over in time: {raft.node} goes on leading. See how far {target} lags"
                replies.append(_refuse(caller, ChangeRefused(text)))
            self._handovers.clear()
        committed = 0 if raft.configuration.is_joint else raft.log.committed
        waiting, self._changes = self._changes, []
        for index, caller in waiting:
            if index <= committed:
                self._tell(caller, replies)
            else:
                self._changes.append((index, caller))

    def give_up(self, replies: Replies) -> None:
        """This replica no longer leads: hand-overs are done, what became of changes the next leader knows."""
        for target, caller in self._handovers:
            replies.append(reply_error(caller, wire.OK, target))
        for _, caller in self._changes:
            replies.append(reply_error(caller, wire.UNKNOWN, "the leader lost its office first"))
        self._handovers, self._changes = [], []

    # --- what they are told ---

    def _tell(self, caller: Caller, replies: Replies) -> None:
        replies.append((caller[0], wire.encode_reply(caller[1], wire.OK, encode_members(self.members()))))

    def members(self) -> MemberList:
        """The members as this leader sees them."""
        raft = self._raft
        role = raft.current_role
        assert isinstance(role, Leader), f"{raft.node} is {raft.role}: only the leader knows how far the others are"
        configuration = raft.configuration
        return MemberList(
            group=raft.group,
            leader=raft.node,
            term=raft.term,
            configuration_index=raft.configuration_index,
            is_joint=configuration.is_joint,
            pending=role.membership.why_not_now(),
            lease_ms=configuration.lease_ms,
            format=configuration.format,
            members=tuple(self._row(node, configuration, role) for node in sorted(configuration.members)),
        )

    def _row(self, node: NodeId, configuration: Configuration, role: Leader) -> MemberRow:
        raft = self._raft
        is_own = node == raft.node
        told = raft.introductions.get(node)
        progress = role.progress.get(node)
        match = role.matches.get(node, 0)
        incarnation = configuration.incarnations.get(node, 0)
        return MemberRow(
            node=node,
            role=_role_of(node, configuration),
            is_leader=is_own,
            match_index=match,
            lag_entries=max(0, raft.log.last_index - match),
            is_level=is_own or (progress is not None and progress.is_level),
            silent_ms=0.0 if is_own else _silent_ms(role, node),
            replaces=configuration.promotions.get(node) or None,
            priority=raft.config.priority if is_own else (told.priority if told is not None else 1),
            address=configuration.addresses.get(node) or (told.address if told is not None else ""),
            client_address=self.client_address if is_own else self._addresses.get(node, ""),
            incarnation=f"{incarnation:016x}" if incarnation else "",
            format_highest=0 if told is None else told.format_highest,
        )


def _silent_ms(role: Leader, node: NodeId) -> float | None:
    progress = role.progress.get(node)
    if progress is None or not (progress.match or progress.round):
        return None
    return round(role.member.now_ms - progress.heard_ms, 1)


def _role_of(node: NodeId, configuration: Configuration) -> str:
    if node in configuration.voters:
        return "voter"
    if node in configuration.learners and node not in configuration.outgoing:
        return "joining" if node in configuration.promotions else "learner"
    return "leaving"


def _refuse(caller: Caller, error: AegisError) -> tuple[int, bytes]:
    return reply_error(caller, wire.CHANGE_REFUSED, (type(error).__name__, str(error)))
