"""Who are the members of a group, and since which entry? (Raft §6; thesis §4.1, §4.3.)"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from aegis_replication.errors import ProtocolError
from aegis_replication.ids import LogIndex, NodeId, Term
from aegis_replication.log import NOTHING, EntryId, ReplicatedLog


class Intervention(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """That an operator took a group out of Raft's hands: what was acknowledged before may not be in it."""

    what: str  # "recovered": a lost majority was given up; "restored": it began from a backup
    node: NodeId  # on which node's directory it was done
    unix_ms: int
    term: Term  # of the last entry that was there
    index: LogIndex
    detail: str  # for people


INTERVENTIONS_KEPT = 8
"""So many are remembered, the latest ones."""


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """The members of a group. On the wire and disk an array: later fields go to the end, with a default."""

    voters: tuple[NodeId, ...] = ()
    outgoing: tuple[NodeId, ...] = ()  # the old voters while a change is under way (joint consensus); else none
    learners: tuple[NodeId, ...] = ()  # get entries, have no say
    addresses: dict[NodeId, str] = {}  # where a member's peers reach it, "host:port", as far as told
    incarnations: dict[NodeId, int] = {}  # which data directory a member has, once it was seen
    promotions: dict[NodeId, NodeId] = {}  # learners that become voters once level: in whose place, or "" for nobody's
    founders: tuple[NodeId, ...] = ()  # the voters of the first start, once they are no longer the same
    lease_ms: int = 0  # for how long a voter that heard a leader helps nobody else into office; 0: leases are off
    interventions: tuple[Intervention, ...] = ()  # oldest first; every member knows of them, also those that came later

    @property
    def members(self) -> frozenset[NodeId]:
        return frozenset((*self.voters, *self.outgoing, *self.learners))

    @property
    def is_joint(self) -> bool:
        """Do two majorities decide until the change is over?"""
        return bool(self.outgoing)

    def is_voter(self, node: NodeId) -> bool:
        """Has `node` a vote in either half?"""
        return node in self.voters or node in self.outgoing

    def encode(self) -> bytes:
        """The payload of a CONFIGURATION entry; equal configurations give equal bytes on every node."""
        return _ENCODER.encode(self)


def make_configuration(
    voters: Iterable[NodeId],
    *,
    outgoing: Iterable[NodeId] = (),
    learners: Iterable[NodeId] = (),
    addresses: Mapping[NodeId, str] | None = None,
    incarnations: Mapping[NodeId, int] | None = None,
    promotions: Mapping[NodeId, NodeId] | None = None,
    founders: Iterable[NodeId] = (),
    lease_ms: int = 0,
    interventions: Iterable[Intervention] = (),
) -> Configuration:
    """A configuration in its one canonical order: every node that is given the same members makes the same bytes."""
    return Configuration(
        tuple(sorted(set(voters))),
        tuple(sorted(set(outgoing))),
        tuple(sorted(set(learners))),
        dict(sorted((addresses or {}).items())),
        dict(sorted((incarnations or {}).items())),
        dict(sorted((promotions or {}).items())),
        tuple(sorted(set(founders))),
        lease_ms,
        tuple(interventions)[-INTERVENTIONS_KEPT:],
    )


def decode_configuration(payload: bytes | memoryview) -> Configuration:
    """The configuration in an entry's payload or a snapshot's head. Raises ProtocolError when it is none."""
    try:
        configuration: Configuration = _DECODER.decode(payload)
        return configuration
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"malformed configuration: {error}") from None


_ENCODER: "msgspec.msgpack.Encoder" = msgspec.msgpack.Encoder(order="sorted")
_DECODER: "msgspec.msgpack.Decoder[Any]" = msgspec.msgpack.Decoder(Configuration)


