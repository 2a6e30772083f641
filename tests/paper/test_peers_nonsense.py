"""What does a peer's nonsense do to a replica? It is counted, and nothing else happens."""

from random import Random

import pytest
from raft_replicas import (
    COMMANDS,
    Sent,
    append,
    campaign,
    entry,
    leader,
    log_of,
    replica,
    replicating,
    request_vote,
    settle,
    snapshot_meta,
    time_out,
    told,
)

from aegis_replication.consensus.messages import (
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    Message,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
)
from aegis_replication.log import NOTHING, EntryId


def test_a_strangers_messages_are_dropped() -> None:
    """Whoever is in no configuration held here has nothing to say."""
    raft = replica(term=2)

    sent: Sent = []
    for message in (append(9, (1, 1), [9]), request_vote(9), VoteReply(9, True), AppendReply(9, 0)):
        sent += told(raft, "stranger", message)

    assert sent == []
    assert (raft.term, raft.dropped) == (2, 4)


def test_a_message_from_oneself_is_dropped() -> None:
    """It can't be: a node doesn't send to itself."""
    raft = replica(term=2)

    raft.step("a", append(5))

    assert (raft.term, raft.dropped) == (2, 1)


@pytest.mark.parametrize(
    "entries",
    [
        (entry(2, 2),),  # a hole before it
        (entry(2, 3), entry(2, 5)),  # a hole in it
        (entry(2, 3), entry(2, 3)),  # the same twice
        (entry(2, 4), entry(2, 3)),  # the wrong way round
        (entry(2, 3), entry(1, 4)),  # terms fall
        (entry(1, 3),),  # of an earlier term than what it follows
        (entry(9, 3),),  # of a later term than its leader
    ],
)
def test_an_append_that_is_no_piece_of_a_log_is_dropped(entries: tuple[object, ...]) -> None:
    """Log Matching: a leader's entries follow each other, and their terms never fall."""
    raft = replica(term=2, log=(1, 2))

    sent = told(raft, "b", AppendEntries(2, EntryId(2, 2), 0, 0, entries))  # type: ignore[arg-type]

    assert sent == []
    assert (raft.dropped, raft.log.last) == (1, (2, 2))


def test_a_hint_that_lies_behind_what_was_refused_is_dropped() -> None:
    """A refusal says where the logs might meet *before* that."""
    raft = leader(log=(1, 2, 2))

    raft.step("b", AppendReply(raft.term, 0, 0, refused=3, hint=EntryId(2, 3000)))

    assert raft.dropped == 1
    assert settle(raft) == []


def test_answers_to_questions_never_asked_change_nothing() -> None:
    """A follower gets votes, acks and chunk answers of its own term: it has no use for them."""
    raft = replica(term=2)

    for message in (VoteReply(2, True), AppendReply(2, 0, 1), SnapshotReply(2, NOTHING, installed=1)):
        raft.step("b", message)

    assert (raft.role, raft.log.committed) == ("follower", 0)


def test_no_sequence_of_messages_stops_a_replica() -> None:
    """Any message at any time, from anybody, in any role: the invariants hold after each, and nothing is raised."""
    for seed in range(150):
        random = Random(seed)
        make = random.choice((replica, leader, replicating, lambda **fields: campaign(replica(**fields))))
        raft = make(log=(1, 2, 2), seed=seed)
        for _ in range(60):
            raft.step(random.choice("bbcz"), any_message(random, raft.term))
            if random.random() < 0.1:
                time_out(raft)
            if random.random() < 0.1 and raft.is_leader:
                raft.propose(COMMANDS, b"x", count=1)
            if random.random() < 0.5:
                output = raft.take_output()
                for source, chunk in output.chunks:
                    if random.random() < 0.3 and raft.log.committed < chunk.meta.index:
                        raft.on_snapshot_installed(source, chunk.meta)
                if output.write is not None:
                    raft.on_persisted(output.write.number)


def any_message(random: Random, term: int) -> Message:
    """Anything that the wire would let through."""
    term = max(0, term + random.choice((-1, 0, 0, 0, 0, 1)))
    index = random.randrange(8)
    some = EntryId(random.randrange(term + 2), index)
    terms = sorted(random.randint(1, term + 1) for _ in range(random.randrange(3)))
    makers = (
        lambda: RequestVote(term, some, random.random() < 0.5, random.random() < 0.1),
        lambda: VoteReply(term, random.random() < 0.5, random.random() < 0.5),
        lambda: append(term, some, terms, commit=random.randrange(9), round=random.randrange(3)),
        lambda: AppendReply(term, random.randrange(3), random.randrange(9), random.choice((0, index)), some),
        lambda: InstallSnapshot(term, snapshot_meta(some.term, index), 0, 1, b"x"),
        lambda: SnapshotReply(term, some, random.randrange(3), random.randrange(9)),
        lambda: TimeoutNow(term),
    )
    return random.choice(makers)()  # type: ignore[no-untyped-call, no-any-return]


def test_a_leader_that_contradicts_what_is_committed_is_named_once() -> None:
    """An operator must hear of it (a wiped disk, a wrong backup), and not with every retry."""
    raft = replica(term=2, entries=log_of(1, 2, 2))
    told(raft, "b", append(2, (2, 3), commit=3))

    for _ in range(5):
        raft.step("c", append(3, (1, 1), [3]))
    whys = [change.why for change in raft.take_output().changes]

    assert len([why for why in whys if "committed entry 2" in why]) == 1
    assert raft.dropped == 5
