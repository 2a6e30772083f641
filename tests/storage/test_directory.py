"""Whose data directory is it, who may open it, and what is left of a start that was cut short?"""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aegis_replication.errors import (
    CorruptRecord,
    DirectoryInUse,
    IncompatibleVersion,
    StorageError,
    WrongIdentity,
)
from aegis_replication.log import HardState, LogWrite
from aegis_replication.storage.base import FORMAT_VERSION, Identity
from aegis_replication.storage.directory import DirectoryStorage, create_from_snapshots, write_identity
from aegis_replication.storage.files import RealFiles
from aegis_replication.storage.inspection import Inspection
from aegis_replication.storage.segments import pack_segment_header

IDENTITY = Identity("prod", "n1", 0xFEDC_BA98_7654_3210)
SEGMENT = 128 * 1024


def make(path: Path, identity: Identity = IDENTITY) -> None:
    storage = DirectoryStorage.open(path, identity, segment_bytes=SEGMENT)
    storage.recover()
    storage.write([LogWrite(1, 1, HardState(3, "n2"))], durable=True)
    storage.close()


def test_a_directory_keeps_its_first_incarnation(tmp_path: Path) -> None:
    make(tmp_path / "data")

    storage = DirectoryStorage.open(tmp_path / "data", Identity("prod", "n1", 42))

    assert storage.identity == IDENTITY
    assert storage.recover()[1].hard_state == HardState(3, "n2")
    storage.close()


def test_a_directory_made_to_join_remembers_it(tmp_path: Path) -> None:
    """Its node must not begin a cluster of its own, however it is started next."""
    make(tmp_path / "data", Identity("prod", "n1", 42, joins=True))

    storage = DirectoryStorage.open(tmp_path / "data", Identity("prod", "n1", 43))

    assert storage.identity.joins
    storage.close()


def test_a_renewed_directory_opens_with_what_it_held_and_goes_on(tmp_path: Path) -> None:
    make(tmp_path / "data")
    write_identity(RealFiles(), str(tmp_path / "data"), IDENTITY.renewed(42))

    storage = DirectoryStorage.open(tmp_path / "data", segment_bytes=SEGMENT)

    assert storage.identity == Identity("prod", "n1", 42, 2, False, IDENTITY.incarnation)
    assert storage.recover()[1].hard_state == HardState(3, "n2")
    storage.write([LogWrite(1, 2, HardState(4, "n3"))], durable=True)
    storage.close()
    storage = DirectoryStorage.open(tmp_path / "data")
    assert storage.recover()[1].hard_state == HardState(4, "n3")
    storage.close()


def test_a_program_that_knows_no_renewed_directory_says_so_and_does_not_call_it_damaged(tmp_path, monkeypatch) -> None:
    make(tmp_path / "data")
    make(tmp_path / "other")
    write_identity(RealFiles(), str(tmp_path / "data"), IDENTITY.renewed(42))
    monkeypatch.setattr("aegis_replication.storage.directory.FORMAT_VERSION", 1)  # as the one before was

    with pytest.raises(IncompatibleVersion, match="has format 2, this program knows 1 to 1: start a later program"):
        DirectoryStorage.open(tmp_path / "data")

    DirectoryStorage.open(tmp_path / "other").close()  # nothing in it needs a later one


def test_missing_parents_are_made(tmp_path: Path) -> None:
    make(tmp_path / "var" / "lib" / "aegis")

    with Inspection(tmp_path / "var" / "lib" / "aegis") as inspection:
        assert inspection.identity == IDENTITY


@pytest.mark.parametrize("other", [Identity("prod", "n2", 1), Identity("test", "n1", 1)])
def test_another_nodes_directory_is_refused_naming_both(tmp_path: Path, other: Identity) -> None:
    make(tmp_path / "data")

    with pytest.raises(
        WrongIdentity, match=rf"node n1 of cluster prod, not to node {other.node} of cluster {other.cluster}"
    ):
        DirectoryStorage.open(tmp_path / "data", other)


def test_a_segment_of_another_node_is_refused_naming_both(tmp_path: Path) -> None:
    make(tmp_path / "one")
    make(tmp_path / "two", Identity("prod", "n2", 5))
    name = Path("log") / "0000000001.wal"
    (tmp_path / "one" / name).write_bytes((tmp_path / "two" / name).read_bytes())

    storage = DirectoryStorage.open(tmp_path / "one")
    with pytest.raises(WrongIdentity, match=r"node n2 of cluster prod .* its directory to node n1 of prod"):
        storage.recover()
    storage.close()


def test_a_later_format_is_refused_naming_both_versions(tmp_path: Path) -> None:
    make(tmp_path / "data")
    write_identity(RealFiles(), str(tmp_path / "data"), Identity("prod", "n1", 1, FORMAT_VERSION + 1))

    with pytest.raises(
        IncompatibleVersion, match=rf"has format {FORMAT_VERSION + 1}, this program knows 1 to {FORMAT_VERSION}"
    ):
        DirectoryStorage.open(tmp_path / "data")


def test_a_later_format_of_a_segment_alone_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "data")
    later = Identity("prod", "n1", IDENTITY.incarnation, FORMAT_VERSION + 1)
    with (tmp_path / "data" / "log" / "0000000001.wal").open("r+b") as segment:
        segment.write(pack_segment_header(later, 1, SEGMENT))

    storage = DirectoryStorage.open(tmp_path / "data")
    with pytest.raises(IncompatibleVersion, match=rf"0000000001.wal has format {FORMAT_VERSION + 1}"):
        storage.recover()
    storage.close()


