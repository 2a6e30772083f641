"""Does the simulated disk lose what a power cut may take, and nothing else?"""

from random import Random

import pytest

from aegis_replication.simulation.disk import ROOT, PowerCut, SimulatedDisk
from aegis_replication.simulation.sectors import SECTOR_BYTES

PATH = f"{ROOT}/file"


def disk_with(content: bytes, *, seed: int = 1) -> SimulatedDisk:
    """A disk with one durable file."""
    disk = SimulatedDisk(Random(seed))
    handle = disk.open(PATH, "create")
    disk.pwritev(handle, [content], 0)
    disk.sync(handle)
    disk.sync_directory(ROOT)
    disk.close(handle)
    return disk


def read(disk: SimulatedDisk, path: str = PATH) -> bytes:
    handle = disk.open(path, "read")
    try:
        return disk.pread(handle, disk.size(handle), 0)
    finally:
        disk.close(handle)


def test_what_was_synced_survives_and_what_was_not_can_go() -> None:
    disk = disk_with(b"old" * 400)
    handle = disk.open(PATH, "write")
    disk.pwritev(handle, [b"new" * 400], 0)

    disk.cut_power("unsynced")

    assert read(disk) == b"old" * 400


def test_a_write_can_lose_its_beginning_alone() -> None:
    size = 8 * SECTOR_BYTES
    for seed in range(10):
        disk = disk_with(b"o" * size, seed=seed)
        disk.pwritev(disk.open(PATH, "write"), [b"n" * size], 0)

        disk.cut_power("beginning")

        lost = read(disk).count(b"o")
        assert 0 < lost <= 3 * SECTOR_BYTES, f"seed {seed}"
        assert read(disk) == b"o" * lost + b"n" * (size - lost), f"seed {seed}"


def test_a_write_through_a_durable_handle_survives() -> None:
    disk = disk_with(b"old")
    handle = disk.open(PATH, "write", dsync=True)
    disk.pwritev(handle, [b"new", b"er"], 1)

    disk.cut_power("unsynced")

    assert read(disk) == b"onewer"


def test_a_durable_write_survives_beside_others_that_are_not() -> None:
    disk = disk_with(bytes(3 * SECTOR_BYTES))
    plain, durable = disk.open(PATH, "write"), disk.open(PATH, "write", dsync=True)
    disk.pwritev(plain, [b"a" * 3 * SECTOR_BYTES], 0)
    disk.pwritev(durable, [b"b" * SECTOR_BYTES], SECTOR_BYTES)

    disk.cut_power("unsynced")

    assert read(disk) == bytes(SECTOR_BYTES) + b"b" * SECTOR_BYTES + bytes(SECTOR_BYTES)


def test_unsynced_writes_survive_in_any_subset_torn_at_sectors() -> None:
    seen = set()
    for seed in range(200):
        disk = disk_with(b"0" * 3 * SECTOR_BYTES, seed=seed)
        handle = disk.open(PATH, "write")
        disk.pwritev(handle, [b"1" * 3 * SECTOR_BYTES], 0)
        disk.pwritev(handle, [b"2" * SECTOR_BYTES], SECTOR_BYTES)

        disk.cut_power("some")

        content = read(disk)
        sectors = [content[first : first + SECTOR_BYTES] for first in range(0, len(content), SECTOR_BYTES)]
        assert all(len(set(sector)) == 1 for sector in sectors)
        seen.add(b"".join(sector[:1] for sector in sectors))

    assert {b"000", b"121", b"020", b"100", b"001", b"011", b"010"} <= seen
    assert not seen & {b"200", b"002"}


def test_a_name_is_lost_without_a_sync_of_its_directory() -> None:
    disk = disk_with(b"old")
    handle = disk.open(f"{ROOT}/aside", "create")
    disk.pwritev(handle, [b"new"], 0)
    disk.sync(handle)
    disk.rename(f"{ROOT}/aside", PATH)
    assert read(disk) == b"new"

    disk.cut_power("unsynced")

    assert disk.list(ROOT) == ["file"]
    assert read(disk) == b"old"


