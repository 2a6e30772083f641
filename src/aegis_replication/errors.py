"""What can go wrong, as far as a caller can do something about it? One sentence each, and what to do next."""

from typing import Any


class AegisError(Exception):
    """The root of everything that this package raises on purpose."""


# --- the caller's mistake -------------------------------------------------------------------------------------------


class InvalidArgument(AegisError, ValueError):
    """An argument is of the wrong kind or out of range; the message says which and gives a good value."""


class ConfigError(AegisError, ValueError):
    """A configuration value is missing, unknown or out of range;
    names the key, the value, the unit and a good value.
    """


class LimitExceeded(InvalidArgument):
    """A key, value, batch or frame is larger than its limit; nothing was done."""

    def __init__(self, what: str, size: int, limit: int, unit: str = "bytes") -> None:
        super().__init__(f"{what} has {size:,} {unit}, the limit is {limit:,}: send less at a time")
        self.what, self.size, self.limit, self.unit = what, size, limit, unit


class InvalidCommand(InvalidArgument):
    """The state machine doesn't know this command or query, or its arguments are of the wrong type."""


class LevelNotSupported(InvalidArgument):
    """This consistency level isn't available for this operation; the message says which are."""


class CommandFailed(AegisError):
    """A user's own command raised; the state is as it was before. `kind` is the exception's type name."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind, self.message = kind, message


class NotAnInteger(AegisError):
    """An increment met a value that isn't a decimal integer; the value is as it was before."""


# --- bad luck: the same request may be sent again -------------------------------------------------------------------


class Retryable(AegisError):
    """The request had no effect and may be sent again, here or elsewhere."""


class NotLeader(Retryable):
    """Another node leads this group; `leader` is its id and `address` where its clients connect, when known."""

    def __init__(self, group: int, leader: str | None = None, address: str | None = None) -> None:
        where = (
            f"led by {leader}" + (f" at {address}" if address else "") + ": ask there"
            if leader
            else "without a leader: try again soon"
        )
        super().__init__(f"group {group} is {where}")
        self.group, self.leader, self.address = group, leader, address


class Overloaded(Retryable):
    """Too much is waiting already; the request was not taken. Send again after a pause."""


class DiskFull(Retryable):
    """A node's disk has no room for more: nothing was written. Reads go on, and writes do as soon as there is room."""


class ChangePending(Retryable):
    """The leader is busy with another change of members or a hand-over, or too new for one: ask again in a moment."""


class Unavailable(Retryable):
    """No node could be reached, or none leads, within the time given; the request had no effect."""


# --- members: the change was refused, nothing happened ---------------------------------------------------------------


class ChangeRefused(AegisError):
    """A change of members, or a hand-over of leadership, that can't be made as asked; the message says what to do."""


class WouldLoseQuorum(ChangeRefused):
    """With the members changed like that, no majority of voters would answer."""


class LearnerLags(ChangeRefused):
    """A learner that is too far behind to count as a voter: wait, or look why it doesn't catch up."""


class UnknownMember(ChangeRefused):
    """The node isn't a member of the group, or not one of the kind that is needed."""


class MemberExists(ChangeRefused):
    """A member has this id already, as something else than asked for, or with another data directory."""


# --- bad luck: what became of the request is not known --------------------------------------------------------------


class OutcomeUnknown(AegisError):
    """The request may or may not have been, or still be, applied; read before you send it again as a new one."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"the outcome of {what} is unknown ({why}): read the state before you send it again")
        self.what, self.why = what, why


class DeadlineExceeded(AegisError, TimeoutError):
    """A read got no answer within its timeout; it had no effect."""


class SessionExpired(AegisError):
    """The cluster has forgotten this client's session; requests that were in flight have an unknown outcome."""


# --- the node's own trouble -----------------------------------------------------------------------------------------


class StorageError(AegisError):
    """The data directory can't be used; the message names the path and what to do."""


class CorruptRecord(StorageError):
    """Bytes on disk aren't what was written there, and it isn't an unfinished last write:
    kept as they are, not repaired.
    """

    def __init__(self, path: str, offset: int, expected: str, found: str) -> None:
        super().__init__(
            f"{path}: damaged at byte {offset}: expected {expected}, found {found}. Nothing was changed. "
            "Put a copy of this file or of the whole directory back; an empty directory must not come back under this "
            "node's name, since it has forgotten its votes"
        )
        self.path, self.offset, self.expected, self.found = path, offset, expected, found


class DirectoryInUse(StorageError):
    """Another process has this data directory open."""


class WrongIdentity(StorageError):
    """The data directory belongs to another node, another cluster or another list of peers; the message names both."""


class IncompatibleVersion(AegisError):
    """A file or a peer speaks a format version that this program doesn't know; the message names both."""


class DiskFailed(StorageError):
    """The disk refused a write or a flush, and not for lack of room: the node stops and acknowledges nothing more."""


# --- the network ----------------------------------------------------------------------------------------------------


