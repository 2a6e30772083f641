"""Do `wal` and `snapshot` show what a stopped node left, and name what is damaged?"""

import asyncio
import json
from pathlib import Path

import pytest

from aegis_replication.cli import endings
from aegis_replication.demo.copies import compare_copies
from aegis_replication.local import LocalCluster

MARKER = b"a value that is easy to find"


def is_settled(cluster: LocalCluster, root: Path) -> bool:
    """Has every node applied the same, and n1 saved a snapshot?"""
    applied = {node.replica().applied for node in cluster.nodes.values()}
    return len(applied) == 1 and any((root / "n1" / "snapshots").glob("*.snap"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directories of a cluster of three, stopped, with a few keys in log and snapshot."""
    root = tmp_path_factory.mktemp("stopped")

    async def write() -> None:
        async with LocalCluster(3, directory=root, snapshot_threshold=20, trailing_entries=5) as cluster:
            database = cluster.client()
            for number in range(50):
                await database.put(f"key/{number:02}", f"value {number}")
            await database.put(b"key/\xff", MARKER)
            async with asyncio.timeout(60.0):
                while not is_settled(cluster, root):  # noqa: ASYNC110  # nothing says when a snapshot is saved
                    await asyncio.sleep(0)

    asyncio.run(write())
    return root


@pytest.fixture
def directory(written: Path, tmp_path: Path) -> Path:
    """A copy of one of them."""
    target = tmp_path / "n1"
    for path in sorted((written / "n1").rglob("*")):
        copy = target / path.relative_to(written / "n1")
        if path.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return target


def test_a_whole_log_is_verified(aegis, directory):
    ran = aegis("wal", "verify", str(directory), "-o", "json")

    assert ran.code == endings.OK, ran.err
    assert (ran.json["node"], ran.json["damaged"], ran.json["findings"]) == ("n1", False, [])
    assert ran.json["records"] > 3


def test_records_are_dumped_in_order_and_in_parts(aegis, directory):
    all_records = [json.loads(line) for line in aegis("wal", "dump", str(directory), "-o", "jsonl").out.splitlines()]

    part = aegis("wal", "dump", str(directory), "--first", "1", "--limit", "2", "-o", "json").json
    assert part == all_records[1:3]
    indexes = [record["index"] for record in all_records if record["kind"] == "commands" and not record["carried"]]
    assert indexes == sorted(indexes)
    assert "commands" in aegis("wal", "dump", str(directory)).out


def test_damage_is_found_named_and_exit_code_1(aegis, directory):
    segment = next(path for path in (directory / "log").iterdir() if MARKER in path.read_bytes())
    segment.write_bytes(segment.read_bytes().replace(MARKER, MARKER.upper()))

    ran = aegis("wal", "verify", str(directory), "-o", "json")

    assert ran.code == endings.ERROR, ran.out
    assert ran.json["damaged"] is True, ran.out
    assert ran.json["findings"][0]["path"] == str(segment)
    table = aegis("wal", "verify", str(directory)).out  # a long path is folded in its column
    assert "checksum" in table
    assert segment.stem[:5] in table


def test_a_snapshot_is_listed_and_dumped_as_what_import_reads(aegis, directory):
    (listed,) = aegis("snapshot", "list", str(directory), "-o", "json").json

    lines = [json.loads(line) for line in aegis("snapshot", "dump", str(directory), "-o", "jsonl").out.splitlines()]

    assert lines[0]["key"] == "key/00"
    assert lines[0]["value"] == "value 0"
    assert len(lines) >= 10  # 20 commands, some of which may have come twice
    assert aegis("snapshot", "dump", listed["path"], "-o", "json").json == lines
    assert "key/00" in aegis("snapshot", "dump", str(directory)).out


def test_a_damaged_snapshot_is_one_clear_line(aegis, directory):
    (listed,) = aegis("snapshot", "list", str(directory), "-o", "json").json
    file = Path(listed["path"])
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)

    ran = aegis("snapshot", "dump", str(file))

    assert ran.code == endings.ERROR
    assert f"{file}: damaged at byte" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("words", [("wal", "dump"), ("wal", "verify"), ("snapshot", "list"), ("snapshot", "dump")])
def test_what_is_no_data_directory_is_one_clear_line(aegis, tmp_path, words):
    ran = aegis(*words, str(tmp_path))

    assert ran.code == endings.ERROR
    assert str(tmp_path) in ran.err
    assert ran.err.count("\n") == 1


def test_copies_of_a_cluster_are_compared(written):
    copies = compare_copies({node: written / node for node in ("n1", "n2", "n3")})

    assert copies.equal, copies
    assert len(copies.digests) == 3


def test_a_copy_that_lacks_a_write_is_noticed(written, directory):
    """Cut in the middle of the last commands: what follows looks like an unfinished write."""
    segment = next(path for path in (directory / "log").iterdir() if MARKER in path.read_bytes())
    data = segment.read_bytes()
    start = data.index(MARKER)
    segment.write_bytes(data[:start] + bytes(len(data) - start))

    copies = compare_copies({"n1": directory, "n2": written / "n2", "n3": written / "n3"})

    assert copies.reached["n1"] < copies.index
    assert not copies.equal
