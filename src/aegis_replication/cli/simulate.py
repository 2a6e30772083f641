"""Do the replicas keep their promises in a simulated world? Many seeds, one seed, a known mistake, a recorded run."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from aegis_replication.cli import endings
from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_bytes, print_json, print_record, print_rows, say
from aegis_replication.cli.progress import progress
from aegis_replication.errors import InvalidArgument
from aegis_replication.simulation.mutants import MUTANTS
from aegis_replication.simulation.run import Report, Violation, load_recording, run_many, save_recording
from aegis_replication.simulation.run import replay as play_again

app = App(
    name="simulate",
    help_epilogue=examples(
        "aegis simulate --seeds 500",
        "aegis simulate --seed 7 -o json",
        "aegis simulate --mutant list",
        "aegis simulate --mutant NAME --seeds 200       # must fail: exit code 1, seed and promise named",
        "aegis simulate --machine package.module:Class --seeds 100",
        "aegis simulate --seeds 100 --record run.json && echo good || aegis replay run.json",
    ),
)
_FAILURES_SHOWN = 5

replay_app = App(name="replay", help_epilogue=examples("aegis replay run.json", "aegis replay run.json --last 2000"))


@app.default
def simulate(
    *,
    seeds: int | None = None,
    seed: int | None = None,
    first_seed: int = 0,
    mutant: str | None = None,
    machine: str | None = None,
    workers: int = 2,
    stop_at_first: Annotated[bool, Parameter(negative=())] = False,
    record: Path | None = None,
    format: Format = FORMAT,
) -> int:
    """Run the production engine and log on simulated time, network and disks, with faults, and check every promise.

    Exit code 1 when a promise is broken, or a cluster doesn't come back after the faults are over.

    Parameters
    ----------
    seeds
        How many runs, each with a seed of its own; 100 if neither this nor --seed is given.
    seed
        One run with this seed.
    first_seed
        Where the seeds of --seeds begin.
    mutant
        Run with this known mistake built in, which must be found; "list" lists them.
    machine
        A StateMachine of your own, as package.module:Class or path/to/file.py:Class, instead of the key-value machine;
        each seed is then played under two hash seeds, which must not differ.
    workers
        Processes.
    stop_at_first
        Stop at the first broken promise.
    record
        Write the first failed run to this file, for `aegis replay`.
    """
    if mutant == "list":
        rows = [{"name": each.name, "leaves_out": each.leaves_out} for each in MUTANTS]
        print_rows(rows, format.output, columns=["name", "leaves_out"], titles={"leaves_out": "what is left out"})
        return endings.OK
    wanted = _seeds(seeds, seed, first_seed)
    if workers < 1:
        raise InvalidArgument(f"--workers {workers}: give 1 or more")
    done = failed = 0
    with progress() as shown:

        def on_report(_: int, report: Report) -> None:
            nonlocal done, failed
            done += 1
            failed += not report.is_good
            if not report.is_good and failed <= _FAILURES_SHOWN:
                shown.say("\n".join(map(_line, report.failures)))
            shown.update(done)

        shown.begin("simulating", len(wanted))
        report = run_many(
            wanted,
            mutant=mutant,
            machine=machine,
            workers=workers,
            stop_at_first=stop_at_first,
            on_report=on_report,
        )
        shown.end()
    if failed:
        again = f"aegis simulate --seed {report.failures[0].seed}" if report.failures else "aegis simulate"
        say(f"aegis: {failed} of {done} runs failed; once more: {again}{f' --mutant {mutant}' if mutant else ''}")
    if record is not None and report.failures:
        save_recording(record, report)
        say(f"wrote {record}: play it again with  aegis replay {record}")
    _print_report(report, format.output)
    return endings.OK if report.is_good else endings.ERROR


@replay_app.default
def replay(file: Path, /, *, last: int = 200, format: Format = FORMAT) -> int:
    """Play a recorded run again up to where it broke, and tell its last steps; exit code 1 if it still breaks.

    Parameters
    ----------
    file
        What `aegis simulate --record` wrote.
    last
        How many steps before the end to tell.
    """
    if last < 0:
        raise InvalidArgument(f"--last {last}: give 0 or more")
    recording = load_recording(file)
    lines = (lambda line: print_bytes(line.encode())) if format.output == "table" else None
    violation = play_again(recording, last=last, on_line=lines)
    if format.output != "table":
        shown = {"seed": recording.seed, "mutant": recording.mutant, "violation": violation}
        print_json(msgspec.to_builtins(shown), indent=2 if format.output == "json" else 0)
    if violation is None:
        say(f"seed {recording.seed} no longer breaks anything (it was recorded by version {recording.version})")
        return endings.OK
    say(f"seed {violation.seed}, step {violation.step}: {violation.invariant}: {violation.detail}")
    return endings.ERROR


def _seeds(count: int | None, one: int | None, first: int) -> list[int]:
    if one is not None and count is not None:
        raise InvalidArgument("--seed and --seeds: give one of them")
    if one is not None:
        return [one]
    wanted = 100 if count is None else count
    if not 1 <= wanted <= 10_000_000:
        raise InvalidArgument(f"--seeds {wanted}: give 1 or more")
    return list(range(first, first + wanted))


def _print_report(report: Report, output: str) -> None:
    if output != "table":
        print_json(msgspec.to_builtins(report), indent=2 if output == "json" else 0)
        return
    record: dict[str, Any] = {
        "seeds": report.seeds,
        "events": report.events,
        "simulated_seconds": report.simulated_seconds,
        "cluster_hours": report.simulated_seconds / 3600.0,
        "operations_acknowledged": report.operations_acknowledged,
        "operations_unknown": report.operations_unknown,
        "elections": report.elections,
        "faults": ", ".join(f"{kind} {count:,}" for kind, count in report.faults.items()),
        "violations": len(report.violations),
        "not_live": len(report.not_live),
        "undecided": report.undecided,
        "trace_digest": report.trace_digest,
    }
    print_record(record, "table")


def _line(failure: Violation) -> str:
    return f"seed {failure.seed} at {failure.at_ms:.0f} ms: {failure.invariant}: {failure.detail}"
