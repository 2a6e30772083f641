"""Do the checkers object to what must not be, and to nothing else? Each is shown one broken promise."""

from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest
from msgspec.structs import replace

from aegis_replication.consensus.messages import (
    AppendEntries,
    AppendReply,
    EntryFound,
    RequestVote,
    SnapshotReply,
    VoteReply,
)
from aegis_replication.engine.effects import RoleChanged
from aegis_replication.errors import InvariantBroken
from aegis_replication.log import NOTHING, Entry, EntryId, HardState, Kind, LogWrite, RecoveredGroup, make_entry
from aegis_replication.simulation.checkers.agreement import AgreementChecker
from aegis_replication.simulation.checkers.durability import DurabilityChecker
from aegis_replication.simulation.checkers.linearizability import FOREVER, Operation
from aegis_replication.simulation.checkers.machines import MachineChecker
from aegis_replication.simulation.checkers.model import KeyValueModel
from aegis_replication.simulation.checkers.witness import check_in_order
from aegis_replication.state_machine import commands as ask
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine


def entry(term: int, index: int, *commands: bytes) -> Entry:
    payload = ask.join_commands(commands) if commands else b""
    kind = Kind.COMMANDS if commands else Kind.NO_OP
    return make_entry(1, term, index, kind, payload, count=len(commands), stamp=index)


def flushed(*writes: LogWrite) -> DurabilityChecker:
    """A checker of node "a" whose disk holds `writes`."""
    checker = DurabilityChecker()
    for write in writes:
        checker.shadow("a", 1).write(write)
        checker.shadow("a", 1).settle(write.number)
    return checker


HELD = LogWrite(1, 1, HardState(2, "b"), (entry(1, 1), entry(2, 2)))


@pytest.mark.parametrize(
    "message",
    [
        AppendReply(2, 0, matched=2),
        AppendReply(2, 5),
        VoteReply(2, True),
        VoteReply(1, False),
        VoteReply(9, True, pre=True),
        RequestVote(9, EntryId(2, 2), pre=True),
        AppendEntries(2, NOTHING, 0, 0),
        SnapshotReply(2, EntryId(2, 2), installed=2),
    ],
    ids=repr,
)
def test_a_message_that_the_disk_bears_out_may_leave(message: Any) -> None:
    flushed(HELD).on_sent("a", 1, "b", message)


@pytest.mark.parametrize(
    "message",
    [
        AppendReply(2, 0, matched=3),
        AppendReply(3, 0),
        VoteReply(3, False),
        RequestVote(3, EntryId(2, 2)),
        AppendEntries(3, NOTHING, 0, 0),
        SnapshotReply(2, EntryId(2, 3), installed=3),
    ],
    ids=repr,
)
def test_a_message_that_promises_more_than_the_disk_holds_is_caught(message: Any) -> None:
    with pytest.raises(InvariantBroken, match="promise before flush"):
        flushed(HELD).on_sent("a", 1, "b", message)


def test_a_vote_for_another_than_the_disk_says_is_caught() -> None:
    with pytest.raises(InvariantBroken, match="a vote for b"):
        flushed(HELD).on_sent("a", 1, "c", VoteReply(2, True))


def test_a_restart_finds_what_was_flushed_and_any_beginning_of_what_was_under_way() -> None:
    under_way = LogWrite(1, 2, HardState(3, None), (entry(3, 2), entry(3, 3)))
    found = [
        (HardState(2, "b"), [entry(1, 1), entry(2, 2)]),
        (HardState(3, None), [entry(1, 1), entry(2, 2)]),
        (HardState(3, None), [entry(1, 1), entry(3, 2)]),
        (HardState(3, None), [entry(1, 1), entry(3, 2), entry(3, 3)]),
    ]

    for hard_state, entries in found:
        checker = flushed(HELD)
        checker.shadow("a", 1).write(under_way)
        checker.on_recovered("a", 1, RecoveredGroup(hard_state, NOTHING, entries))