def test_a_damaged_identity_is_named(tmp_path: Path) -> None:
    make(tmp_path / "data")
    path = tmp_path / "data" / "identity"
    text = path.read_bytes()

    for at in range(len(text)):
        path.write_bytes(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])
        with pytest.raises((CorruptRecord, IncompatibleVersion)):
            DirectoryStorage.open(tmp_path / "data")
        path.write_bytes(text[:at])
        with pytest.raises(CorruptRecord, match="identity"):
            DirectoryStorage.open(tmp_path / "data")


def test_a_directory_in_use_names_the_process(tmp_path: Path) -> None:
    storage = DirectoryStorage.open(tmp_path / "data", IDENTITY, segment_bytes=SEGMENT)

    with pytest.raises(DirectoryInUse, match=rf"in use by process {os.getpid()}"):
        DirectoryStorage.open(tmp_path / "data", IDENTITY)
    with pytest.raises(DirectoryInUse, match=rf"in use by process {os.getpid()}"):
        Inspection(tmp_path / "data")

    storage.close()
    DirectoryStorage.open(tmp_path / "data").close()


def test_another_processs_lock_ends_with_it(tmp_path: Path) -> None:
    make(tmp_path / "data")
    script = (
        "import sys; from aegis_replication.storage.directory import DirectoryStorage\n"
        "storage = DirectoryStorage.open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "data")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"

        with pytest.raises(DirectoryInUse, match=f"process {process.pid}"):
            DirectoryStorage.open(tmp_path / "data")

        process.kill()
        process.wait()
    DirectoryStorage.open(tmp_path / "data").close()


def test_a_failed_open_gives_the_lock_back(tmp_path: Path) -> None:
    make(tmp_path / "data")

    for _ in range(2):
        with pytest.raises(WrongIdentity):
            DirectoryStorage.open(tmp_path / "data", Identity("prod", "n9", 1))

    DirectoryStorage.open(tmp_path / "data").close()


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    make(tmp_path / "data")

    for path in [tmp_path / "data", *(tmp_path / "data").rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), f"{path} has {mode:o}"


def test_what_is_not_a_data_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()

    for path in (tmp_path / "file", tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(StorageError, match=str(path)):
            DirectoryStorage.open(path)
        with pytest.raises(StorageError, match=str(path)):
            Inspection(path)
    with pytest.raises(StorageError, match="check the path"):
        DirectoryStorage.open(tmp_path / "file", IDENTITY)


def test_a_directory_that_lost_its_identity_is_not_made_anew(tmp_path: Path) -> None:
    make(tmp_path / "data")
    (tmp_path / "data" / "identity").unlink()

    with pytest.raises(StorageError, match="holds a log or snapshots, but no identity"):
        DirectoryStorage.open(tmp_path / "data", IDENTITY)


def test_links_are_not_followed(tmp_path: Path) -> None:
    make(tmp_path / "data")
    (tmp_path / "elsewhere").write_bytes((tmp_path / "data" / "identity").read_bytes())
    (tmp_path / "data" / "identity").unlink()
    (tmp_path / "data" / "identity").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StorageError):
        DirectoryStorage.open(tmp_path / "data")


def test_status_says_where_the_data_is(tmp_path: Path) -> None:
    storage = DirectoryStorage.open(tmp_path / "data", IDENTITY, segment_bytes=SEGMENT)
    storage.recover()

    stats = storage.stats()

    assert stats.filesystem not in ("", "unknown")
    assert (stats.segments, stats.allocated_bytes, stats.flush_mode) == (1, SEGMENT, "inline")
    storage.close()


def test_real_files_say_what_the_protocol_says(tmp_path: Path) -> None:
    files, path = RealFiles(), str(tmp_path / "f")

    with pytest.raises(FileNotFoundError):
        files.open(path, "write")
    handle = files.open(path, "create", dsync=True)
    with pytest.raises(FileExistsError):
        files.open(path, "create")
    files.pwritev(handle, [b"ab", memoryview(b"cd")] * 2000, 10)
    files.sync(handle)
    files.forget_cached(handle)

    assert files.size(handle) == 8010
    assert files.pread(handle, 10**6, 8) == b"\0\0" + b"abcd" * 2000
    assert files.pread(handle, 10, 9000) == b""
    files.close(handle)
    files.rename(path, path + "2")
    files.sync_directory(str(tmp_path))
    assert files.list(str(tmp_path)) == ["f2"]
    files.unlink(path + "2")
    with pytest.raises(FileNotFoundError):
        files.unlink(path + "2")


@pytest.mark.parametrize("path", ["data", "data/", "deep/er/data", "./data"])
def test_a_new_directory_s_name_is_durable_also_under_a_relative_path(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    synced: list[str] = []
    sync_directory = RealFiles.sync_directory

    def sync(files: RealFiles, name: str) -> None:
        synced.append(os.path.realpath(name))
        sync_directory(files, name)

    monkeypatch.setattr(RealFiles, "sync_directory", sync)

    create_from_snapshots(path, Identity("c", "n1", 1), lambda snapshots: None)

    parents = {str(each) for each in (tmp_path / path).resolve().parents if each.is_relative_to(tmp_path)}
    assert parents <= set(synced)
