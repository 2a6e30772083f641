"""How long do real processes hold out? Histories, kill loops and pause loops; and which faults were not among them.

    make soak                     at most 60 minutes
    make soak SOAK_MINUTES=5      the same in short
    make soak SOAK_DOCS=1         writes the result into docs/testing.md, "Last soak"

Exit code 1 if any run was not linearizable, could not be decided, or did not become level again; its history is kept.
"""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import msgspec

from aegis_replication import __version__
from aegis_replication.storage.files import RealFiles
from aegis_replication.verify.plan import KINDS, Fault
from aegis_replication.verify.run import ELECTION_TIMEOUT_MS, VerifyPlan, VerifyReport, verify

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "testing.md"
KEPT = ROOT / "build" / "soak"
BEGIN, END = "<!-- last soak -->\n", "<!-- /last soak -->"

HISTORIES, KILLS, PAUSES = 30, 50, 20  # in a full hour
HISTORY_SHARE, KILL_SHARE, PAUSE_SHARE = 0.72, 0.15, 0.13  # of the time
OVERHEAD_S = 7.0  # of a run: start, healing, judgement
KILL_S, PAUSE_S = 3.0, 4.5  # one round of a loop
ROUNDS_PER_RUN = 10

# Which nodes and faults each history has, in turn.
MIXES = (
    (3, ("kill", "pause", "partition")),
    (3, KINDS),
    (5, ("kill", "pause", "partition", "slow-link")),
    (3, ("slow-disk", "full-disk", "kill")),
    (4, ("partition", "kill")),
    (3, ("clock", "pause", "partition")),
    (1, ("kill", "slow-disk", "full-disk", "clock")),
)

# Every kind of fault that real processes are to survive, as far as it concerns Raft or the disk, and where it is.
ROWS = (
    ("kill -9 at random moments, of one node, of all at once, restarts", "histories, kill loops"),
    ("SIGSTOP for 1 to 20 election timeouts", "histories, pause loops"),
    ("symmetric partition: one node, halves of 4 nodes", "histories"),
    ("one-way cut, one link alone, ring of majorities (5 nodes)", "histories"),
    ("flapping link, period near the election timeout", "histories"),
    ("slow link: 160 kbit/s, 1 Mbit/s, 40 and 200 ms more a round trip", "histories"),
    ("black hole without a reset; resets", "histories"),
    ("slow disk; flushes that stall for 0.5 to 2 s", "histories"),
    ("full disk: no file grows, or nothing can be written", "histories, as ENOSPC from the node's file calls"),
    ("wall clock: jumps of up to an hour, 20 % too fast or slow", "histories, as the process sees its clock"),
    ("unsynced writes lost (power cut); a reply only after a majority's flush", "`make test`: tests/process"),
    ("EIO from write and fsync", "`make test`: tests/process, tests/storage"),
    ("torn write at every byte; flipped bits in log, votes, snapshots", "`make test`: tests/storage"),
    ("garbage, oversize lengths, slow handshakes on every port", "`make test`: tests/transport"),
    ("packets dropped, doubled, reordered", "absent: TCP hides them; the simulator has them"),
    ("EMFILE; EIO from read", "absent"),
    ("flushes that stall for longer than 2 s", "absent"),
    ("monotonic clock too fast, too slow, frozen", "absent: the simulator has it"),
    ("wiped disk under an old id; membership changes under faults", "absent"),
    ("corrupt snapshot on its way, sender dying midway", "absent: the simulator and tests/storage have it"),
    ("flood of 10 times the capacity; a follower down for an hour of load", "absent"),
)


class Part(msgspec.Struct):
    """What one part came to."""

    name: str
    wanted: int
    rounds: int = 0
    reports: list[VerifyReport] = []
    seconds: float = 0.0

    def total(self, name: str) -> int:
        """A figure of all its runs."""
        return sum(getattr(report, name) for report in self.reports)


