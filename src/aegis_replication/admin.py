"""What do operators ask of a group, and what are they told? Changes of members, hand-overs, leases, the members."""

from typing import Any, Final, TypeAlias

import msgspec

from aegis_replication.consensus.changes import AddLearner, Change, Demote, Promote, Remove, Replace, SetAddress
from aegis_replication.errors import (
    AegisError,
    ChangePending,
    ChangeRefused,
    InvalidArgument,
    LearnerLags,
    MemberExists,
    ProtocolError,
    UnknownMember,
    WouldLoseQuorum,
)
from aegis_replication.ids import NodeId


class Members(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="members"):
    """Who are the members, and how far is each?"""


class Transfer(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="transfer"):
    """Hand leadership over to `target`; None: to whoever is best."""

    target: NodeId | None = None


class Jointly(msgspec.Struct, frozen=True, array_like=True, tag="jointly"):
    """Make a change by way of both majorities, also where one step would do."""

    change: AddLearner | Promote | Demote | Remove | Replace | SetAddress


class SetLease(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="lease"):
    """Let the group's leader answer reads by lease, or not any more."""

    is_on: bool


AdminRequest: TypeAlias = Change | Members | Transfer | Jointly | SetLease


class MemberRow(msgspec.Struct, frozen=True):
    """One member as the leader sees it. Its field names are API: `aegis node list -o json` prints them."""

    node: NodeId
    role: str  # "voter", "learner", "joining" (a learner that will be a voter), "leaving" (a voter of the old half)
    is_leader: bool
    match_index: int  # the last entry known on its disk
    lag_entries: int
    is_level: bool  # it keeps up with the log
    silent_ms: float | None  # since it was heard last; None: never by this leader
    replaces: NodeId | None  # whose place it takes
    priority: int
    address: str  # where its peers connect
    client_address: str
    incarnation: str  # of its data directory, in hexadecimal; "" while unknown
    format_highest: int = 0  # the newest format that it can read and write; 0: it isn't connected and can't say


class MemberList(msgspec.Struct, frozen=True):
    """A group's members, by its leader."""

    group: int
    leader: NodeId
    term: int
    configuration_index: int
    is_joint: bool  # a change has committed its first half and not yet its second
    pending: str  # why no change may begin now; "" when one may
    members: tuple[MemberRow, ...]
    lease_ms: int = 0  # for how long voters that heard the leader elect nobody else; 0: leases are off
    format: int = 1  # of what the group writes; rises by itself when all members know the next

    def find(self, node: NodeId) -> MemberRow | None:
        """The row of `node`."""
        return next((row for row in self.members if row.node == node), None)


_encode = msgspec.msgpack.Encoder().encode
_REQUESTS: "msgspec.msgpack.Decoder[Any]" = msgspec.msgpack.Decoder(AdminRequest)
_LISTS: "msgspec.msgpack.Decoder[MemberList]" = msgspec.msgpack.Decoder(MemberList)


def encode_admin(request: AdminRequest) -> bytes:
    """The body of an ADMIN request."""
    return _encode(request)


def decode_admin(body: bytes) -> AdminRequest:
    """What a client asks. Raises InvalidArgument for anything else."""
    try:
        request: AdminRequest = _REQUESTS.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(f"not a request about members: {error}") from None
    return request


def encode_members(members: MemberList) -> bytes:
    """The body of its reply."""
    return _encode(members)


def decode_members(body: bytes) -> MemberList:
    """The list in a reply. Raises ProtocolError when it is none."""
    try:
        return _LISTS.decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"malformed list of members: {error}") from None


_REFUSALS: Final[dict[str, type[AegisError]]] = {
    kind.__name__: kind
    for kind in (ChangePending, ChangeRefused, LearnerLags, MemberExists, UnknownMember, WouldLoseQuorum)
}


def refusal(name: str, text: str) -> AegisError:
    """The error that a leader refused a change with."""
    return _REFUSALS.get(name, ChangeRefused)(text)
