"""How does a leader know that it still leads? Rounds of contact, reads that wait for one, a lease (thesis §6.4)."""

from aegis_replication.consensus.lease import NEVER, Lease
from aegis_replication.consensus.member import Member, Transition
from aegis_replication.consensus.messages import ReadIndex, ReadIndexReply
from aegis_replication.consensus.quorum import jointly_committed
from aegis_replication.consensus.reads import ReadQueue
from aegis_replication.consensus.role import Role
from aegis_replication.ids import LogIndex, NodeId


class Contact(Role):
    """The leader's part that asks "am I still your leader?"."""

    __slots__ = ("first_own", "lease", "matches", "reads", "round", "rounds")

    def __init__(self, member: Member, transition: Transition) -> None:
        super().__init__(member, transition)
        # Index of this term's first entry: the no-op. Nothing before it commits by counting.
        self.first_own: LogIndex = member.log.last_index + 1
        # Highest index known durable on each, this node included: `match` of all progress, as quorum wants it.
        self.matches: dict[NodeId, LogIndex] = {}
        # Highest round each has answered, this node included.
        self.rounds: dict[NodeId, int] = {}
        # The last round sent. Only rises; unique together with the term.
        self.round = 0
        self.reads = ReadQueue()
        self.lease = Lease()

    def leave(self) -> str:
        """Reads that wait are lost with the leadership; whoever asked must ask again."""
        count = len(self.reads)
        return f"; {count} waiting {'read' if count == 1 else 'reads'} dropped" if count else ""

    def read(self, ticket: int, *, by_lease: bool = True) -> None:
        """A read waits for the next round of contact (thesis §6.4), unless a lease makes that needless (§6.4.1)."""
        member = self.member
        until_ms = self.lease_until_ms if by_lease else NEVER
        if member.now_ms < until_ms:
            member.leased.append((ticket, member.log.committed, until_ms))
        else:
            self.reads.add(ticket)

    def on_read_index(self, source: NodeId, message: ReadIndex) -> None:
        """A follower's question is a read like any other; never by lease, so that it depends on no clock."""
        self.reads.add((source, message.number))

    @property
    def lease_until_ms(self) -> float:
        """Until when nobody else can lead, by this node's clock; in the past when that isn't known."""
        is_settled = self.member.log.committed >= self.first_own
        return self.lease.until_ms(self.member.configurations.current.lease_ms) if is_settled else NEVER

    def begin_round(self, is_heartbeat: bool) -> bool:
        """Begin a round for the reads that wait, or for the lease with every heartbeat; says whether one is to be sent.

        None before the no-op is committed: until then nobody knows what a read would have to wait for (§8).
        """
        member = self.member
        lease_ms = member.configurations.current.lease_ms
        if member.log.committed < self.first_own or not (self.reads.waiting or (is_heartbeat and lease_ms)):
            return False
        self.round += 1
        self.rounds[member.node] = self.round
        self.reads.start(self.round, member.log.committed, member.now_ms)
        if lease_ms:
            self.lease.sent(self.round, member.now_ms)
        return True

    def confirm_reads(self) -> None:
        """Let go of the reads whose round a majority has answered, and renew the lease with it."""
        member = self.member
        configuration = member.configurations.current
        answered = jointly_committed(configuration.voters, configuration.outgoing, self.rounds)
        for ticket, index in self.reads.confirm(answered):
            if isinstance(ticket, int):
                member.reads.append((ticket, index))
            else:
                source, number = ticket
                member.reply(source, ReadIndexReply(member.term, number, index))
        member.freshness.prove(*self.reads.proof)
        if configuration.lease_ms:
            # Only voters count whose disk holds the configuration that says so: any other forgets it when it restarts.
            since = member.configurations.index
            knowing = {node: round_ for node, round_ in self.rounds.items() if self.matches[node] >= since}
            self.lease.answered(jointly_committed(configuration.voters, configuration.outgoing, knowing))
