"""Where does a machine begin: with what it holds, with a snapshot, or not at all?"""

from collections import Counter
from random import Random

import pytest

from aegis_replication.engine.standing import stand
from aegis_replication.errors import StorageError
from aegis_replication.log import NOTHING, Entry, EntryId, HardState, Kind, RecoveredGroup, SnapshotMeta, make_entry
from aegis_replication.simulation.disk import SimulatedDisk
from aegis_replication.simulation.own_disk import KeyValueOnDisk, own_disk
from aegis_replication.state_machine import commands as ask
from aegis_replication.state_machine.durable_sessions import DurableSessionMachine
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine


def increment(term: int, index: int) -> Entry:
    payload = ask.join_commands([ask.encode_command(b"", 0, 0, ask.Increment(b"n"))])
    return make_entry(1, term, index, Kind.COMMANDS, payload, count=1, stamp=index)


def on_disk(disk: SimulatedDisk) -> DurableSessionMachine:
    machine = KeyValueOnDisk()
    machine.disk = own_disk(disk, 1)
    return DurableSessionMachine(machine)


def disk_at(*entries: Entry) -> SimulatedDisk:
    disk = SimulatedDisk(Random(1), Counter())
    machine = on_disk(disk)
    machine.open()
    for entry in entries:
        machine.apply(entry)
    return disk


def log_of(*entries: Entry, base: EntryId = NOTHING, snapshot: SnapshotMeta | None = None) -> RecoveredGroup:
    return RecoveredGroup(HardState(9), base, list(entries), snapshot)


def value(machine: SessionMachine) -> bytes | None:
    item = machine.query(ask.encode_query(ask.Get(b"n")))
    return None if item is None else item[0]


ENTRIES = [increment(1, index) for index in range(1, 11)]


def snapshot_at(index: int) -> tuple[SnapshotMeta, list[bytes]]:
    machine = SessionMachine(KeyValueMachine())
    for entry in ENTRIES[:index]:
        machine.apply(entry)
    return SnapshotMeta(1, index, index, b"", 1), list(machine.freeze())


def test_a_machine_in_memory_begins_with_the_snapshot_or_with_nothing() -> None:
    meta, pieces = snapshot_at(4)
    machine = SessionMachine(KeyValueMachine())

    assert stand(SessionMachine(KeyValueMachine()), 1, log_of(*ENTRIES), None) == NOTHING
    assert stand(machine, 1, log_of(*ENTRIES[4:], base=meta.id, snapshot=meta), pieces) == meta.id
    assert value(machine) == b"4"


def test_a_machine_on_its_own_disk_begins_with_what_it_holds() -> None:
    meta, pieces = snapshot_at(4)
    machine = on_disk(disk_at(*ENTRIES[:7]))

    held = stand(machine, 1, log_of(*ENTRIES[4:], base=meta.id, snapshot=meta), pieces)

    assert held == EntryId(1, 7)
    assert value(machine) == b"7"


@pytest.mark.parametrize("held", [0, 2])
def test_one_that_is_behind_the_snapshot_becomes_it_and_stays_so(held: int) -> None:
    meta, pieces = snapshot_at(4)
    disk = disk_at(*ENTRIES[:held])

    assert stand(on_disk(disk), 1, log_of(*ENTRIES[4:], base=meta.id, snapshot=meta), pieces) == meta.id
    disk.cut_power("unsynced")

    again = on_disk(disk)
    assert again.open() == meta.id
    assert value(again) == b"4"


def test_one_whose_crash_came_between_a_snapshot_and_the_log_that_begins_with_it_needs_nothing() -> None:
    meta, pieces = snapshot_at(8)
    disk = disk_at(*ENTRIES[:2])
    machine = on_disk(disk)
    machine.open()
    machine.restore_at(pieces, meta.id)

    assert stand(on_disk(disk), 1, log_of(*ENTRIES[:3], snapshot=meta), pieces) == meta.id


@pytest.mark.parametrize(
    ("log", "text"),
    [
        (log_of(*ENTRIES[:5]), r"stands at entry 1:7, and the log ends at 1:5"),
        (log_of(), r"stands at entry 1:7, and the log ends at 0:0"),
        (log_of(*[increment(2, index) for index in range(1, 11)]), r"stands at entry 1:7, and the log has entry 2:7"),
        (log_of(base=EntryId(1, 9)), r"stands at entry 1:7, and the log begins after 1:9: what is between them is"),
    ],
    ids=["a log that was cut", "an empty log", "another log", "a log without its beginning"],
)
def test_one_that_is_not_of_this_log_is_refused_and_left_as_it_is(log: RecoveredGroup, text: str) -> None:
    disk = disk_at(*ENTRIES[:7])

    with pytest.raises(StorageError, match=rf"group 1: the machine's own state {text}.*Nothing was changed"):
        stand(on_disk(disk), 1, log, None)

    assert on_disk(disk).open() == EntryId(1, 7)
