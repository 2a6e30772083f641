"""What do the replicas of a group say to each other? (Raft Figure 2, RequestVote, AppendEntries; §7 InstallSnapshot.)

A message never names its sender: who sent it is known from the connection it came by.
"""

from typing import ClassVar, TypeAlias

import msgspec

from aegis_replication.ids import LogIndex, Term
from aegis_replication.log import NOTHING, Entry, EntryId, SnapshotMeta


class RequestVote(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A candidate asks for a vote (§5.2), or, with `pre`, whether it would get one (thesis §9.6)."""

    term: Term  # the term of the election; a pre-vote names the next one without entering it
    last: EntryId  # the candidate's last entry
    pre: bool = False
    force: bool = False  # the leader itself asked for this election (TimeoutNow): freshness of the leader doesn't count


class VoteReply(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The answer to RequestVote."""

    term: Term  # granted pre-vote: the term asked for; else the voter's own term
    granted: bool
    pre: bool = False


class AppendEntries(msgspec.Struct, frozen=True):
    """A leader's entries that follow `previous`; without entries a heartbeat (§5.2, §5.3)."""

    term: Term
    previous: EntryId
    commit: LogIndex
    round: int  # rises with every broadcast that asks "am I still your leader?"; acks of it confirm reads (thesis §6.4)
    entries: tuple[Entry, ...] = ()


class AppendReply(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The answer to AppendEntries: *contact* (term, round), *matched* (a promise about the disk),
    or a refusal with a hint.
    """

    term: Term
    round: int  # the highest round of this term that the follower has seen
    matched: LogIndex = 0  # last index that the request covered and this disk holds; 0 says nothing
    refused: LogIndex = 0  # index of the `previous` that didn't match (0: nothing was refused)
    hint: EntryId = NOTHING  # with `refused`: the last entry here that could match, see ReplicatedLog.last_at_most


class InstallSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """One chunk of the snapshot that a follower too far behind needs (§7)."""

    term: Term
    meta: SnapshotMeta
    offset: int  # of `data` in the snapshot's bytes
    total_bytes: int  # of the whole snapshot
    data: bytes


class SnapshotReply(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The answer to InstallSnapshot: which byte is wanted next,
    or that everything up to `installed` is durable here.
    """

    term: Term
    snapshot: EntryId
    next_offset: int = 0
    installed: LogIndex = 0  # > 0: this follower's log now starts at or holds this index; nothing more is wanted


class TimeoutNow(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A leader that hands over: start an election at once (thesis §3.10)."""

    term: Term


class ReadIndex(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A follower asks: up to which entry must I have applied, to answer what I was asked until now? (thesis §6.4)"""

    term: Term
    number: int  # never used twice, not even by another life of this node: a late answer must not serve a newer read


class ReadIndexReply(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The answer to ReadIndex, once a round of contact has confirmed the leader."""

    term: Term
    number: int
    index: LogIndex


class EntriesWanted(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A replica whose disk holds these entries damaged asks whoever holds them whole (FAST'18, §3.4). Of no term."""

    term: ClassVar[Term] = 0

    wanted: tuple[EntryId, ...]


class EntryFound(msgspec.Struct, frozen=True):
    """One of the entries that were asked for."""

    term: ClassVar[Term] = 0

    entry: Entry


class EntriesLacked(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Of those that were asked for, these are not held here, or not whole either."""

    term: ClassVar[Term] = 0

    wanted: tuple[EntryId, ...]


RepairMessage: TypeAlias = EntriesWanted | EntryFound | EntriesLacked
Message: TypeAlias = (
    RequestVote
    | VoteReply
    | AppendEntries
    | AppendReply
    | InstallSnapshot
    | SnapshotReply
    | TimeoutNow
    | ReadIndex
    | ReadIndexReply
    | EntriesWanted
    | EntryFound
    | EntriesLacked
)
