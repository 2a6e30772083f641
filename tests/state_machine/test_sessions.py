"""Is a command that comes twice applied once, and one that can't be recognised never?"""

from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

import msgspec
import pytest

from aegis_replication import wire
from aegis_replication.errors import IncompatibleVersion, InvalidCommand, LimitExceeded, ProtocolError, WrongIdentity
from aegis_replication.log import Entry, Kind, make_entry
from aegis_replication.state_machine import base
from aegis_replication.state_machine.base import INVALID, NOT_AN_INTEGER, REFUSED, SESSION_EXPIRED, Failure
from aegis_replication.state_machine.commands import (
    NO_SESSION,
    Batch,
    CompareAndSet,
    Delete,
    Get,
    Increment,
    Put,
    Swap,
    Take,
    encode_command,
    encode_open,
    encode_query,
    join_commands,
)
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import IDLE_MS, WINDOW, SessionMachine

ANNE, BOB, CARL = (name.ljust(16, b".") for name in (b"anne", b"bob", b"carl"))


class Log:
    """Feeds entries to a machine, one after the other."""

    def __init__(self, machine: SessionMachine | None = None) -> None:
        self.machine = machine or SessionMachine(KeyValueMachine())
        self.index = 0
        self.format = 1

    def apply(self, *commands: bytes, at_ms: int = 0) -> list[Any]:
        self.index += 1
        payload = self.machine.join(commands)
        made = {"count": len(commands), "stamp": (at_ms << 16) + self.index, "format": self.format}
        return list(self.machine.apply(make_entry(1, 1, self.index, Kind.COMMANDS, payload, **made)))

    def one(self, session: bytes, sequence: int, floor: int, command: Any, *, at_ms: int = 0) -> Any:
        return self.apply(encode_command(session, sequence, floor, command), at_ms=at_ms)[0]

    def value(self, key: bytes) -> bytes | None:
        found = self.machine.query(encode_query(Get(key)))
        return found[0] if found else None


@pytest.fixture
def log() -> Log:
    log = Log()
    log.apply(encode_open(ANNE))
    return log


# --- once ---


def test_a_repeated_command_is_applied_once_and_gets_the_first_result(log: Log) -> None:
    results = [log.one(ANNE, 1, 1, Increment(b"n")) for _ in range(3)]

    assert results == [1, 1, 1]
    assert log.value(b"n") == b"1"


def test_a_repeat_within_one_entry_is_recognised(log: Log) -> None:
    command = encode_command(ANNE, 1, 1, Increment(b"n"))

    assert log.apply(command, command) == [1, 1]


def test_sessions_count_for_themselves(log: Log) -> None:
    log.apply(encode_open(BOB))

    assert [log.one(ANNE, 1, 1, Increment(b"n")), log.one(BOB, 1, 1, Increment(b"n"))] == [1, 2]


def test_commands_in_flight_may_arrive_in_any_order(log: Log) -> None:
    order = [3, 1, 4, 2, 4, 1, 3]

    results = [log.one(ANNE, sequence, 1, Increment(b"n", 10**sequence)) for sequence in order]

    assert results == [1000, 1010, 11010, 11110, 11010, 1010, 1000]


def test_without_a_session_a_command_is_applied_whenever_it_comes(log: Log) -> None:
    assert [log.one(NO_SESSION, 0, 0, Increment(b"n")) for _ in range(3)] == [1, 2, 3]


def test_a_comparison_that_failed_is_remembered_as_such(log: Log) -> None:
    swap = CompareAndSet(b"a", b"new", expect=b"old")

    first = log.one(ANNE, 1, 1, swap)
    log.one(NO_SESSION, 0, 0, Put(b"a", b"old"))

    assert first == log.one(ANNE, 1, 1, swap) == Swap(False, 0)
    assert log.value(b"a") == b"old"


def test_a_failed_increment_is_remembered_so_that_no_late_copy_does_what_the_client_was_told_did_not_happen(
    log: Log,
) -> None:
    log.one(NO_SESSION, 0, 0, Put(b"n", b"text"))

    first = log.one(ANNE, 1, 1, Increment(b"n"))
    log.one(NO_SESSION, 0, 0, Put(b"n", b"5"))

    assert first.status == NOT_AN_INTEGER
    assert log.one(ANNE, 1, 1, Increment(b"n")) == first
    assert log.value(b"n") == b"5"


