"""Are `backup` and `snapshot save` one command, and do the words about backups and recoveries refuse what they must?"""

import asyncio
from random import Random

import pytest

from aegis_replication.cli import endings
from aegis_replication.local import LocalCluster
from aegis_replication.offline.restoring import restore


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory):
    file = tmp_path_factory.mktemp("words") / "made.backup"

    async def main() -> None:
        async with LocalCluster(3) as cluster:
            await cluster.client().put("k", "v")
            await cluster.client().backup(file)

    asyncio.run(main())
    return file


@pytest.mark.parametrize("words", [("backup",), ("snapshot", "save")])
def test_a_backup_without_a_cluster_is_unavailable_and_leaves_no_file(aegis, tmp_path, words):
    ran = aegis(*words, str(tmp_path / "b"), "--endpoints", "127.0.0.1:1", "--within", "0.5")

    assert ran.code == endings.UNAVAILABLE, ran.err
    assert not list(tmp_path.iterdir())


def test_inspect_says_what_is_in_a_backup(aegis, backup):
    ran = aegis("snapshot", "inspect", str(backup), "-o", "json")

    assert ran.code == endings.OK, ran.err
    facts = {name: ran.json[name] for name in ("type", "cluster", "voters", "machine", "keys", "interventions")}
    assert facts == {
        "type": "backup",
        "cluster": "local",
        "voters": ["n1", "n2", "n3"],
        "machine": "key-value",
        "keys": 1,
        "interventions": [],
    }


def test_inspect_of_a_restored_directory_says_where_it_came_from(aegis, backup, tmp_path):
    restore(backup, tmp_path / "m1", cluster="new", node="m1", now_ms=1, random=Random(1))

    ran = aegis("snapshot", "inspect", str(tmp_path / "m1"), "-o", "json")

    assert (ran.json["type"], ran.json["cluster"], ran.json["voters"]) == ("snapshot", "new", ["m1"])
    assert ran.json["interventions"] == ["restored on m1, from cluster local"]


def test_inspect_names_the_place_of_damage(aegis, backup, tmp_path):
    bad = tmp_path / "bad"
    bad.write_bytes(backup.read_bytes()[:-1])

    ran = aegis("snapshot", "inspect", str(bad))

    assert ran.code == endings.ERROR
    assert "cut off there" in ran.err


def test_recover_takes_one_directory_and_asks(aegis, backup, tmp_path):
    restore(backup, tmp_path / "m1", cluster="new", node="m1", now_ms=1, random=Random(1))

    nothing = aegis("cluster", "recover", "--unsafe")
    two = aegis("cluster", "recover", str(tmp_path / "m1"), str(tmp_path / "m1"), "--unsafe")
    alone = aegis("cluster", "recover", str(tmp_path / "m1"), "--unsafe", "--yes")

    assert (nothing.code, two.code) == (endings.USAGE, endings.USAGE)
    assert alone.code == endings.CONFLICT
    assert "only voter already" in alone.err
