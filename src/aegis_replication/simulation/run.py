"""Does a whole run keep every promise? One seed: trouble, healing, then all must be well; or many seeds.

The functions here print nothing: a command line hands in `on_report` and shows progress as it likes.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from xxhash import xxh3_128

from aegis_replication import __version__
from aegis_replication.engine.spec import ReplicaLimits
from aegis_replication.errors import AegisError, IncompatibleVersion, InvalidArgument, InvariantBroken, Unavailable
from aegis_replication.simulation import (
    churn,
    clocks,
    echoes,
    last_resort,
    mounts,
    mutants,
    own_disk,
    pressure,
    transfers,
    upgrades,
)
from aegis_replication.simulation.checkers.linearizability import Undecided
from aegis_replication.simulation.clocks import ClockPlan, draw_clock_plan, elsewhere
from aegis_replication.simulation.cluster import Cluster
from aegis_replication.simulation.disk import DiskSpeed
from aegis_replication.simulation.echoes import about_echoes
from aegis_replication.simulation.faults import Nemesis
from aegis_replication.simulation.mounts import Mounts, about_mounts
from aegis_replication.simulation.own_disk import keeps_its_state
from aegis_replication.simulation.plan import COUNTED as PLANNED
from aegis_replication.simulation.plan import Plan, about_beginnings, draw_plan
from aegis_replication.simulation.pressure import about_pressure
from aegis_replication.simulation.subject import KeyValueSubject, Subject, Workload, find_subject
from aegis_replication.simulation.upgrades import UpgradePlan, Upgrades, draw_upgrade_plan

_PARTS = (churn, clocks, echoes, mounts, pressure, upgrades, own_disk, last_resort, transfers)
COUNTED: tuple[str, ...] = (*PLANNED, *(kind for part in _PARTS for kind in part.COUNTED))
"""Every kind of fault that a report counts; each must happen in a hundred seeds."""

RECOVERY_MS = 8_000.0
"""Virtual time after healing within which every group must have a leader and all its replicas must have caught up."""

SEEDS_PER_TASK = 4

RECORDING_FORMAT = 1

HASH_SEEDS = (1, 2)
"""Under which a user's own machine is played."""


class Violation(msgspec.Struct, frozen=True):
    """A promise that a run broke, and where."""

    seed: int
    invariant: str
    detail: str
    step: int  # of the run's clock: a replay stops there
    at_ms: float
    story: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join((f"seed {self.seed} at {self.at_ms:.3f} ms: {self.invariant}: {self.detail}", *self.story))


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one run came to, or several together."""

    seeds: int
    events: int  # steps taken on virtual time
    simulated_seconds: float
    operations_acknowledged: int
    operations_unknown: int
    faults: dict[str, int]
    elections: int
    violations: tuple[Violation, ...] = ()
    not_live: tuple[Violation, ...] = ()  # healed, and yet without a leader or with replicas left behind
    undecided: int = 0  # histories with too many orders to try
    trace_digest: str = ""
    mutant: str | None = None
    machine: str | None = None

    @property
    def is_good(self) -> bool:
        return not (self.violations or self.not_live or self.undecided)

    @property
    def failures(self) -> tuple[Violation, ...]:
        """Violations and runs that didn't come back, by seed."""
        return tuple(sorted((*self.violations, *self.not_live), key=lambda each: each.seed))


def run(seed: int, *, mutant: str | None = None, machine: str | None = None) -> Report:
    """Play one seed to its end, or to the first broken promise. Equal seeds give equal reports.

    `mutant` names a known mistake that is built in meanwhile; `machine` a class of your own ("package.module:Class")
    that is replicated instead of the key-value machine.
    """
    subject = find_subject(machine)
    with _mutated(mutant):
        play = Play(seed, subject)
        violation: Violation | None = None
        undecided = 0
        try:
            play.to_the_end()
        except InvariantBroken as broken:
            violation = play.violation(broken)
        except Undecided:
            undecided = 1
    return play.report(violation, undecided, mutant, machine)


def _mutated(name: str | None) -> AbstractContextManager[None]:
    return nullcontext() if name is None else mutants.find(name).applied()


def _rarely_sized(plan: Plan, random: Random) -> Plan:
    """One run in ten is of a size that the others don't have: alone, or with a majority of four."""
    return msgspec.structs.replace(plan, nodes=random.choice((1, 6, 7))) if random.random() < 0.1 else plan


