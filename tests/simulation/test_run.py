"""What does a run hand back, and can a failed one be played again?"""

from pathlib import Path

import msgspec
import pytest

from aegis_replication.errors import IncompatibleVersion, InvalidArgument
from aegis_replication.simulation import load_recording, replay, run, run_many, save_recording

MUTANT = "reply_before_commit"


def test_reports_add_up() -> None:
    one, other = run(1), run(2)

    both = run_many([2, 1], workers=1)

    assert both.seeds == 2
    assert both.events == one.events + other.events
    assert both.operations_acknowledged == one.operations_acknowledged + other.operations_acknowledged
    assert both.faults["crash"] == one.faults["crash"] + other.faults["crash"]


def test_a_report_as_json_has_the_promised_fields() -> None:
    fields = msgspec.json.decode(msgspec.json.encode(run(1)))

    assert fields.keys() >= {
        "seeds",
        "events",
        "simulated_seconds",
        "operations_acknowledged",
        "faults",
        "elections",
        "violations",
        "not_live",
        "trace_digest",
    }


def test_each_report_is_told_as_it_comes() -> None:
    told = []

    run_many(range(3), workers=1, on_report=lambda seed, report: told.append((seed, report.seeds)))

    assert told == [(0, 1), (1, 1), (2, 1)]


def test_a_violation_names_seed_promise_and_moment_and_tells_its_story() -> None:
    report = run(0, mutant=MUTANT)

    (violation,) = report.violations
    assert violation.seed == 0
    assert violation.invariant
    assert violation.step > 0
    assert "RequestVote" in "\n".join(violation.story)
    assert str(violation).startswith("seed 0 at ")


def test_the_first_failure_can_end_it() -> None:
    report = run_many(range(5), mutant=MUTANT, workers=1, stop_at_first=True)

    assert report.seeds == 1


def test_a_failed_run_is_recorded_and_breaks_at_the_same_step_again(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    report = run(0, mutant=MUTANT)
    save_recording(path, report)
    lines: list[str] = []

    found = replay(load_recording(path), on_line=lines.append)

    assert found == report.violations[0]
    assert any("RequestVote" in line for line in lines)


def test_a_recording_of_a_mistake_that_is_gone_breaks_nothing_any_more(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    recording = save_recording(path, run(0, mutant=MUTANT))

    assert replay(msgspec.structs.replace(recording, mutant=None)) is None


def test_only_failures_are_recorded(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="nothing failed"):
        save_recording(tmp_path / "run.json", run(1))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"seed": 1}', b'"text"'])
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)

    with pytest.raises(InvalidArgument, match="aegis simulate"):
        load_recording(path)


def test_a_recording_of_a_later_format_is_refused_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(b'{"format": 2}')

    with pytest.raises(IncompatibleVersion, match="format 2"):
        load_recording(path)


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"gone\.json"):
        load_recording(tmp_path / "gone.json")


def test_no_seeds_are_a_mistake() -> None:
    with pytest.raises(InvalidArgument, match="at least one"):
        run_many([])


def test_an_unknown_mutant_is_answered_with_all_names() -> None:
    with pytest.raises(InvalidArgument, match="vote_not_persisted"):
        run(1, mutant="nonsense")
