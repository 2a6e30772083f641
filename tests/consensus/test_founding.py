"""When may a node with a new directory begin a cluster? Each case once, then through the votes of real replicas."""

from random import Random

import pytest

from aegis_replication.consensus.config import RaftConfig
from aegis_replication.consensus.configuration import make_configuration
from aegis_replication.consensus.founding import Founding
from aegis_replication.consensus.messages import RequestVote, VoteReply
from aegis_replication.consensus.node import Raft
from aegis_replication.log import NOTHING, EntryId, HardState, RecoveredGroup

PATIENCE_MS = 1000.0
FIRST = EntryId(1, 1)


def founding() -> Founding:
    return Founding(("b", "c"), PATIENCE_MS)


def founder(founding: Founding) -> Raft:
    return Raft(
        node="a",
        group=1,
        config=RaftConfig(node_id="a", peers=["b", "c"]),
        recovered=RecoveredGroup(HardState(), NOTHING, []),
        bootstrap=make_configuration("abc"),
        random=Random(1),
        now_ms=0.0,
        founding=founding,
    )


def said(raft: Raft) -> list:
    messages = []
    while output := raft.take_output():
        messages += output.messages
        if output.write is not None:
            raft.on_persisted(output.write.number)
    return [message for _, message in messages]


def test_it_may_when_all_others_have_said_that_theirs_are_new_too() -> None:
    asked = founding()

    asked.hear("b", False)
    assert not asked.may_begin(0.0)
    asked.hear("c", False)

    assert asked.may_begin(0.0)
    assert asked.why_not == ""


def test_those_who_cannot_be_reached_are_not_waited_for_for_ever() -> None:
    asked = founding()
    asked.hear("b", False)

    assert not asked.may_begin(PATIENCE_MS - 1.0)
    assert asked.may_begin(PATIENCE_MS)


@pytest.mark.parametrize("now_ms", [0.0, PATIENCE_MS, 1e9])
def test_one_that_holds_entries_is_enough_to_forbid_it_for_good(now_ms: float) -> None:
    asked = founding()
    asked.hear("b", False)

    asked.hear("c", True)

    assert not asked.may_begin(now_ms)
    assert "c held entries of this cluster already" in asked.why_not


def test_one_that_is_heard_late_forbids_it_too() -> None:
    asked = founding()
    asked.hear("b", False)
    assert asked.may_begin(PATIENCE_MS)

    asked.hear("c", True)

    assert not asked.may_begin(PATIENCE_MS)


def test_what_one_says_first_counts() -> None:
    """The second time it may hold what both have founded meanwhile, in another group."""
    asked = founding()
    asked.hear("b", False)
    asked.hear("c", False)

    asked.hear("b", True)

    assert asked.may_begin(0.0)


def test_a_member_like_any_other_asks_nobody() -> None:
    asked = founding()
    asked.hear("c", True)

    asked.is_over = True

    assert asked.may_begin(0.0)
    assert asked.why_not == ""


def test_a_founder_that_may_not_begin_neither_stands_nor_votes_for_another_with_nothing() -> None:
    asked = founding()
    asked.hear("c", True)
    raft = founder(asked)
    said(raft)

    raft.tick(raft.deadline_ms)
    raft.step("b", RequestVote(2, FIRST, pre=True))
    raft.step("b", RequestVote(2, FIRST))

    assert raft.role == "follower"
    assert [(reply.pre, reply.granted) for reply in said(raft) if isinstance(reply, VoteReply)] == [
        (True, False),
        (False, False),
    ]


def test_it_votes_for_one_that_holds_entries() -> None:
    """That is how a founder gets in that was late at the first start."""
    asked = founding()
    asked.hear("c", True)
    raft = founder(asked)
    said(raft)

    raft.step("c", RequestVote(3, EntryId(2, 2)))

    assert said(raft) == [VoteReply(3, True)]


def test_a_founder_that_may_begin_stands_and_votes() -> None:
    asked = founding()
    asked.hear("b", False)
    asked.hear("c", False)
    raft = founder(asked)
    said(raft)

    raft.step("b", RequestVote(2, FIRST))
    assert said(raft) == [VoteReply(2, True)]

    raft.tick(raft.deadline_ms)
    assert raft.role == "pre-candidate"
