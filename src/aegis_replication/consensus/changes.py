"""Which changes of members can be asked for, and which configuration follows from each? (Raft §6; thesis §4.)

Pure functions of configurations: whether a change may begin now is the leader's to know, see `membership`.
"""

import re
from typing import Any, TypeAlias

import msgspec

from aegis_replication.consensus.configuration import Configuration, make_configuration
from aegis_replication.errors import InvalidArgument, MemberExists, UnknownMember, WouldLoseQuorum
from aegis_replication.ids import NodeId, node_id

VOTERS_MAX = 25
"""More voters make every commit slower and none of them safer."""

MEMBERS_MAX = 100

ADDRESS_CHARACTERS_MAX = 300

_PORT = r"(?!0+$)(?:[0-9]{1,4}|[0-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_ADDRESS = re.compile(r"(?:[^\s:\[\]]+|\[[0-9a-fA-F:.%]+\]):" + _PORT)


class AddLearner(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="add"):
    """Send `node` the log from now on; with `promote` it becomes a voter as soon as it has caught up."""

    node: NodeId
    address: str = ""  # where its peers connect; empty where names suffice
    incarnation: int = 0  # of its data directory; 0: whatever it turns out to be
    promote: bool = False


class Promote(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="promote"):
    """Make a learner that has caught up a voter."""

    node: NodeId


class Demote(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="demote"):
    """Make a voter a learner."""

    node: NodeId


class Remove(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="remove"):
    """Neither send `node` anything more nor listen to it."""

    node: NodeId


class Replace(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="replace"):
    """Add `new`, and once it has caught up make it a voter in the place of `old`, in one joint change."""

    old: NodeId
    new: NodeId
    address: str = ""
    incarnation: int = 0


class SetAddress(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="address"):
    """`node` lives elsewhere now."""

    node: NodeId
    address: str


Change: TypeAlias = AddLearner | Promote | Demote | Remove | Replace | SetAddress


class Introduction(msgspec.Struct, frozen=True, gc=False):
    """What a node says of itself when it connects."""

    incarnation: int = 0  # of its data directory; 0: not told
    address: str = ""  # where its peers connect
    priority: int = 1  # see RaftConfig
    configuration: int = 0  # index of the configuration in force there


def changed(configuration: Configuration, change: Change, *, joint: bool = False) -> Configuration:
    """The next configuration on the way to `change`; `configuration` itself when it is so already.

    A difference of one voter is made in one step, anything more, or `joint`, by way of both majorities. Raises
    UnknownMember, MemberExists, WouldLoseQuorum or InvalidArgument.
    """
    assert not configuration.is_joint, f"a change of a joint configuration: {configuration}"
    draft = _Draft(configuration)
    _APPLY[type(change)](draft, change)
    made = draft.finish(joint=joint)
    return configuration if made == configuration else made


def promoted(configuration: Configuration, node: NodeId) -> Configuration:
    """The next configuration when learner `node` becomes a voter, in the place of whoever it was to replace."""
    draft = _Draft(configuration)
    old = draft.promotions.get(node, "")
    _promote(draft, Promote(node))
    if old:
        _remove(draft, Remove(old))
    return draft.finish(joint=False)


def left(configuration: Configuration) -> Configuration:
    """A joint configuration's new half alone (§6: C-new)."""
    return _Draft(configuration).finish(joint=False)


def introduced(configuration: Configuration, introductions: dict[NodeId, Introduction]) -> Configuration:
    """`configuration` with what its members say of themselves and it doesn't know yet; itself when that is nothing.

    A known incarnation is never replaced: a directory made anew must be added again by its operator.
    """
    assert not configuration.is_joint, f"introductions into a joint configuration: {configuration}"
    draft = _Draft(configuration)
    for node, told in introductions.items():
        if node in configuration.members:
            if told.incarnation and node not in draft.incarnations:
                draft.incarnations[node] = told.incarnation
            if is_address(told.address) and draft.incarnations.get(node, told.incarnation) == told.incarnation:
                draft.addresses[node] = told.address
    is_news = (draft.addresses, draft.incarnations) != (configuration.addresses, configuration.incarnations)
    return draft.finish(joint=False) if is_news else configuration


def is_address(text: str) -> bool:
    """Is it host:port, such as 10.0.0.4:7481 or [::1]:7481? What gets into the log must be one on every node."""
    return len(text) <= ADDRESS_CHARACTERS_MAX and _ADDRESS.fullmatch(text) is not None


