"""Do writes that found no room keep their order, whoever carries them out?"""

from collections.abc import Sequence

from aegis_replication.errors import DiskFull
from aegis_replication.log import Kind, LogWrite, make_entry
from aegis_replication.storage.backlog import Backlog
from aegis_replication.storage.base import Identity
from aegis_replication.storage.memory import MemoryStorage


def writes(index: int) -> Sequence[LogWrite]:
    return [LogWrite(1, index, entries=(make_entry(1, 1, index, Kind.NO_OP, b""),))]


class Disk:
    """Room for so many calls, and what was written."""

    def __init__(self, room: int) -> None:
        self.room, self.written = room, list[int]()

    def write(self, some: Sequence[LogWrite]) -> bool:
        if not self.room:
            raise DiskFull("no room")
        self.room -= 1
        self.written.append(some[0].number)
        return True


def backlog_on(disk: Disk) -> Backlog:
    return Backlog(MemoryStorage(Identity("c", "n1", 1)), disk.write)


def test_a_write_behind_one_that_waits_waits_too_even_if_there_is_room_again() -> None:
    disk = Disk(room=1)
    backlog = backlog_on(disk)
    assert [backlog.write(writes(1)), backlog.write(writes(2))] == [True, False]

    disk.room = 9
    is_written = backlog.write(writes(3))
    retried = [some[0].number for some, _ in backlog.retry()]

    assert (is_written, retried, disk.written, bool(backlog)) == (False, [2, 3], [1, 2, 3], False)


def test_what_finds_no_room_again_goes_on_waiting() -> None:
    disk = Disk(room=0)
    backlog = backlog_on(disk)
    for index in (1, 2, 3):
        backlog.write(writes(index))

    disk.room = 1
    first = [some[0].number for some, _ in backlog.retry()]
    disk.room = 9
    then = [some[0].number for some, _ in backlog.retry()]

    assert (first, then, disk.written) == ([1], [2, 3], [1, 2, 3])


def test_nothing_is_marked_as_flushed_while_something_waits() -> None:
    disk = Disk(room=0)
    backlog = backlog_on(disk)
    assert not backlog.news()

    backlog.write(writes(1))

    assert not backlog.mark()
    disk.room = 1
    assert len(list(backlog.retry())) == 1
    assert backlog.mark()