@pytest.mark.parametrize(
    ("hard_state", "entries"),
    [
        (HardState(2, None), [entry(1, 1), entry(2, 2)]),
        (HardState(2, "b"), [entry(1, 1)]),
        (HardState(2, "b"), [entry(1, 1), entry(1, 2)]),
        (HardState(2, "b"), [entry(1, 1), entry(3, 2)]),
        (HardState(3, None), [entry(1, 1), entry(3, 2), entry(3, 3), entry(3, 4)]),
    ],
    ids=["vote lost", "entry lost", "entry exchanged", "half of a write, out of order", "more than there ever was"],
)
def test_a_restart_that_finds_anything_else_is_caught(hard_state: HardState, entries: list[Entry]) -> None:
    checker = flushed(HELD)
    checker.shadow("a", 1).write(LogWrite(1, 2, HardState(3, None), (entry(3, 2), entry(3, 3))))

    with pytest.raises(InvariantBroken, match="durable state lost"):
        checker.on_recovered("a", 1, RecoveredGroup(hard_state, NOTHING, entries))


def agreement() -> AgreementChecker:
    return AgreementChecker(1, DurabilityChecker())


class NoLog:
    """A replica of which nothing is looked at but whether its disk is damaged."""

    def __init__(self, *, is_damaged: bool = False) -> None:
        self.raft = SimpleNamespace(log=SimpleNamespace(is_damaged=is_damaged))


def test_a_candidate_with_a_damaged_log_is_caught() -> None:
    checker = agreement()

    with pytest.raises(InvariantBroken, match="a damaged log doesn't lead"):
        checker.on_change("a", RoleChanged(1, 2, "candidate", None, ""), NoLog(is_damaged=True))  # type: ignore[arg-type]


def test_an_entry_that_was_sent_unlike_it_was_made_is_caught() -> None:
    checker = agreement()
    made = make_entry(1, 2, 7, Kind.COMMANDS, b"payload", count=1)
    checker.entries[made.id] = (crc32(made.frame), 2)
    checker.on_sent("a", "b", EntryFound(made))

    with pytest.raises(InvariantBroken, match="nothing damaged is believed"):
        checker.on_sent("a", "b", EntryFound(replace(made, frame=made.frame[:-1] + b"?")))


def test_two_leaders_of_a_term_are_caught() -> None:
    checker = agreement()
    checker.on_change("a", RoleChanged(1, 2, "leader", "a", ""), NoLog())  # type: ignore[arg-type]
    checker.on_change("b", RoleChanged(1, 3, "leader", "b", ""), NoLog())  # type: ignore[arg-type]

    with pytest.raises(InvariantBroken, match="one leader a term"):
        checker.on_change("c", RoleChanged(1, 2, "leader", "c", ""), NoLog())  # type: ignore[arg-type]


def test_two_votes_in_a_term_are_caught() -> None:
    checker = agreement()
    checker.on_sent("a", "b", VoteReply(2, True))
    checker.on_sent("a", "b", VoteReply(2, True))
    checker.on_sent("a", "c", VoteReply(2, False))

    with pytest.raises(InvariantBroken, match="one vote a term"):
        checker.on_sent("a", "c", VoteReply(2, True))


def test_a_candidate_that_votes_for_another_is_caught() -> None:
    checker = agreement()
    checker.on_sent("a", "b", RequestVote(2, NOTHING))

    with pytest.raises(InvariantBroken, match="one vote a term"):
        checker.on_sent("a", "c", VoteReply(2, True))


def test_a_term_that_falls_is_caught() -> None:
    checker = agreement()
    checker.on_sent("a", "b", VoteReply(2, True))

    with pytest.raises(InvariantBroken, match="terms only rise"):
        checker.on_sent("a", "b", AppendReply(1, 0))


# --- machines -------------------------------------------------------------------------------------------------------

SESSION = b"0123456789abcdef"


def machines() -> MachineChecker:
    return MachineChecker(1, KeyValueModel(sessions_max=2, idle_ms=3_600_000))


def commands(*bodies: Any) -> list[bytes]:
    return [ask.encode_open(SESSION), *(ask.encode_command(SESSION, at + 1, 0, body) for at, body in enumerate(bodies))]


EVERYTHING = (
    ask.Put(b"k", b"1"),
    ask.Increment(b"k", 4),
    ask.CompareAndSet(b"k", b"7", expect=b"5"),
    ask.CompareAndSet(b"k", b"8", expect_version=0),
    ask.CompareAndSet(b"k", None, expect=b"7"),
    ask.Put(b"a", b"text"),
    ask.Increment(b"a"),
    ask.batch([ask.Put(b"b", b"2"), ask.Increment(b"b", 1), ask.Delete(b"a")]),
    ask.batch([ask.Put(b"c", b"3")], [ask.Condition(b"b", expect=b"2")]),
    ask.batch([ask.Put(b"c", b"3"), ask.CompareAndSet(b"b", b"4", expect=b"2")]),
    ask.Delete(b"nothing"),
    ask.Take(b"b"),
    ask.DeleteRange(b"a", None),
)