# --- opening ---


def test_opening_answers_the_window_and_changes_nothing_the_second_time(log: Log) -> None:
    log.one(ANNE, 1, 1, Increment(b"n"))

    assert log.apply(encode_open(ANNE), encode_open(BOB)) == [WINDOW, WINDOW]
    assert log.one(ANNE, 1, 1, Increment(b"n")) == 1
    assert log.machine.session_count == 2


def test_a_session_that_was_never_opened_is_refused_and_not_applied(log: Log) -> None:
    assert log.one(BOB, 1, 1, Increment(b"n")).status == SESSION_EXPIRED
    assert log.value(b"n") is None
    assert log.machine.session_count == 1


# --- floor and window ---


def test_below_the_floor_a_command_is_refused_and_never_applied(log: Log) -> None:
    log.one(ANNE, 1, 1, Increment(b"n"))
    log.one(ANNE, 2, 2, Increment(b"n"))

    late = log.one(ANNE, 1, 1, Increment(b"n"))

    assert late.status == REFUSED
    assert log.value(b"n") == b"2"


def test_a_floor_never_falls_because_an_older_command_comes_late(log: Log) -> None:
    log.one(ANNE, 5, 4, Increment(b"n"))
    log.one(ANNE, 4, 1, Increment(b"n"))  # was sent while 1 was still unanswered

    assert log.one(ANNE, 3, 1, Increment(b"n")).status == REFUSED
    assert log.value(b"n") == b"2"


def test_results_are_kept_from_the_floor_up(log: Log) -> None:
    for sequence in (1, 2, 3, 4):
        log.one(ANNE, sequence, 1, Increment(b"n"))

    log.one(ANNE, 5, 3, Increment(b"n"))

    assert [log.one(ANNE, sequence, 3, Increment(b"n")) for sequence in (3, 4, 5)] == [3, 4, 5]
    assert [log.one(ANNE, sequence, 3, Increment(b"n")).status for sequence in (1, 2)] == [REFUSED, REFUSED]


def test_the_window_is_as_wide_as_it_says(log: Log) -> None:
    last = log.one(ANNE, WINDOW, 1, Increment(b"n"))
    beyond = log.one(ANNE, WINDOW + 1, 1, Increment(b"n"))

    assert last == 1
    assert beyond.status == REFUSED
    assert log.value(b"n") == b"1"


def test_a_refusal_leaves_no_trace(log: Log) -> None:
    log.one(ANNE, 1, 1, Increment(b"n"))
    before = log.machine.digest()

    refused = log.one(ANNE, 5000, 3, Increment(b"n"))

    assert refused.status == REFUSED
    assert log.machine.digest() == before
    assert log.one(ANNE, 1, 1, Increment(b"n")) == 1  # the refused command's floor of 3 was not taken over


def test_a_jump_far_ahead_costs_no_more_than_what_is_remembered(log: Log) -> None:
    log.one(ANNE, 1, 1, Increment(b"n"))

    ahead = log.one(ANNE, 2**62, 2**62, Increment(b"n"))  # would take centuries if it walked there

    assert ahead == 2
    assert log.one(ANNE, 2**62, 2**62, Increment(b"n")) == 2


def test_a_sequence_below_its_own_floor_is_refused(log: Log) -> None:
    assert log.one(ANNE, 3, 4, Increment(b"n")).status == REFUSED


def test_never_more_than_a_window_of_results_is_kept(log: Log) -> None:
    for sequence in range(1, 3 * WINDOW):
        log.one(ANNE, sequence, max(1, sequence - WINDOW + 1), Increment(b"n"))

    pieces = [msgspec.msgpack.decode(piece) for piece in log.machine.freeze()]

    [[_, _, _, kept]] = pieces[1]
    assert len(kept) == WINDOW


# --- refusals by the machine itself ---


class Moody:
    """A machine that refuses (a locked key, another epoch) until its mood changes."""

    kind = "moody"

    def __init__(self) -> None:
        self.mood = REFUSED
        self.done = 0
        self.handlers: dict[type, Callable[[Any], Any]] = {Delete: self.handle}

    def handle(self, command: Delete) -> Any:
        if self.mood:
            return Failure(self.mood, "not now")
        self.done += 1
        return self.done

    def begin(self, entry: Entry) -> None:
        pass

    def check(self, command: Any) -> None:
        pass

    def query(self, query: bytes) -> Any:
        return None

    def freeze(self) -> Iterator[bytes]:
        return iter(())

    def restore(self, pieces: Iterable[bytes]) -> None:
        pass


