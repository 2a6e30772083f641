"""Is an unfinished last write cut off, whole and for good, wherever it broke and whatever lies behind it?"""

from collections.abc import Callable
from random import Random

import pytest
from storage_lab import Lab, copy_of, forgotten

from aegis_replication.log import NOTHING, HardState, RecoveredGroup
from aegis_replication.storage import records, recovery
from aegis_replication.storage.memory import MemoryFiles
from aegis_replication.storage.segments import SegmentFiles
from aegis_replication.storage.wal import Wal


def nothing_behind(lab: Lab) -> None:
    """Zeros, as a segment is filled ahead."""


def garbage_behind(lab: Lab) -> None:
    end = lab.storage._wal.end
    lab.overwrite(lab.segment_path(end >> 32), end & 0xFFFF_FFFF, Random(7).randbytes(2000))


def earlier_life_behind(lab: Lab) -> None:
    """The records of a segment that is used again."""
    lab.write(lab.append(1, 100, group=9))
    first = 100
    while lab.storage._wal.current.id < 4 or lab.storage._wal.end & 0xFFFF_FFFF > 20_000:
        lab.write(lab.append(first, first + 20, group=9))
        lab.write(forgotten(lab, first + 19, group=9))
        lab.maintain()
        first += 20
    end = lab.storage._wal.end
    left_over = lab.read(lab.segment_path(end >> 32))[end & 0xFFFF_FFFF :]
    assert left_over.count(b"9:1:") > 100, "the segment wasn't used before"


