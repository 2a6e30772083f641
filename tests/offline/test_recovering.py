"""Does one survivor of a lost majority go on alone, and is it told from the member that it was?"""

import asyncio
from pathlib import Path
from random import Random

import pytest

from aegis_replication.errors import ChangeRefused, DirectoryInUse
from aegis_replication.local import LocalCluster
from aegis_replication.local import open as open_database
from aegis_replication.offline import recovering
from aegis_replication.offline.recovering import best_of, look_at, recover_alone
from aegis_replication.storage.base import Identity
from aegis_replication.storage.directory import DirectoryStorage
from aegis_replication.storage.inspection import Inspection

NOW_MS = 1_790_000_000_000


async def lose_a_majority(root: Path, *, written: int = 30, threshold: int = 1000) -> None:
    """n3 lags, then all of them stop."""
    async with LocalCluster(3, directory=root, snapshot_threshold=threshold, seed=1) as cluster:
        database = cluster.client(timeout=60.0)
        await database.put("first", "1")
        late = next(name for name in cluster.nodes if name != cluster.leader)
        await cluster.kill(late)
        (root / "late").write_text(late)
        for number in range(written):
            await database.put(f"key/{number:03}", f"value {number}")


@pytest.fixture(params=[1000, 10], ids=["all in the log", "with snapshots"])
def root(request, tmp_path) -> Path:
    asyncio.run(lose_a_majority(tmp_path, threshold=request.param))
    return tmp_path


def recovered(directory: Path, seed: int = 1):
    return recover_alone(directory, now_ms=NOW_MS, random=Random(seed))


def test_the_survivor_that_knows_most_is_found(root):
    late = (root / "late").read_text()

    survivors = {name: look_at(root / name) for name in ("n1", "n2", "n3")}

    assert best_of(survivors.values()).node != late
    assert survivors[late].last == min(each.last for each in survivors.values())
    assert {each.voters for each in survivors.values()} == {("n1", "n2", "n3")}


def test_one_survivor_goes_on_alone_with_its_data(root):
    best = best_of(look_at(root / name) for name in ("n1", "n2", "n3"))

    done = recovered(Path(best.directory))

    async def main():
        async with open_database(best.directory, node_id=best.node, cluster="local") as database:
            await database.put("later", "x")
            return await database.count(), database.node.status()

    count, status = asyncio.run(main())
    group = status["groups"]["1"]
    assert (count, group["role"], group["voters"]) == (32, "leader", [best.node])
    assert status["incarnation"] == done.incarnation
    assert done.removed == tuple(name for name in ("n1", "n2", "n3") if name != best.node)
    audit = group["interventions"]
    assert [(each["what"], each["node"], each["index"]) for each in audit] == [
        ("recovered", best.node, best.last_index)
    ]
    with Inspection(best.directory) as inspection:
        assert not [each for each in inspection.verify() if each.severity == "damage"]


def test_the_audit_record_and_the_data_survive_restarts(root):
    recovered(root / "n1")

    async def start() -> tuple[int, list]:
        async with open_database(root / "n1", node_id="n1", cluster="local") as database:
            status = database.node.status()["groups"]["1"]
            return await database.count(), status["interventions"]

    first, second = asyncio.run(start()), asyncio.run(start())

    assert first == second
    assert len(second[1]) == 1


def test_a_lost_voter_that_turns_up_takes_the_survivor_for_a_stranger(root):
    before = look_at(root / "n1")
    with Inspection(root / "n1") as inspection:
        old = inspection.identity

    recovered(root / "n1")

    with Inspection(root / "n1") as inspection:
        new = inspection.identity
    assert new.incarnation != old.incarnation
    assert new.log_incarnation == old.incarnation, "the log's checksums are made with it"
    assert look_at(root / "n1").last > before.last


def test_a_recovery_that_was_interrupted_is_done_again(root, monkeypatch):
    def break_(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DirectoryStorage, "write", break_)
    with pytest.raises(KeyboardInterrupt):
        recovered(root / "n1", seed=1)
    monkeypatch.undo()
    between = look_at(root / "n1")

    done = recovered(root / "n1", seed=2)

    assert between.voters == ("n1", "n2", "n3")
    assert look_at(root / "n1").voters == ("n1",)
    assert done.removed == ("n2", "n3")


def test_a_running_node_is_left_alone(root):
    async def main():
        async with LocalCluster(3, directory=root):
            with pytest.raises(DirectoryInUse):
                recovered(root / "n1")

    asyncio.run(main())


def test_a_lone_voter_needs_no_recovery(root):
    recovered(root / "n1")

    with pytest.raises(ChangeRefused, match="only voter already: start it"):
        recovered(root / "n1")


def test_a_node_that_was_never_a_member_is_no_survivor(tmp_path):
    storage = DirectoryStorage.open(tmp_path / "n9", Identity("local", "n9", 9, joins=True))
    storage.close()

    with pytest.raises(ChangeRefused, match="never a member"):
        look_at(tmp_path / "n9")


def test_the_configuration_in_force_is_the_newest_whether_committed_or_not(root):
    with Inspection(root / "n1") as inspection:
        found = inspection.groups()[1]

    configuration = recovering.configuration_of(found)

    assert configuration.voters == ("n1", "n2", "n3")