def test_a_refusal_by_the_machine_is_not_remembered() -> None:
    moody = Moody()
    log = Log(SessionMachine(moody))
    log.apply(encode_open(ANNE))
    before = log.machine.digest()

    refused = log.one(ANNE, 2, 2, Delete(b""))
    assert refused.status == REFUSED
    assert log.machine.digest() == before

    moody.mood = 0
    assert [log.one(ANNE, 2, 2, Delete(b"")) for _ in range(2)] == [1, 1]


def test_another_failure_of_the_machine_is_remembered() -> None:
    moody = Moody()
    moody.mood = base.FAILED
    log = Log(SessionMachine(moody))
    log.apply(encode_open(ANNE))

    first = log.one(ANNE, 1, 1, Delete(b""))
    moody.mood = 0

    assert log.one(ANNE, 1, 1, Delete(b"")) == first == Failure(base.FAILED, "not now")


# --- expiry ---


def test_past_the_maximum_the_session_used_least_recently_is_forgotten() -> None:
    log = Log(SessionMachine(KeyValueMachine(), sessions_max=2))
    log.apply(encode_open(ANNE), encode_open(BOB))
    log.one(ANNE, 1, 1, Increment(b"n"))

    log.apply(encode_open(CARL))

    assert log.one(BOB, 1, 1, Increment(b"n")).status == SESSION_EXPIRED
    assert log.one(ANNE, 1, 1, Increment(b"n")) == 1


def test_a_repeat_counts_as_use() -> None:
    log = Log(SessionMachine(KeyValueMachine(), sessions_max=2))
    log.apply(encode_open(ANNE))
    log.one(ANNE, 1, 1, Increment(b"n"))
    log.apply(encode_open(BOB))
    log.one(ANNE, 1, 1, Increment(b"n"))

    log.apply(encode_open(CARL))

    assert log.one(BOB, 1, 1, Increment(b"n")).status == SESSION_EXPIRED


def test_a_command_of_an_evicted_session_is_never_applied_as_new() -> None:
    log = Log(SessionMachine(KeyValueMachine(), sessions_max=1))
    log.apply(encode_open(ANNE))
    log.one(ANNE, 1, 1, Increment(b"n"))
    log.apply(encode_open(BOB))

    again = [log.one(ANNE, sequence, 1, Increment(b"n")) for sequence in (1, 2)]

    assert [failure.status for failure in again] == [SESSION_EXPIRED, SESSION_EXPIRED]
    assert log.value(b"n") == b"1"


def test_an_idle_session_is_forgotten_by_the_stamps_of_entries(log: Log) -> None:
    log.one(ANNE, 1, 1, Increment(b"n"), at_ms=1000)

    assert log.one(ANNE, 2, 1, Increment(b"n"), at_ms=999 + IDLE_MS) == 2
    assert log.one(ANNE, 3, 1, Increment(b"n"), at_ms=1000 + 2 * IDLE_MS).status == SESSION_EXPIRED
    assert log.machine.session_count == 0


def test_a_session_idle_for_exactly_the_time_allowed_is_kept() -> None:
    kept, gone = SessionMachine(KeyValueMachine(), idle_ms=50), SessionMachine(KeyValueMachine(), idle_ms=50)
    for machine in (kept, gone):
        machine.apply(make_entry(1, 1, 1, Kind.COMMANDS, join_commands([encode_open(ANNE)]), stamp=7))

    kept.apply(make_entry(1, 1, 2, Kind.COMMANDS, join_commands([]), stamp=7 + (50 << 16)))
    gone.apply(make_entry(1, 1, 2, Kind.COMMANDS, join_commands([]), stamp=8 + (50 << 16)))

    assert (kept.session_count, gone.session_count) == (1, 0)


