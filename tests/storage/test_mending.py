"""Is a damaged record ever taken for something else? Each byte of a small log, and larger pieces of it."""

from collections.abc import Iterator
from random import Random
from zlib import crc32

import pytest
from storage_lab import Lab, copy_of, forgotten

from aegis_replication.errors import StorageError
from aegis_replication.log import Kind, LogWrite, RecoveredGroup
from aegis_replication.simulation.mutants.mutant import instead
from aegis_replication.storage import mending
from aegis_replication.storage.inspection import DAMAGE, HEALED, Inspection
from aegis_replication.storage.memory import MemoryFiles
from aegis_replication.storage.recovery import Chain


def small_log() -> tuple[Lab, dict[int, RecoveredGroup], int]:
    """A stopped node, what its log holds, and where it ends."""
    lab = Lab(memory=MemoryFiles())
    lab.start()
    configuration = lab.entry(1, kind=Kind.CONFIGURATION, size=30)
    lab.write(lab.vote(1, "n1"), LogWrite(1, 1, entries=(configuration,)))
    lab.write(lab.append(2, 4, size=20))
    lab.write(lab.vote(3, "n2"), lab.append(3, 6, term=3, size=50), lab.vote(2, "n1", group=2))
    lab.write(lab.append(1, 3, term=2, group=2, size=7))
    lab.write(forgotten(lab, 2, term=1))
    lab.write(lab.append(6, 8, term=3, size=90))
    lab.storage.mark()
    end = lab.storage._wal.end & 0xFFFF_FFFF
    lab.write(lab.append(8, 9, term=3, size=30))  # covered by nothing: damage of it is like a torn write
    lab.disk.kill()
    truth = Lab(memory=copy_of(lab.files)).start()
    return lab, truth, end


def damaged_copies(lab: Lab, end: int, random: Random) -> Iterator[tuple[MemoryFiles, str]]:
    """The log with each of its bytes changed, in one bit or in any."""
    path = lab.segment_path(1)
    for at in range(4096, end):
        change = random.choice((1 << random.randrange(8), random.randrange(1, 256)))
        copy = copy_of(lab.files)
        copy._files[path][at] ^= change
        yield copy, f"byte {at} by {change:02x}"


def start(files: MemoryFiles) -> tuple[dict[int, RecoveredGroup], str]:
    """What a node begins with, or why it doesn't."""
    try:
        return Lab(memory=files).start(), ""
    except StorageError as error:
        return {}, str(error)


def is_true(found: dict[int, RecoveredGroup], truth: dict[int, RecoveredGroup]) -> bool:
    """Is all there, and what isn't as it was known to be so, its head right?"""
    for group, right in truth.items():
        has = found.get(group)
        if has is None or (has.hard_state, has.base, has.snapshot) != (right.hard_state, right.base, right.snapshot):
            return False
        if [entry.id for entry in has.entries] != [entry.id for entry in right.entries]:
            return False
        pairs = zip(has.entries, right.entries, strict=True)
        if not all(one == two or (one.index in has.damaged and one.frame[:44] == two.frame[:44]) for one, two in pairs):
            return False
    return True


def test_any_single_damaged_byte_is_put_right_known_or_refused_by_name() -> None:
    lab, truth, end = small_log()
    random = Random(3)
    put_right = known = refused = 0

    for files, what in damaged_copies(lab, end, random):
        before = copy_of(files)._files
        found, why_not = start(files)
        if why_not:
            assert lab.segment_path(1) in why_not, what
            assert files._files == before, f"{what}: refused, and changed"
            refused += 1
            continue
        assert is_true(found, truth), what
        known += any(group.damaged for group in found.values())
        put_right += not any(group.damaged for group in found.values())

    # All bits of a byte, where only a checksum of all of it is known: in the configuration, and in the base's body.
    assert refused < (end - 4096) // 20, refused
    assert put_right > (end - 4096) // 2, put_right
    assert known > 100, known


def test_what_was_put_right_is_so_on_the_disk() -> None:
    lab, truth, end = small_log()
    random = Random(8)
    path = lab.segment_path(1)

    for at in random.sample(range(4096, end), 60):
        files = copy_of(lab.files)
        files._files[path][at] ^= 1 << random.randrange(8)
        node = Lab(memory=files)
        found = node.start()
        node.storage.close()

        with Inspection(lab.path, files=files) as inspection:
            damage = sum(finding.severity == DAMAGE for finding in inspection.verify())
        assert damage == sum(len(group.damaged) for group in found.values()), f"byte {at}"
        assert is_true(found, truth)


