"""Do the replicas of a group agree? One leader and vote a term, one log, one committed prefix (Raft Figure 3)."""

from zlib import crc32

from aegis_replication.consensus.configuration import Configuration
from aegis_replication.consensus.damage import has_whole
from aegis_replication.consensus.messages import EntryFound, Message, RepairMessage, RequestVote, VoteReply
from aegis_replication.consensus.quorum import is_supported
from aegis_replication.engine.effects import RoleChanged
from aegis_replication.engine.replica import Replica
from aegis_replication.errors import InvariantBroken
from aegis_replication.ids import GroupId, LogIndex, NodeId, Term
from aegis_replication.log import NOTHING, Entry, EntryId, LogWrite
from aegis_replication.simulation.checkers.durability import DurabilityChecker


class Seen:
    """The marks of one process of a node; they start over when it restarts."""

    __slots__ = ("applied", "committed", "configuration", "term")

    def __init__(self) -> None:
        self.term: Term = 0
        self.committed: LogIndex = 0
        self.applied: LogIndex = 0
        # In force at the end of the last turn.
        self.configuration = Configuration()


class AgreementChecker:
    """Watches all replicas of one group from outside."""

    __slots__ = (
        "committed",
        "durability",
        "elections",
        "entries",
        "group",
        "leaders",
        "seen",
        "spoken",
        "votes",
    )

    def __init__(self, group: GroupId, durability: DurabilityChecker) -> None:
        self.group = group
        self.durability = durability
        # Who led each term; the first one observed.
        self.leaders: dict[Term, NodeId] = {}
        self.elections = 0
        # For whom each node voted in each term, itself included, as told to others.
        self.votes: dict[tuple[NodeId, Term], NodeId] = {}
        # The highest term each node told anybody of, over all its lives.
        self.spoken: dict[NodeId, Term] = {}
        # Every entry ever written anywhere: its checksum and the term of the one before it (Log Matching, §5.3).
        self.entries: dict[EntryId, tuple[int, Term]] = {}
        # The committed prefix, as id and checksum; position 0 is entry 1. Only grows.
        self.committed: list[tuple[EntryId, int]] = []
        self.seen: dict[NodeId, Seen] = {}

    def _broken(self, invariant: str, detail: str) -> InvariantBroken:
        return InvariantBroken(invariant, f"group {self.group}: {detail}")

    # --- what a node says ---

    def on_sent(self, node: NodeId, target: NodeId, message: Message) -> None:
        """A node votes once a term and speaks of no term below one it spoke of, over restarts too (§5.1, §5.2)."""
        pre = isinstance(message, RequestVote | VoteReply) and message.pre
        if isinstance(message, EntryFound):
            self.on_found(node, message.entry)
        elif not pre and not isinstance(message, RepairMessage):
            spoken = self.spoken.get(node, 0)
            if message.term < spoken:
                raise self._broken(
                    "terms only rise", f"{node} tells {target} of term {message.term} after term {spoken}"
                )
            self.spoken[node] = message.term
        if isinstance(message, RequestVote) and not pre:
            self._vote(node, message.term, node)
        elif isinstance(message, VoteReply) and message.granted and not pre:
            self._vote(node, message.term, target)

    def _vote(self, node: NodeId, term: Term, candidate: NodeId) -> None:
        earlier = self.votes.setdefault((node, term), candidate)
        if earlier != candidate:
            raise self._broken(
                "one vote a term", f"{node} votes for {candidate} in term {term} after a vote for {earlier}"
            )

    def on_change(self, node: NodeId, change: RoleChanged, replica: Replica) -> None:
        """At most one leader a term, and it holds all that is committed (Election Safety, Leader Completeness)."""
        if change.role in ("candidate", "leader"):
            self._check_whole(node, change, replica)
        if change.role != "leader":
            return
        first = self.leaders.setdefault(change.term, node)
        if first != node:
            raise self._broken("one leader a term", f"{node} leads term {change.term}, {first} led it before")
        self.elections += 1
        # A node that stood still after it came into office is seen late: later leaders may have committed since.
        earlier = (each for each, _ in reversed(self.committed) if each.term < change.term)
        last = next(earlier, NOTHING)
        if last == NOTHING:
            return
        held = replica.raft.log.term_at(last.index)
        if held != last.term and replica.raft.log.base.index < last.index:
            raise self._broken(
                "leader completeness",
                f"{node} leads term {change.term} without committed {last.term}:{last.index} (there: term {held})",
            )

    def _check_whole(self, node: NodeId, change: RoleChanged, replica: Replica) -> None:
        """Whose disk is damaged couldn't send what a leader must send (FAST'18)."""
        if replica.raft.log.is_damaged:
            raise self._broken("a damaged log doesn't lead", f"{node} is {change.role} of term {change.term}")

    # --- what a node holds ---

    def on_write(self, node: NodeId, write: LogWrite, replica: Replica) -> None:
        """Two logs that hold the same id hold the same entry, after the same entry (Log Matching)."""
        for entry in (*write.repairs, *write.entries):
            self._match(node, entry, replica)

    def on_found(self, node: NodeId, entry: Entry) -> None:
        """What a disk gives back, or a node gives to another, is what a leader made under that id."""
        known, _ = self.entries.get(entry.id, (None, 0))
        if known is not None and known != crc32(entry.frame):
            raise self._broken(
                "nothing damaged is believed",
                f"{node} holds entry {entry.term}:{entry.index} with checksum {crc32(entry.frame):08x}, it was made "
                f"with {known:08x}",
            )

    def _match(self, node: NodeId, entry: Entry, replica: Replica) -> None:
        log = replica.raft.log
        previous = log.term_at(entry.index - 1)
        if previous is None or log.term_at(entry.index) != entry.term:
            return  # cut or compacted again within the same turn
        fact = (crc32(entry.frame), previous)
        known = self.entries.setdefault(entry.id, fact)
        if known != fact:
            raise self._broken(
                "log matching",
                f"{node} holds entry {entry.term}:{entry.index} with checksum {fact[0]:08x} after term {fact[1]}; "
                f"elsewhere it has {known[0]:08x} after term {known[1]}",
            )

    def on_turn(self, node: NodeId, replica: Replica) -> None:
        """Marks only rise; what is committed is the same everywhere, for ever, and on a majority of disks."""
        raft, seen = replica.raft, self.seen.get(node)
        if seen is None:
            seen = self.seen[node] = Seen()
        log = raft.log
        if raft.term < seen.term or log.committed < seen.committed or replica.applied < seen.applied:
            raise self._broken(
                "marks only rise",
                f"{node} is at term {raft.term}, committed {log.committed}, applied {replica.applied}; it was at "
                f"{seen.term}, {seen.committed}, {seen.applied}",
            )
        if log.committed > seen.committed:
            if raft.is_leader and log.term_at(log.committed) != raft.term:
                raise self._broken(
                    "own term committed first",
                    f"{node} leads term {raft.term} and commits entry {log.committed} of term "
                    f"{log.term_at(log.committed)} by counting",
                )
            self._on_committed(node, replica, seen.committed + 1)
        if replica.applied > log.committed:
            raise self._broken(
                "applied is committed", f"{node} applied {replica.applied}, committed is {log.committed}"
            )
        if replica.applied > seen.applied and seen.term:  # not what a machine on its own disk began with
            durable = self.durability.shadow(node, self.group).applicable
            if replica.applied > durable:
                raise self._broken("applied is durable", f"{node} applied {replica.applied}, its disk holds {durable}")
        seen.term, seen.committed, seen.applied = raft.term, log.committed, replica.applied
        seen.configuration = raft.configuration

    def _on_committed(self, node: NodeId, replica: Replica, first: LogIndex) -> None:
        log, committed = replica.raft.log, self.committed
        is_first = len(committed) < log.committed
        for index in range(max(first, log.first), log.committed + 1):
            entry = log.get(index)
            is_whole = has_whole(log, entry.id)  # else its disk knows that what it holds is wrong
            fact = (entry.id, crc32(entry.frame) if is_whole else self.entries[entry.id][0])
            if index <= len(committed):
                if committed[index - 1] != fact:
                    raise self._broken(
                        "committed prefix equal",
                        f"{node} committed {entry.term}:{index} ({fact[1]:08x}), elsewhere entry {index} is "
                        f"{committed[index - 1][0].term}:{index} ({committed[index - 1][1]:08x})",
                    )
                continue
            if index > len(committed) + 1:
                raise self._broken(
                    "committed prefix equal", f"{node} committed {index}, nobody committed {len(committed) + 1}"
                )
            committed.append(fact)
        if first < log.first:
            self._check_base(node, log.base)
        if replica.raft.is_leader or is_first:
            self._check_quorum(node, replica, log.committed)

    def _check_base(self, node: NodeId, base: EntryId) -> None:
        if base.index > len(self.committed):
            raise self._broken(
                "committed prefix equal", f"{node} starts at {base}, only {len(self.committed)} are committed"
            )
        if base.index and self.committed[base.index - 1][0] != base:
            raise self._broken(
                "committed prefix equal",
                f"{node} starts after {base}, entry {base.index} is {self.committed[base.index - 1][0]}",
            )

    def _check_quorum(self, node: NodeId, replica: Replica, index: LogIndex) -> None:
        """On the disks of a majority, or two, by what was in force when it was committed: before this turn or in it."""
        entry, _ = self.committed[index - 1]
        holders = self.durability.holders(self.group, entry)
        now, before = replica.raft.configuration, self.seen[node].configuration
        if not any(is_supported(each.voters, each.outgoing, holders) for each in (now, before) if each.voters):
            on_disks = ", ".join(holders) or "nobody"
            raise self._broken(
                "committed is durable on a majority",
                f"{node} takes entry {entry.term}:{entry.index} as committed; it is on the disks of {on_disks}, the "
                f"voters are {', '.join(now.voters)}{' and ' * now.is_joint}{', '.join(now.outgoing)}",
            )

    def forget(self, node: NodeId) -> None:
        """The disk of `node` is gone: whatever comes back under that name has promised nothing."""
        self.spoken.pop(node, None)
        self.votes = {key: candidate for key, candidate in self.votes.items() if key[0] != node}

    def said_by(self, node: NodeId) -> tuple[Term | None, dict[tuple[NodeId, Term], NodeId]]:
        """What `forget` forgets of it, for `remember`."""
        return self.spoken.get(node), {key: candidate for key, candidate in self.votes.items() if key[0] == node}

    def remember(self, node: NodeId, said: tuple[Term | None, dict[tuple[NodeId, Term], NodeId]]) -> None:
        """The disk is there again that `said` was promised on."""
        spoken, votes = said
        if spoken is not None:
            self.spoken[node] = spoken
        self.votes.update(votes)

    def on_restarted(self, node: NodeId) -> None:
        """Commit and applied marks are volatile: they start over; the term does not, `spoken` remembers it."""
        self.seen[node] = Seen()
