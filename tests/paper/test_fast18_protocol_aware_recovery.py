"""Protocol-aware recovery (FAST'18): what does a replica with damaged entries do, and how does it become whole?"""

import pytest
from raft_replicas import (
    append,
    broken,
    entry,
    leader,
    log_of,
    only,
    replica,
    request_vote,
    settle,
    snapshot_meta,
    terms_of,
    time_out,
    told,
)

from aegis_replication.consensus.damage import missing
from aegis_replication.consensus.messages import (
    AppendReply,
    EntriesLacked,
    EntriesWanted,
    EntryFound,
    InstallSnapshot,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
)
from aegis_replication.log import EntryId, ReplicatedLog

LOG = (1, 1, 2, 2, 2)


def wanted(*ids: tuple[int, int]) -> EntriesWanted:
    return EntriesWanted(tuple(EntryId(*each) for each in ids))


# --- what it may still do, and what not ---


def test_it_votes_by_the_last_id_of_its_log_although_that_entry_is_damaged() -> None:
    """Who lacks what it had acknowledged must not get its vote: identities are all that a vote needs (§5.4.1)."""
    raft = replica(log=LOG, damaged=(5,))

    shorter = told(raft, "b", request_vote(3, (2, 4)))
    equal = told(raft, "c", request_vote(4, (2, 5)))

    assert only(shorter, VoteReply) == [VoteReply(3, False)]
    assert only(equal, VoteReply) == [VoteReply(4, True)]


def test_it_never_stands_for_election() -> None:
    raft = replica(log=LOG, damaged=(3,))
    told(raft, "b", append(2, (2, 5)))

    for _ in range(20):
        time_out(raft)
        assert not only(settle(raft), RequestVote)
    told(raft, "b", append(2, (2, 5)))
    sent = told(raft, "b", TimeoutNow(2))

    assert raft.role == "follower"
    assert not only(sent, RequestVote)


def test_it_acknowledges_nothing_from_the_damaged_entry_on() -> None:
    raft = replica(log=LOG, damaged=(3,))

    sent = told(raft, "b", append(3, (2, 5), (3, 3)))

    assert [each.matched for each in only(sent, AppendReply)] == [2]
    assert terms_of(raft) == [*LOG, 3, 3], "it takes later entries all the same"


def test_it_applies_nothing_past_the_damaged_entry() -> None:
    raft = replica(log=LOG, damaged=(3,))

    raft.step("b", append(3, (2, 5), (3,), commit=6))
    applied = raft.take_output().committed

    assert raft.log.committed == 6
    assert [each.index for each in applied] == [1, 2]


def test_it_does_not_serve_what_is_damaged() -> None:
    raft = replica(log=LOG, damaged=(3,))

    sent = told(raft, "b", wanted((1, 2), (2, 3), (2, 4)))

    assert [each.entry.id for each in only(sent, EntryFound)] == [(1, 2), (2, 4)]
    assert only(sent, EntriesLacked) == [EntriesLacked((EntryId(2, 3),))]


# --- how it becomes whole ---


def test_it_asks_all_for_exactly_what_is_damaged_and_again_while_it_is() -> None:
    raft = replica(log=LOG, damaged=(2, 4))

    raft.tick(1.0)
    first = settle(raft)
    raft.tick(2.0)
    at_once = settle(raft)
    raft.tick(1_000.0)
    later = settle(raft)

    asked = [("b", wanted((1, 2), (2, 4))), ("c", wanted((1, 2), (2, 4)))]
    assert [each for each in first if isinstance(each[1], EntriesWanted)] == asked
    assert not only(at_once, EntriesWanted)
    assert [each for each in later if isinstance(each[1], EntriesWanted)] == asked


@pytest.mark.parametrize("term", [2, 7])
def test_any_replica_in_any_term_sends_what_it_holds_whole(term: int) -> None:
    raft = replica("b", log=LOG, term=term)

    sent = told(raft, "a", wanted((1, 2), (3, 4), (2, 9)))

    assert only(sent, EntryFound) == [EntryFound(entry(1, 2, b"2"))]
    assert only(sent, EntriesLacked) == [EntriesLacked((EntryId(3, 4), EntryId(2, 9)))]
    assert raft.term == term


