"""Does a backup hold all that was acknowledged before it, and does only a whole one become a new cluster?"""

import asyncio
from pathlib import Path
from random import Random

import pytest

from aegis_replication.errors import CorruptRecord, DirectoryInUse, StorageError, WrongIdentity
from aegis_replication.local import LocalCluster
from aegis_replication.local import open as open_database
from aegis_replication.offline.restoring import restore
from aegis_replication.storage.backup_file import BackupReader

NOW_MS = 1_790_000_000_000


async def write(database, count: int) -> None:
    for number in range(count):
        await database.put(f"key/{number:03}", f"value {number}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a cluster of three with a hundred keys."""
    root = tmp_path_factory.mktemp("backup")

    async def main() -> None:
        async with LocalCluster(3, directory=root / "old") as cluster:
            database = cluster.client()
            await write(database, 100)
            await database.set_lease(True)
            await database.backup(root / "made.backup")

    asyncio.run(main())
    return root / "made.backup"


def founded(made: Path, directory: Path, **changed):
    wanted = {"cluster": "new", "node": "m1", "now_ms": NOW_MS, "random": Random(1)} | changed
    return restore(made, directory, **wanted)


def test_a_backup_becomes_a_cluster_of_one_that_has_all_of_it(made, tmp_path):
    founded(made, tmp_path / "m1")

    async def main():
        async with open_database(tmp_path / "m1", node_id="m1", cluster="new") as database:
            await database.put("later", "x")
            group = database.node.status()["groups"]["1"]
            return await database.count(), (await database.get("key/099")).value, group

    count, value, group = asyncio.run(main())
    assert (count, value) == (101, b"value 99")
    assert (group["voters"], group["lease_ms"], group["role"]) == (["m1"], 0, "leader")
    assert [(each["what"], each["unix_ms"]) for each in group["interventions"]] == [("restored", NOW_MS)]


def test_a_backup_holds_what_was_acknowledged_before_it_also_when_a_snapshot_was_there(tmp_path):
    async def main():
        async with LocalCluster(3, snapshot_threshold=10) as cluster:
            database = cluster.client()
            for round_ in range(5):
                await database.put("last", f"round {round_}")
                await database.backup(tmp_path / f"{round_}.backup")

    asyncio.run(main())

    for round_ in range(5):
        with BackupReader(str(tmp_path / f"{round_}.backup")) as backup:
            assert f"round {round_}".encode() in b"".join(backup.pieces()), f"backup {round_}"
    founded(tmp_path / "4.backup", tmp_path / "m1", cluster="again")


def test_a_backup_begins_anew_when_its_leader_is_gone(tmp_path):
    async def main():
        async with LocalCluster(3) as cluster:
            database = cluster.client(timeout=60.0)
            for number in range(40):
                await database.put(f"{number}", bytes(50_000))
            givers: list[int] = []
            killed = []

            def on_progress(done: int, total: int) -> None:
                givers.append(done)
                if not killed:
                    killed.append(cluster.leader)
                    ending.append(asyncio.get_running_loop().create_task(cluster.kill(killed[0])))

            ending: list[asyncio.Task] = []
            head = await database.backup(tmp_path / "made.backup", on_progress=on_progress, timeout=60.0)
            return head, killed[0], givers

    head, killed, counts = asyncio.run(main())
    assert head.node != killed
    assert len(set(counts)) < len(counts), f"never began anew: {counts}"
    founded(tmp_path / "made.backup", tmp_path / "m1")


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path):
    file = tmp_path / "made.backup"
    file.write_text("precious")

    async def main():
        async with LocalCluster(1) as cluster:
            database = cluster.client()
            with pytest.raises(StorageError, match="exists already"):
                await database.backup(file)
            kept = file.read_text()
            await database.backup(file, overwrite=True)
            return kept

    kept = asyncio.run(main())

    assert kept == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["made.backup"]
    with BackupReader(str(file)) as backup:
        assert backup.head.cluster == "local"


def test_nothing_is_restored_over_live_data(made, tmp_path):
    directory = tmp_path / "m1"
    founded(made, directory)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}

    with pytest.raises(StorageError, match=r"node m1 of cluster new.*never restored over it"):
        founded(made, directory)

    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_a_directory_with_foreign_files_is_refused(made, tmp_path):
    (tmp_path / "photo.jpg").write_text("")

    with pytest.raises(StorageError, match=r"not empty \(photo\.jpg\)"):
        founded(made, tmp_path)


def test_the_old_name_needs_a_word(made, tmp_path):
    with pytest.raises(WrongIdentity, match="--same-cluster"):
        founded(made, tmp_path / "m1", cluster="local")
    assert not (tmp_path / "m1").exists()

    restored = founded(made, tmp_path / "m1", cluster="local", same_cluster=True)

    assert restored.cluster == "local"


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.999])
def test_a_flipped_bit_is_named_and_nothing_is_made(made, tmp_path, share):
    data = bytearray(made.read_bytes())
    data[int(share * len(data))] ^= 4
    bad = tmp_path / "bad.backup"
    bad.write_bytes(data)

    with pytest.raises(CorruptRecord, match=r"bad\.backup: damaged at byte \d+.*another copy"):
        founded(bad, tmp_path / "m1")

    assert not (tmp_path / "m1").exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_backup_that_is_cut_off_is_named_and_nothing_is_made(made, tmp_path, share):
    bad = tmp_path / "bad.backup"
    bad.write_bytes(made.read_bytes()[: int(share * made.stat().st_size)])

    with pytest.raises(CorruptRecord, match=r"bad\.backup: damaged at byte \d+"):
        founded(bad, tmp_path / "m1")

    assert not (tmp_path / "m1").exists()


def test_a_restore_that_did_not_end_is_never_started_as_an_empty_node(made, tmp_path, monkeypatch):
    def break_(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aegis_replication.storage.directory.write_identity", break_)
    with pytest.raises(KeyboardInterrupt):
        founded(made, tmp_path / "m1")
    monkeypatch.undo()

    with pytest.raises(StorageError, match="no identity"):
        asyncio.run(open_database(tmp_path / "m1", node_id="m1", cluster="new").start())
    with pytest.raises(StorageError, match="did not end there"):
        founded(made, tmp_path / "m1")


def test_two_restores_of_one_backup_have_different_incarnations(made, tmp_path):
    first = founded(made, tmp_path / "m1", random=Random(1))
    second = founded(made, tmp_path / "m2", random=Random(2))

    assert first.incarnation != second.incarnation


def test_a_directory_in_use_is_not_looked_into(made, tmp_path):
    from aegis_replication.offline.recovering import look_at

    founded(made, tmp_path / "m1")

    async def main():
        async with open_database(tmp_path / "m1", node_id="m1", cluster="new"):
            with pytest.raises(DirectoryInUse, match="stop that one first"):
                look_at(tmp_path / "m1")

    asyncio.run(main())
