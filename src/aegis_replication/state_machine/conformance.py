"""Does a machine on a disk of its own keep its contract? Checks that any DurableCommandMachine can be put through."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aegis_replication.log import NOTHING, Entry, EntryId, Kind, make_entry
from aegis_replication.state_machine.base import DurableCommandMachine, Failure
from aegis_replication.state_machine.commands import SESSION_BYTES, encode_command, join_commands
from aegis_replication.state_machine.durable_sessions import DurableSessionMachine

Make = Callable[[str], DurableCommandMachine]

_SESSION = b"s" * SESSION_BYTES
_GROUP, _TERM = 1, 3


def check_durable_machine(make: Make, commands: Sequence[Any]) -> None:
    """Raises AssertionError, saying which sentence of the contract doesn't hold.

    `make(name)` gives a machine, not opened yet, on the storage of that name: the same storage for the same name,
    whoever used it before. `commands` are two dozen or more that change the state, so that each would do something else
    if it came twice.
    """
    entries = list(_entries(commands))
    if len(entries) < 12:
        raise AssertionError(f"{len(commands)} commands are too few to tell: give two dozen or more")
    for check in (_begins_empty, _goes_on, _forgets_whole_entries, _freezes_a_moment, _restores, _stands_where_synced):
        check(make, entries)


class _Machine(DurableSessionMachine):
    """The machine with sessions, and where it was found."""

    __slots__ = ("found",)

    def __init__(self, own: DurableCommandMachine) -> None:
        super().__init__(own)
        self.found = self.open()


def _entries(commands: Sequence[Any]) -> Iterator[Entry]:
    """A session is opened, then a few commands an entry, with gaps in the log as other kinds of entries leave them."""
    packed = [encode_command(_SESSION, 0, 0, None)]
    packed += [encode_command(_SESSION, number, 1, body) for number, body in enumerate(commands, start=1)]
    for number, first in enumerate(range(0, len(packed), 2), start=1):
        batch = packed[first : first + 2]
        payload, index = join_commands(batch), 2 * number
        yield make_entry(_GROUP, _TERM, index, Kind.COMMANDS, payload, count=len(batch), stamp=(1_000 + number) << 16)


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(f"not as DurableCommandMachine says: {what}")


def _applied(make: Make, name: str, entries: Sequence[Entry]) -> _Machine:
    machine = _Machine(make(name))
    for entry in entries:
        machine.apply(entry)
    return machine


def _begins_empty(make: Make, entries: Sequence[Entry]) -> None:
    machine = _Machine(make("begins"))
    _must(machine.found == NOTHING, f"a new state stands at (0, 0), not at {tuple(machine.found)}")
    _must(machine.session_count == 0, "a new state holds no sessions")
    machine.close()


def _goes_on(make: Make, entries: Sequence[Entry]) -> None:
    """Opened anew after every entry it does what one does that was never closed."""
    steady = _Machine(make("steady"))
    for entry in entries:
        expected = steady.apply(entry)
        restarted = _Machine(make("restarted"))
        results = restarted.apply(entry)
        _must(
            results == expected,
            f"closed and opened, entry {entry.index} is answered {results!r:.200}, otherwise {expected!r:.200}",
        )
        again = restarted.apply(_same_commands(entry))
        _must(
            [result for result in again if not isinstance(result, Failure)]
            == [result for result in expected if not isinstance(result, Failure)],
            f"the commands of entry {entry.index}, sent again by their client, are answered as the first time",
        )
        restarted.close()
        position = _Machine(make("restarted"))
        _must(
            position.found == EntryId(_TERM, entry.index + 1),
            f"after entry {entry.index + 1} the state stands there, not at {tuple(position.found)}",
        )
        steady.apply(_same_commands(entry))
        _must(
            position.digest() == steady.digest(), f"closed and opened, the state after entry {entry.index} is another"
        )
        position.close()
    steady.close()


def _same_commands(entry: Entry) -> Entry:
    """The next entry, in which they come once more."""
    return make_entry(
        _GROUP, _TERM, entry.index + 1, Kind.COMMANDS, bytes(entry.payload), count=entry.count, stamp=entry.stamp + 1
    )


def _forgets_whole_entries(make: Make, entries: Sequence[Entry]) -> None:
    """A process that ends in the middle of an entry leaves nothing of it behind."""
    middle = len(entries) // 2
    machine = _applied(make, "cut short", entries[:middle])
    before = machine.digest()
    machine.own.begin(entries[middle])
    for _, _, _, body in machine._decode(entries[middle]):
        if body is not None:
            machine.own.handlers[type(body)](body)
    machine.close()  # without `commit`
    machine = _Machine(make("cut short"))
    _must(
        machine.found.index == entries[middle - 1].index,
        f"an entry without `commit` doesn't move the position, to {machine.found.index}",
    )
    _must(machine.digest() == before, "an entry without `commit` leaves no effects behind")
    machine.close()


def _freezes_a_moment(make: Make, entries: Sequence[Entry]) -> None:
    """What is applied while a copy is being pulled is not in it."""
    half = len(entries) // 2
    machine = _applied(make, "frozen", entries[:half])
    expected = list(machine.freeze())
    copy = machine.freeze()
    taken = [next(copy)]
    for entry in entries[half:]:
        machine.apply(entry)
    taken += list(copy)
    _must(taken == expected, "a frozen copy shows the state as it was when `freeze` was called")
    _must(list(machine.freeze()) != expected, "the commands given change the state")
    machine.close()


def _restores(make: Make, entries: Sequence[Entry]) -> None:
    """A copy takes the place of everything; a broken one of nothing."""
    source = _applied(make, "source", entries)
    pieces, position = list(source.freeze()), EntryId(_TERM, entries[-1].index)
    digest = source.digest()
    source.close()
    target = _applied(make, "target", entries[:3])
    before = target.digest()

    def broken() -> Iterator[bytes]:
        yield from pieces[:-1]
        raise OSError("the copy can't be read on")

    try:
        target.restore_at(broken(), position)
    except OSError:
        pass
    else:
        raise AssertionError("not as DurableCommandMachine says: a copy that can't be read raises what reading raised")
    target.close()
    target = _Machine(make("target"))
    _must(target.digest() == before, "a copy that can't be read leaves the state as it was")
    target.restore_at(iter(pieces), position)
    _must(target.digest() == digest, "a restored state is the one that was frozen")
    target.close()
    target = _Machine(make("target"))
    _must(target.found == position, f"a restored state stands at {tuple(position)}, not at {tuple(target.found)}")
    _must(target.digest() == digest, "a restored state is there when it is opened anew, sessions too")
    target.close()


def _stands_where_synced(make: Make, entries: Sequence[Entry]) -> None:
    machine = _applied(make, "synced", entries[:4])
    digest, position = machine.digest(), EntryId(_TERM + 1, entries[3].index + 5)
    machine.sync(position)
    _must(machine.digest() == digest, "`sync` changes nothing but the position")
    machine.close()
    machine = _Machine(make("synced"))
    _must(machine.found == position, f"`sync` keeps its position, {tuple(position)}, not {tuple(machine.found)}")
    machine.close()
