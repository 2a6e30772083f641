"""Raft §6; thesis §4: how members change, and what must not happen on the way."""

import pytest
from raft_cluster import Cluster
from raft_replicas import (
    CONFIGURATION,
    elected,
    entry,
    leader,
    log_of,
    replica,
    replicating,
    settle,
    time_out,
)

from aegis_replication.consensus.changes import AddLearner, Demote, Introduction, Promote, Remove, Replace, SetAddress
from aegis_replication.consensus.configuration import decode_configuration, make_configuration
from aegis_replication.consensus.messages import AppendReply, TimeoutNow, VoteReply
from aegis_replication.errors import (
    ChangePending,
    InvalidArgument,
    LearnerLags,
    MemberExists,
    NotLeader,
    UnknownMember,
    WouldLoseQuorum,
)


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


# --- when a change may begin ----------------------------------------------------------------------------------------


def test_no_change_begins_before_an_entry_of_the_own_term_is_committed() -> None:
    """The flaw of single-server changes (raft-dev, 2015): an earlier leader's change may still go either way."""
    raft = leader()

    with pytest.raises(ChangePending, match="new and has committed nothing"):
        raft.propose_change(AddLearner("x"))

    acknowledge(raft, "b")
    assert raft.propose_change(AddLearner("x")) is not None


def test_one_change_is_made_at_a_time() -> None:
    """Thesis §4.1: a leader must not append a new configuration until the last one is committed."""
    raft = replicating()
    raft.propose_change(AddLearner("x"))

    with pytest.raises(ChangePending, match="not committed yet"):
        raft.propose_change(AddLearner("y"))

    let_commit(raft)
    assert raft.propose_change(AddLearner("y")) is not None


def test_a_new_leader_takes_an_earlier_leaders_change_for_pending() -> None:
    """Thesis §4.1: whatever lies uncommitted in its log may hold a configuration."""
    entries = [*log_of(1, 2), entry(2, 3, make_configuration("abcd").encode(), kind=CONFIGURATION, count=0)]
    raft = elected(entries=entries, voters="abc")

    with pytest.raises(ChangePending):
        raft.propose_change(AddLearner("x"))

    assert raft.configuration.voters == ("a", "b", "c", "d")


def test_only_a_leader_changes_members() -> None:
    """Thesis §4.1."""
    raft = replica()

    with pytest.raises(NotLeader):
        raft.propose_change(AddLearner("x"))


def test_raw_configurations_obey_the_same_rule() -> None:
    """Whatever way an entry takes into the log."""
    raft = leader()

    with pytest.raises(ChangePending):
        raft.propose(CONFIGURATION, make_configuration("abcd").encode())


# --- single steps ---------------------------------------------------------------------------------------------------


def test_a_learner_counts_for_nothing_until_it_is_promoted_and_at_once_then() -> None:
    """Thesis §4.2.1."""
    raft = with_learner()
    assert raft.configuration.learners == ("x",)

    raft.propose_change(Promote("x"))
    acknowledge(raft, "b")
    settle(raft)
    assert raft.log.committed < raft.log.last_index, "two of four are no majority"
    acknowledge(raft, "x")

    assert raft.log.committed == raft.log.last_index
    assert raft.configuration == make_configuration("abcx", founders="abc")


def test_a_learner_that_lags_is_not_promoted() -> None:
    """Thesis §4.2.1: a new server must be caught up before it counts."""
    raft = replicating()
    raft.propose_change(AddLearner("x"))
    acknowledge(raft, "b", "c")
    for _ in range(5):
        time_out(raft)
        acknowledge(raft, "b", "c")
    settle(raft)

    with pytest.raises(LearnerLags, match="x holds 0 of 3 entries"):
        raft.propose_change(Promote("x"))


def test_a_round_that_takes_longer_than_an_election_timeout_is_not_caught_up() -> None:
    """Thesis §4.2.1: rounds get shorter; only one that is short enough will do."""
    raft = replicating()
    raft.propose_change(AddLearner("x"))
    settle(raft)
    acknowledge(raft, "b", "c", "x")
    for _ in range(3):  # it answers, but what it holds is always a round of 200 ms behind
        behind = raft.log.last_index
        raft.propose(1, b"more", count=1)
        for _ in range(4):
            time_out(raft)
            acknowledge(raft, "b", "c")
            acknowledge(raft, "x", index=behind)
        settle(raft)

    with pytest.raises(LearnerLags):
        raft.propose_change(Promote("x"))