class Soak:
    """All parts, within their time."""

    def __init__(self, minutes: float, seed: int) -> None:
        self.minutes, self.seed = minutes, seed
        seconds = 60.0 * minutes
        self.history_seconds = min(60.0, max(10.0, seconds * HISTORY_SHARE / HISTORIES - OVERHEAD_S))
        histories = int(seconds * HISTORY_SHARE / (self.history_seconds + OVERHEAD_S))
        self.histories = Part("histories", min(HISTORIES, max(1, histories)))
        self.kills = Part("kill loops", min(KILLS, max(2, int((seconds * KILL_SHARE - OVERHEAD_S) / KILL_S))))
        self.pauses = Part("pause loops", min(PAUSES, max(2, int((seconds * PAUSE_SHARE - OVERHEAD_S) / PAUSE_S))))
        self.troubles: list[str] = []
        self.took_s = 0.0
        self.filesystem = ""

    @property
    def parts(self) -> list[Part]:
        """In the order in which they run."""
        return [self.histories, self.kills, self.pauses]

    def run(self) -> None:
        """Everything; what is bad is in `troubles`."""
        began = time.monotonic()
        for number in range(self.histories.wanted):
            nodes, faults = MIXES[number % len(MIXES)]
            plan = VerifyPlan(nodes=nodes, faults=faults, seconds=self.history_seconds, seed=self.seed + number)
            self._run_one(self.histories, plan, None, rounds=1)
        for part, kind, each_s in ((self.kills, "kill", KILL_S), (self.pauses, "pause", PAUSE_S)):
            random = Random(f"{self.seed}/{kind}")
            left = part.wanted
            while left:
                rounds = min(left, ROUNDS_PER_RUN)
                left -= rounds
                schedule = [self._round(random, kind, 1.0 + at * each_s) for at in range(rounds)]
                seed = random.randrange(1_000_000)
                plan = VerifyPlan(faults=(kind,), seconds=1.0 + rounds * each_s, seed=seed)
                self._run_one(part, plan, schedule, rounds=rounds)
        self.took_s = time.monotonic() - began

    @staticmethod
    def _round(random: Random, kind: str, at_s: float) -> Fault:
        victim = random.randrange(3)
        how = random.choice(("one", "one", "one", "all")) if kind == "kill" else ""
        timeouts = 20.0 ** random.random()
        lasts_s = random.uniform(0.0, 1.5) if kind == "kill" else ELECTION_TIMEOUT_MS[1] / 1000.0 * timeouts
        return Fault(kind, at_s, lasts_s, victim, (victim + 1) % 3, random.random() < 0.5, how)

    def _run_one(self, part: Part, plan: VerifyPlan, faults: Sequence[Fault] | None, *, rounds: int) -> None:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="aegis-soak-", ignore_cleanup_errors=True) as name:
            self.filesystem = RealFiles().filesystem(name)
            report, history = asyncio.run(verify(plan, Path(name) / "nodes", lambda _: None, faults=faults))
        part.reports.append(report)
        part.rounds += rounds
        part.seconds += time.monotonic() - began
        verdict = "good" if report.is_good else "BAD"
        struck = ", ".join(f"{kind} {count}" for kind, count in report.faults.items())
        say(
            f"{part.name} {part.rounds}/{part.wanted}: {verdict}, {plan.nodes} nodes, seed {plan.seed}, "
            f"{report.ok:,} ok, {report.unknown} unknown, stall {report.longest_stall_ms:,.0f} ms, {struck}"
        )
        if not report.is_good:
            KEPT.mkdir(parents=True, exist_ok=True)
            path = KEPT / f"{part.name.replace(' ', '-')}-{part.rounds}.jsonl"
            history.save(path)
            self.troubles.append(f"{part.name} {part.rounds} (seed {plan.seed}, {path}): {report.why}")


def table(soak: Soak) -> Iterator[str]:
    """The result as Markdown."""
    when = time.strftime("%Y-%m-%d", time.gmtime())
    whole = "a whole one" if soak.minutes >= 60 else f"a short one, SOAK_MINUTES={soak.minutes:g}"
    yield (
        f"{when}, version {__version__}: {soak.took_s / 60:.1f} minutes ({whole}; {os.cpu_count()} cores, "
        f"{platform.system()}, Python {platform.python_version()}, {soak.filesystem}), "
        f"{'no run was bad' if not soak.troubles else f'{len(soak.troubles)} RUNS WERE BAD'}."
    )
    yield ""
    yield "| part | rounds | of a full hour's | requests ok | unknown | failed | elections | not good |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for part, full in zip(soak.parts, (HISTORIES, KILLS, PAUSES), strict=True):
        bad = sum(not report.is_good for report in part.reports)
        figures = " | ".join(f"{part.total(name):,}" for name in ("ok", "unknown", "failed", "elections"))
        yield f"| {part.name} | {part.rounds} | {full} | {figures} | {bad} |"
    yield ""
    struck: Counter[str] = Counter()
    for part in soak.parts:
        for report in part.reports:
            struck.update(report.faults)
    yield "Faults: " + ", ".join(f"{kind} {struck[kind]}" for kind in KINDS) + "."
    yield f"Histories of {soak.history_seconds:.0f} s each, with 1, 3, 4 and 5 nodes in turn."
    yield ""
    yield "| fault | where it is |"
    yield "| --- | --- |"
    for fault, where in ROWS:
        yield f"| {fault} | {where} |"


def write_docs(lines: Sequence[str]) -> None:
    """The result into its place in docs/testing.md."""
    page = PAGE.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE}: has no place between {BEGIN.strip()} and {END}")
    PAGE.write_text(before + begin + "\n" + "\n".join(lines) + "\n\n" + end + after, encoding="utf-8")


def say(line: str) -> None:
    """Talk as it goes."""
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Histories, kill loops and pause loops on real processes.")
    parser.add_argument("--minutes", type=float, default=60.0, help="at most so long (60)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first run; else a new one each time")
    parser.add_argument("--write-docs", action="store_true", help='write "Last soak" in docs/testing.md')
    asked = parser.parse_args()
    if not 1.0 <= asked.minutes <= 60.0:
        parser.error(f"--minutes {asked.minutes:g}: give 1 to 60")
    soak = Soak(asked.minutes, asked.seed)
    say(f"soak of at most {asked.minutes:g} minutes, first seed {asked.seed}")
    soak.run()
    lines = list(table(soak))
    print("\n".join(lines))
    for trouble in soak.troubles:
        say(f"BAD: {trouble}")
    if asked.write_docs:
        write_docs(lines)
    return 1 if soak.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
