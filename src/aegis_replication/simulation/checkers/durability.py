"""Does a node remember what it said? Promises against what its disk really holds, and restarts against both.

The shadow of a replica is its log as the disk must give it back: a write belongs to it once its flush is over. No
message may promise more than the shadow, and a restart must find the shadow, followed by some part of what was still
on its way to the disk, in order.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from aegis_replication.consensus.messages import (
    AppendEntries,
    AppendReply,
    Message,
    RequestVote,
    SnapshotReply,
    VoteReply,
)
from aegis_replication.errors import InvariantBroken
from aegis_replication.ids import GroupId, LogIndex, NodeId, Term
from aegis_replication.log import Entry, EntryId, HardState, LogWrite, RecoveredGroup, SnapshotMeta


class Shadow:
    """What one replica's disk holds for certain, and what is on its way there."""

    __slots__ = ("base", "damaged", "hard_state", "named", "snapshot", "terms", "under_way")

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.base: LogIndex = 0  # entries up to here are in a snapshot
        self.terms: list[Term] = []  # of the entries after base
        self.damaged: set[LogIndex] = set()  # entries that are known, and not whole
        self.snapshot = EntryId(0, 0)  # the newest snapshot point in the log
        # The newest snapshot that is on the disk under its name, whether or not the log was told of it.
        self.named = EntryId(0, 0)
        # Writes whose flush isn't over, in order.
        self.under_way: deque[LogWrite] = deque()

    @property
    def last_index(self) -> LogIndex:
        return self.base + len(self.terms)

    def holds(self, entry: EntryId) -> bool:
        """Is `entry` on this disk? What a snapshot covers is."""
        if entry.index <= max(self.base, self.named.index):
            return True
        return entry.index <= self.last_index and self.terms[entry.index - self.base - 1] == entry.term

    def write(self, write: LogWrite) -> None:
        """A write begins its way to the disk."""
        self.under_way.append(write)

    def name_snapshot(self, snapshot: EntryId) -> None:
        """A whole snapshot is durable and has its name."""
        self.named = max(self.named, snapshot, key=lambda each: each.index)

    @property
    def applicable(self) -> LogIndex:
        """What a machine may show: entries on this disk up to the first that isn't whole, or a snapshot there."""
        first = min((index for index in self.damaged if index > self.named.index), default=self.last_index + 1)
        return max(first - 1, self.named.index)

    def settle(self, number: int) -> None:
        """Write `number` and all before it are on disk."""
        while self.under_way and self.under_way[0].number <= number:
            write = self.under_way.popleft()
            self.damaged.difference_update(entry.index for entry in write.repairs)
            for part in _parts(write):
                self.take(part)

    def take(self, part: "SnapshotMeta | HardState | Entry | tuple[SnapshotMeta, bool]") -> None:
        """One record becomes durable."""
        if isinstance(part, HardState):
            self.hard_state = part
        elif isinstance(part, Entry):
            if part.index <= self.base:
                return
            del self.terms[part.index - self.base - 1 :]
            self.damaged = {index for index in self.damaged if index < part.index}
            self.terms.append(part.term)
        elif isinstance(part, tuple):
            meta, reset = part
            self.snapshot = max(self.snapshot, meta.id, key=lambda point: point.index)
            if reset or not self.holds(meta.id):
                self.base, self.terms, self.damaged = meta.index, [], set()
            # Otherwise the log is kept as it is: a trailing tail may still be asked for.

    def copy(self) -> "Shadow":
        """The same certainty, with nothing under way."""
        twin = Shadow()
        twin.hard_state, twin.base, twin.terms = self.hard_state, self.base, list(self.terms)
        twin.snapshot, twin.named = self.snapshot, self.named
        return twin


def _parts(write: LogWrite) -> Iterator[HardState | Entry | tuple[SnapshotMeta, bool]]:
    if write.snapshot is not None:
        yield write.snapshot, write.reset
    if write.hard_state is not None:
        yield write.hard_state
    yield from write.entries