def test_a_session_in_use_outlives_many_idle_ones() -> None:
    log = Log()
    log.apply(encode_open(ANNE), encode_open(BOB), encode_open(CARL))

    for step in range(1, 5):
        log.one(BOB, step, step, Increment(b"n"), at_ms=step * IDLE_MS // 2)

    assert log.machine.session_count == 1
    assert log.value(b"n") == b"4"


# --- snapshots ---


def restored(machine: SessionMachine, **limits: int) -> Log:
    copy = SessionMachine(KeyValueMachine(), **limits)
    copy.restore(list(machine.freeze()))
    return Log(copy)


def test_a_repeat_is_recognised_after_a_snapshot(log: Log) -> None:
    log.one(ANNE, 1, 1, Increment(b"n"))
    log.one(ANNE, 2, 1, CompareAndSet(b"n", b"7", expect=b"1"))

    copy = restored(log.machine)

    assert copy.machine.digest() == log.machine.digest()
    assert copy.one(ANNE, 1, 1, Increment(b"n")) == 1
    assert copy.value(b"n") == b"7"
    assert copy.one(ANNE, 1, 3, Increment(b"n")) != 1


def test_a_remembered_failure_is_a_failure_after_a_snapshot(log: Log) -> None:
    log.one(NO_SESSION, 0, 0, Put(b"n", b"text"))
    first = log.one(ANNE, 1, 1, Increment(b"n"))

    again = restored(log.machine).one(ANNE, 1, 1, Increment(b"n"))

    assert type(again) is Failure
    assert again == first


def test_every_result_is_encoded_alike_before_and_after_a_snapshot(log: Log) -> None:
    commands = [
        Put(b"a", b"1"),
        Delete(b"a"),
        CompareAndSet(b"a", b"2", expect_version=0),
        Batch((Put(b"b", b""), CompareAndSet(b"a", None, expect=b"2"))),
        Batch((CompareAndSet(b"a", None, expect=b"2"),)),
    ]
    first = [log.one(ANNE, sequence, 1, command) for sequence, command in enumerate(commands, 1)]

    copy = restored(log.machine)

    again = [copy.one(ANNE, sequence, 1, command) for sequence, command in enumerate(commands, 1)]
    assert [msgspec.msgpack.encode(each) for each in again] == [msgspec.msgpack.encode(each) for each in first]


def test_floors_and_the_order_of_last_use_survive_a_snapshot() -> None:
    log = Log(SessionMachine(KeyValueMachine(), sessions_max=2))
    log.apply(encode_open(ANNE), encode_open(BOB))
    log.one(ANNE, 7, 7, Increment(b"n"))

    copy = restored(log.machine, sessions_max=2)
    copy.apply(encode_open(CARL))

    assert copy.one(ANNE, 6, 1, Increment(b"n")).status == REFUSED
    assert copy.one(BOB, 1, 1, Increment(b"n")).status == SESSION_EXPIRED


def test_the_order_in_which_commands_arrived_is_not_part_of_the_state() -> None:
    one, other = Log(), Log()

    one.apply(encode_open(ANNE), *[encode_command(ANNE, each, 1, Delete(b"")) for each in (1, 2, 3)])
    other.apply(encode_open(ANNE), *[encode_command(ANNE, each, 1, Delete(b"")) for each in (3, 1, 2)])

    assert one.machine.digest() == other.machine.digest()


def test_many_sessions_take_several_pieces(log: Log) -> None:
    log.apply(*[encode_open(b"%016d" % number) for number in range(1000)])

    pieces = list(log.machine.freeze())

    assert len(pieces) >= 5
    assert restored(log.machine).machine.session_count == 1001


def test_a_frozen_table_does_not_see_later_commands(log: Log) -> None:
    log.one(ANNE, 1, 1, Increment(b"n"))
    before = list(log.machine.freeze())

    frozen = log.machine.freeze()
    log.one(ANNE, 2, 2, Increment(b"n"))
    log.apply(encode_open(BOB))

    assert list(frozen) == before


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda pieces: [], ProtocolError),
        (lambda pieces: pieces[:1], ProtocolError),
        (lambda pieces: pieces[1:], ProtocolError),
        (lambda pieces: pieces[:-1], ProtocolError),
        (lambda pieces: [pieces[0], b"\x90", *pieces[2:]], ProtocolError),
        (lambda pieces: [pieces[0].replace(b"key-value", b"other----"), *pieces[1:]], WrongIdentity),
        (lambda pieces: [pieces[0].replace(b"value\x01", b"value\x02"), *pieces[1:]], IncompatibleVersion),
    ],
)
def test_a_snapshot_that_is_not_one_is_refused_and_everything_stays(
    log: Log, change: Callable[[list[bytes]], list[bytes]], error: type[Exception]
) -> None:
    log.one(ANNE, 1, 1, Increment(b"n"))
    pieces = list(log.machine.freeze())
    before = log.machine.digest()

    with pytest.raises(error):
        log.machine.restore(change(pieces))

    assert log.machine.digest() == before


