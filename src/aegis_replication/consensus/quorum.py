"""What do a majority of voters agree on? Pure arithmetic (Raft §5.3; joint: thesis §4.3)."""

from collections.abc import Collection, Mapping
from typing import Final

from aegis_replication.ids import LogIndex, NodeId

NO_LIMIT: Final = 2**63
"""What the empty half of a joint configuration holds: it never holds back the other half."""


def majority(voter_count: int) -> int:
    """How many of `voter_count` are more than half."""
    return voter_count // 2 + 1


def committed(voters: Collection[NodeId], matches: Mapping[NodeId, LogIndex]) -> LogIndex:
    """The highest index (or round) that a majority of `voters` holds; NO_LIMIT without voters.

    Only voters are looked up, so that a stranger's or a learner's ack can't count.
    """
    if not voters:
        return NO_LIMIT
    held = sorted([matches.get(voter, 0) for voter in voters], reverse=True)
    return held[len(held) // 2]  # as many as a majority hold at least this: majority(n) - 1 is n // 2


def jointly_committed(
    voters: Collection[NodeId], outgoing: Collection[NodeId], matches: Mapping[NodeId, LogIndex]
) -> LogIndex:
    """The highest index that a majority of each half holds."""
    if not outgoing:
        return committed(voters, matches)
    return min(committed(voters, matches), committed(outgoing, matches))


def has_majority(voters: Collection[NodeId], supporters: Collection[NodeId]) -> bool:
    """Do more than half of `voters` stand among `supporters`? True without voters."""
    return not voters or sum(voter in supporters for voter in voters) >= majority(len(voters))


def is_supported(voters: Collection[NodeId], outgoing: Collection[NodeId], supporters: Collection[NodeId]) -> bool:
    """Is there a majority in each half?"""
    return has_majority(voters, supporters) and has_majority(outgoing, supporters)


def election_outcome(
    voters: Collection[NodeId], outgoing: Collection[NodeId], votes: Mapping[NodeId, bool]
) -> bool | None:
    """True: won, a majority of each half granted; False: lost, it can't be won any more; None: still open."""
    granted = {voter for voter, is_granted in votes.items() if is_granted}
    if is_supported(voters, outgoing, granted):
        return True
    possible = granted.union(voter for voter in (*voters, *outgoing) if voter not in votes)
    return None if is_supported(voters, outgoing, possible) else False
