"""When is a read answered, and from which state? Raft says which entry to wait for, the machine says the rest."""

from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

from aegis_replication import wire
from aegis_replication.consensus.node import Raft
from aegis_replication.consensus.output import Output
from aegis_replication.engine.effects import Effects, LeasedReplies
from aegis_replication.engine.replies import Caller, answer, reply_error, reply_refused
from aegis_replication.engine.spec import ReplicaLimits
from aegis_replication.errors import InvalidArgument, NotLeader, ProtocolError
from aegis_replication.ids import LogIndex
from aegis_replication.state_machine.base import Machine

Query: TypeAlias = tuple[Caller, bytes]


class Reads:
    """The reads of one replica: those of this turn, those that Raft knows of, and those that wait for an entry."""

    __slots__ = (
        "_again",
        "_asked",
        "_bounded",
        "_bytes",
        "_count",
        "_here",
        "_leased",
        "_limits",
        "_machine",
        "_new",
        "_questions",
        "_raft",
        "_ready",
    )

    def __init__(self, raft: Raft, machine: Machine, limits: ReplicaLimits) -> None:
        self._raft, self._machine, self._limits = raft, machine, limits
        # Of this turn: for the leader; for any replica; with the answer's age at most in ms; to be confirmed after all.
        self._new: list[Query] = []
        self._here: list[Query] = []
        self._bounded: list[tuple[int, Query]] = []
        self._again: list[Query] = []
        # By Raft's ticket, all reads of a turn have one: what this leader asks a majority, this follower its leader.
        self._asked: dict[int, list[Query]] = {}
        self._questions: dict[int, list[Query]] = {}
        # Confirmed, and waiting for an entry to be applied; by lease, also good only until then.
        self._ready: deque[tuple[LogIndex, list[Query]]] = deque()
        self._leased: deque[tuple[LogIndex, float, list[Query]]] = deque()
        self._count = self._bytes = 0  # all of the above

    # --- what comes ---

    def take(self, kind: int, body: bytes, caller: Caller, effects: Effects) -> None:
        """A QUERY, on the leader, or a READ. Raises InvalidArgument for one that is cut."""
        limits = self._limits
        if self._count >= limits.waiting_reads or (self._bytes + len(body) > limits.waiting_read_bytes and self._count):
            what = f"{self._count:,} reads of {self._bytes:,} bytes wait already: send again later"
            effects.replies.append(reply_error(caller, wire.OVERLOADED, what))
            return
        if kind == wire.QUERY:
            query = body
            self._new.append((caller, query))
        else:
            try:
                age_ms, query = wire.decode_read(body)
            except ProtocolError as error:
                raise InvalidArgument(str(error)) from None
            if age_ms:
                self._bounded.append((age_ms, (caller, query)))
            else:
                self._here.append((caller, query))
        self._count += 1
        self._bytes += len(query)

    def again(self, queries: Sequence[Query]) -> None:
        """What they were answered by was over before the answers could leave: a majority is to be asked."""
        self._again += queries
        self._count += len(queries)
        self._bytes += sum(len(query) for _, query in queries)

    def _let_go(self, queries: Sequence[Query]) -> list[Caller]:
        """They wait no longer; who asked them."""
        self._count -= len(queries)
        self._bytes -= sum(len(query) for _, query in queries)
        return [caller for caller, _ in queries]

    def ask(self, applied: LogIndex, now_ms: float, effects: Effects) -> list[Caller]:
        """Hand this turn's reads to Raft; answer what is fresh enough as it is. Returns whom nobody here can serve."""
        raft, asked = self._raft, self._asked
        if self._bounded:
            self._answer_fresh(applied, now_ms, effects)
        if raft.is_leader:
            if self._new or self._here:
                asked[raft.read()] = self._new + self._here if self._here else self._new
                self._new, self._here = [], []
            if self._again:
                asked[raft.read(by_lease=False)] = self._again
                self._again = []
            return []
        lost, self._new = self._new, []
        here, self._here, self._again = self._here + self._again, [], []
        if here:
            try:
                self._questions[raft.read(here=True)] = here
            except NotLeader:
                lost += here
        return self._let_go(lost)

    def _answer_fresh(self, applied: LogIndex, now_ms: float, effects: Effects) -> None:
        """What is applied here may be young enough; else the leader is asked, which serves the next ones too."""
        bounded, self._bounded = self._bounded, []
        fresh: dict[int, list[Query]] = {}
        for age_ms, query in bounded:
            if now_ms < self._raft.fresh_until_ms(age_ms, applied):
                fresh.setdefault(age_ms, []).append(query)
            else:
                self._here.append(query)
        for age_ms, queries in fresh.items():
            self._serve_until(self._raft.fresh_until_ms(age_ms, applied), queries, effects)

    @property
    def is_waiting(self) -> bool:
        """Has this turn brought any?"""
        return bool(self._new or self._here or self._bounded or self._again)

    # --- what follows ---

    def on_output(self, output: Output, effects: Effects) -> None:
        """What Raft has confirmed, and what it never will."""
        asked, questions = self._asked, self._questions
        for ticket, index in output.reads:
            queries = asked.pop(ticket, None) or questions.pop(ticket, None)
            if queries:
                self._ready.append((index, queries))
        for ticket, index, until_ms in output.leased:
            queries = asked.pop(ticket, None)
            if queries:
                self._leased.append((index, until_ms, queries))
        for ticket in output.lost_reads:
            callers = self._let_go(questions.pop(ticket, []))
            why = "the leader was lost before it confirmed the read: ask again"
            effects.replies.extend(reply_error(caller, wire.DROPPED, why) for caller in callers)

    def serve(self, applied: LogIndex, effects: Effects) -> None:
        """Answer the reads whose entry is applied."""
        ready, leased = self._ready, self._leased
        while ready and ready[0][0] <= applied:
            self._serve(ready.popleft()[1], effects.replies)
        while leased and leased[0][0] <= applied:
            _, until_ms, queries = leased.popleft()
            self._serve_until(until_ms, queries, effects)

    def _serve_until(self, until_ms: float, queries: list[Query], effects: Effects) -> None:
        replies: list[tuple[int, bytes]] = []
        self._serve(queries, replies)
        effects.leased.append(LeasedReplies(self._raft.group, until_ms, queries, replies))

    def _serve(self, queries: Sequence[Query], replies: list[tuple[int, bytes]]) -> None:
        query = self._machine.query
        for caller, body in queries:
            try:
                result = query(body)
            except InvalidArgument as error:
                replies.append(reply_refused(caller, error))
            else:
                answer((caller,), (result,), replies)
        self._let_go(queries)

    def give_up(self) -> list[Caller]:
        """This replica doesn't lead, or no longer: who waits for a majority to confirm that it does."""
        queries = [*self._new]
        for each in self._asked.values():
            queries += each
        self._new, self._asked = [], {}
        return self._let_go(queries)
