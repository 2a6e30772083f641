"""May a node whose directory is new begin a cluster? Not while another that is to be in it has lived in one already.

Raft counts on disks that forget nothing. If a majority of the founders' disks is lost, or the wrong ones are mounted,
the founders find nothing, and would elect one another once more, beside what the others still hold. So a founder asks.
"""

from collections.abc import Iterable
from typing import Final

from aegis_replication.ids import NodeId

PATIENCE: Final = 10.0
"""Maximum election timeouts for which a founder waits for those whom it can't reach."""


class Founding:
    """What the others have told a node that started with a new directory; the same for all of its groups."""

    __slots__ = ("_until_ms", "_waiting", "holders", "is_over")

    def __init__(self, others: Iterable[NodeId], until_ms: float) -> None:
        # Who hasn't said yet whether its directory is new, too.
        self._waiting = set(others)
        self._until_ms = until_ms
        # Who holds entries of this cluster: it began without this node, or before this directory was made.
        self.holders: set[NodeId] = set()
        # Has this node taken entries from a leader, or made some? Then it is a member like any other.
        self.is_over = False

    def hear(self, node: NodeId, has_log: bool) -> None:
        """What `node` says first counts: later on it may hold what was founded meanwhile."""
        if not self.is_over and node in self._waiting:
            self._waiting.discard(node)
            if has_log:
                self.holders.add(node)

    @property
    def why_not(self) -> str:
        """Why this node will begin nothing, for people; "" when it may, or waits to hear from the others."""
        if self.is_over or not self.holders:
            return ""
        return (
            f"its directory is new, and {', '.join(sorted(self.holders))} held entries of this cluster already: it "
            "begins nothing and waits for their leader. If its own directory was lost, remove the node and add it "
            "again; if the wrong one is mounted, stop the node and mount the right one"
        )

    def may_begin(self, now_ms: float) -> bool:
        """May this node stand for the first election, or vote in it?"""
        return self.is_over or (not self.holders and (not self._waiting or now_ms >= self._until_ms))
