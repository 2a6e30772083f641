"""Does a machine on a disk of its own carry out each command once, and is a careless one noticed?"""

from collections.abc import Iterable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

from aegis_replication.errors import StorageError
from aegis_replication.log import EntryId, Kind, make_entry
from aegis_replication.simulation.disk import SimulatedDisk
from aegis_replication.simulation.own_disk import KeyValueOnDisk, own_disk
from aegis_replication.state_machine import commands as ask
from aegis_replication.state_machine.base import DurableMachine, SessionRows
from aegis_replication.state_machine.durable_sessions import DurableSessionMachine
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine
from aegis_replication.state_machine.user_machine import machine_for
from aegis_replication.testing import check_durable_machine

INCREMENTS = [ask.Increment(b"n%d" % (number % 3), number) for number in range(1, 40)]


class Disks:
    """A simulated disk for each name."""

    def __init__(self, machine: type[KeyValueOnDisk] = KeyValueOnDisk) -> None:
        self._machine = machine
        self._disks: dict[str, SimulatedDisk] = {}

    def disk(self, name: str) -> SimulatedDisk:
        from collections import Counter

        return self._disks.setdefault(name, SimulatedDisk(Random(name), Counter()))

    def make(self, name: str) -> KeyValueOnDisk:
        machine = self._machine()
        machine.disk = own_disk(self.disk(name), 1)
        return machine


