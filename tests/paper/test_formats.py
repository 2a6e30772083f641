"""Raft §6 carries more than members: when does a group turn to a newer format, and who is kept out then?"""

from random import Random

import pytest
from raft_replicas import (
    COMMANDS,
    CONFIGURATION,
    GROUP,
    CheckedRaft,
    entry,
    replica,
    replicating,
    settle,
    time_out,
)

from aegis_replication.consensus.changes import AddLearner, Introduction
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.consensus.configuration import Configuration, make_configuration
from aegis_replication.consensus.messages import AppendEntries, AppendReply, InstallSnapshot
from aegis_replication.errors import ConfigError, IncompatibleVersion
from aegis_replication.log import FORMAT_HIGHEST, NOTHING, EntryId, HardState, RecoveredGroup, SnapshotMeta

OLD, NEW = Introduction(), Introduction(format_highest=2)


def led(*, a: Introduction = NEW, b: Introduction = NEW, c: Introduction | None = NEW):
    """A leader `a` of a, b, c who have said this of themselves."""
    raft = replicating()
    for node, told in (("a", a), ("b", b), ("c", c)):
        if told is not None:
            raft.introduce(node, told)
    return raft


def let_commit(raft) -> None:
    for _ in range(4):
        settle(raft)
        for peer in sorted(raft.configurations.members - {raft.node}):
            raft.step(peer, AppendReply(raft.term, 0, raft.log.last_index))
    settle(raft)


def beat(raft) -> None:
    time_out(raft)
    let_commit(raft)


def newer(format: int = 2) -> bytes:
    return make_configuration("abc", format=format).encode()


# --- raised ---


def test_the_next_format_is_logged_once_all_members_know_it() -> None:
    raft = led(c=OLD)
    beat(raft)
    assert raft.configuration.format == 1

    raft.introduce("c", NEW)
    beat(raft)

    assert raft.configuration.format == 2
    assert raft.log.get(raft.configuration_index).format == 1, "whoever doesn't know it can read that, and refuse"


def test_it_is_logged_once() -> None:
    raft = led()
    beat(raft)
    last_index = raft.log.last_index

    for _ in range(3):
        beat(raft)

    assert raft.log.last_index == last_index


@pytest.mark.parametrize("node", ["a", "b", "c"])
def test_one_member_that_does_not_know_it_holds_it_back(node: str) -> None:
    raft = led(**{node: OLD})

    for _ in range(3):
        beat(raft)

    assert raft.configuration.format == 1


def test_one_member_that_is_away_holds_it_back() -> None:
    """It may come back as what it was."""
    raft = led()
    raft.on_peer_lost("c")

    beat(raft)

    assert raft.configuration.format == 1


def test_a_learner_holds_it_back_as_a_voter_does() -> None:
    raft = led(c=OLD)
    raft.propose_change(AddLearner("x"))
    let_commit(raft)
    raft.introduce("c", NEW)

    beat(raft)
    assert raft.configuration.format == 1

    raft.introduce("x", NEW)
    beat(raft)
    assert raft.configuration.format == 2


def test_members_of_a_later_program_are_taken_one_step_at_a_time() -> None:
    later = Introduction(format_highest=9)
    raft = led(a=NEW, b=later, c=later)

    for _ in range(3):
        beat(raft)

    assert raft.configuration.format == 2


def test_entries_are_written_in_the_format_in_force() -> None:
    raft = led(c=OLD)
    let_commit(raft)
    before = raft.propose(COMMANDS, b"", count=1)
    raft.introduce("c", NEW)
    beat(raft)

    after = raft.propose(COMMANDS, b"", count=1)

    assert (before.format, after.format) == (1, 2)


def test_other_changes_keep_the_format() -> None:
    raft = led()
    beat(raft)

    raft.propose_change(AddLearner("x"))
    let_commit(raft)
    raft.set_lease(150)
    let_commit(raft)

    assert (raft.configuration.format, raft.configuration.lease_ms) == (2, 150)


# --- kept out ---


def test_a_node_that_can_not_write_the_format_does_not_start_and_names_both() -> None:
    entries = [entry(1, 1, newer(), kind=CONFIGURATION, count=0)]

    with pytest.raises(IncompatibleVersion, match=r"a: group \d+ writes format 2, .* up to 1 \(its program knows 1 to"):
        replica(entries=entries, format_highest=1)

    assert replica(entries=entries).configuration.format == 2


def test_nor_from_a_snapshot() -> None:
    meta = SnapshotMeta(1, 4, 4, newer(), 3)
    recovered = RecoveredGroup(HardState(1), EntryId(1, 4), [], meta)

    with pytest.raises(IncompatibleVersion, match="writes format 2"):
        CheckedRaft(
            node="a",
            group=GROUP,
            config=RaftConfig("a", ["b", "c"], format_highest=1),
            recovered=recovered,
            bootstrap=None,
            random=Random(0),
            now_ms=0.0,
        )


def test_a_peer_that_can_not_read_the_format_is_not_spoken_with() -> None:
    raft = replica(entries=[entry(1, 1, newer(), kind=CONFIGURATION, count=0)])

    assert "b knows formats up to 1, this group writes format 2" in raft.why_not("b", OLD)
    assert "up to 1" in raft.why_not("b", Introduction(configuration=99)), "whatever else it knows"
    assert raft.why_not("b", NEW) == ""


def test_what_a_node_can_not_read_it_does_not_take_from_its_leader() -> None:
    """An older program came back in the very moment: it must not acknowledge what it can't apply."""
    raft = replica(format_highest=1)
    append = AppendEntries(1, EntryId(1, 1), 1, 0, (entry(1, 2, newer(), kind=CONFIGURATION, count=0),))

    with pytest.raises(IncompatibleVersion, match="writes format 2"):
        raft.step("b", append)

    assert raft.log.last == EntryId(1, 1)


def test_nor_a_snapshot_of_it() -> None:
    raft = replica(format_highest=1)

    with pytest.raises(IncompatibleVersion, match="writes format 2"):
        raft.step("b", InstallSnapshot(1, SnapshotMeta(1, 9, 9, newer(), 8), 0, 1, b"x"))


def test_a_first_configuration_is_of_the_first_format_on_every_node() -> None:
    """All founders make it for themselves, and in the same bytes: some may run the program before."""
    raft = CheckedRaft(
        node="a",
        group=GROUP,
        config=RaftConfig("a", ["b", "c"]),
        recovered=RecoveredGroup(HardState(), NOTHING, []),
        bootstrap=Configuration(("a", "b", "c")),
        random=Random(0),
        now_ms=0.0,
    )

    assert (raft.configuration.format, raft.log.get(1).format) == (1, 1)


@pytest.mark.parametrize("value", [0, FORMAT_HIGHEST + 1, True, "2"])
def test_a_format_that_this_program_does_not_know_can_not_be_set(value: object) -> None:
    with pytest.raises(ConfigError, match=f"this program knows formats 1 to {FORMAT_HIGHEST}"):
        RaftConfig(1, format_highest=value)
