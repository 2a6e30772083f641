"""Raft §6; thesis §4: who counts, and from when on?"""

from random import Random

import pytest
from raft_cluster import Cluster
from raft_replicas import (
    CONFIGURATION,
    GROUP,
    CheckedRaft,
    append,
    entry,
    leader,
    log_of,
    only,
    replica,
    replicating,
    request_vote,
    settle,
    snapshot_meta,
    time_out,
    told,
)

from aegis_replication.consensus.config import RaftConfig
from aegis_replication.consensus.configuration import (
    Configuration,
    ConfigurationStack,
    decode_configuration,
    make_configuration,
)
from aegis_replication.consensus.messages import AppendEntries, AppendReply, VoteReply
from aegis_replication.errors import ProtocolError
from aegis_replication.log import NOTHING, EntryId, HardState, RecoveredGroup, ReplicatedLog


def configuration_entry(term: int, index: int, voters: str, **others: str) -> AppendEntries:
    payload = make_configuration(voters, **{name: tuple(nodes) for name, nodes in others.items()}).encode()
    return AppendEntries(
        term, EntryId(term, index - 1), 0, 0, (entry(term, index, payload, kind=CONFIGURATION, count=0),)
    )


def test_the_first_configuration_is_the_same_entry_on_every_node() -> None:
    """§6: configurations are entries of the log; the first one, made by each node itself, must be one and the same."""
    frames = set()
    for name in "abc":
        raft = CheckedRaft(
            node=name,
            group=GROUP,
            config=RaftConfig(node_id=name, peers=["c", "b", "a"]),
            recovered=RecoveredGroup(HardState(), NOTHING, []),
            bootstrap=RaftConfig(node_id=name, peers=["b", "a", "c"]).configuration(),
            random=Random(name),
            now_ms=0.0,
        )
        write = raft.take_output().write
        assert write is not None
        assert write.hard_state == HardState(1)
        assert (raft.log.last, write.entries[0].stamp) == (EntryId(1, 1), 1)
        frames.add(write.entries[0].frame)

    assert len(frames) == 1


def test_a_node_that_has_a_log_does_not_begin_it_again() -> None:
    """§6: after its first start the log says who the members are."""
    raft = CheckedRaft(
        node="a",
        group=GROUP,
        config=RaftConfig(node_id="a", peers=["xyz"]),
        recovered=RecoveredGroup(HardState(3), NOTHING, log_of(1, 2)),
        bootstrap=make_configuration("axyz"),
        random=Random(0),
        now_ms=0.0,
    )

    assert raft.configuration.voters == ("a", "b", "c")
    assert raft.take_output().write is None


def test_a_first_write_that_was_torn_is_made_again() -> None:
    """§6: a crash may leave term 1 on disk and not yet the entry."""
    raft = CheckedRaft(
        node="a",
        group=GROUP,
        config=RaftConfig(node_id="a"),
        recovered=RecoveredGroup(HardState(1), NOTHING, []),
        bootstrap=make_configuration("abc"),
        random=Random(0),
        now_ms=0.0,
    )

    assert raft.log.last == EntryId(1, 1)


def test_a_configuration_is_in_force_when_appended() -> None:
    """§6: a server always uses the latest configuration in its log, regardless of whether the entry is committed."""
    raft = replica(term=2, log=(1, 2))

    told(raft, "b", configuration_entry(2, 3, "abcd"))

    assert raft.log.committed == 0
    assert raft.configuration.voters == ("a", "b", "c", "d")
    assert raft.configuration_index == 3


def test_a_configuration_that_is_cut_away_is_no_longer_in_force() -> None:
    """Thesis §4.1: a server must be prepared to fall back to the previous configuration, over several if need be."""
    raft = replica(term=2, log=(1, 2))
    told(raft, "b", configuration_entry(2, 3, "abcd"))
    told(raft, "b", configuration_entry(2, 4, "abcde"))

    told(raft, "c", append(3, (2, 2), [3]))

    assert raft.configuration.voters == ("a", "b", "c")
    assert raft.configuration_index == 1


