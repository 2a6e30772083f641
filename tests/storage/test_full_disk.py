"""What does a log do on a full disk? It takes what finds room, keeps the reserve for votes, and goes on with room."""

import pytest
from storage_lab import Lab, forgotten

from aegis_replication.consensus.member import RECORD_BYTES
from aegis_replication.errors import DiskFull
from aegis_replication.log import HardState, LogWrite
from aegis_replication.storage.room import RECORD_OVERHEAD_BYTES


def filled(lab: Lab) -> int:
    """A log whose disk took all that it had room for; the index of the last entry that was taken."""
    lab.start()
    lab.maintain()
    lab.disk.full = True
    for index in range(1, 10_000):
        room_bytes = lab.storage.room_bytes
        if room_bytes is not None and room_bytes < 2000:
            return index - 1
        lab.write(lab.append(index, index + 1, size=1000))
        lab.storage.maintain()
    raise AssertionError("a full disk took everything")


def test_the_reserve_is_set_aside_before_anybody_needs_it(lab: Lab) -> None:
    lab.start()

    lab.maintain()

    assert lab.storage.stats().reserve_bytes == lab.segment_bytes
    assert lab.storage.room_bytes is None


def test_a_replica_reckons_with_no_less_for_an_entry_than_the_log_takes() -> None:
    assert RECORD_BYTES >= RECORD_OVERHEAD_BYTES


def test_a_full_disk_says_how_much_it_takes_and_why(lab: Lab) -> None:
    taken = filled(lab)

    stats = lab.storage.stats()

    assert 50 < taken < 200
    assert "disk/data/log: the disk is full (no space left on device): make room on it" in stats.full
    assert stats.reserve_bytes == lab.segment_bytes


def test_votes_find_room_when_entries_find_none(lab: Lab) -> None:
    taken = filled(lab)

    for term in range(2, 400):
        lab.write(lab.vote(term, "n2"))
    lab.lose_power()

    found = lab.start()[1]
    assert found.hard_state == HardState(399, "n2")
    assert len(found.entries) == taken


def test_what_found_no_room_is_refused_whole_and_taken_by_the_same_call_later(lab: Lab) -> None:
    taken = filled(lab)
    write = LogWrite(1, 9, HardState(7, "n3"), lab.entries(taken + 1, taken + 200, term=7, size=1000))

    for _ in range(2):
        with pytest.raises(DiskFull, match="make room"):
            lab.write(write)
    lab.disk.full = False
    lab.write(write)
    lab.lose_power()

    found = lab.start()[1]
    assert found.hard_state == HardState(7, "n3")
    assert found.entries == [*lab.entries(1, taken + 1, size=1000), *write.entries]


def test_housekeeping_sees_when_there_is_room_again(lab: Lab) -> None:
    filled(lab)
    lab.write(lab.vote(2, "n2"))
    while lab.storage.stats().reserve_bytes:
        lab.write(lab.vote(lab.storage._wal.live.of(1).hard_state.term + 1, "n2"))

    lab.storage.maintain()
    during = lab.storage.room_bytes
    lab.disk.full = False
    lab.maintain()

    assert during == 0
    assert lab.storage.room_bytes is None
    assert lab.storage.stats().reserve_bytes == lab.segment_bytes


def test_a_snapshot_gives_the_log_room_on_a_full_disk(lab: Lab) -> None:
    taken = filled(lab)
    lab.disk.full = False
    compacted = forgotten(lab, taken)  # it found room for itself, by chance
    lab.disk.full = True

    lab.write(compacted)
    lab.maintain()

    assert lab.storage.room_bytes is None
    lab.write(lab.append(taken + 1, taken + 20, size=1000))


def test_a_write_that_was_cut_short_for_want_of_room_is_written_anew(lab: Lab) -> None:
    lab.start()
    lab.write(lab.append(1, 3))
    lab.disk.full = lab.disk.full_in_place = True

    for _ in range(3):
        with pytest.raises(DiskFull):
            lab.write(lab.append(3, 9))
    assert lab.storage.maintain() is False
    lab.disk.full = lab.disk.full_in_place = False
    lab.write(lab.append(3, 9))
    lab.lose_power()

    assert lab.start()[1].entries == list(lab.entries(1, 9))


def test_what_waits_for_room_counts_for_no_flush_that_runs_meanwhile(lab: Lab) -> None:
    lab.start()
    lab.write(lab.append(1, 3), durable=False)
    before = lab.storage._wal.end
    lab.disk.full = lab.disk.full_in_place = True

    with pytest.raises(DiskFull):
        lab.write(lab.append(3, 9), durable=False)
    _, position = lab.storage.unflushed()

    assert position == before < lab.storage._wal.end


def test_a_node_starts_on_a_full_disk_and_knows_it_soon(lab: Lab) -> None:
    taken = filled(lab)
    lab.lose_power("some")

    found = lab.start()[1]
    lab.storage.maintain()
    lab.write(lab.vote(9, "n2"))

    assert len(found.entries) == taken
    assert lab.restart()[1].hard_state == HardState(9, "n2")


def test_a_clean_stop_on_a_full_disk_is_no_error(lab: Lab) -> None:
    taken = filled(lab)
    lab.disk.full_in_place = True

    lab.storage.close()
    lab.disk.full_in_place = False

    assert len(lab.start()[1].entries) == taken


def test_a_leaders_snapshot_without_room_leaves_nothing_behind(lab: Lab) -> None:
    lab.start()
    lab.disk.full = True

    with pytest.raises(DiskFull, match=r"1-1-9\.part"):
        lab.storage.snapshots.receive(1, lab.meta(9), 0, 1000, b"x" * 500)
    lab.disk.full = False

    assert lab.storage.snapshots.receive(1, lab.meta(9), 500, 1000, b"x" * 500) == 0
    assert lab.disk.list(f"{lab.path}/snapshots") == []