def test_a_leader_sends_what_it_holds_too() -> None:
    raft = leader(log=LOG)

    sent = told(raft, "b", wanted((2, 3)))

    assert only(sent, EntryFound) == [EntryFound(entry(2, 3, b"3"))]


def test_what_came_is_written_and_counts_once_that_is_durable() -> None:
    raft = replica(log=LOG, damaged=(3,))
    told(raft, "b", append(2, (2, 5), commit=5))

    raft.step("c", EntryFound(entry(2, 3, b"3")))
    output = raft.take_output()
    before = raft.log.durable
    assert output.write is not None
    raft.on_persisted(output.write.number)
    after = raft.take_output()

    assert output.write.repairs == (entry(2, 3, b"3"),)
    assert output.write.entries == ()
    assert before == 2
    assert raft.log.durable == 5
    assert [each.index for each in after.committed] == [3, 4, 5]
    assert after.committed[0] == entry(2, 3, b"3")
    assert [each.matched for each in only(after.messages, AppendReply)] == [5]
    assert [each.why for each in output.changes] == ["entry 3, damaged here, came whole from c; 0 are missing"]
    assert (raft.repair.repaired, raft.repair.damaged, raft.repair.describe()) == (1, 0, "")


def test_once_whole_it_may_lead_again() -> None:
    raft = replica(log=LOG, damaged=(3,))
    told(raft, "c", EntryFound(entry(2, 3, b"3")))

    time_out(raft)

    assert raft.role == "pre-candidate"


@pytest.mark.parametrize(
    "found",
    [
        entry(1, 3, b"3"),
        entry(3, 3, b"3"),
        entry(2, 3, b"4"),
        entry(2, 3, b"3", count=2),
        entry(2, 4, b"4"),
        entry(2, 9, b"9"),
    ],
    ids=["earlier-term", "later-term", "other-payload", "other-head", "one-that-is-whole", "one-never-held"],
)
def test_nothing_but_the_same_entry_is_taken(found: object) -> None:
    raft = replica(log=LOG, damaged=(3,))
    held = raft.log.slice(1, 6)

    told(raft, "b", EntryFound(found))  # type: ignore[arg-type]

    assert raft.log.slice(1, 6) == held
    assert raft.log.durable == 2


def test_an_append_that_holds_the_entry_repairs_it_too() -> None:
    raft = replica(log=LOG, damaged=(3,))

    sent = told(raft, "b", append(2, (1, 2), (2, 2, 2)))

    assert raft.log.get(3) == entry(2, 3, b"3")
    assert [each.matched for each in only(sent, AppendReply)][-1] == 5
    assert raft.repair.repaired == 1


def test_a_damaged_tail_that_conflicts_with_the_leader_is_cut_like_any_other() -> None:
    raft = replica(log=LOG, damaged=(4,))

    sent = told(raft, "b", append(3, (2, 3), (3,)))

    assert terms_of(raft) == [1, 1, 2, 3]
    assert not raft.log.is_damaged
    assert [each.matched for each in only(sent, AppendReply)][-1] == 4


def test_what_comes_after_the_entry_was_cut_changes_nothing() -> None:
    raft = replica(log=LOG, damaged=(4,))
    told(raft, "b", append(3, (2, 3), (3,)))

    told(raft, "c", EntryFound(entry(2, 4, b"4")))

    assert terms_of(raft) == [1, 1, 2, 3]


def test_a_leader_whose_log_begins_later_sends_its_snapshot() -> None:
    entries = [entry(2, index, b"%d" % index) for index in (5, 6)]
    raft = leader(entries=entries, base=EntryId(2, 4), snapshot=snapshot_meta(2, 4))
    raft.step("b", AppendReply(raft.term, 0, matched=0))
    settle(raft)

    raft.step("b", wanted((2, 3)))
    output = raft.take_output()

    assert output.snapshots == ["b"]


