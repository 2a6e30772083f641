"""Does a directory that can't be repaired go aside whole, wherever the call is cut short?"""

from collections import Counter
from random import Random

import pytest

from aegis_replication.errors import DirectoryInUse, StorageError
from aegis_replication.log import HardState, LogWrite
from aegis_replication.offline.setting_aside import set_aside
from aegis_replication.simulation.disk import ROOT, PowerCut, SimulatedDisk
from aegis_replication.storage.base import Identity
from aegis_replication.storage.directory import DirectoryStorage

PATH = f"{ROOT}/data"


def lived_in(seed: int = 0) -> SimulatedDisk:
    disk = SimulatedDisk(Random(seed), Counter())
    storage = DirectoryStorage.open(PATH, Identity("c", "n1", 7), files=disk, segment_bytes=16 * 1024)
    storage.recover()
    storage.write([LogWrite(1, 1, hard_state=HardState(3, "n2"))], durable=True)
    storage.close()
    return disk


def test_everything_is_kept_and_the_directory_is_as_if_new() -> None:
    disk = lived_in()

    looked = set_aside(PATH, "D", is_to_change=False, files=disk)
    before = disk.list(PATH)
    done = set_aside(PATH, "D", is_to_change=True, files=disk)
    again = DirectoryStorage.open(PATH, Identity("c", "n1", 8), files=disk, segment_bytes=16 * 1024)

    assert looked == done
    assert (done.cluster, done.node) == ("c", "n1")
    assert done.moved == ("log/0000000001.wal", "identity")
    assert before == ["identity", "lock", "log", "snapshots"]
    assert disk.list(f"{PATH}/set-aside-D") == ["identity", "log", "snapshots"]
    assert again.recover() == {}
    assert again.identity.incarnation == 8


def test_a_power_cut_in_any_call_leaves_a_directory_that_no_node_starts_on_until_it_is_called_again() -> None:
    count = lived_in().calls
    total = 0
    for cut in range(1, 40):
        disk = lived_in(cut)
        assert disk.calls == count
        disk.cut_at = disk.calls + cut
        try:
            set_aside(PATH, "D", is_to_change=True, files=disk)
            break
        except PowerCut:
            total += 1
        disk.cut_power("some")
        names = disk.list(PATH)
        if not disk.list(f"{PATH}/log") and "identity" in names:
            with pytest.raises(StorageError):
                DirectoryStorage.open(PATH, files=disk, segment_bytes=16 * 1024).recover()
            disk.kill()
        if "identity" in names:
            set_aside(PATH, "later", is_to_change=True, files=disk)

        kept = [name for name in disk.list(PATH) if name.startswith("set-aside-")]
        assert len(kept) == 1, f"cut at {cut}: {kept}"
        assert disk.list(f"{PATH}/{kept[0]}") == ["identity", "log", "snapshots"], f"cut at {cut}"
        assert disk.list(f"{PATH}/{kept[0]}/log") == ["0000000001.wal"], f"cut at {cut}"
    assert total > 5


def test_a_running_node_and_what_is_no_data_directory_are_refused() -> None:
    disk = lived_in()
    running = DirectoryStorage.open(PATH, files=disk, segment_bytes=16 * 1024)

    with pytest.raises(DirectoryInUse):
        set_aside(PATH, "D", is_to_change=True, files=disk)
    running.close()
    set_aside(PATH, "D", is_to_change=True, files=disk)

    with pytest.raises(StorageError, match="holds no identity"):
        set_aside(PATH, "D", is_to_change=True, files=disk)