def example() -> ModuleType:
    spec = spec_from_file_location("sqlite_machine", Path(__file__).parents[2] / "examples" / "sqlite_machine.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_simulated_machine_keeps_the_contract() -> None:
    check_durable_machine(Disks().make, INCREMENTS)


def test_the_example_on_sqlite_keeps_the_contract(tmp_path: Path) -> None:
    accounts = example()
    commands: list[Any] = []
    for number in range(1, 30):
        commands.append(accounts.Deposit(f"a{number % 4}", number))
        commands.append(accounts.Transfer(f"a{number % 4}", f"a{number % 3}", 3 * number % 17 + 1))

    check_durable_machine(lambda name: accounts.Accounts(tmp_path / f"{name}.db"), commands)


# --- mistakes ---


class ForgetsSessions(KeyValueOnDisk):
    def commit(self, term: int, index: int, rows: SessionRows) -> None:
        super().commit(term, index, {})


class ForgetsItsPosition(KeyValueOnDisk):
    def commit(self, term: int, index: int, rows: SessionRows) -> None:
        super().commit(0, 0, rows)


class KeepsPartsOfEntries(KeyValueOnDisk):
    def close(self) -> None:
        super().commit(self.disk.state.term, self.disk.state.index, {})


class FreezesLate(KeyValueOnDisk):
    def freeze(self) -> Iterator[bytes]:
        yield b""
        yield from super().freeze()

    def _real(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        return (piece for piece in pieces if piece)

    def open(self) -> tuple[int, int]:
        state = self.disk.state
        if state.pieces:
            KeyValueMachine.restore(self, self._real(state.pieces))
        return state.term, state.index


class RestoresPiecemeal(KeyValueOnDisk):
    def restore_at(self, pieces: Iterable[bytes], term: int, index: int, rows: SessionRows) -> None:
        self.disk.commit(self.disk.state._replace(pieces=[]))
        super().restore_at(pieces, term, index, rows)


class SyncsElsewhere(KeyValueOnDisk):
    def sync(self, term: int, index: int) -> None:
        self.disk.sync()


@pytest.mark.parametrize(
    ("careless", "sentence"),
    [
        (ForgetsSessions, "sent again by their client|closed and opened"),
        (ForgetsItsPosition, "the state stands there, not at"),
        (KeepsPartsOfEntries, "leaves no effects behind"),
        (FreezesLate, "as it was when `freeze` was called"),
        (RestoresPiecemeal, "leaves the state as it was"),
        (SyncsElsewhere, "`sync` keeps its position"),
    ],
)
def test_a_careless_machine_is_told_what_it_breaks(careless: type[KeyValueOnDisk], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_durable_machine(Disks(careless).make, INCREMENTS)


def test_too_few_commands_prove_nothing() -> None:
    with pytest.raises(AssertionError, match="too few"):
        check_durable_machine(Disks().make, INCREMENTS[:5])


# --- sessions ---


def entry(index: int, *commands: bytes, stamp: int = 0) -> Any:
    payload = ask.join_commands(commands)
    return make_entry(1, 1, index, Kind.COMMANDS, payload, count=len(commands), stamp=(stamp or index) << 16)


def opened(name: bytes) -> bytes:
    return ask.encode_command(name * 16, 0, 0, None)


def increment(name: bytes, sequence: int) -> bytes:
    return ask.encode_command(name * 16, sequence, 1, ask.Increment(b"n"))


@pytest.mark.parametrize("seed", range(8))
def test_restarts_and_power_cuts_leave_the_sessions_as_one_in_memory_has_them(seed: int) -> None:
    """Also which one is forgotten next, which depends on the order of their use."""
    random, disks = Random(seed), Disks()
    steady = SessionMachine(KeyValueMachine(), sessions_max=4, idle_ms=60)
    entries = []
    for index in range(1, 120):
        names = [bytes([random.randrange(97, 104)]) for _ in range(random.randint(1, 4))]
        commands = [random.choice((opened(name), increment(name, random.randint(1, 3)))) for name in names]
        entries.append(entry(index, *commands, stamp=index * random.choice((3, 3, 3)) + index // 40 * 80))
    expected = [(steady.apply(each), steady.digest()) for each in entries]

    machine = DurableSessionMachine(disks.make("d"), sessions_max=4, idle_ms=60)
    position = machine.open().index
    lost = 0
    while position < len(entries):
        results = machine.apply(entries[position])
        assert (results, machine.digest()) == expected[position], f"seed {seed}, entry {position + 1}"
        position += 1
        if random.random() < 0.2:
            disks.disk("d").cut_power("some")
            machine = DurableSessionMachine(disks.make("d"), sessions_max=4, idle_ms=60)
            found = machine.open().index
            lost += position - found
            position = found
            if position:
                assert machine.digest() == expected[position - 1][1], f"seed {seed}, after a power cut at {position}"

    assert lost > 0


class AnswersAtLength(KeyValueOnDisk):
    def __init__(self) -> None:
        super().__init__()
        self.handlers = {**self.handlers, ask.Increment: lambda command: bytes(500)}


@pytest.mark.parametrize("is_restored", [False, True])
def test_kept_results_weigh_the_same_after_a_restart(is_restored: bool) -> None:
    """Else a replica that was restarted would refuse, or forget, other sessions than the rest do."""
    disks = Disks(AnswersAtLength)
    machine = DurableSessionMachine(disks.make("d"))
    machine.open()
    machine.apply(entry(1, opened(b"a"), *(increment(b"a", sequence) for sequence in (1, 2, 3))))
    before = machine.result_bytes

    again = DurableSessionMachine(disks.make("e" if is_restored else "d"))
    again.open()
    if is_restored:
        again.restore_at(machine.freeze(), EntryId(1, 1))

    assert again.result_bytes == before > 1500


def test_rows_that_are_no_sessions_are_refused_with_one_clear_error() -> None:
    disks = Disks()
    disks.make("d").commit(1, 5, {b"x" * 16: b"nonsense"})

    with pytest.raises(StorageError, match="own state at entry 5 holds a session that can't be read"):
        DurableSessionMachine(disks.make("d")).open()


def test_it_is_known_by_what_it_can_do() -> None:
    assert isinstance(machine_for(KeyValueOnDisk()), DurableMachine)
    assert not isinstance(machine_for(), DurableMachine)