@pytest.mark.parametrize("behind", [nothing_behind, garbage_behind, earlier_life_behind])
def test_a_write_torn_at_any_byte_leaves_its_whole_records(behind: Callable[[Lab], None]) -> None:
    lab = Lab(memory=MemoryFiles())
    lab.start()
    behind(lab)
    lab.write(lab.vote(3, "n2"), lab.append(1, 4, term=3))
    before, start = copy_of(lab.files), lab.storage._wal.end
    lab.write(lab.vote(4, "n1"), lab.append(4, 6, term=4))
    path, end = lab.segment_path(start >> 32), lab.storage._wal.end & 0xFFFF_FFFF
    written = lab.read(path)
    after_vote = (start & 0xFFFF_FFFF) + records.record_bytes(len(records.encode_body([1, 4, "n1"])))
    ends = [after_vote, (after_vote + end) // 2, end]  # both entries are equally long

    for after in range(start & 0xFFFF_FFFF, end):
        torn = copy_of(before)
        torn._files[path][:after] = written[:after]
        whole = sum(torn._files[path][:at] == written[:at] for at in ends)
        node = Lab(memory=torn)
        found = node.start()[1]

        state = HardState(4, "n1") if whole else HardState(3, "n2")
        entries = [*node.entries(1, 4, 3), *node.entries(4, 4 + max(whole - 1, 0), 4)]
        assert found == RecoveredGroup(state, NOTHING, entries), f"torn at {after}"

        node.write(node.append(len(entries) + 1, len(entries) + 3, 5))
        entries += node.entries(len(entries) + 1, len(entries) + 3, 5)
        assert node.restart()[1].entries == entries, f"torn at {after}, then written to"


def test_records_behind_a_lost_one_are_not_taken_for_proof_of_damage(lab: Lab) -> None:
    """Unflushed writes reach the disk in any order: that a valid record follows says nothing."""
    assert lose_the_middle(lab) == list(lab.entries(1, 3))


def lose_the_middle(lab: Lab) -> list[object]:
    """Entries 1, 2 acknowledged; 3, 4, 5 written and never flushed; of these 3 is lost and 4, 5 reach the disk."""
    lab.start()
    lab.write(lab.append(1, 3))
    lost_at = lab.storage._wal.end
    lab.write(lab.append(3, 4, size=1000), durable=False)
    lab.write(lab.append(4, 6, size=1000), durable=False)
    lab.disk.kill()
    lab.overwrite(lab.segment_path(lost_at >> 32), lost_at & 0xFFFF_FFFF, bytes(512))
    return list(lab.start()[1].entries)


def test_mutant_damage_decided_by_a_valid_record_that_follows(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "is_damage", lambda end, leftovers: leftovers[0] if leftovers else None)

    with pytest.raises(Exception, match="damaged"):
        lose_the_middle(lab)


def cut_and_write_the_same_again(lab: Lab) -> HardState:
    """A torn batch loses its first record and keeps its second, an old vote; then the first is written again."""
    lose = lab.append(3, 4, size=1000)
    lab.start()
    lab.write(lab.append(1, 3))
    lost_at = lab.storage._wal.end
    lab.write(lose, lab.vote(7, "n3"), durable=False)
    lab.disk.kill()
    lab.overwrite(lab.segment_path(lost_at >> 32), lost_at & 0xFFFF_FFFF, bytes(512))
    lab.start()
    lab.write(lose)  # a leader sends the same entry again: byte for byte the record that was lost
    lab.disk.kill()
    return lab.start()[1].hard_state


def test_what_was_cut_off_never_comes_back(lab: Lab) -> None:
    assert cut_and_write_the_same_again(lab) == HardState()


def test_mutant_the_cut_tail_is_left_in_place(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wal, "_cut_tail", lambda self, chain: None)

    assert cut_and_write_the_same_again(lab) == HardState(7, "n3"), "the mutant shows no difference"


def test_a_torn_write_over_a_segments_end_is_cut_in_both() -> None:
    for seed in range(30):
        lab = Lab(seed)
        lab.start()
        lab.write(lab.append(1, 100, size=400))
        lab.write(lab.append(100, 130, size=400), durable=False)  # passes the end of segment 1
        assert lab.storage._wal.current.id == 2
        lab.lose_power("some")

        found = lab.start()[1].entries
        assert found[:99] == list(lab.entries(1, 100, size=400))
        assert found == list(lab.entries(1, len(found) + 1, size=400))
        lab.write(lab.append(len(found) + 1, 140, term=2, size=400))
        assert lab.restart()[1].entries == [*found, *lab.entries(len(found) + 1, 140, 2, size=400)], f"seed {seed}"


def test_what_a_killed_process_left_in_memory_is_durable_before_it_counts(lab: Lab) -> None:
    """After a kill without a power cut the log is read from the page cache; what is then promised must be on disk."""
    lab.start()
    lab.write(lab.append(1, 10), durable=False)
    lab.disk.kill()

    promised = lab.start()[1].entries
    lab.lose_power("unsynced")

    assert lab.start()[1].entries == promised


def test_mutant_a_recovered_log_is_not_flushed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.start()
    lab.write(lab.append(1, 10), durable=False)
    lab.disk.kill()
    load = SegmentFiles.load
    monkeypatch.setattr(SegmentFiles, "load", lambda self, segment: load(self, segment, read_only=True))

    promised = lab.start()[1].entries
    lab.lose_power("unsynced")

    assert promised
    assert lab.start() == {}, "the mutant shows no difference"


def test_a_record_follows_only_the_one_it_was_written_after() -> None:
    """Another write of the same length in a record's place: what followed the first doesn't follow the second."""
    assert splice_two_lives() == [1, 2]


def splice_two_lives() -> list[int]:
    """Two nodes with the same past; the third record of one stands between the second and fourth of the other."""
    images = []
    for term in (1, 2):
        lab = Lab(memory=MemoryFiles())
        lab.start()
        lab.write(lab.append(1, 2), durable=False)
        start = lab.storage._wal.end & 0xFFFF_FFFF
        lab.write(lab.append(2, 3, term), durable=False)
        after = lab.storage._wal.end & 0xFFFF_FFFF
        lab.write(lab.append(3, 4, term), durable=False)
        images.append(lab)
    one, other = images
    one.files._files[one.segment_path(1)][start:after] = other.read(other.segment_path(1))[start:after]
    node = Lab(memory=copy_of(one.files))
    return [entry.index for entry in node.start()[1].entries]


def test_mutant_no_checksum_of_the_previous_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "follows", lambda header, previous: True)

    assert splice_two_lives() == [1, 2, 3], "the mutant shows no difference"


def test_a_chain_needs_the_segment_that_it_goes_on_in(lab: Lab) -> None:
    lab.start()
    lab.write(lab.append(1, 200, size=400))
    lab.storage.close()
    lab.disk.unlink(lab.segment_path(2))

    with pytest.raises(Exception, match=r"0000000002\.wal.*no such file"):
        lab.start()
