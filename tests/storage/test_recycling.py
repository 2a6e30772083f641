"""Does the log stay small, and is nothing forgotten, when its segments are used again?"""

import pytest
from storage_lab import Lab, forgotten

from aegis_replication.errors import CorruptRecord
from aegis_replication.log import EntryId, HardState, LogWrite
from aegis_replication.storage import records
from aegis_replication.storage.live import LiveRecords
from aegis_replication.storage.recycling import Recycler
from aegis_replication.storage.segments import FILL_STEP_BYTES

MIB = 1024 * 1024


def test_a_quiet_groups_vote_and_entries_outlive_their_segment(lab: Lab) -> None:
    keep_one_group_quiet(lab)

    found = lab.restart()[5]

    assert found.hard_state == HardState(9, "n3")
    assert found.entries == list(lab.entries(1, 4, term=8, group=5))


def keep_one_group_quiet(lab: Lab) -> None:
    """Group 5 votes and writes three entries; then group 1 alone writes through many segments."""
    lab.start()
    lab.write(lab.append(1, 4, term=8, group=5), lab.vote(9, "n3", group=5))
    for first in range(1, 1500, 10):
        lab.write(lab.append(first, first + 10, size=300))
        if first % 50 == 1:
            lab.write(forgotten(lab, first + 9))
        lab.maintain()
    assert lab.storage._wal.chain[0] > 1, "the first segment is still there"


def test_mutant_recycle_without_carrying_the_vote(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(self: Recycler, oldest: int, group: int, of: object) -> int:
        self._wal.live._lose(*of.hard_place)  # type: ignore[attr-defined]
        of.hard_place = (0, 0)  # type: ignore[attr-defined]
        return 0

    monkeypatch.setattr(Recycler, "_carry_hard_state", forget)
    keep_one_group_quiet(lab)

    assert lab.restart()[5].hard_state == HardState(), "the mutant shows no difference"


def test_carried_entries_meet_those_written_since(lab: Lab) -> None:
    """Entries 1 to 3 are carried behind 4 to 9: reading the log back puts them where they belong."""
    lab.start()
    lab.write(lab.append(1, 4, group=5))
    expected = list(lab.entries(1, 4, group=5))
    for first in range(1, 1500, 10):
        lab.write(lab.append(first, first + 10, size=300))
        lab.write(forgotten(lab, first + 9))
        lab.maintain()
        if first in (201, 501, 801):
            lab.write(lab.append(len(expected) + 1, len(expected) + 3, term=first, group=5))
            expected += lab.entries(len(expected) + 1, len(expected) + 3, first, 5)
        if first == 1001:  # a later leader's entries take the place of some of them
            del expected[4:]
            lab.write(lab.append(5, 7, term=first, group=5))
            expected += lab.entries(5, 7, first, 5)

    assert lab.restart()[5].entries == expected


def test_a_log_start_carried_forward_does_not_undo_what_came_after(lab: Lab) -> None:
    lab.start()
    lab.write(lab.vote(6, group=5), lab.append(1, 9, term=2, group=5))
    meta = lab.save(20, 6, 5)
    lab.write(LogWrite(5, 2, entries=lab.entries(21, 24, 6, 5), snapshot=meta, reset=True))
    for first in range(1, 1500, 10):
        lab.write(lab.append(first, first + 10, size=300))
        lab.write(forgotten(lab, first + 9))
        lab.maintain()
    assert lab.storage._wal.chain[0] > 1

    found = lab.restart()[5]

    assert (found.hard_state, found.base, found.snapshot) == (HardState(6), EntryId(6, 20), meta)
    assert found.entries == list(lab.entries(21, 24, 6, 5))


def test_a_thousand_groups_of_which_ten_write_keep_the_log_small() -> None:
    lab = Lab(segment_bytes=MIB)
    lab.start()
    for group in range(1000):
        lab.write(lab.vote(2, f"n{group % 3}", group), lab.append(1, 3, 2, group, size=600))
    last = dict.fromkeys(range(10), 2)
    most = 0
    for round_ in range(400):
        for group in range(10):
            first = last[group] + 1
            lab.write(lab.append(first, first + 2, 2, group, size=4000), durable=False)
            last[group] += 2
        lab.storage.flush()
        if round_ % 20 == 19:
            for group in range(10):
                lab.write(forgotten(lab, last[group], group, term=2))
        for _ in range(20):
            lab.storage.maintain()
        stats = lab.storage.stats()
        log_bytes = stats.segments * MIB
        assert log_bytes <= 2 * lab.storage._wal.live.total_bytes + 4 * MIB, f"round {round_}: {stats}"
        most = max(most, stats.segments)
    assert most < 16, f"{most} segments for {lab.storage._wal.live.total_bytes} needed bytes"

    found = lab.restart()

    assert len(found) == 1000
    for group in range(10, 1000):
        assert found[group].hard_state == HardState(2, f"n{group % 3}")
        assert found[group].entries == list(lab.entries(1, 3, 2, group, size=600))


def test_segments_are_prepared_ahead_and_used_again(lab: Lab) -> None:
    lab.start()
    lab.maintain()
    assert lab.disk.list(lab.log) == ["0000000001.wal", "0000000002.wal", "reserve"]

    for first in range(1, 2000, 10):
        lab.write(lab.append(first, first + 10, size=300))
        lab.write(forgotten(lab, first + 9))
        lab.maintain()

    names = lab.disk.list(lab.log)
    assert 4 <= len(names) <= 5, names
    assert lab.storage._wal.current.id > 8


def test_writing_does_not_wait_for_housekeeping(lab: Lab) -> None:
    lab.start()

    lab.write(lab.append(1, 1000, size=300))

    assert lab.storage._wal.current.id > 4
    assert lab.restart()[1].entries == list(lab.entries(1, 1000, size=300))


def test_a_damaged_record_is_not_carried_forward(lab: Lab) -> None:
    lab.start()
    lab.write(lab.append(1, 4, term=8, group=5))
    lab.disk.flip(lab.segment_path(1), 4096 + 100)

    with pytest.raises(CorruptRecord, match=r"0000000001\.wal: damaged at byte 4096.*entry 1 of group 5"):
        write_through_segments(lab)


def write_through_segments(lab: Lab) -> None:
    for first in range(1, 1500, 10):
        lab.write(lab.append(first, first + 10, size=300))
        lab.write(forgotten(lab, first + 9))
        lab.maintain()


def test_a_record_of_an_earlier_life_is_never_believed() -> None:
    seed, frame = 5, Lab.entry(1).frame
    header, _ = records.pack_header(seed, records.position_of(3, 4096), 1, 0, 0, 0, frame, 1)
    data = bytes(4096) + header + frame + bytes(100)

    assert records.read_header(seed, 3, data, 4096) is not None
    assert records.read_header(seed, 7, data, 4096) is None
    assert records.read_header(seed, 3, bytes(16) + data, 4112) is None
    assert records.later_headers(seed, 7, data, 0) == []


def test_mutant_no_check_of_segment_and_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "is_at_home", lambda *places: True)

    with pytest.raises(AssertionError):
        test_a_record_of_an_earlier_life_is_never_believed()


