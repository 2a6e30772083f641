"""Raft §6; thesis §4: who is listened to, what members say of themselves, and what is in force after a cut."""

from raft_replicas import (
    CONFIGURATION,
    append,
    entry,
    only,
    replica,
    replicating,
    request_vote,
    settle,
    time_out,
    told,
)

from aegis_replication.consensus.changes import AddLearner, Introduction, Remove
from aegis_replication.consensus.configuration import Configuration, make_configuration
from aegis_replication.consensus.messages import AppendEntries, AppendReply, VoteReply
from aegis_replication.log import EntryId


def acknowledge(raft, *peers: str, index: int | None = None) -> None:
    for peer in peers:
        raft.step(peer, AppendReply(raft.term, 0, raft.log.last_index if index is None else index))


def let_commit(raft) -> None:
    """All peers acknowledge all, until nothing more follows."""
    for _ in range(6):
        settle(raft)
        if not raft.is_leader:
            return
        acknowledge(raft, *sorted(raft.configurations.members - {raft.node}))
    settle(raft)


def with_learner(**arguments):
    """A leader of a, b, c with a learner x that is level."""
    raft = replicating(**arguments)
    raft.propose_change(AddLearner("x"))
    let_commit(raft)
    for _ in range(2):
        time_out(raft)
        let_commit(raft)
    return raft


# --- who is listened to ---------------------------------------------------------------------------------------------


def test_a_learner_answers_a_candidate() -> None:
    """It may be a voter and not know it yet (thesis §4.2.2: votes don't depend on the voter's own configuration)."""
    raft = replica("x", voters="abc", learners="x", term=2, log=(1, 2))

    assert told(raft, "b", request_vote(3)) == [("b", VoteReply(3, True))]


def test_a_learner_never_stands_for_election() -> None:
    """Thesis §4.2.1."""
    raft = replica("x", voters="abc", learners="x")

    for _ in range(5):
        time_out(raft)

    assert (raft.role, raft.term) == ("follower", 1)


def test_a_node_of_a_later_configuration_is_listened_to() -> None:
    """Thesis §4.1: servers accept a leader that isn't in their configuration. Here: if it knows a later one."""
    raft = replica(term=2, log=(1, 2))
    assert told(raft, "y", append(3, (2, 2), [3])) == []

    raft.introduce("y", Introduction(configuration=40))
    told(raft, "y", append(3, (2, 2), [3]))

    assert raft.leader == "y"
    assert raft.log.last == EntryId(3, 3)


def test_a_node_that_knows_no_later_configuration_is_a_stranger() -> None:
    """A removed node has an earlier one, and nothing to say."""
    raft = replica(term=2, log=(1, 2))

    raft.introduce("y", Introduction(configuration=1))

    assert told(raft, "y", append(3, (2, 2), [3])) == []
    assert "not a member" in raft.why_not("y", Introduction(configuration=1))


def test_a_guest_is_a_stranger_again_once_its_configuration_is_here() -> None:
    """It was let in for what it might know."""
    raft = replica(term=2, log=(1, 2))
    raft.introduce("y", Introduction(configuration=3))
    payload = make_configuration("abc", learners="z").encode()

    told(raft, "b", AppendEntries(2, EntryId(2, 2), 0, 0, (entry(2, 3, payload, kind=CONFIGURATION, count=0),)))

    assert told(raft, "y", append(3, (2, 3), [3])) == []


def test_a_voter_with_another_data_directory_is_refused() -> None:
    """It has forgotten its votes and its log (thesis §11.7.2: servers must keep them)."""
    payload = Configuration(("a", "b", "c"), incarnations={"b": 7}).encode()
    raft = replica(entries=[entry(1, 1, payload, kind=CONFIGURATION, count=0)])

    assert raft.why_not("b", Introduction(7)) == ""
    assert "forgotten its votes" in raft.why_not("b", Introduction(8))
    assert raft.why_not("b", Introduction(8, configuration=9)) == "", "added anew, as we have not heard yet"


# --- what members say of themselves ---------------------------------------------------------------------------------


def test_a_leader_logs_what_members_say_of_themselves() -> None:
    """Incarnations protect, addresses let the others find them."""
    raft = replicating()
    raft.introduce("a", Introduction(1, "h:1"))
    raft.introduce("b", Introduction(2, "h:2"))

    time_out(raft)
    let_commit(raft)

    assert raft.configuration.incarnations == {"a": 1, "b": 2}
    assert raft.configuration.addresses == {"a": "h:1", "b": "h:2"}


def test_a_known_incarnation_is_never_replaced_by_what_a_node_says() -> None:
    """Only an operator may decide that a voter's promises are void."""
    raft = replicating()
    raft.introduce("b", Introduction(2, "h:2"))
    time_out(raft)
    let_commit(raft)

    raft.introduce("b", Introduction(3, "elsewhere:9"))
    time_out(raft)
    let_commit(raft)

    assert raft.configuration.incarnations == {"b": 2}
    assert raft.configuration.addresses == {"b": "h:2"}


def test_what_a_node_said_before_it_was_removed_is_forgotten() -> None:
    """Who comes next under its name may be another."""
    raft = replicating()
    raft.introduce("c", Introduction(5))
    time_out(raft)
    let_commit(raft)
    raft.propose_change(Remove("c"))
    let_commit(raft)

    raft.propose_change(AddLearner("c"))
    let_commit(raft)
    time_out(raft)
    let_commit(raft)

    assert raft.configuration.incarnations == {}


def test_a_member_added_anew_has_acknowledged_nothing() -> None:
    """Its empty disk holds nothing of what the old one held."""
    raft = with_learner()
    raft.propose_change(AddLearner("x", incarnation=1))
    let_commit(raft)
    raft.propose_change(AddLearner("x", incarnation=2))
    sent = settle(raft)

    raft.step("x", AppendReply(raft.term, 0, 0, raft.log.last_index - 1, EntryId(0, 0)))
    sent += settle(raft)

    to_x = only([("", message) for target, message in sent if target == "x"], AppendEntries)
    assert to_x[-1].previous == EntryId(0, 0)


# --- falling back ---------------------------------------------------------------------------------------------------


def test_two_configurations_cut_away_at_once_leave_the_last_one_in_the_log() -> None:
    """Thesis §4.1; a truncated tail with several of them (as in a known bug of another implementation)."""
    raft = replica(term=2, log=(1, 2))
    for index, voters in ((3, "abcd"), (4, "abcde")):
        payload = make_configuration(voters).encode()
        told(
            raft,
            "b",
            AppendEntries(2, EntryId(2, index - 1), 0, 0, (entry(2, index, payload, kind=CONFIGURATION, count=0),)),
        )
    kept = make_configuration("abd").encode()

    told(raft, "c", AppendEntries(3, EntryId(2, 2), 0, 0, (entry(3, 3, kept, kind=CONFIGURATION, count=0),)))

    assert raft.configuration.voters == ("a", "b", "d")
    assert raft.configuration_index == 3
    assert [each.voters for each in raft.configurations.held] == [(), ("a", "b", "c"), ("a", "b", "d")]