def test_a_configuration_survives_a_restart_committed_or_not() -> None:
    """Thesis §4.1: it was in the log, so it is in force."""
    entries = [*log_of(1, 2)]
    entries.append(entry(2, 3, make_configuration("abcd").encode(), kind=CONFIGURATION, count=0))

    raft = replica(entries=entries)

    assert raft.configuration.voters == ("a", "b", "c", "d")


def test_a_snapshot_carries_the_configuration_and_its_index() -> None:
    """§7: the snapshot also includes the latest configuration in the log as of last included index."""
    raft = replica(term=2, log=(1, 2, 2))
    told(raft, "b", configuration_entry(2, 4, "abcd"))
    raft.step("b", append(2, (2, 4), commit=3))
    raft.take_output()

    meta = raft.snapshot_meta()

    assert meta.id == (2, 3)
    assert meta.configuration_index == 1
    assert decode_configuration(meta.configuration).voters == ("a", "b", "c")


def test_a_replica_restored_from_a_snapshot_has_its_configuration() -> None:
    """§7, as above, after a restart."""
    meta = snapshot_meta(3, 40, voters="abcde", configuration_index=17)
    raft = replica(entries=[], base=meta.id, snapshot=meta, term=3)

    assert raft.configuration.voters == tuple("abcde")
    assert raft.configuration_index == 17
    assert raft.log.committed == raft.applied_to == 40


def test_only_voters_count_for_a_commit() -> None:
    """Thesis §4.2.1: learners receive entries and are not counted; strangers are not even listened to."""
    raft = leader(voters="abc", learners="xy")
    last = raft.log.last_index

    for source in ("x", "y", "stranger"):
        raft.step(source, AppendReply(raft.term, 0, last))

    assert raft.log.committed == 0
    assert raft.dropped == 1


def test_learners_get_every_entry() -> None:
    """Thesis §4.2.1."""
    raft = replicating(voters="abc", learners="x")

    raft.propose(1, b"x", count=1)

    assert [target for target, message in settle(raft) if isinstance(message, AppendEntries)] == ["b", "c", "x"]


def test_a_joint_configuration_commits_with_a_majority_of_each_half() -> None:
    """§6: agreement requires separate majorities from both the old and new configurations."""
    entries = log_of(1)
    entries[0] = entry(1, 1, make_configuration("abc", outgoing="ade").encode(), kind=CONFIGURATION, count=0)
    raft = replica(entries=entries)
    time_out(raft)
    for voter in "bd":
        raft.step(voter, VoteReply(raft.term + 1, True, pre=True))
    settle(raft)
    for voter in "bd":
        raft.step(voter, VoteReply(raft.term, True))
    assert raft.is_leader
    settle(raft)

    raft.step("b", AppendReply(raft.term, 0, 2))
    assert raft.log.committed == 0, "the new half alone"
    raft.step("e", AppendReply(raft.term, 0, 2))

    assert raft.log.committed == 2


def test_a_joint_election_needs_both_halves() -> None:
    """§6: elections too."""
    entries = log_of(1)
    entries[0] = entry(1, 1, make_configuration("abc", outgoing="ade").encode(), kind=CONFIGURATION, count=0)
    raft = replica(entries=entries, pre_vote=False)
    time_out(raft)
    settle(raft)

    for voter in "bc":
        raft.step(voter, VoteReply(raft.term, True))
    assert raft.role == "candidate"
    raft.step("d", VoteReply(raft.term, True))

    assert raft.is_leader