def test_the_account_of_needed_bytes_adds_up(lab: Lab) -> None:
    """Whatever is written, replaced, given up and carried: the account equals one made anew from the log itself."""
    lab.start()
    for first in range(1, 800, 10):
        group = first % 3
        last = lab.storage._wal.live.of(group).last_index
        start = max(last - first % 4, lab.storage._wal.live.of(group).base.index) + 1
        lab.write(lab.vote(first, "n1", group), lab.append(start, start + 10, first, group, size=250))
        if first % 70 == 1:
            lab.write(forgotten(lab, start + 4, group, term=first))
        lab.maintain()
        live = lab.storage._wal.live
        assert sum(live.by_segment.values()) == live.total_bytes
        assert live.total_bytes == needed_bytes(live), f"after {first}"

    before = lab.storage._wal.live
    lab.restart()

    after = lab.storage._wal.live
    assert (after.total_bytes, after.by_segment) == (before.total_bytes, before.by_segment)
    for group, of in before.groups.items():
        assert (of.places, of.terms, of.base) == (after.of(group).places, after.of(group).terms, after.of(group).base)


def needed_bytes(live: LiveRecords) -> int:
    return sum(of.hard_place[1] + of.base_place[1] + sum(of.sizes) for of in live.groups.values())


def test_the_next_segment_is_filled_a_little_ahead_of_the_writer_not_all_at_once() -> None:
    lab = Lab(segment_bytes=4 * FILL_STEP_BYTES)
    lab.start()
    wal = lab.storage._wal
    filled = []

    for first in range(1, 460, 10):
        lab.write(lab.append(first, first + 10, size=2_000))
        lab.maintain()
        filled.append((wal.used_bytes, wal.segments.filled_bytes, len(wal.room.ready)))

    early = [size for used, size, _ in filled if used < FILL_STEP_BYTES // 2]
    assert early
    assert max(early) <= 2 * FILL_STEP_BYTES
    assert filled[-1][2] == 1, f"no segment is ready when the current one is nearly full: {filled[-1]}"
