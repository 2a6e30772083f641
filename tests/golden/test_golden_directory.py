"""Do data directories that were made with each format version so far still open, and hold what they held?"""

import json
import shutil
import sys
from pathlib import Path

import pytest

from aegis_replication.log import EntryId, Kind, LogWrite, make_entry
from aegis_replication.storage.base import FORMAT_VERSION
from aegis_replication.storage.directory import DirectoryStorage
from aegis_replication.storage.inspection import Inspection

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from make_directory import IDENTITY, show  # noqa: E402

VERSIONS = sorted(HERE.glob("directory-*[0-9]"))


def test_there_is_one_for_every_format_version() -> None:
    assert [path.name for path in VERSIONS] == [f"directory-{version}" for version in range(1, FORMAT_VERSION + 1)]


@pytest.mark.parametrize("golden", VERSIONS, ids=lambda path: path.name)
def test_a_golden_directory_opens_and_holds_what_it_held(golden: Path, tmp_path: Path) -> None:
    expected = json.loads(golden.with_suffix(".json").read_text())
    data = tmp_path / "data"
    shutil.copytree(golden, data)

    storage = DirectoryStorage.open(data, IDENTITY)
    found = storage.recover()

    assert {str(group): show(of) for group, of in found.items()} == expected
    assert storage.identity == IDENTITY
    assert list(storage.snapshots.chunks(9, EntryId(9, 50))) == [b"first piece", b"second piece of 50"]

    last = found[1].entries[-1].index
    storage.write([LogWrite(1, 1, entries=(make_entry(1, 999, last + 1, Kind.NO_OP, b""),))], durable=True)
    while storage.maintain():
        pass
    storage.close()
    with Inspection(data) as inspection:
        assert inspection.verify() == []
        written = [record for record in inspection.records() if record.type == "frame" and not record.carried]
        assert written[-1].term == 999  # behind it stands only what housekeeping wrote anew


@pytest.mark.parametrize("golden", VERSIONS, ids=lambda path: path.name)
def test_a_golden_directory_has_every_kind_of_record(golden: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(golden, data)

    with Inspection(data) as inspection:
        records = list(inspection.records())
        findings = inspection.verify()

    assert {record.type for record in records} == {"frame", "hard_state", "base", "mark", "first", "end"}
    assert {record.kind for record in records} >= {"commands", "no_op", "configuration", "control"}
    assert any(record.carried for record in records)
    assert [finding.severity for finding in findings] == ["torn"]
