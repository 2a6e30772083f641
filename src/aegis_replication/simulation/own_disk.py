"""What if the machine keeps its state on a disk of its own? A key-value machine whose transactions a crash undoes."""

from collections.abc import Iterable
from random import Random
from typing import Any, NamedTuple

from aegis_replication.simulation.disk import Losing, SimulatedDisk
from aegis_replication.state_machine.base import SessionRows
from aegis_replication.state_machine.key_value import KeyValueMachine

COUNTED = ("machine_set_back",)

_UNSYNCED_MAX = 40  # transactions; then the system writes some of them by itself


def keeps_its_state(random: Random) -> bool:
    """Are the machines of this run such ones?"""
    return random.random() < 0.15


class _State(NamedTuple):
    """What one transaction left."""

    term: int
    index: int  # type: ignore[assignment]  # the log's, not tuple.index
    rows: dict[bytes, bytes]
    pieces: list[bytes]


class OwnDisk:
    """Where one machine's transactions go: whole ones, in order; those since the last sync may be lost."""

    __slots__ = ("_disk", "_states")

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        # The first is durable, the last is what a process sees.
        self._states = [_State(0, 0, {}, [])]
        disk.beside.append(self._cut_power)

    @property
    def state(self) -> _State:
        return self._states[-1]

    def commit(self, state: _State) -> None:
        self._states.append(state)
        if len(self._states) > _UNSYNCED_MAX:
            del self._states[: _UNSYNCED_MAX // 2]

    def sync(self) -> None:
        del self._states[:-1]

    def _cut_power(self, losing: Losing) -> None:
        count = len(self._states)
        kept = 1 if losing == "unsynced" else self._disk.random.randint(1, count)
        if kept < count:
            self._disk.faults["machine_set_back"] += 1
        del self._states[kept:]


class KeyValueOnDisk(KeyValueMachine):
    """Keys and values in transactions: handlers work on memory, `commit` makes a state of it."""

    __slots__ = ("disk",)

    def __init__(self) -> None:
        super().__init__()
        self.disk: OwnDisk  # given by whoever starts the process

    def open(self) -> tuple[int, int]:
        state = self.disk.state
        if state.pieces:
            super().restore(state.pieces)
        return state.term, state.index

    def sessions(self) -> Iterable[tuple[bytes, bytes]]:
        return self.disk.state.rows.items()

    def commit(self, term: int, index: int, rows: SessionRows) -> None:
        kept = {**self.disk.state.rows, **rows}
        self.disk.commit(
            _State(term, index, {name: row for name, row in kept.items() if row is not None}, list(self.freeze()))
        )

    def sync(self, term: int, index: int) -> None:
        self.disk.commit(self.disk.state._replace(term=term, index=index))
        self.disk.sync()

    def restore_at(self, pieces: Iterable[bytes], term: int, index: int, rows: SessionRows) -> None:
        super().restore(pieces)
        self.commit(term, index, {**dict.fromkeys(self.disk.state.rows), **rows})
        self.disk.sync()

    def close(self) -> None:
        pass


def own_disk(disk: SimulatedDisk, group: int) -> OwnDisk:
    """The machine's own on that node's disk, for all of its processes."""
    found: Any = disk.own.get(group)
    if found is None:
        found = disk.own[group] = OwnDisk(disk)
    result: OwnDisk = found
    return result
