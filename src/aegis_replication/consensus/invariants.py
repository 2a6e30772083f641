"""What must be true of a replica after every input? (Raft Figure 3, as far as one replica can see it.)"""

from typing import NamedTuple

from aegis_replication.consensus.candidate import Candidate
from aegis_replication.consensus.follower import Follower
from aegis_replication.consensus.leader import Leader
from aegis_replication.consensus.node import Raft
from aegis_replication.consensus.progress import PROBE, REPLICATE
from aegis_replication.consensus.quorum import jointly_committed
from aegis_replication.ids import LogIndex, NodeId, Term


class Marks(NamedTuple):
    """What only rises, as of some moment: compare a replica with its earlier self."""

    term: Term
    voted_for: NodeId | None
    committed: LogIndex
    applied_to: LogIndex
    base: LogIndex
    format: int  # of what is applied


def check(raft: Raft, since: Marks | None = None) -> Marks:
    """Assert the local invariants of `raft`, and, with the marks of an earlier check, that nothing fell.

    Cheap enough for a simulator's every step: it looks at the ends of the log, not along it.
    """
    log = raft.log
    _check_log(raft)
    role = raft.current_role
    assert role.name == raft.role, f"role {raft.role} is a {role.name} object"
    if isinstance(role, Leader):
        _check_leader(raft, role)
    elif isinstance(role, Candidate):
        assert raft.voted_for == raft.node, f"candidate {raft.node} voted for {raft.voted_for}"
        assert raft.leader is None, f"candidate follows {raft.leader}"
    elif isinstance(role, Follower):
        assert raft.leader != raft.node, "follows itself"
        assert role.verified <= log.last_index, f"verified {role.verified} of {log.last_index}"
        assert raft.leader is not None or not role.asked, f"asks nobody about {len(role.asked)} reads"
        assert role.acknowledged <= log.durable, f"acknowledged {role.acknowledged}, durable {log.durable}"
    format = raft.configurations.oldest.format
    marks = Marks(raft.term, raft.voted_for, log.committed, raft.applied_to, log.base.index, format)
    if since is not None:
        _check_since(marks, since)
    return marks


def _check_log(raft: Raft) -> None:
    log = raft.log
    assert log.base.index <= log.committed <= log.last_index, f"{log.base} <= {log.committed} <= {log.last}"
    assert log.base.index <= log.durable <= log.last_index, f"{log.base} <= durable {log.durable} <= {log.last}"
    ready = min(log.committed, log.durable)
    if log.is_damaged:  # a machine on its own disk may have applied what the log's disk has damaged since
        ready = log.committed
    assert log.base.index <= raft.applied_to <= ready, f"{log.base} <= applied {raft.applied_to} <= {ready}"
    assert log.last.term <= raft.term, f"log ends in {log.last}, term is {raft.term}"
    before_last = log.term_at(log.last_index - 1)
    assert before_last is None or before_last <= log.last.term, f"term {before_last} before {log.last}"
    format, highest = raft.configuration.format, raft.config.format_highest
    assert format <= highest, f"writes format {format}, may use {highest}"
    newest = raft.configurations.newest
    assert newest.index <= log.last_index, f"configuration at {newest}, log {log.last}"
    if len(raft.configurations) > 1 and newest.index > log.base.index:
        assert log.term_at(newest.index) == newest.term, f"configuration {newest} in force is not in the log"


def _check_since(marks: Marks, since: Marks) -> None:
    assert marks.term >= since.term, f"term fell from {since.term} to {marks.term}"
    assert marks.committed >= since.committed, f"commit index fell from {since.committed} to {marks.committed}"
    assert marks.applied_to >= since.applied_to, f"applied fell from {since.applied_to} to {marks.applied_to}"
    assert marks.format >= since.format, f"format fell from {since.format} to {marks.format}"
    assert marks.base >= since.base, f"the log's start fell from {since.base} to {marks.base}"
    if marks.term == since.term and since.voted_for is not None:
        assert marks.voted_for == since.voted_for, (
            f"vote in term {marks.term} changed from {since.voted_for} to {marks.voted_for}"
        )


def _check_leader(raft: Raft, role: Leader) -> None:
    log = raft.log
    assert raft.leader == raft.node, f"leads and follows {raft.leader}"
    assert raft.voted_for == raft.node, f"leads term {raft.term} and voted for {raft.voted_for}"
    assert log.last_index >= role.first_own, f"no-op {role.first_own} is not in the log that ends in {log.last}"
    expected = raft.configurations.members - {raft.node}
    assert role.progress.keys() == expected, f"progress of {sorted(role.progress)}, members {sorted(expected)}"
    assert role.matches[raft.node] <= log.durable, f"own ack {role.matches[raft.node]}, durable {log.durable}"
    for peer, progress in role.progress.items():
        assert role.matches[peer] == progress.match <= log.last_index, (
            f"{peer}: match {progress.match}, counted as {role.matches[peer]}, log ends at {log.last_index}"
        )
        assert progress.match < progress.next <= log.last_index + 1, f"{peer}: {progress.match} < {progress.next}"
        assert progress.round <= role.round, f"{peer} answered round {progress.round} of {role.round}"
        assert progress.in_flight_bytes == sum(size for _, size in progress.in_flight), f"{peer}: window"
        assert progress.stance is REPLICATE or not progress.in_flight, f"{peer}: {progress.stance} in flight"
        assert progress.stance is PROBE or not progress.is_probing, f"{peer}: {progress.stance} is probing"
    _check_members(raft, role)
    if log.committed >= role.first_own:
        held = max(jointly_committed(each.voters, each.outgoing, role.matches) for each in raft.configurations.held)
        assert log.committed <= held, f"committed {log.committed}, a majority holds {held}"


def _check_members(raft: Raft, role: Leader) -> None:
    """One change at a time, none before an own entry is committed (thesis §4.1), nothing new while handing over."""
    log, stack = raft.log, raft.configurations
    own = stack.index >= role.first_own
    assert not own or log.committed >= role.first_own, (
        f"configuration {stack.index} was appended before own entry {role.first_own} was committed"
    )
    if log.committed >= role.first_own:
        pending = stack.uncommitted(log.committed)
        assert pending <= 1, f"{pending} configurations are not committed yet"
    handover = role.handover
    if handover is not None and handover.is_sent:
        assert log.last_index == handover.last_index, f"log grew to {log.last} after {handover.target} was told to lead"