def test_the_model_and_the_machine_agree_on_every_command() -> None:
    machine, checker = SessionMachine(KeyValueMachine()), machines()
    one = entry(1, 1, *commands(*EVERYTHING))
    again = entry(1, 2, *commands(*EVERYTHING))

    checker.on_applied("a", one, machine.apply(one), machine)
    checker.on_applied("a", again, machine.apply(again), machine)


def test_a_machine_that_answers_otherwise_is_caught() -> None:
    machine, checker = SessionMachine(KeyValueMachine()), machines()
    one = entry(1, 1, *commands(ask.Put(b"k", b"1")))

    with pytest.raises(InvariantBroken, match="exactly once"):
        checker.on_applied("a", one, [*machine.apply(one)[:-1], 99], machine)


def test_machines_that_differ_are_caught() -> None:
    checker = machines()
    checker.compare("a", 16, "one digest")

    with pytest.raises(InvariantBroken, match="machines agree"):
        checker.compare("b", 16, "another")


def test_an_acknowledgement_without_a_committed_entry_is_caught() -> None:
    machine, checker = SessionMachine(KeyValueMachine()), machines()
    one = entry(1, 1, *commands(ask.Put(b"k", b"1")))
    checker.on_applied("a", one, machine.apply(one), machine)

    checker.on_acknowledged(SESSION, 1, 1, committed=1)
    for sequence, answer, committed in [(2, 1, 1), (1, 2, 1), (1, 1, 0)]:
        with pytest.raises(InvariantBroken, match="no acknowledged write lost"):
            checker.on_acknowledged(SESSION, sequence, answer, committed=committed)


def test_a_list_that_mixes_two_states_is_caught() -> None:
    machine, checker = SessionMachine(KeyValueMachine()), machines()
    for index in (1, 2):
        each = entry(
            1, index, ask.encode_command(b"", 0, 0, ask.batch([ask.Put(b"x", b"%d" % index), ask.Put(b"y", b"")]))
        )
        checker.on_applied("a", each, machine.apply(each), machine)

    checker.on_page({b"x": (b"1", 1), b"y": (b"", 1)}, [b"x", b"y"], since=0, until=2)
    checker.on_page({b"x": (b"2", 2), b"y": (b"", 2)}, [b"x", b"y"], since=0, until=2)
    with pytest.raises(InvariantBroken, match="one state"):
        checker.on_page({b"x": (b"1", 1), b"y": (b"", 2)}, [b"x", b"y"], since=0, until=2)
    with pytest.raises(InvariantBroken, match="one state"):
        checker.on_page({b"x": (b"1", 1), b"y": (b"", 1)}, [b"x", b"y"], since=2, until=2)


# --- the log's order as a witness -----------------------------------------------------------------------------------


def put(value: bytes, called: int, returned: int = FOREVER) -> Operation:
    return Operation("w", "k", ("put", value), called, returned, True)


def get(value: bytes | None, called: int, returned: int) -> Operation:
    return Operation("r", "k", ("get",), called, returned, value)


def test_the_logs_order_explains_a_good_history() -> None:
    placed = [(1, put(b"a", 1, 4)), (2, put(b"b", 2)), (3, put(b"c", 3, 6))]
    reads = [get(None, 1, 2), get(b"a", 2, 3), get(b"b", 3, 5), get(b"c", 4, 7), get(b"c", 8, 9)]

    assert check_in_order(placed, reads) is None


@pytest.mark.parametrize(
    ("placed", "reads"),
    [
        ([(1, put(b"a", 1, 2)), (2, put(b"b", 3, 4))], [get(b"a", 5, 6)]),
        ([(1, put(b"b", 3, 4)), (2, put(b"a", 1, 2))], []),
        ([(1, put(b"a", 1, 9)), (2, put(b"b", 1, 9))], [get(b"b", 2, 3), get(b"a", 4, 5)]),
        ([(1, put(b"a", 5, 6))], [get(b"a", 1, 2)]),
        ([(1, put(b"a", 1, 2))], [get(None, 3, 4)]),
        ([], [get(b"a", 1, 2)]),
    ],
    ids=["stale", "out of real time", "back in time", "before the call", "lost", "from nowhere"],
)
def test_the_logs_order_refutes_a_bad_one(placed: list[tuple[int, Operation]], reads: list[Operation]) -> None:
    assert check_in_order(placed, reads) is not None