class ConfigurationStack:
    """The configurations a replica may still need: the newest applied one and every later one in its log.

    A configuration is in force as soon as it is appended, committed or not (thesis §4.1); so a truncated log must be
    able to fall back, over several of them if need be.
    """

    __slots__ = ("_held", "members")

    def __init__(self, at: EntryId = NOTHING, configuration: Configuration | None = None) -> None:
        # Oldest first, never empty; the first one is applied or comes with a snapshot and is never rolled back.
        self._held: list[tuple[EntryId, Configuration]] = [(at, configuration or Configuration())]
        # Everybody named by any configuration held: whose messages are listened to.
        self.members: frozenset[NodeId] = self._held[0][1].members

    @property
    def current(self) -> Configuration:
        """The configuration in force."""
        return self._held[-1][1]

    @property
    def index(self) -> LogIndex:
        """Where in the log the configuration in force stands; 0 before any."""
        return self._held[-1][0].index

    @property
    def held(self) -> list[Configuration]:
        """All of them, oldest first."""
        return [configuration for _, configuration in self._held]

    @property
    def oldest(self) -> Configuration:
        """The newest configuration that is applied: committed, and never rolled back."""
        return self._held[0][1]

    @property
    def newest(self) -> EntryId:
        """The entry that holds the configuration in force; NOTHING before any."""
        return self._held[-1][0]

    def may_vote(self, node: NodeId) -> bool:
        """Is `node` a voter by any configuration held? Until the newest is applied, an earlier one may return."""
        return any(configuration.is_voter(node) for _, configuration in self._held)

    def uncommitted(self, committed: LogIndex) -> int:
        """How many of those held lie behind entry `committed`."""
        return sum(at.index > committed for at, _ in self._held)

    def before(self, index: LogIndex) -> Configuration:
        """What was in force before the configuration of entry `index`; that one itself if nothing earlier is held."""
        earlier = [configuration for at, configuration in self._held if at.index < index]
        return earlier[-1] if earlier else self._held[0][1]

    def why_not(self, node: NodeId, incarnation: int, configuration_index: LogIndex) -> str:
        """Why `node`, with that data directory, isn't to be spoken with; "" when it is.

        Whoever has a later configuration is listened to, also if it isn't a member here or is known with another
        directory: so a replica that was away while others came, went or were added anew finds back. A removed node has
        an earlier one, a directory made anew has none.
        """
        if configuration_index > self.index:
            return ""
        known = self.current.incarnations.get(node)
        if known is not None and incarnation != known:
            return (
                f"{node} is known with data directory {known:016x}, this one is {incarnation:016x}: a directory made "
                f"anew has forgotten its votes. Remove {node} and add it again (aegis node remove {node}), or give "
                "the new node another name"
            )
        if self.members and node not in self.members:
            named = ", ".join(sorted(self.members))
            return f"{node} is not a member ({named}): check the peers on both nodes; if it was removed, stop it"
        return ""

    def __len__(self) -> int:
        return len(self._held)

    def at(self, index: LogIndex) -> tuple[EntryId, Configuration]:
        """The configuration in force at applied entry `index`."""
        for at, configuration in reversed(self._held):
            if at.index <= index:
                return at, configuration
        raise AssertionError(f"no configuration is held for entry {index}, the oldest is from {self._held[0][0]}")

    def push(self, at: EntryId, configuration: Configuration) -> None:
        """A configuration entry was appended."""
        assert at.index > self.index, f"configuration {at} after one at {self.index}"
        self._held.append((at, configuration))
        self._refresh()

    def roll_back(self, log: ReplicatedLog) -> bool:
        """Forget the configurations that `log` no longer holds; says whether there were any."""
        count = len(self._held)
        while len(self._held) > 1:
            at = self._held[-1][0]
            if at.index <= log.base.index or log.term_at(at.index) == at.term:
                break
            self._held.pop()
        if len(self._held) == count:
            return False
        self._refresh()
        return True

    def forget_before(self, applied: LogIndex) -> None:
        """Entry `applied` was applied: what was in force before the configuration there is no longer needed."""
        count = len(self._held)
        while len(self._held) > 1 and self._held[1][0].index <= applied:
            del self._held[0]
        if len(self._held) != count:
            self._refresh()

    def reset(self, at: EntryId, configuration: Configuration) -> None:
        """Start over from a snapshot's configuration."""
        self._held = [(at, configuration)]
        self._refresh()

    def _refresh(self) -> None:
        self.members = frozenset().union(*(configuration.members for _, configuration in self._held))