# --- the door ---


@pytest.mark.parametrize(
    "command",
    [
        b"",
        b"\xc1",
        b"\x90",
        encode_open(ANNE) + b"\x00",
        encode_open(ANNE)[:-1],
        encode_open(b"short"),
        encode_open(NO_SESSION),
        encode_command(ANNE, 0, 0, Put(b"a", b"")),
        encode_command(ANNE, 1, 0, None),
        encode_command(ANNE, 1, 2, Put(b"a", b"")),
        encode_command(ANNE, -1, -1, Put(b"a", b"")),
        encode_command(ANNE, 2**63, 0, Put(b"a", b"")),
        encode_command(b"short", 1, 1, Put(b"a", b"")),
        encode_command(ANNE, 1, 1, [99, b"a"]),
        encode_command(ANNE, 1, 1, [1, b"a"]),
        encode_command(ANNE, 1, 1, [1, b"a", b"b", b"c"]),
        encode_command(ANNE, 1, 1, [1, "text", b"b"]),
        encode_command(ANNE, 1, 1, [7, [[7, []]]]),
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\x94\xc6\xff\xff\xff\xff",
        encode_command(ANNE, "1", 1, Put(b"a", b"")),  # type: ignore[arg-type]
        encode_command(NO_SESSION, 0, 0, CompareAndSet(b"a", b"")),
    ],
)
def test_what_is_no_command_is_refused_at_the_door(log: Log, command: bytes) -> None:
    with pytest.raises(InvalidCommand):
        log.machine.check(command)


@pytest.mark.parametrize(
    "command",
    [
        encode_open(ANNE),
        encode_command(ANNE, 1, 0, Put(b"", b"")),
        encode_command(ANNE, 2**63 - 1, 2**63 - 1, Put(b"", b"")),
        encode_command(NO_SESSION, 0, 0, Put(b"", b"")),
    ],
)
def test_what_is_a_command_is_let_in(log: Log, command: bytes) -> None:
    log.machine.check(command)


def test_the_limits_of_the_machine_inside_hold(log: Log) -> None:
    with pytest.raises(LimitExceeded):
        log.machine.check(encode_command(ANNE, 1, 1, Put(b"k" * 65_537, b"")))


def test_joined_commands_keep_their_bytes(log: Log) -> None:
    commands = [encode_command(ANNE, number, 1, Put(b"a", b"%d" % number)) for number in range(1, 400)]

    payload = log.machine.join(commands)

    assert payload == b"\xdd" + (399).to_bytes(4, "big") + b"".join(commands)
    assert payload == join_commands(commands)
    assert log.machine.apply(make_entry(1, 1, 2, Kind.COMMANDS, payload)) == list(range(1, 400))


def test_an_entry_of_a_newer_machine_stops_the_node_by_name(log: Log) -> None:
    entry = make_entry(1, 3, 9, Kind.COMMANDS, join_commands([encode_command(NO_SESSION, 0, 0, [99])]))

    with pytest.raises(IncompatibleVersion, match="entry 3:9"):
        log.machine.apply(entry)


def test_a_command_without_body_in_the_log_is_answered_and_changes_nothing(log: Log) -> None:
    results = log.apply(encode_command(NO_SESSION, 0, 0, None), encode_command(ANNE, 1, 1, None))

    assert [failure.status for failure in results] == [INVALID, INVALID]


def test_statuses_are_those_of_the_wire() -> None:
    for name in ("INVALID", "FAILED", "SESSION_EXPIRED", "NOT_AN_INTEGER", "REFUSED"):
        assert getattr(base, name) == getattr(wire, name)


# --- bounded by bytes ---