class _Draft:
    """A configuration under change."""

    # fmt: off
    __slots__ = ("addresses", "founders", "incarnations", "interventions", "learners", "lease_ms", "old", "promotions",
                 "voters")
    # fmt: on

    def __init__(self, configuration: Configuration) -> None:
        self.old = configuration.voters
        self.voters, self.learners = set(configuration.voters), set(configuration.learners)
        self.addresses = dict(configuration.addresses)
        self.incarnations = dict(configuration.incarnations)
        self.promotions = dict(configuration.promotions)
        self.founders = configuration.founders
        self.lease_ms = configuration.lease_ms
        self.interventions = configuration.interventions

    @property
    def members(self) -> set[NodeId]:
        return self.voters | self.learners

    def finish(self, *, joint: bool) -> Configuration:
        if not self.voters:
            raise WouldLoseQuorum(f"{', '.join(self.old)} is the last voter: add another one first")
        if len(self.voters) > VOTERS_MAX or len(self.members) > MEMBERS_MAX:
            raise InvalidArgument(
                f"{len(self.voters)} voters and {len(self.members)} members: at most {VOTERS_MAX} and {MEMBERS_MAX}; "
                "remove some first"
            )
        difference = self.voters.symmetric_difference(self.old)
        outgoing = self.old if len(difference) > 1 or (joint and difference) else ()
        members = self.members.union(outgoing)
        return make_configuration(
            self.voters,
            outgoing=outgoing,
            learners=self.learners,
            addresses={node: address for node, address in self.addresses.items() if node in members},
            incarnations={node: each for node, each in self.incarnations.items() if node in members},
            promotions={node: old for node, old in self.promotions.items() if node in self.learners},
            founders=self.founders or (self.old if difference else ()),
            lease_ms=self.lease_ms,
            interventions=self.interventions,
        )

    def set_address(self, node: NodeId, address: str) -> None:
        if address:
            if not is_address(address):
                raise InvalidArgument(f"address {address!r} of {node}: must be host:port, such as '10.0.0.4:7481'")
            self.addresses[node] = address


def _add(draft: _Draft, change: AddLearner) -> None:
    node = node_id(change.node)
    known = draft.incarnations.get(node, 0)
    if node in draft.voters:
        if change.incarnation and known and change.incarnation != known:
            raise MemberExists(
                f"{node} is a voter with another data directory ({known:016x}, not {change.incarnation:016x}): what it "
                f"promised there is forgotten. Remove it first (aegis node remove {node}), then add it"
            )
        if not change.promote:
            raise MemberExists(f"{node} is a voter already: demote it if it is to be a learner")
        draft.set_address(node, change.address)
        return
    draft.learners.add(node)
    draft.set_address(node, change.address)
    if change.incarnation:
        draft.incarnations[node] = change.incarnation
    if change.promote:
        draft.promotions.setdefault(node, "")


def _promote(draft: _Draft, change: Promote) -> None:
    if change.node in draft.voters:
        return
    if change.node not in draft.learners:
        raise UnknownMember(f"{change.node} is not a member: add it first (aegis node add {change.node}=HOST:PORT)")
    draft.learners.discard(change.node)
    draft.promotions.pop(change.node, None)
    draft.voters.add(change.node)


def _demote(draft: _Draft, change: Demote) -> None:
    if change.node in draft.learners:
        draft.promotions.pop(change.node, None)
        return
    if change.node not in draft.voters:
        raise UnknownMember(f"{change.node} is not a member: nothing to demote")
    draft.voters.discard(change.node)
    draft.learners.add(change.node)


def _remove(draft: _Draft, change: Remove) -> None:
    draft.voters.discard(change.node)
    draft.learners.discard(change.node)
    for learner, old in draft.promotions.items():
        if old == change.node:
            draft.promotions[learner] = ""


def _replace(draft: _Draft, change: Replace) -> None:
    old, new = change.old, node_id(change.new)
    if old == new:
        raise InvalidArgument(
            f"{old} can't take its own place: give the new node another name, or remove {old} and add it again"
        )
    if old not in draft.voters:
        if new in draft.voters and old not in draft.learners:
            return  # done already
        raise UnknownMember(f"{old} is not a voter: there is no place to take")
    if new in draft.voters:
        _remove(draft, Remove(old))
        return
    other = [learner for learner, place in draft.promotions.items() if place == old and learner != new]
    if other:
        raise MemberExists(f"{other[0]} is about to take the place of {old}: remove {other[0]} first, or let it")
    _add(draft, AddLearner(new, change.address, change.incarnation))
    draft.promotions[new] = old


def _set_address(draft: _Draft, change: SetAddress) -> None:
    if change.node not in draft.members:
        raise UnknownMember(f"{change.node} is not a member: it has no address to change")
    draft.set_address(change.node, change.address)


_APPLY: dict[type, Any] = {
    AddLearner: _add,
    Promote: _promote,
    Demote: _demote,
    Remove: _remove,
    Replace: _replace,
    SetAddress: _set_address,
}
