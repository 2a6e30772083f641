"""Disks fill up: who goes on doing what, and is anybody needed to set it right again?"""

import pytest

from aegis_replication.errors import OutcomeUnknown
from aegis_replication.simulation import Cluster

SEGMENT_BYTES = 16 * 1024


def write_until_refused(cluster: Cluster) -> int:
    """Puts until one isn't taken; how many were."""
    for number in range(500):
        try:
            cluster.put(f"k{number}", "v" * 400)
        except OutcomeUnknown:
            return number
    raise AssertionError("500 writes were taken on full disks")


def test_with_every_disk_full_reads_go_on_and_nobody_has_to_start_anything_again() -> None:
    cluster = Cluster(3, seed=11, segment_bytes=SEGMENT_BYTES)
    cluster.put("first", "1")
    lives = {name: host.life for name, host in cluster.hosts.items()}

    for host in cluster.hosts.values():
        host.disk.full = True
    taken = write_until_refused(cluster)
    seen = cluster.get("first")
    leader = cluster.leader()
    for host in cluster.hosts.values():
        host.disk.full = False
    cluster.put("last", "2")

    assert 0 < taken < 500
    assert seen == b"1"
    assert leader is not None
    assert cluster.get("last") == b"2"
    assert {name: host.life for name, host in cluster.hosts.items()} == lives


def test_a_leader_whose_disk_is_full_hands_over_to_one_that_has_room() -> None:
    cluster = Cluster(3, seed=12, segment_bytes=SEGMENT_BYTES)
    cluster.put("first", "1")
    full = cluster.leader()

    cluster.hosts[full].disk.full = True
    for number in range(200):
        cluster.put(f"k{number}", "v" * 400)

    assert cluster.leader() != full
    assert cluster.hosts[full].is_up


def test_a_node_starts_on_a_full_disk_and_still_votes() -> None:
    """Two nodes with full disks elect one of them: term, vote and the first entry of a term find room."""
    cluster = Cluster(3, seed=13, segment_bytes=SEGMENT_BYTES)
    cluster.put("first", "1")
    for host in cluster.hosts.values():
        host.disk.full = True
    write_until_refused(cluster)

    cluster.crash(cluster.leader(), losing="unsynced")
    seen = cluster.get("first")
    for name in cluster.nodes:
        cluster.crash(name, losing="some")
    for name in cluster.nodes:
        cluster.start(name)

    assert seen == b"1"
    assert cluster.get("first") == b"1"


@pytest.mark.parametrize("seed", range(3))
def test_what_found_no_room_is_written_as_soon_as_there_is_some(seed: int) -> None:
    """Where each write takes new blocks, one that is under way may find none."""
    cluster = Cluster(3, seed=20 + seed, segment_bytes=SEGMENT_BYTES)
    cluster.put("k", "1")
    for host in cluster.hosts.values():
        host.disk.full = host.disk.full_in_place = True

    with pytest.raises(OutcomeUnknown):
        cluster.put("k", "2")
    seen = cluster.get("k")
    for host in cluster.hosts.values():
        host.disk.full = host.disk.full_in_place = False
    cluster.run(2_000.0)

    assert seen == b"1"
    assert cluster.get("k") == b"2"  # it was in the log, and got there