def test_a_learner_is_promoted_by_itself_once_it_is_level() -> None:
    """Thesis §4.2.1, without an operator who looks on."""
    cluster = Cluster("abcx", voters="abc")
    cluster.elect("a")
    for number in range(20):
        cluster.put(b"%d" % number)
    cluster["a"].propose_change(AddLearner("x", promote=True))

    cluster.pass_time(400)

    assert cluster["x"].configuration.voters == ("a", "b", "c", "x")
    assert cluster["a"].configuration.promotions == {}


def test_a_promotion_that_was_asked_for_survives_its_leader() -> None:
    """It is in the log, so the next leader sees to it."""
    cluster = Cluster("abcx", voters="abc")
    cluster.elect("a")
    cluster.put(b"1")
    cluster["a"].propose_change(AddLearner("x", promote=True))
    cluster.run()
    cluster.crash("a")

    cluster.pass_time(1500)

    assert cluster[cluster.leader].configuration.voters == ("a", "b", "c", "x")


def test_what_is_so_already_appends_nothing() -> None:
    """Operators repeat themselves."""
    raft = with_learner()
    last = raft.log.last_index

    for change in (AddLearner("x"), Promote("b"), Demote("x"), Remove("z"), AddLearner("b", promote=True)):
        assert raft.propose_change(change) is None

    assert raft.log.last_index == last


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (Promote("z"), UnknownMember, "add it first"),
        (Demote("z"), UnknownMember, "nothing to demote"),
        (SetAddress("z", "h:1"), UnknownMember, "no address to change"),
        (SetAddress("b", "nowhere"), InvalidArgument, "host:port"),
        (AddLearner("b"), MemberExists, "is a voter already"),
        (AddLearner("no name"), InvalidArgument, "node id"),
        (Replace("z", "y"), UnknownMember, "no place to take"),
        (Replace("b", "b"), InvalidArgument, "can't take its own place"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_by_name(change, error, words: str) -> None:
    """Bad input gets one clear error, and nothing is appended."""
    raft = replicating()
    last = raft.log.last_index

    with pytest.raises(error, match=words):
        raft.propose_change(change)

    assert raft.log.last_index == last


def test_a_change_that_would_leave_no_majority_alive_is_refused() -> None:
    """Thesis §4.2: availability; with c silent, removing b leaves nobody to commit it."""
    raft = replicating()
    for _ in range(8):
        time_out(raft)
        acknowledge(raft, "b")

    with pytest.raises(WouldLoseQuorum, match="c gave no sign of life lately"):
        raft.propose_change(Remove("b"))

    assert raft.propose_change(Remove("c")) is not None


def test_a_new_leader_does_not_take_the_dead_for_alive() -> None:
    """It has heard nobody yet: only who has answered it counts as there."""
    raft = leader()
    acknowledge(raft, "b")
    settle(raft)

    with pytest.raises(WouldLoseQuorum):
        raft.propose_change(Remove("b"))


def test_the_last_voter_stays() -> None:
    """Thesis §4.1: an empty configuration could never be left."""
    raft = leader(voters="a")

    with pytest.raises(WouldLoseQuorum, match="last voter"):
        raft.propose_change(Remove("a"))


# --- joint consensus ------------------------------------------------------------------------------------------------


def test_a_replacement_goes_by_way_of_both_majorities() -> None:
    """§6: C-old,new first, then C-new by itself."""
    raft = with_learner()
    raft.propose_change(Replace("c", "x"))
    let_commit(raft)

    configurations = [
        decode_configuration(held.payload)
        for held in raft.log.slice(raft.log.first, raft.log.last_index + 1)
        if held.kind == CONFIGURATION
    ]

    assert [(each.voters, each.outgoing) for each in configurations[-2:]] == [
        (("a", "b", "x"), ("a", "b", "c")),
        (("a", "b", "x"), ()),
    ]
    assert raft.configuration.members == {"a", "b", "x"}


def test_one_half_of_a_joint_configuration_commits_nothing() -> None:
    """§6: agreement requires separate majorities from both."""
    raft = with_learner(voters="abc")
    raft.propose_change(Demote("c"), joint=True)
    settle(raft)
    committed = raft.log.committed

    acknowledge(raft, "c")  # a majority of the old half: a and c
    assert raft.log.committed == committed
    acknowledge(raft, "b")

    assert raft.log.committed > committed


def test_a_joint_configuration_is_left_only_when_it_is_committed() -> None:
    """§6: only then is it safe to create the next one."""
    raft = with_learner()
    raft.propose_change(Demote("c"), joint=True)
    settle(raft)
    last = raft.log.last_index
    time_out(raft)
    settle(raft)
    assert raft.log.last_index == last

    acknowledge(raft, "b")
    settle(raft)

    assert raft.log.last_index == last + 1
    assert not raft.configuration.is_joint


def test_a_new_leader_ends_a_joint_change_that_it_finds() -> None:
    """§6: whoever is elected has C-old,new or the change never happened."""
    payload = make_configuration("abd", outgoing="abc").encode()
    entries = [*log_of(1, 2), entry(2, 3, payload, kind=CONFIGURATION, count=0)]
    raft = replica(entries=entries)
    time_out(raft)
    for voter in "b":
        raft.step(voter, VoteReply(raft.term + 1, True, pre=True))
    settle(raft)
    raft.step("b", VoteReply(raft.term, True))

    let_commit(raft)

    assert raft.configuration == make_configuration("abd")
    assert raft.log.committed == raft.log.last_index


# --- removed and demoted leaders ------------------------------------------------------------------------------------


def test_a_removed_leader_does_not_count_itself() -> None:
    """Thesis §4.2.2: it manages a cluster that doesn't include itself."""
    raft = replicating()
    raft.propose_change(Remove("a"))
    settle(raft)
    last = raft.log.last_index

    acknowledge(raft, "b")
    assert raft.log.committed < last, "b alone is no majority of b and c"
    acknowledge(raft, "c")

    assert raft.log.committed == last


def test_a_removed_leader_hands_over_and_goes() -> None:
    """Thesis §4.2.2: it steps down once C-new is committed; the best follower needn't wait for a timeout."""
    raft = replicating()
    raft.propose_change(Remove("a"))
    settle(raft)
    acknowledge(raft, "b", "c")

    sent = settle(raft)

    assert [target for target, message in sent if isinstance(message, TimeoutNow)] == ["c"]
    while raft.is_leader:
        time_out(raft)
        acknowledge(raft, "b", "c")
    assert raft.take_output().changes[-1].why == "is no voter any more"


def test_a_removed_leader_begins_no_further_change() -> None:
    """Thesis §4.2.2: those who have applied its removal don't hear it any more; without CheckQuorum it led for ever."""
    raft = replicating(check_quorum=False)
    raft.propose_change(Remove("a"))
    settle(raft)
    last = raft.log.last_index
    raft.introduce("b", Introduction(address="b.test:7482"))  # the leader's next step, as soon as it may be taken

    acknowledge(raft, "b", "c")
    with pytest.raises(ChangePending, match="a is no voter any more"):
        raft.propose_change(AddLearner("x"))
    settle(raft)

    assert (raft.log.committed, raft.log.last_index) == (last, last)
    for _ in range(20):
        time_out(raft)
    assert not raft.is_leader
    assert raft.take_output().changes[-1].why == "is no voter any more"


def test_a_leader_that_is_demoted_goes_too() -> None:
    """As one that is removed: it has no vote to lead with."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.put(b"1")
    cluster["a"].propose_change(Demote("a"))

    cluster.pass_time(100)

    assert cluster.leader in ("b", "c")
    assert cluster["a"].configuration.learners == ("a",)
    assert cluster["a"].role == "follower"


def test_a_removed_server_that_may_be_the_only_one_to_know_it_stands_for_election() -> None:
    """Thesis §4.2.2: until C-new is committed, a server outside of it may be needed; it doesn't count itself."""
    cluster = Cluster("ab")
    cluster.elect("a")
    cluster.put(b"1")
    cluster.cut("a", "b")
    cluster["a"].propose_change(Remove("a"))
    cluster.run()
    cluster.crash("a")
    cluster.start("a")
    cluster.heal()

    cluster.pass_time(2000)

    assert cluster.leader == "b"
    assert cluster["b"].configuration.voters == ("b",)
    assert cluster["b"].log.committed == cluster["b"].log.last_index


def test_a_removed_server_gets_the_entry_that_removes_it() -> None:
    """So that it stops asking for votes; thesis §4.2.3 needs other means where it doesn't."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.put(b"1")
    cluster["a"].propose_change(Remove("c"))
    cluster.pass_time(100)

    assert cluster["c"].configuration.voters == ("a", "b")
    assert cluster["c"].applied_to >= cluster["c"].configuration_index
    cluster.pass_time(2000)
    assert cluster["c"].role == "follower"
    assert cluster.leader == "a"


def test_a_removed_server_that_missed_it_disturbs_nobody() -> None:
    """Thesis §4.2.3: strangers are not listened to; the others' leader stays."""
    cluster = Cluster("abc", pre_vote=False)
    cluster.elect("a")
    cluster.put(b"1")
    cluster.isolate("c")
    cluster["a"].propose_change(Remove("c"))
    cluster.pass_time(100)
    term = cluster["a"].term
    cluster.heal()

    cluster.pass_time(3000)

    assert cluster["a"].is_leader
    assert cluster["a"].term == term
