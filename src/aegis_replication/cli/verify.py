"""Are the answers of real nodes under real faults linearizable? One run, or the judgement of a recorded history."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import App, Parameter

from aegis_replication.cli import endings
from aegis_replication.cli.loops import run
from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_record, say
from aegis_replication.errors import InvalidArgument
from aegis_replication.verify.history import load_history
from aegis_replication.verify.judgement import judge
from aegis_replication.verify.run import VerifyPlan, faults_of
from aegis_replication.verify.run import verify as run_verify

app = App(
    name="verify",
    help_epilogue=examples(
        "aegis verify --local 3 --seconds 60 --faults kill,pause,partition",
        "aegis verify --faults all --seed 7 --history run.jsonl -o json",
        "aegis verify --check run.jsonl",
    ),
)


@app.default
def verify(
    *,
    local: int = 3,
    workload: Literal["register"] = "register",
    seconds: float = 60.0,
    faults: str = "kill,pause,partition",
    seed: int = 0,
    clients: int = 6,
    keys: int = 5,
    history: Path | None = None,
    check: Path | None = None,
    loop: Literal["auto", "uvloop", "asyncio"] = "auto",
    data: Path | None = None,
    quiet: Annotated[bool, Parameter(negative=())] = False,
    format: Format = FORMAT,
) -> int:
    """Start nodes, let clients work while faults strike, heal, and look for one order that explains every answer.

    The exit code is 0 only if there is one and all nodes became level again; 1 also when that can't be decided.

    Parameters
    ----------
    local
        How many nodes to start on this machine.
    workload
        What the clients do: register = get, put, cas and increment on few keys.
    seconds
        How long they do it.
    faults
        Which faults strike: kill (SIGKILL and restart, of one or all), pause (SIGSTOP for 1 to 20 election timeouts),
        partition (held, reset, one-way and flapping links), slow-link, slow-disk, full-disk, clock (wall clock jumps
        and rates); with commas between, or all, or none.
    seed
        Draws faults and requests.
    clients
        Each sends one request at a time.
    keys
        How many registers.
    history
        Write all requests and answers to this file, as JSON lines.
    check
        Judge the history in this file; nothing is started.
    loop
        The nodes' event loop.
    data
        Where the nodes' directories and logs are made, and kept; else a temporary directory that is removed afterwards.
    quiet
        Don't tell of each fault.
    """
    if check is not None:
        return _check(check, format.output)
    plan = VerifyPlan(
        nodes=local, clients=clients, keys=keys, seconds=seconds, faults=faults_of(faults), seed=seed, loop=loop
    )
    with _directory(data) as directory:
        report, recorded = run(run_verify(plan, directory, _ignore if quiet else say), "auto")
    if history is not None:
        recorded.save(history)
    figures = msgspec.to_builtins(report)
    if report.is_good:
        del figures["why"]
    print_record(figures if format.output != "table" else _for_people(figures), format.output)
    if not report.is_good:
        say(f"aegis: {_verdict(report.linearizable)}: {report.why}")
    return endings.OK if report.is_good else endings.ERROR


def _check(path: Path, output: str) -> int:
    recorded = load_history(path)
    judgement = judge(recorded)
    print_record(
        {
            "operations": len(recorded.records),
            "ok": recorded.count("ok"),
            "unknown": recorded.count("unknown"),
            "failed": recorded.count("failed"),
            "linearizable": judgement.linearizable,
            "longest_stall_ms": round(recorded.longest_stall_ms(), 1),
        },
        output,
    )
    if judgement.linearizable:
        return endings.OK
    say(f"aegis: {path}: {_verdict(judgement.linearizable)}: {judgement.why}")
    return endings.ERROR


def _verdict(linearizable: bool | None) -> str:
    if linearizable is None:
        return "undecided"
    return "linearizable, but not live" if linearizable else "not linearizable"


def _for_people(figures: dict[str, Any]) -> dict[str, Any]:
    return {**figures, "faults": ", ".join(f"{kind} {count}" for kind, count in figures["faults"].items())}


def _ignore(_: str) -> None:
    """Say nothing."""


@contextmanager
def _directory(data: Path | None) -> Iterator[Path]:
    if data is None:
        with tempfile.TemporaryDirectory(prefix="aegis-verify-", ignore_cleanup_errors=True) as name:
            yield Path(name)
    elif data.exists() and any(data.iterdir()):
        raise InvalidArgument(f"--data {data}: a verification starts from nothing: give a new or empty directory")
    else:
        data.mkdir(parents=True, exist_ok=True)
        yield data