class ProtocolError(AegisError):
    """The other side sent bytes that aren't our protocol; the connection is closed, nothing else happens."""


class Refused(AegisError):
    """The other side closed the handshake, saying why: wrong cluster, unknown peer, wrong port, version."""


# --- simulation -----------------------------------------------------------------------------------------------------


class InvariantBroken(AegisError, AssertionError):
    """A simulated run broke a promise; carries the seed that replays it."""

    def __init__(self, invariant: str, detail: str, **facts: Any) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant, self.detail, self.facts = invariant, detail, facts


# --- placement (aegis_replication.hash) -----------------------------------------------------------------------------


class PlacementError(InvalidArgument):
    """A placement can't do what was asked; nothing was changed."""


class EmptyPlacement(PlacementError):
    """A key was looked up while the placement has no node: add one first."""


class UnknownNode(PlacementError):
    """The named node isn't in the placement; the message lists some that are."""


class DuplicateNode(PlacementError):
    """A node of that name is in the placement already."""


class InvalidNode(PlacementError):
    """A node's name or label isn't usable text."""


class InvalidWeight(PlacementError):
    """A weight is zero, negative, not finite, or too small or large for this algorithm's resolution."""


class InvalidCount(PlacementError):
    """A number of nodes, replicas, buckets, probes or partitions is out of range."""


class InvalidKey(PlacementError):
    """A key is of a kind that has no defined bytes: give str or bytes (or, where said, an unsigned 64-bit int)."""


class NotSupported(PlacementError):
    """This algorithm can't do that by its nature; the message names one that can."""


class SpreadNotMet(PlacementError):
    """Replicas couldn't be spread as asked and the caller wanted that or nothing; `unmet` says what fell short."""

    def __init__(self, unmet: tuple[Any, ...]) -> None:
        super().__init__("; ".join(str(each) for each in unmet))
        self.unmet = unmet


class UnknownHashFunction(PlacementError):
    """No hash function of that name is known here; pass the one that the placement was made with."""


class CorruptPlacement(PlacementError):
    """Bytes aren't an encoded placement, or were damaged: fetch them again from where they came from."""


# --- partitioning (aegis_replication.partition) ---------------------------------------------------------------------


class PartitionError(InvalidArgument):
    """A partitioning can't do what was asked; nothing was changed."""


class UnorderableKey(PartitionError):
    """A key holds a value without one defined order or byte form, such as a float, a bool or a time without zone."""


class CorruptKey(PartitionError):
    """Bytes aren't an encoded partition key."""


class InvalidBoundary(PartitionError):
    """Range boundaries overlap, leave a gap, stand out of order or cut where the strategy can't be cut."""


class NoPartition(PartitionError):
    """A value belongs to no partition, and no default partition was named."""


class MissingColumn(PartitionError):
    """A row lacks a column of its partition key, or holds nothing or another type there."""


# --- clocks and replicated data types -------------------------------------------------------------------------------


class ClockSkewError(AegisError):
    """A stamp lies further ahead of this clock than the bound allows: it was not absorbed, the clock is unchanged."""

    def __init__(self, source: str, ahead_ms: int, max_offset_ms: int) -> None:
        super().__init__(
            f"the stamp of {source} is {ahead_ms} ms ahead of this clock, the bound is {max_offset_ms} ms: "
            "synchronise the two clocks, then try again"
        )
        self.source, self.ahead_ms, self.max_offset_ms = source, ahead_ms, max_offset_ms


class UndecodableBytes(InvalidArgument):
    """These bytes (or this JSON) are not what the type writes: cut off, damaged, or of another type."""


class MergeMismatch(InvalidArgument):
    """Two replicas that can't be merged: of different types, or made with different bounds. Nothing was changed."""


class ActorReused(AegisError):
    """Two replicas write under one actor id, so one dot names two writes. Nothing was merged.

    It happens after a restored backup or a cloned disk: give the replica a new actor id before it writes again.
    """

    def __init__(self, actor: str, counter: int, what: str) -> None:
        super().__init__(
            f"actor {actor!r} is used twice: {what} at dot ({actor!r}, {counter}). "
            "Give the restored or cloned replica an actor id of its own"
        )
        self.actor, self.counter = actor, counter


class ContextNotSeen(Retryable):
    """The read context names writes that this replica has not seen yet: merge first, or ask where it was read."""


class ContextTooOld(Retryable):
    """The read context is older than the last garbage collection: read again, then repeat the change."""


class BehindStableCut(AegisError):
    """This state lacks writes that were taken as known to all: start that replica anew from a full copy."""


class InsufficientRights(Retryable):
    """A bounded counter's replica has not the rights for this change: ask another replica for a transfer."""

    def __init__(self, actor: str, wanted: int, available: int) -> None:
        super().__init__(
            f"{actor!r} may take {available} and was asked for {wanted}: have another replica transfer "
            f"{wanted - available} to it, and merge"
        )
        self.actor, self.wanted, self.available = actor, wanted, available