class DurabilityChecker:
    """The shadows of all replicas."""

    __slots__ = ("_gone", "shadows")

    def __init__(self) -> None:
        # What the last disk held that each node lost: acknowledgements of it may still be on their way.
        self._gone: dict[tuple[NodeId, GroupId], Shadow] = {}
        self.shadows: dict[tuple[NodeId, GroupId], Shadow] = {}

    def shadow(self, node: NodeId, group: GroupId) -> Shadow:
        """The shadow of one replica, empty at first."""
        shadow = self.shadows.get((node, group))
        if shadow is None:
            shadow = self.shadows[node, group] = Shadow()
        return shadow

    def forget(self, node: NodeId) -> None:
        """The disk of `node` is gone, and another is in its place."""
        for key in [key for key in self.shadows if key[0] == node]:
            self._gone[key] = self.shadows.pop(key)

    def holders(self, group: GroupId, entry: EntryId) -> list[NodeId]:
        """On which nodes' disks `entry` is, for certain, or was before the disk was lost."""
        disks = (*self.shadows.items(), *self._gone.items())
        return sorted({node for (node, of), shadow in disks if of == group and shadow.holds(entry)})

    def on_sent(self, node: NodeId, group: GroupId, target: NodeId, message: Message) -> None:
        """No message leaves that promises what a power cut could take back."""
        check = _PROMISES.get(type(message))
        if check is not None:
            fault = check(self.shadow(node, group), node, target, message)
            if fault:
                raise InvariantBroken("promise before flush", f"{node} tells {target} {message!r}, but {fault}")

    def on_recovered(self, node: NodeId, group: GroupId, recovered: RecoveredGroup) -> None:
        """A restart finds all that was durable, and then some prefix of what was under way."""
        shadow = self.shadow(node, group)
        expected = shadow.copy()
        fault = _difference(expected, recovered)
        for part in (part for write in shadow.under_way for part in _parts(write)):
            if fault is None:
                break
            expected.take(part)
            if _difference(expected, recovered) is None:
                fault = None
        if fault is not None:
            raise InvariantBroken(
                "durable state lost", f"{node} restarted with a log unlike what its disk had flushed: {fault}"
            )
        fresh = Shadow()
        fresh.hard_state = recovered.hard_state
        fresh.base, fresh.terms = recovered.base.index, [entry.term for entry in recovered.entries]
        fresh.damaged = set(recovered.damaged)
        fresh.snapshot, fresh.named = expected.snapshot, expected.named
        if recovered.snapshot is not None:
            fresh.name_snapshot(recovered.snapshot.id)
        self.shadows[node, group] = fresh


def _difference(expected: Shadow, recovered: RecoveredGroup) -> str | None:
    """In what `recovered` falls short of `expected`, or None."""
    if recovered.hard_state != expected.hard_state:
        return f"term and vote are {recovered.hard_state}, were {expected.hard_state}"
    base = recovered.base.index
    covered = recovered.snapshot.index if recovered.snapshot is not None else 0
    wanted_snapshot = max(expected.snapshot.index, expected.named.index)
    if covered < wanted_snapshot:
        return f"the snapshot found is {covered}, {wanted_snapshot} was on disk"
    if base > max(expected.base, covered):
        return f"the log begins after {base}, its snapshot ends at {covered}"
    terms = [entry.term for entry in recovered.entries]
    first = max(base, expected.base)
    found, wanted = terms[first - base :], expected.terms[first - expected.base :]
    if covered > expected.last_index and not found:
        return None  # a whole snapshot arrived and was named; the log had not been told yet
    if found != wanted:
        last = base + len(terms)
        return (
            f"entries after {first} have terms {found[-8:]} (last {last}), were {wanted[-8:]} "
            f"(last {expected.last_index})"
        )
    return None


# --- what each message promises -------------------------------------------------------------------------------------


def _vote_reply(shadow: Shadow, node: NodeId, target: NodeId, message: VoteReply) -> str | None:
    if message.pre:
        return None
    held = shadow.hard_state
    if held.term < message.term:
        return f"term {held.term} is what its disk holds"
    if message.granted and held.term == message.term and held.voted_for != target:
        return f"its disk holds a vote for {held.voted_for} in term {held.term}"
    return None


def _request_vote(shadow: Shadow, node: NodeId, target: NodeId, message: RequestVote) -> str | None:
    held = shadow.hard_state
    if message.pre or held.term > message.term or held == HardState(message.term, node):
        return None
    return f"its disk holds term {held.term} and a vote for {held.voted_for}"


def _append_entries(shadow: Shadow, node: NodeId, target: NodeId, message: AppendEntries) -> str | None:
    held = shadow.hard_state
    return f"term {held.term} is what its disk holds" if held.term < message.term else None


def _append_reply(shadow: Shadow, node: NodeId, target: NodeId, message: AppendReply) -> str | None:
    if shadow.hard_state.term < message.term:
        return f"term {shadow.hard_state.term} is what its disk holds"
    if message.matched > shadow.applicable:
        return f"its disk holds entries up to {shadow.applicable}"
    return None


def _snapshot_reply(shadow: Shadow, node: NodeId, target: NodeId, message: SnapshotReply) -> str | None:
    if message.installed > shadow.applicable:
        return f"its disk holds entries up to {shadow.applicable}"
    return None


_PROMISES: dict[type, Callable[[Shadow, NodeId, NodeId, Any], str | None]] = {
    VoteReply: _vote_reply,
    RequestVote: _request_vote,
    AppendEntries: _append_entries,
    AppendReply: _append_reply,
    SnapshotReply: _snapshot_reply,
}