def test_a_leaders_snapshot_past_the_damage_stands_for_it() -> None:
    raft = replica(log=LOG, damaged=(3,))
    told(raft, "b", append(2, (2, 5), commit=5))
    meta = snapshot_meta(2, 4)

    raft.step("b", InstallSnapshot(2, meta, 0, 10, b"x"))
    chunks = raft.take_output().chunks
    is_news = raft.on_snapshot_installed("b", meta)
    sent = settle(raft)

    assert [chunk.meta for _, chunk in chunks] == [meta]
    assert is_news
    assert not raft.log.is_damaged
    assert (raft.log.base, raft.log.last) == ((2, 4), (2, 5))
    assert [each.installed for each in only(sent, SnapshotReply)] == [5]


def test_a_snapshot_on_its_own_disk_past_the_damage_stands_for_it() -> None:
    raft = replica(log=LOG, damaged=(2, 5), snapshot=snapshot_meta(2, 3))

    write = raft.take_output().write

    assert raft.log.base == (1, 2)
    assert write is not None
    assert write.forget_below == 3
    assert [each.index for each in missing(raft.log)] == [5]


def test_a_machine_on_its_own_disk_that_is_past_the_damage_needs_it_for_others_only() -> None:
    raft = replica(log=LOG, damaged=(2,), applied=4)

    told(raft, "b", append(2, (2, 5), commit=5))
    before = raft.applied_to
    raft.on_snapshot_saved(snapshot_meta(2, 4), 1)

    assert before == 4
    assert raft.log.base == (1, 2), "its own snapshot stands for the damaged entry, whatever tail is to be kept"
    assert not raft.log.is_damaged


# --- what it says meanwhile ---


def test_it_says_what_is_damaged_and_who_is_waited_for() -> None:
    raft = replica(log=LOG, damaged=(3, 4))

    first = [change.why for change in raft.take_output().changes]
    before = raft.repair.describe()
    told(raft, "b", EntriesLacked((EntryId(2, 3), EntryId(2, 4))))
    without_b = raft.repair.describe()
    told(raft, "c", EntriesLacked((EntryId(2, 3),)))
    without_both = raft.repair.describe()

    assert first == ["entries 2:3, 2:4 are damaged on this disk: asking the others, not standing for election"]
    assert before == "entry 3 (and 1 more) is damaged on this disk: waiting for b, c"
    assert without_b == "entry 3 (and 1 more) is damaged on this disk: waiting for c; b can't help"
    assert (
        without_both
        == "entry 3 (and 1 more) is damaged on this disk: waiting for b, c, of which none holds it whole now"
    )


def test_a_single_voter_says_that_nobody_can_help() -> None:
    raft = replica(voters="a", log=(1, 1, 1), damaged=(2,))

    for _ in range(5):
        time_out(raft)

    assert raft.role == "follower"
    assert "there is no other member" in raft.repair.describe()


def test_two_that_are_damaged_help_each_other_without_a_leader() -> None:
    one = replica("a", log=LOG, damaged=(3,))
    other = replica("b", log=LOG, term=4, damaged=(4,))

    one.tick(1.0)
    other.tick(1.0)
    for _ in range(3):
        for here, there in ((one, other), (other, one)):
            for target, message in settle(here):
                if target == there.node:
                    there.step(here.node, message)

    assert one.log.durable == other.log.durable == 5
    assert one.log.slice(1, 6) == other.log.slice(1, 6) == log_of(*LOG)


# --- known mistakes ---


def test_mutant_a_damaged_entry_counts_as_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    def settle_anyway(log: ReplicatedLog) -> None:
        log.durable = log._written

    monkeypatch.setattr(ReplicatedLog, "_settle", settle_anyway)
    raft = replica(log=LOG, damaged=(3,))

    raft.step("b", append(2, (2, 5), commit=5))
    applied = raft.take_output().committed

    assert broken(entry(2, 3, b"3")) in applied, "the mutant shows no difference"
