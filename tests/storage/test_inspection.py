"""Does a look into a stopped node's directory show all of it, name what is wrong, and change nothing?"""

import pytest
from storage_lab import Lab, copy_of

from aegis_replication.errors import CorruptRecord, StorageError
from aegis_replication.log import Kind, LogWrite
from aegis_replication.storage.inspection import Finding, Inspection
from aegis_replication.storage.memory import MemoryFiles


def stopped() -> Lab:
    lab = Lab(memory=MemoryFiles())
    lab.start()
    lab.write(lab.vote(3, "n2"), lab.append(1, 4, 3), lab.vote(1, None, group=7))
    lab.write(LogWrite(1, 2, snapshot=lab.save(2, 3, pieces=[b"a", b"b"]), forget_below=2))
    lab.storage.close()
    return lab


def test_records_are_shown_in_order_with_their_places() -> None:
    lab = stopped()

    with Inspection(lab.path, files=lab.files) as inspection:
        shown = list(inspection.records())

    assert [record.type for record in shown] == ["hard_state", "frame", "frame", "frame", "hard_state", "base", "mark"]
    vote, first, base = shown[0], shown[1], shown[5]
    assert (vote.position, vote.group, vote.term, vote.detail) == ("1:4096", 1, 3, "voted for n2")
    assert (first.group, first.term, first.index, first.kind, first.count) == (1, 3, 1, Kind.COMMANDS.name.lower(), 1)
    assert (base.term, base.index, base.detail) == (3, 1, "snapshot 3:2")
    offset = 4096
    for record in shown:
        assert record.position == f"1:{offset}"
        offset += record.bytes
    assert shown[-1].flushed_before == shown[-1].position


def test_a_directory_that_is_well_has_no_findings_and_is_not_touched() -> None:
    lab = stopped()
    before = copy_of(lab.files)._files

    with Inspection(lab.path, files=lab.files) as inspection:
        findings = inspection.verify()
        snapshots = inspection.snapshots()
        pieces = list(inspection.pieces(snapshots[0]))

    assert findings == []
    assert [(view.group, view.meta, view.piece_count) for view in snapshots] == [(1, lab.meta(2, 3), 2)]
    assert pieces == [b"a", b"b"]
    assert lab.files._files == before


def test_damage_and_torn_tails_are_told_apart() -> None:
    lab = stopped()
    path = lab.segment_path(1)
    lab.files._files[path][4200] ^= 1

    assert [(finding.severity, finding.path) for finding in verify(lab)] == [("damage", path)]

    lab.files._files[path][4200] ^= 1
    lab.start()
    lab.write(lab.append(4, 6, 3, size=2000), durable=False)
    end = lab.storage._wal.end & 0xFFFF_FFFF
    torn = Lab(memory=copy_of(lab.files))
    torn.files._files[path][end - 4000 : end - 3900] = bytes(100)
    before = copy_of(torn.files)._files

    found = verify(torn)

    assert [finding.severity for finding in found] == ["torn"]
    assert "2 records of unfinished writes" in found[0].message
    assert torn.files._files == before


def test_every_damaged_part_is_found() -> None:
    lab = stopped()
    snapshot = f"{lab.path}/snapshots/1-3-2.snap"
    lab.files._files[snapshot][-40] ^= 1
    lab.files.unlink(lab.segment_path(1))

    found = verify(lab)

    assert {finding.path for finding in found} == {snapshot, lab.segment_path(1)}
    assert all(finding.severity == "damage" for finding in found)


def test_a_damaged_identity_or_none_is_an_error() -> None:
    lab = stopped()
    lab.files._files[f"{lab.path}/identity"][3] ^= 1
    with pytest.raises(CorruptRecord, match="identity"):
        verify(lab)

    lab.files.unlink(f"{lab.path}/identity")
    with pytest.raises(StorageError, match="isn't the data directory of a node"):
        verify(lab)


def test_a_copy_without_its_lock_file_can_be_looked_at() -> None:
    lab = stopped()
    lab.files.unlink(f"{lab.path}/lock")

    assert verify(lab) == []
    assert f"{lab.path}/lock" not in lab.files._files


def verify(lab: Lab) -> list[Finding]:
    with Inspection(lab.path, files=lab.files) as inspection:
        return inspection.verify()
