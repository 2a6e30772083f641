"""What have the roles in common? A deadline, and a table of what they answer."""

from collections.abc import Callable
from typing import Any, ClassVar

from aegis_replication.consensus.member import Member, Transition
from aegis_replication.consensus.messages import RequestVote
from aegis_replication.ids import NodeId

Handler = Callable[[Any, NodeId, Any], Transition | None]


class Role:
    """What the three roles have in common: a deadline, and a table of what they answer."""

    __slots__ = ("deadline_ms", "member")

    name: ClassVar[str]
    handlers: ClassVar[dict[type, Handler]]

    def __init__(self, member: Member, transition: Transition) -> None:
        self.member = member
        # When on_deadline is due.
        self.deadline_ms = member.draw_election_deadline()

    def enter(self, transition: Transition) -> Transition | None:
        """Begin, once this is the replica's role."""
        return None

    def leave(self) -> str:
        """End; returns what is lost by it, for the log line."""
        return ""

    def on_deadline(self) -> Transition | None:
        """`deadline_ms` has come."""
        return None

    def on_persisted(self) -> Transition | None:
        """More of the log is durable."""
        return None

    def on_peer_lost(self, peer: NodeId) -> Transition | None:
        """The connection to `peer` ended."""
        return None

    def has_fresh_leader(self) -> bool:
        """Was a leader heard within the minimum election timeout? Then nobody needs an election (§6)."""
        return False

    def on_request_vote(self, source: NodeId, message: RequestVote) -> Transition | None:
        """Answer a candidate (§5.2)."""
        if message.pre:
            self.member.answer_pre_vote(source, message, is_leader_fresh=self.has_fresh_leader())
        else:
            self.member.answer_vote(source, message)
        return None
