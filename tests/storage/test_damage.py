"""Are bytes that were good once and aren't any more found, named, kept, and never mistaken for a torn tail?"""

from random import Random

import pytest
from storage_lab import Lab, copy_of, forgotten

from aegis_replication.errors import CorruptRecord
from aegis_replication.log import RecoveredGroup
from aegis_replication.storage import recovery
from aegis_replication.storage.inspection import DAMAGE, Inspection
from aegis_replication.storage.memory import MemoryFiles


def lived_in() -> tuple[Lab, list[tuple[int, int, int]]]:
    """A stopped node with every kind of record in two segments, and (segment, offset, bytes) of each record."""
    lab = Lab(memory=MemoryFiles())
    lab.start()
    for first in range(1, 300, 10):
        lab.write(lab.vote(first, "n2"), lab.append(first, first + 10, term=first, size=first))
        if first == 101:
            lab.write(forgotten(lab, 60, term=51))
        if first % 3 == 0:
            lab.storage.mark()
        lab.maintain()
    lab.storage.close()
    with Inspection(lab.path, files=lab.files) as inspection:
        places = [(*map(int, record.position.split(":")), record.bytes) for record in inspection.records()]
    assert places[-1][0] == 2, "the log has one segment only"
    return lab, places


def test_a_flipped_bit_in_any_record_is_put_right_or_of_a_known_entry() -> None:
    lab, places = lived_in()
    truth = Lab(memory=copy_of(lab.files)).start()[1]
    random = Random(5)

    for segment, offset, size in places[:-1]:  # the last is the mark of the clean stop: nothing was promised after it
        at, bit = offset + random.randrange(size), random.randrange(8)
        damaged = copy_of(lab.files)
        path = lab.segment_path(segment)
        damaged._files[path][at] ^= 1 << bit

        found = Lab(memory=damaged).start()[1]

        assert_true_except_for_damage(found, truth)


def assert_true_except_for_damage(found: RecoveredGroup, truth: RecoveredGroup) -> None:
    """Every entry is there; one that isn't as it was is known to be damaged, and who it is is right."""
    assert (found.hard_state, found.base, found.snapshot) == (truth.hard_state, truth.base, truth.snapshot)
    assert [entry.id for entry in found.entries] == [entry.id for entry in truth.entries]
    for entry, right in zip(found.entries, truth.entries, strict=True):
        assert entry == right or (entry.index in found.damaged and entry.frame[:44] == right.frame[:44])


@pytest.mark.parametrize("size", [512, 4096])
def test_a_zeroed_piece_of_the_middle_is_damage(size: int) -> None:
    lab, places = lived_in()
    segment, offset, _ = places[len(places) // 2]
    path = lab.segment_path(segment)
    damaged = copy_of(lab.files)
    begin = offset // size * size
    damaged._files[path][begin : begin + size] = bytes(size)

    with pytest.raises(CorruptRecord, match="was flushed") as caught:
        Lab(memory=damaged).start()

    assert caught.value.path == path
    assert begin - 2000 < caught.value.offset < begin + size


def test_damage_of_the_last_batch_is_known_once_the_log_is_marked(lab: Lab) -> None:
    lab.start()
    lab.write(lab.append(1, 3))
    last = lab.storage._wal.end
    lab.write(lab.append(3, 4))
    lab.storage.mark()
    lab.disk.kill()
    for bit in (1, 5):
        lab.disk.flip(lab.segment_path(1), (last & 0xFFFF_FFFF) + 90 + bit, bit)

    found = lab.start()[1]

    assert found.damaged == (3,)
    assert [entry.index for entry in found.entries] == [1, 2, 3]


def test_mutant_the_log_ends_at_the_first_bad_record(monkeypatch: pytest.MonkeyPatch) -> None:
    lab, places = lived_in()
    segment, offset, _ = places[40]
    lab.files._files[lab.segment_path(segment)][offset + 50] ^= 1
    monkeypatch.setattr(recovery, "is_damage", lambda end, leftovers: None)

    lost = Lab(memory=lab.files).start()

    assert len(lost[1].entries) < 200, "the mutant shows no difference"


def test_a_missing_segment_is_named() -> None:
    for gone in (1, 2):
        lab, _ = lived_in()
        lab.files.unlink(lab.segment_path(gone))

        with pytest.raises(CorruptRecord, match=rf"000000000{gone}\.wal.*no such file"):
            lab.start()


def test_a_shortened_segment_is_named() -> None:
    lab, _ = lived_in()
    del lab.files._files[lab.segment_path(1)][60_000:]

    with pytest.raises(CorruptRecord, match=r"0000000001\.wal.*a file of 65536 bytes.*60000 bytes"):
        lab.start()


def test_a_segment_that_stands_in_for_another_is_named() -> None:
    lab, _ = lived_in()
    lab.files._files[lab.segment_path(2)] = bytearray(lab.read(lab.segment_path(1)))

    with pytest.raises(CorruptRecord, match=r"0000000002\.wal.*header of segment 2.*that of segment 1"):
        lab.start()


@pytest.mark.parametrize("at", [0, 9, 13, 20, 36, 41, 511])
def test_a_damaged_segment_header_is_made_anew_when_the_first_record_proves_whose_it_is(at: int) -> None:
    lab, _ = lived_in()
    path = lab.segment_path(1)
    truth, right = Lab(memory=copy_of(lab.files)).start(), lab.read(path)[:512]
    lab.files._files[path][at] ^= 64
    with Inspection(lab.path, files=lab.files) as inspection:
        named = [(finding.severity, finding.path) for finding in inspection.verify()]

    found = lab.start()

    assert named == [(DAMAGE, path)]
    assert found == truth
    assert lab.read(path)[:512] == right
    assert len(lab.storage.notes) == 1
    assert f"{path}: put right at byte " in lab.storage.notes[0]


def test_a_damaged_segment_header_before_no_record_of_this_place_is_named() -> None:
    lab, _ = lived_in()
    lab.files._files[lab.segment_path(1)][20] ^= 64
    lab.files._files[lab.segment_path(1)][4100:4130] = bytes(30)
    before = copy_of(lab.files)._files

    with pytest.raises(CorruptRecord) as caught:
        lab.start()

    assert (caught.value.path, caught.value.offset) == (lab.segment_path(1), 0)
    assert lab.files._files == before


def test_a_client_can_not_forge_a_record_inside_a_value(lab: Lab) -> None:
    """Checksums begin with the directory's secret, so bytes that look like a record of this place aren't one."""
    lab.start()
    lab.write(lab.append(1, 2))
    real = lab.read(lab.segment_path(1))
    stranger = Lab(memory=MemoryFiles())
    stranger.identity = lab.identity.__class__("lab", "n1", 77)
    stranger.start()
    stranger.write(stranger.append(1, 2))
    forged = stranger.read(stranger.segment_path(1))
    assert forged[4096:5000] != real[4096:5000]

    lab.storage.close()
    lab.overwrite(lab.segment_path(1), 4096, forged[4096:5000])

    assert lab.start() == {}, "a record of another directory was believed"