def weighing(**limits: int) -> tuple[Log, Callable[..., Any]]:
    """A log with two open sessions, and what puts one large value in a key and takes it out again."""
    log = Log(SessionMachine(KeyValueMachine(), **limits))
    log.format = 2
    log.apply(encode_open(ANNE), encode_open(BOB))

    def take(session: bytes, sequence: int, floor: int = 1, size: int = 1_000) -> Any:
        log.apply(encode_command(NO_SESSION, 0, 0, Put(b"k", bytes(size))))
        return log.one(session, sequence, floor, Take(b"k"))

    return log, take


def test_a_session_that_holds_too_many_bytes_gets_nothing_more_done() -> None:
    log, take = weighing(result_bytes_max=2_500)
    assert all(type(take(ANNE, sequence)) is not Failure for sequence in (1, 2, 3))

    refused = take(ANNE, 4)

    assert refused.status == REFUSED
    assert "holds 3,0" in refused.detail
    assert "the limit is 2,500: nothing was done" in refused.detail
    assert log.value(b"k") == bytes(1_000)
    assert type(take(BOB, 1)) is not Failure


def test_it_goes_on_once_its_client_says_what_it_has() -> None:
    _, take = weighing(result_bytes_max=2_500)
    for sequence in (1, 2, 3):
        take(ANNE, sequence)

    assert type(take(ANNE, 4, floor=3)) is not Failure
    assert type(take(ANNE, 5, floor=3)) is not Failure
    assert take(ANNE, 6, floor=3).status == REFUSED


def test_a_command_that_comes_again_is_answered_by_a_full_session_too() -> None:
    _, take = weighing(result_bytes_max=2_500)
    first = [take(ANNE, sequence) for sequence in (1, 2, 3)]

    assert take(ANNE, 2) == first[1]


def test_light_results_do_not_count() -> None:
    log, _ = weighing(result_bytes_max=1)

    assert [log.one(ANNE, sequence, 1, Increment(b"n")) for sequence in range(1, 500)] == list(range(1, 500))
    assert log.machine.result_bytes == 0


def test_past_the_bytes_of_all_sessions_those_used_least_recently_are_forgotten() -> None:
    log, take = weighing(all_result_bytes_max=2_500)
    take(ANNE, 1)
    take(BOB, 1)
    take(BOB, 2)

    assert log.one(ANNE, 2, 1, Increment(b"n")).status == SESSION_EXPIRED
    assert log.one(BOB, 3, 1, Increment(b"n")) == 1
    assert log.machine.result_bytes < 2_500


def test_the_last_session_stays_whatever_it_holds() -> None:
    log, take = weighing(all_result_bytes_max=500)

    take(ANNE, 1)

    assert log.machine.session_count == 1
    assert log.one(ANNE, 2, 1, Increment(b"n")) == 1


def test_entries_of_the_first_format_are_applied_without_these_bounds() -> None:
    """All replicas decide by the entry alone, also those that run an older program."""
    log, take = weighing(result_bytes_max=500, all_result_bytes_max=500)
    log.format = 1

    assert all(type(take(ANNE, sequence)) is not Failure for sequence in range(1, 6))
    assert log.machine.session_count == 2


def test_what_sessions_weigh_is_a_function_of_what_they_remember(log: Log) -> None:
    """Two replicas, one of them from a snapshot: they must refuse and forget at the same entry."""
    limits = {"result_bytes_max": 60_000, "all_result_bytes_max": 90_000}
    random, seed = Random(SEED := 20261124), SEED
    log, take = weighing(**limits)
    for number in range(1, 300):
        session = random.choice((ANNE, BOB))
        take(session, number, max(1, number - random.randint(0, 60)), size=random.choice((3, 10, 14, 20, 5_000)))
        if number % 20 == 0:
            restored = SessionMachine(KeyValueMachine(), **limits)
            restored.restore(log.machine.freeze())
            assert restored.result_bytes == log.machine.result_bytes, f"seed {seed}, command {number}"
            log.machine = restored
        log.apply(encode_open(ANNE), encode_open(BOB))


def test_forgotten_sessions_weigh_nothing() -> None:
    log, take = weighing(idle_ms=50, sessions_max=2)
    take(ANNE, 1)
    take(BOB, 1)
    held = log.machine.result_bytes

    log.apply(encode_open(CARL))
    assert log.machine.result_bytes == held // 2
    log.apply(at_ms=1_000)
    assert log.machine.result_bytes == 0