@pytest.mark.parametrize("size", [2, 16, 40, 512])
def test_a_smashed_piece_is_known_or_refused_and_never_believed(size: int) -> None:
    lab, truth, end = small_log()
    random = Random(size)
    path = lab.segment_path(1)
    started = 0

    for at in range(4096, end - size, 13):
        files = copy_of(lab.files)
        files._files[path][at : at + size] = random.choice((bytes(size), random.randbytes(size)))
        found, why_not = start(files)
        if why_not:
            assert "damaged at byte" in why_not
            continue
        assert is_true(found, truth), f"{size} bytes at {at}"
        started += 1

    assert started or size == 512


def test_a_record_whose_header_is_gone_is_told_from_the_entry_behind_it() -> None:
    lab, truth, _ = small_log()
    with Inspection(lab.path, files=lab.files) as inspection:
        frames = [int(each.position.split(":")[1]) for each in inspection.records() if each.type == "frame"]

    for offset in frames[:-1]:
        files = copy_of(lab.files)
        files._files[lab.segment_path(1)][offset : offset + 40] = bytes(40)

        found = Lab(memory=files).start()

        assert found == truth, f"record at {offset}"


def test_repaired_entries_are_whole_after_the_next_start_and_named_as_healed() -> None:
    lab, truth, _ = small_log()
    with Inspection(lab.path, files=lab.files) as inspection:
        view = next(each for each in inspection.records() if each.type == "frame" and each.index == 6)
    offset = int(view.position.split(":")[1])
    lab.files._files[lab.segment_path(1)][offset + 100 : offset + 110] = b"0123456789"
    with Inspection(lab.path, files=lab.files) as inspection:
        assert [(each.severity, each.offset) for each in inspection.verify()] == [(DAMAGE, offset)]
    found = lab.start()[1]
    assert found.damaged == (6,)

    whole = next(entry for entry in truth[1].entries if entry.index == 6)
    lab.write(LogWrite(1, 99, repairs=(whole,)))
    again = lab.restart()[1]

    assert again == truth[1]
    lab.storage.close()
    with Inspection(lab.path, files=lab.files) as inspection:
        assert [(each.severity, each.offset) for each in inspection.verify()] == [(HEALED, offset)]


def test_a_segment_with_a_missing_entry_is_kept_until_it_is_whole() -> None:
    lab = Lab(memory=MemoryFiles(), segment_bytes=16 * 1024)
    lab.start()
    lab.write(lab.vote(1, "n1"), lab.append(1, 3, size=200))
    lab.storage.mark()
    lab.storage.close()
    at = lab.read(lab.segment_path(1)).index(b"1:1:2;") + 20
    lab.files._files[lab.segment_path(1)][at : at + 4] = b"\0\0\0\0"
    right = lab.entry(2, size=200)
    assert lab.start()[1].damaged == (2,)

    for first in range(3, 203, 20):
        lab.write(lab.append(first, first + 20, group=2) if first > 3 else lab.append(1, 23, group=2))
        lab.maintain()
    kept = 1 in lab.storage._wal.chain
    lab.write(LogWrite(1, 9, repairs=(right,)))
    again = lab.restart()[1]

    assert kept
    assert again.damaged == ()
    assert again.entries[1] == right


def test_mutant_a_guess_is_believed_without_its_followers_word(monkeypatch: pytest.MonkeyPatch) -> None:
    lab, truth, _ = small_log()
    at = lab.read(lab.segment_path(1)).index(b"1:3:7;") - 44
    for field in (8, 16):  # of the frame, its term and its index
        lab.files._files[lab.segment_path(1)][at + field] ^= 1
    original = mending._believed

    def believe(seed: int, fields: bytes, body: bytearray, raw_bytes: int, checksum: int) -> object:
        return original(seed, fields, body, raw_bytes, crc32(body[:44], crc32(fields, seed)))

    _, why_not = start(copy_of(lab.files))
    monkeypatch.setattr(mending, "_believed", believe)
    found, _ = start(lab.files)

    assert "damaged at byte" in why_not
    assert not is_true(found, truth), "the mutant shows no difference"


def test_a_chain_without_a_rescue_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    lab, _, end = small_log()
    with instead(Chain, "_rescue", lambda *arguments: None).applied():
        for files, what in list(damaged_copies(lab, end, Random(5)))[::50]:
            with pytest.raises(StorageError, match="damaged at byte"):
                Lab(memory=files).start()
            assert what