def test_a_leader_uses_a_new_configuration_as_soon_as_it_appends_it() -> None:
    """§6: once a server adds the new configuration entry to its log, it uses it for all future decisions."""
    raft = replicating()

    raft.propose(CONFIGURATION, make_configuration("abcd").encode())
    sent = settle(raft)

    assert "d" in {target for target, _ in sent}
    last = raft.log.last_index
    raft.step("b", AppendReply(raft.term, 0, last))
    assert raft.log.committed < last, "two of four are no majority"
    raft.step("d", AppendReply(raft.term, 0, last))
    assert raft.log.committed == last


def test_a_leader_takes_no_configuration_that_is_none() -> None:
    """§6: what nobody can read must not get into the log."""
    raft = replicating()
    last = raft.log.last_index

    with pytest.raises(ProtocolError):
        raft.propose(CONFIGURATION, b"\xc1")

    assert raft.log.last_index == last


def test_voters_stick_to_a_leader_they_hear() -> None:
    """§6: if a server receives a RequestVote within the minimum election timeout of hearing from a current leader, it
    does not update its term or grant its vote."""
    raft = replica(term=2)
    raft.step("b", append(2))
    settle(raft)
    raft.tick(149)

    sent = told(raft, "c", request_vote(9))

    assert sent == []
    assert (raft.term, raft.voted_for) == (2, None)


def test_voters_turn_away_from_a_leader_they_no_longer_hear() -> None:
    """§6, the other side of it."""
    raft = replica(term=2)
    raft.step("b", append(2))
    settle(raft)
    raft.tick(150)

    assert told(raft, "c", request_vote(3)) == [("c", VoteReply(3, True))]


def test_an_election_that_the_leader_asked_for_is_never_ignored() -> None:
    """Thesis §4.2.3: RequestVote can include a special flag: "I have permission to disrupt the leader"."""
    raft = replica(term=2)
    raft.step("b", append(2))
    settle(raft)

    assert told(raft, "c", request_vote(3, force=True)) == [("c", VoteReply(3, True))]


def test_a_leader_is_not_unseated_by_one_that_does_not_hear_it() -> None:
    """§6: removed servers can't disrupt the cluster; nor can one behind a one-way cut."""
    raft = replicating()
    term = raft.term

    sent = told(raft, "c", request_vote(term + 5))

    assert (raft.is_leader, raft.term, sent) == (True, term, [])


def test_a_leader_that_hears_no_majority_steps_down() -> None:
    """Thesis §6.2: a leader steps down if an election timeout elapses without a successful round of heartbeats."""
    raft = replicating(voters="abcde")
    start = raft.deadline_ms
    raft.tick(start)
    for peer in "bc":
        raft.step(peer, AppendReply(raft.term, 0, 0))
    raft.tick(start + 149)
    assert raft.is_leader

    raft.step("b", AppendReply(raft.term, 0, 0))
    raft.tick(start + 199)

    assert (raft.role, raft.leader) == ("follower", None)
    assert "no majority" in raft.take_output().changes[-1].why


def test_a_leader_that_hears_a_majority_stays() -> None:
    """Thesis §6.2, the other side of it."""
    raft = replicating(voters="abcde")

    for _ in range(50):
        time_out(raft)
        for peer in "bc":
            raft.step(peer, AppendReply(raft.term, 0, 0))

    assert raft.is_leader


def test_learners_do_not_keep_a_leader_in_office() -> None:
    """Thesis §6.2: heartbeats to a majority of its cluster; learners are not counted."""
    raft = replicating(voters="abc", learners="xy")

    for _ in range(3):
        time_out(raft)
        for peer in "xy":
            raft.step(peer, AppendReply(raft.term, 0, 0))

    assert raft.role == "follower"


def test_check_quorum_can_be_switched_off() -> None:
    """For measurements; a leader then leads until it hears of a later term."""
    raft = replicating(check_quorum=False)

    for _ in range(20):
        time_out(raft)

    assert raft.is_leader


