"""How does a node ask to lead? First whether it could, then in earnest (Raft Figure 2, "Candidates"; thesis §9.6)."""

from typing import ClassVar

from aegis_replication.consensus.member import (
    CANDIDATE,
    PRE_CANDIDATE,
    Member,
    Transition,
    to_candidate,
    to_follower,
    to_leader,
    to_pre_candidate,
)
from aegis_replication.consensus.messages import AppendEntries, InstallSnapshot, RequestVote, VoteReply
from aegis_replication.consensus.quorum import election_outcome
from aegis_replication.consensus.role import Handler, Role
from aegis_replication.ids import NodeId


class Campaign(Role):
    """What a pre-vote and an election have in common: votes, counted by voter."""

    __slots__ = ("votes",)

    def __init__(self, member: Member, transition: Transition) -> None:
        super().__init__(member, transition)
        # What each voter answered, by its id, so that an answer that comes twice counts once.
        self.votes: dict[NodeId, bool] = {}

    def electorate(self) -> list[NodeId]:
        """Everybody with a vote, but oneself."""
        configuration = self.member.configuration
        return sorted({*configuration.voters, *configuration.outgoing} - {self.member.node})

    def outcome(self) -> bool | None:
        """Won, lost, or None while it is open."""
        configuration = self.member.configuration
        return election_outcome(configuration.voters, configuration.outgoing, self.votes)

    def count(self, voter: NodeId, granted: bool) -> bool | None:
        """Note a vote and return the outcome so far. A grant isn't taken back by an older refusal that comes late."""
        if not self.votes.get(voter, False):
            self.votes[voter] = granted
        return self.outcome()

    def score(self) -> str:
        """For the log line."""
        configuration = self.member.configuration
        voters = {*configuration.voters, *configuration.outgoing}
        return f"{sum(self.votes.get(voter, False) for voter in voters)} of {len(voters)} votes"

    def on_leader(self, source: NodeId, message: AppendEntries | InstallSnapshot) -> Transition:
        """Somebody else leads this term: follow (§5.2)."""
        return to_follower(source, f"{source} leads this term", redeliver=True)

    def on_deadline(self) -> Transition | None:
        """Nobody won in time: begin again (§5.2), unless this node's own disk is what is slow."""
        member = self.member
        if not member.is_term_durable:
            self.deadline_ms = member.draw_election_deadline()
            return None
        if not member.may_lead:
            return to_follower(None, "is no voter any more")
        why = f"no majority in time: {self.score()}"
        return to_pre_candidate(why) if member.config.pre_vote else to_candidate(why)


class PreCandidate(Campaign):
    """Asks whether an election in the next term could be won, without entering it."""

    __slots__ = ()

    name: ClassVar[str] = PRE_CANDIDATE

    def enter(self, transition: Transition) -> Transition | None:
        """Ask everybody; a single voter has its answer already."""
        member = self.member
        request = RequestVote(member.term + 1, member.log.last, pre=True)
        for voter in self.electorate():
            member.send(voter, request)
        return self._decide(self.count(member.node, True))

    def on_vote_reply(self, source: NodeId, message: VoteReply) -> Transition | None:
        """Count a pre-vote; a refusal from a later term never gets here, it has ended this campaign before."""
        member = self.member
        if not message.pre or (message.granted and message.term != member.term + 1):
            return None  # the answer to another campaign
        return self._decide(self.count(source, message.granted))

    def _decide(self, outcome: bool | None) -> Transition | None:
        if outcome is None:
            return None
        if outcome:
            return to_candidate(f"would win with {self.score()}")
        return to_follower(None, f"would not win: {self.score()}")

    handlers: ClassVar[dict[type, Handler]] = {
        AppendEntries: Campaign.on_leader,
        InstallSnapshot: Campaign.on_leader,
        RequestVote: Role.on_request_vote,
        VoteReply: on_vote_reply,
    }


class Candidate(Campaign):
    """Asks for votes in a new term, its own first (§5.2)."""

    __slots__ = ()

    name: ClassVar[str] = CANDIDATE

    def enter(self, transition: Transition) -> Transition | None:
        """Enter the next term, vote for oneself, ask the others: nobody hears of it before the vote is durable.

        Else a candidate that crashes could vote for another in the same term after others have counted on it.
        """
        member = self.member
        member.enter_term(member.term + 1, vote=member.node)
        request = RequestVote(member.term, member.log.last, force=transition.force)
        for voter in self.electorate():
            member.reply(voter, request)
        member.reply(member.node, VoteReply(member.term, True))
        return None

    def on_vote_reply(self, source: NodeId, message: VoteReply) -> Transition | None:
        """Count a vote of this term (§5.2)."""
        if message.pre:
            return None
        outcome = self.count(source, message.granted)
        if outcome is None:
            return None
        if outcome:
            return to_leader(f"won election with {self.score()}")
        return to_follower(None, f"lost election with {self.score()}")

    handlers: ClassVar[dict[type, Handler]] = {
        AppendEntries: Campaign.on_leader,
        InstallSnapshot: Campaign.on_leader,
        RequestVote: Role.on_request_vote,
        VoteReply: on_vote_reply,
    }