class Play:
    """One seed, played on a cluster of its own."""

    __slots__ = ("clocks", "cluster", "nemesis", "plan", "seed", "upgrades", "workload")

    def __init__(self, seed: int, subject: Subject | None = None) -> None:
        self.seed = seed
        plan = _rarely_sized(draw_plan(Random(f"{seed}/plan")), Random(f"{seed}/size"))
        with_churn = churn.with_churn(plan, Random(f"{seed}/members"))
        special = about_echoes(about_beginnings(plan, Random(f"{seed}/beginnings")), Random(f"{seed}/echoes"))
        special = about_pressure(special, Random(f"{seed}/pressed")) if special is plan else special
        special = about_mounts(special, Random(f"{seed}/mounts")) if special is plan else special
        if subject is None or isinstance(subject, KeyValueSubject):
            subject = KeyValueSubject(keeps_its_state=keeps_its_state(Random(f"{seed}/own disk")))
        is_special = with_churn is plan and special is not plan  # it waits for a moment that nothing may disturb
        self.plan: Plan = special if is_special else with_churn
        drawn = draw_clock_plan(Random(f"{seed}/clocks"), self.plan.kinds)
        self.clocks: ClockPlan = ClockPlan() if is_special else drawn
        plan = self.plan
        upgrade_plan: UpgradePlan = draw_upgrade_plan(Random(f"{seed}/upgrades"), is_off=plan.is_about_mounts)
        of_transfers = transfers.draw_transfer_plan(Random(f"{seed}/transfers"))
        transfer_plan = transfers.TransferPlan() if is_special or self.clocks.is_alone else of_transfers
        groups = tuple(range(1, plan.groups + 1))
        self.cluster = Cluster(
            plan.nodes,
            seed=seed,
            config=transfers.quick_to_forget(plan.config(), transfer_plan).replace(
                format_highest=upgrade_plan.format_highest
            ),
            groups=groups,
            weather=plan.weather,
            speed=DiskSpeed(plan.flush_ms),
            flush_aside=plan.flush_aside,
            sessions_max=plan.sessions_max,
            idle_ms=plan.idle_ms,
            segment_bytes=plan.segment_bytes,
            priorities=plan.priorities,
            lease=self.clocks.lease,
            clock_error=self.clocks.clock_error,
            machine=subject,
            limits=ReplicaLimits(frame_bytes=plan.segment_bytes // 4, frame_commands=plan.frame_commands),
        )
        self.workload: Workload = subject.make_workload(groups, plan.skew, plan.is_uniform)
        self.nemesis = Nemesis(self.cluster, plan, self.clocks, transfer_plan)
        self.upgrades = Upgrades(self.cluster, upgrade_plan, self.cluster.clock.random("upgrades"))
        choose = elsewhere(self.workload.choose, self.clocks.reads_elsewhere)
        for index in range(1, plan.clients + 1):
            self.cluster.add_client(
                index,
                choose,
                pause_ms=plan.pause_ms,
                timeout_ms=2.0 * plan.config().election_timeout_min_ms,
                depth=plan.client_depth,
                without_session=plan.without_session,
                on_result=self.workload.learn,
            )

    def to_the_end(self) -> None:
        """Trouble, healing, judgement. Raises InvariantBroken at the step that breaks a promise."""
        cluster, clients = self.cluster, list(self.cluster.clients.values())
        for client in clients:
            client.begin()
        self.nemesis.begin()
        self.upgrades.begin()
        if self.plan.is_about_mounts:
            Mounts(cluster, cluster.clock.random("mounts")).begin()
        cluster.run(self.plan.duration_ms)
        self.nemesis.dismiss()
        self.upgrades.settle()
        self._repair()
        cluster.recover(within_ms=RECOVERY_MS)
        for client in clients:
            client.is_patient = True
        cluster.run(300.0)  # all of them get through again
        for client in clients:
            client.stopped = True
        self._wait_for_answers()
        cluster.recover(within_ms=RECOVERY_MS)
        for ask in self.workload.read_all():
            cluster.ask(ask)
        cluster.check()
        self.upgrades.judge()
        if last_resort.is_tried(self.plan.groups, Random(f"{self.seed}/last resort")):
            last_resort.lose_majority(cluster, self.workload, cluster.clock.random("last resort"))

    def _repair(self) -> None:
        """A node whose disk was made anew becomes a member again, or another in its place."""
        churn = self.nemesis.churn
        self.cluster.revive()
        try:
            self.cluster.wait_until(lambda: churn.is_settled, "wiped node that is back", within_ms=RECOVERY_MS)
        except Unavailable as error:
            raise InvariantBroken("liveness", f"healed, but {churn.wiped} is still out: {error}") from None

    def _wait_for_answers(self) -> None:
        clients = self.cluster.clients.values()
        try:
            self.cluster.wait_until(
                lambda: not any(client.pending for client in clients), "answer", within_ms=RECOVERY_MS
            )
        except Unavailable as error:
            raise InvariantBroken("liveness", f"healed, but clients still wait: {error}") from None

    def violation(self, broken: InvariantBroken) -> Violation:
        """Where and how this run broke a promise."""
        clock = self.cluster.clock
        story = tuple(self.cluster.trace.story(last=60))
        return Violation(self.seed, broken.invariant, broken.detail, clock.steps, clock.now_ms, story)

    def report(self, violation: Violation | None, undecided: int, mutant: str | None, machine: str | None) -> Report:
        """What this run came to."""
        cluster = self.cluster
        is_dead = violation is not None and violation.invariant == "liveness"
        return Report(
            seeds=1,
            events=cluster.clock.steps,
            simulated_seconds=cluster.clock.now_ms / 1000.0,
            operations_acknowledged=cluster.journal.acknowledged,
            operations_unknown=cluster.journal.unknown,
            faults={kind: cluster.faults[kind] for kind in COUNTED},
            elections=cluster.watch.elections,
            violations=(violation,) if violation is not None and not is_dead else (),
            not_live=(violation,) if violation is not None and is_dead else (),
            undecided=undecided,
            trace_digest=cluster.trace.digest,
            mutant=mutant,
            machine=machine,
        )


# --- many seeds -----------------------------------------------------------------------------------------------------


def run_many(
    seeds: Iterable[int],
    *,
    mutant: str | None = None,
    machine: str | None = None,
    workers: int = 2,
    stop_at_first: bool = False,
    on_report: Callable[[int, Report], None] | None = None,
) -> Report:
    """Play many seeds in `workers` processes (1: in this one); the sum of their reports.

    `on_report` is called with each seed and its report, in the order in which they finish. With `stop_at_first` the
    seeds behind the first broken promise are left out. With a `machine` of your own every seed is played a second time
    in a process that hashes differently: whatever depends on that differs between your nodes. Raises AegisError when a
    worker is killed.
    """
    wanted = list(seeds)
    if not wanted:
        raise InvalidArgument("no seeds to run: give at least one")
    find_subject(machine)
    found: dict[int, Report] = {}
    for seed, report in _reports(wanted, mutant, machine, workers, hash_seed=HASH_SEEDS[0] if machine else None):
        found[seed] = report
        if on_report is not None:
            on_report(seed, report)
        if stop_at_first and not report.is_good:
            break
    if machine is not None and all(report.is_good for report in found.values()):
        for seed, again in _reports(sorted(found), mutant, machine, workers, hash_seed=HASH_SEEDS[1]):
            found[seed] = _compared(seed, found[seed], again)
            if on_report is not None and not found[seed].is_good:
                on_report(seed, found[seed])
    return combine(found)


def _compared(seed: int, first: Report, second: Report) -> Report:
    """The first report, with a violation if the second run, with other hashes, did something else."""
    if first.trace_digest == second.trace_digest:
        return first
    detail = (
        f"PYTHONHASHSEED={HASH_SEEDS[0]} and {HASH_SEEDS[1]} give different runs: a result or the state of "
        f"{first.machine} depends on the order of a set or on hash(); use sorted()"
    )
    violation = Violation(
        seed, "equal under every hash seed", detail, first.events, first.simulated_seconds * 1000.0, ()
    )
    return msgspec.structs.replace(first, violations=(violation,))


def _reports(
    seeds: list[int], mutant: str | None, machine: str | None, workers: int, *, hash_seed: int | None
) -> Iterator[tuple[int, Report]]:
    if hash_seed is None and (workers <= 1 or len(seeds) <= SEEDS_PER_TASK):
        for seed in seeds:
            yield seed, run(seed, mutant=mutant, machine=machine)
        return
    tasks = [seeds[first : first + SEEDS_PER_TASK] for first in range(0, len(seeds), SEEDS_PER_TASK)]
    with ProcessPoolExecutor(max(1, min(workers, len(tasks))), get_context("spawn")) as pool:
        with _hashing(hash_seed):  # processes start as work is submitted
            playing = {pool.submit(_run_packed, task, mutant, machine): task for task in tasks}
        try:
            for done in as_completed(playing):
                for seed, packed in zip(playing[done], done.result(), strict=True):
                    yield seed, msgspec.msgpack.decode(packed, type=Report)
        except BrokenProcessPool:
            raise AegisError(
                "a worker process was killed while it played seeds (out of memory?): try again, with fewer workers"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _hashing(hash_seed: int | None) -> Iterator[None]:
    """Processes started in this block hash text and bytes as that seed says."""
    if hash_seed is None:
        yield
        return
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = str(hash_seed)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before


def _run_packed(seeds: list[int], mutant: str | None, machine: str | None) -> list[bytes]:
    return [msgspec.msgpack.encode(run(seed, mutant=mutant, machine=machine)) for seed in seeds]


def combine(reports: dict[int, Report]) -> Report:
    """The sum of reports by seed; its digest covers theirs in the order of seeds."""
    ordered = [reports[seed] for seed in sorted(reports)]
    faults: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
    digest = xxh3_128()
    for seed in sorted(reports):
        faults.update(reports[seed].faults)
        digest.update(f"{seed} {reports[seed].trace_digest}\n".encode())
    return Report(
        seeds=len(ordered),
        events=sum(each.events for each in ordered),
        simulated_seconds=sum(each.simulated_seconds for each in ordered),
        operations_acknowledged=sum(each.operations_acknowledged for each in ordered),
        operations_unknown=sum(each.operations_unknown for each in ordered),
        faults=dict(faults),
        elections=sum(each.elections for each in ordered),
        violations=tuple(violation for each in ordered for violation in each.violations),
        not_live=tuple(violation for each in ordered for violation in each.not_live),
        undecided=sum(each.undecided for each in ordered),
        trace_digest=digest.hexdigest(),
        mutant=ordered[0].mutant,
        machine=ordered[0].machine,
    )


# --- once more ------------------------------------------------------------------------------------------------------


class Recording(msgspec.Struct, frozen=True):
    """A failed run, as a file holds it: enough to play it again, and what was found then."""

    format: int
    version: str
    seed: int
    mutant: str | None
    violation: Violation
    machine: str | None = None


def save_recording(path: str | Path, report: Report) -> Recording:
    """Write the first failure of `report` to a file (JSON) that `replay` plays again."""
    if not report.failures:
        raise InvalidArgument("nothing failed: there is no run to record")
    first = report.failures[0]
    recording = Recording(RECORDING_FORMAT, __version__, first.seed, report.mutant, first, report.machine)
    Path(path).write_bytes(msgspec.json.format(msgspec.json.encode(recording), indent=2) + b"\n")
    return recording


def load_recording(path: str | Path) -> Recording:
    """A recording. Raises InvalidArgument for anything else, IncompatibleVersion for one of a newer program."""
    try:
        raw = Path(path).read_bytes()
        head = msgspec.json.decode(raw)
        if isinstance(head, dict) and head.get("format", RECORDING_FORMAT) != RECORDING_FORMAT:
            raise IncompatibleVersion(
                f"{path}: a recording of format {head['format']}; this program knows {RECORDING_FORMAT}"
            )
        return msgspec.json.decode(raw, type=Recording)
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}: give a file that `aegis simulate` wrote") from None
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"{path}: not a recording ({error}): give a file that `aegis simulate` wrote") from None


def replay(recording: Recording, *, last: int = 200, on_line: Callable[[str], Any] | None = None) -> Violation | None:
    """Play a recorded run again, up to the step where it broke; the violation found now, or None.

    `on_line` gets the story as it happens: what the last `last` steps did, line by line.
    """
    with _mutated(recording.mutant):
        play = Play(recording.seed, find_subject(recording.machine))
        if on_line is not None:
            play.cluster.trace.tell(on_line, from_step=max(0, recording.violation.step - last))
        try:
            play.to_the_end()
        except InvariantBroken as broken:
            return play.violation(broken)
    return None