def test_a_leader_whose_disk_hangs_steps_down() -> None:
    """§5.6: it still sends heartbeats, so nobody else would ever take over, and what it accepts can't be applied."""
    raft = replicating()
    raft.propose(1, b"x", count=1)
    assert raft.take_output().write is not None  # and the disk never finishes it

    while raft.is_leader:
        time_out(raft)
        for peer in "bc":
            raft.step(peer, AppendReply(raft.term, 0, 0))

    assert raft.role == "follower"
    assert "disk" in raft.take_output().changes[-1].why


def test_a_node_that_joins_empty_listens_to_whoever_leads() -> None:
    """Thesis §4.2.1: a new server starts with an empty log and no configuration; the leader sends it both."""
    raft = replica("x", entries=[], term=0)

    time_out(raft)
    told(raft, "b", AppendEntries(1, NOTHING, 1, 0, tuple(log_of(1))))

    assert raft.configuration.voters == ("a", "b", "c")
    assert raft.term == 1


def test_the_stack_of_configurations_forgets_what_is_applied() -> None:
    """Thesis §4.1: only the newest applied one and later ones can ever be needed."""
    stack = ConfigurationStack()
    for index, voters in ((1, "a"), (4, "ab"), (9, "abc")):
        stack.push(EntryId(1, index), make_configuration(voters))

    stack.forget_before(5)

    assert len(stack) == 2
    assert stack.at(8)[1].voters == ("a", "b")
    assert stack.at(9)[1].voters == ("a", "b", "c")
    assert stack.members == {"a", "b", "c"}


def test_the_stack_never_rolls_back_what_a_snapshot_stands_on() -> None:
    """§7: what a snapshot says is committed."""
    stack = ConfigurationStack(EntryId(3, 10), make_configuration("abc"))
    log = ReplicatedLog(GROUP, EntryId(3, 12))
    stack.push(EntryId(4, 13), make_configuration("abcd"))

    assert stack.roll_back(log)
    assert not stack.roll_back(log)
    assert stack.current.voters == ("a", "b", "c")


def test_configurations_have_one_form() -> None:
    """Every node must make the same bytes of the same members, and take a later version's additions."""
    one = make_configuration("cab", learners="yx", addresses={"b": "h:2", "a": "h:1"})
    other = make_configuration("bca", learners="xy", addresses={"a": "h:1", "b": "h:2"})

    assert one.encode() == other.encode()
    assert decode_configuration(one.encode()) == one == other
    assert decode_configuration(b"\x91\x91\xa1a") == Configuration(("a",))


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x91\x01", b"\x92\x91\xa1a\x07", b"\x80"])
def test_a_damaged_configuration_is_refused(payload: bytes) -> None:
    """One error type for everything that is none."""
    with pytest.raises(ProtocolError, match="configuration"):
        decode_configuration(payload)


def test_an_append_with_a_configuration_that_is_none_is_dropped_whole() -> None:
    """A peer's nonsense: nothing of it is taken."""
    raft = replica(term=2, log=(1, 2))
    bad = entry(2, 4, b"\xc1", kind=CONFIGURATION, count=0)

    sent = told(raft, "b", AppendEntries(2, EntryId(2, 2), 0, 0, (entry(2, 3), bad)))

    assert sent == []
    assert (raft.dropped, raft.log.last_index) == (1, 2)


def test_new_nodes_catch_up_before_anybody_counts_on_them() -> None:
    """Thesis §4.2.1: as learners they take the log, in their own time."""
    cluster = Cluster("abcx", voters="abc")
    cluster.elect("a")
    for number in range(20):
        cluster.put(b"%d" % number)
    cluster.propose(b"")
    payload = make_configuration("abc", learners="x").encode()
    cluster["a"].propose(CONFIGURATION, payload)

    cluster.pass_time(300)

    assert cluster["x"].log.last == cluster["a"].log.last
    assert cluster["x"].role == "follower"
    assert only([("", m) for s, _, m in cluster.said if s == "x"], VoteReply) == []
