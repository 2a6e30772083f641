"""Is a user's own machine put through the same, and is one that would differ between nodes found out?"""

from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from aegis_replication.errors import AegisError, InvalidArgument
from aegis_replication.simulation import run, run_many
from aegis_replication.simulation.subject import draw_call, find_subject

MACHINES = Path(__file__).with_name("machines_of_users.py")


def test_a_good_machine_passes_under_both_hash_seeds() -> None:
    report = run_many(range(4), machine=f"{MACHINES}:Shop")

    assert report.is_good, "\n".join(map(str, report.failures))
    assert report.operations_acknowledged > 200
    assert report.faults["crash"] > 0


def test_a_machine_that_throws_dice_is_found_out() -> None:
    report = run(1, machine=f"{MACHINES}:Dice")

    (violation,) = report.violations
    assert violation.invariant.startswith("machines agree")


def test_a_machine_that_takes_the_first_of_a_set_is_found_out() -> None:
    report = run_many(range(2), machine=f"{MACHINES}:SetOrder")

    assert {violation.invariant for violation in report.violations} == {"equal under every hash seed"}
    assert "SetOrder depends on the order of a set" in report.violations[0].detail


def test_a_worker_that_is_gone_is_not_waited_for() -> None:
    with pytest.raises(AegisError, match="a worker process was killed"):
        run_many(range(2), machine=f"{MACHINES}:Vanishing")


def test_a_machine_can_bring_its_own_requests() -> None:
    report = run(1, machine=f"{MACHINES}:OneRequest")

    assert report.is_good, "\n".join(map(str, report.failures))
    assert report.operations_acknowledged > 20


def test_sessions_protect_a_users_machine_too() -> None:
    failed = [
        seed for seed in range(10) if not run(seed, mutant="retry_applied_again", machine=f"{MACHINES}:Shop").is_good
    ]

    assert failed


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nonsense", "package.module:Class"),
        ("no.such.module:Shop", "can't be imported"),
        ("no/such/file.py:Shop", "there is no file"),
        (f"{MACHINES}:Missing", "no StateMachine 'Missing'"),
        (f"{MACHINES}:not_a_machine", "no StateMachine"),
        ("aegis_replication.errors:AegisError", "no StateMachine"),
    ],
)
def test_what_is_no_machine_is_refused_by_name(spec: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        find_subject(spec)


def test_a_workload_that_returns_no_request_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"return call\(Unbearable"):
        run(1, machine=f"{MACHINES}:Unbearable")


class Point(msgspec.Struct):
    x: int
    y: float


class Everything(msgspec.Struct):
    number: int
    text: str | None
    raw: bytes
    flag: bool
    many: list[Point]
    pair: tuple[int, str]
    table: dict[str, frozenset[int]]


def test_arguments_are_drawn_for_all_types_that_a_command_may_have() -> None:
    drawn = [draw_call(Everything, Random(seed)) for seed in range(50)]

    assert all(msgspec.convert(msgspec.to_builtins(each), Everything) == each for each in drawn)
    assert len({each.text for each in drawn}) > 2


class Mystery(msgspec.Struct):
    it: Any


def test_a_type_that_nothing_is_known_about_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"type Any.*simulated_request"):
        draw_call(Mystery, Random(1))