def test_a_directory_that_was_not_synced_takes_its_files_along() -> None:
    disk = disk_with(b"old")
    disk.make_directory(f"{ROOT}/inner")
    disk.close(disk.open(f"{ROOT}/inner/file", "create"))
    disk.sync_directory(f"{ROOT}/inner")

    disk.cut_power("unsynced")

    assert disk.list(ROOT) == ["file"]


def test_an_ended_process_loses_nothing_but_a_later_power_cut_still_does() -> None:
    disk = disk_with(b"old")
    disk.pwritev(disk.open(PATH, "write"), [b"new"], 0)

    disk.kill()
    after_kill = read(disk)
    disk.cut_power("unsynced")

    assert after_kill == b"new"
    assert read(disk) == b"old"


def test_a_failed_flush_is_final_for_what_it_covered() -> None:
    disk = disk_with(b"old")
    handle = disk.open(PATH, "write")
    disk.pwritev(handle, [b"new"], 0)
    disk.failing = True
    with pytest.raises(OSError, match="input/output error"):
        disk.sync(handle)

    disk.sync(handle)
    disk.cut_power("unsynced")

    assert read(disk) == b"old"


def test_a_flush_beside_other_calls_covers_what_was_written_when_it_began() -> None:
    disk = disk_with(bytes(2 * SECTOR_BYTES))
    handle = disk.open(PATH, "write")
    disk.pwritev(handle, [b"a" * SECTOR_BYTES], 0)
    begun = disk.begin_sync(handle)
    disk.pwritev(handle, [b"b" * SECTOR_BYTES], SECTOR_BYTES)
    disk.end_sync(begun)

    disk.cut_power("unsynced")

    assert read(disk) == b"a" * SECTOR_BYTES + bytes(SECTOR_BYTES)


def test_power_fails_in_the_middle_of_a_call_and_then_nothing_works_any_more() -> None:
    disk = disk_with(b"old")
    handle = disk.open(PATH, "write")
    disk.cut_at = disk.calls + 1

    with pytest.raises(PowerCut):
        disk.pwritev(handle, [b"new"], 0)
    with pytest.raises(PowerCut):
        disk.size(handle)
    disk.cut_power("unsynced")

    assert read(disk) == b"old"


def test_a_full_disk_takes_no_growth_but_overwrites() -> None:
    disk = disk_with(b"old")
    handle = disk.open(PATH, "write")
    disk.full = True

    disk.pwritev(handle, [b"new"], 0)
    with pytest.raises(OSError, match="no space left"):
        disk.pwritev(handle, [b"longer"], 0)

    assert read(disk) == b"new"


def test_a_turned_bit_stays_until_it_is_put_back_or_written_over() -> None:
    disk = disk_with(b"aaaa")

    disk.flip(PATH, 1)
    disk.flip(PATH, 2)
    disk.pwritev(disk.open(PATH, "write", dsync=True), [b"b"], 2)
    turned = read(disk)
    disk.put_back()

    assert turned == b"a`ba"
    assert read(disk) == b"aaba"


def test_only_places_that_a_later_durable_write_follows_count_as_old() -> None:
    disk = disk_with(b"first")
    handle = disk.open(PATH, "write", dsync=True)
    disk.pwritev(handle, [b"second"], 5)

    places = disk.old_places(ROOT)

    assert [(place.offset, place.length) for place in places] == [(0, 5)]


def test_one_owner_holds_the_lock_until_its_process_ends() -> None:
    disk = disk_with(b"")
    disk.lock(f"{ROOT}/lock", b"1")
    with pytest.raises(BlockingIOError):
        disk.lock(f"{ROOT}/lock", b"2")

    disk.kill()

    assert disk.lock(f"{ROOT}/lock", b"2") > 0
