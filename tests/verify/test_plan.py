"""Does a seed fix the faults, and does every kind that was asked for come?"""

from random import Random

import pytest

from aegis_replication.errors import InvalidArgument
from aegis_replication.verify.plan import KINDS, SIDEWAYS, Fault, draw_faults
from aegis_replication.verify.run import faults_of


def drawn(seed: int, *kinds: str, seconds: float = 60.0, nodes: int = 3) -> tuple[Fault, ...]:
    return draw_faults(Random(seed), kinds or KINDS, seconds=seconds, nodes=nodes, election_timeout_s=0.3)


def test_equal_seeds_give_equal_faults_and_others_give_others() -> None:
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize("seed", range(20))
def test_a_minute_holds_every_kind_in_time_and_order(seed: int) -> None:
    faults = drawn(seed)

    assert {fault.kind for fault in faults} == set(KINDS), f"seed {seed}"
    assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)
    assert all(0 < fault.at_s < 60 and fault.victim != fault.other for fault in faults), f"seed {seed}"


def test_pauses_last_one_to_twenty_election_timeouts() -> None:
    lengths = [fault.lasts_s for fault in drawn(3, "pause", seconds=2000.0)]

    assert 0.3 <= min(lengths) < 0.5
    assert 4.0 < max(lengths) <= 6.0


def test_every_variety_of_partition_is_drawn() -> None:
    assert {fault.how for fault in drawn(4, "partition", seconds=500.0)} == set(SIDEWAYS)


def test_no_faults_are_a_plan_too() -> None:
    assert drawn(1, "kill", seconds=0.5) == ()
    assert faults_of("none") == ()
    assert faults_of("all") == KINDS
    assert faults_of("kill, pause,kill") == ("kill", "pause")


def test_an_unknown_kind_is_named_beside_those_that_there_are() -> None:
    with pytest.raises(InvalidArgument, match=r"meteor.*kill, pause, partition"):
        drawn(1, "meteor")
