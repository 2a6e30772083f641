"""Do real nodes answer as one register under real faults, and go on without their leader?"""

import json

from aegis_replication.bench.failover import FailoverBench, run_failover
from aegis_replication.cli.main import main
from aegis_replication.verify.run import VerifyPlan, verify

SEED = 20270117


def say(line: str) -> None:
    print(line)


async def test_a_cluster_stays_linearizable_under_kills_pauses_and_partitions(tmp_path):
    plan = VerifyPlan(seconds=12.0, faults=("kill", "pause", "partition"), seed=SEED, clients=5, keys=3)

    report, history = await verify(plan, tmp_path / "cluster", say)

    assert report.linearizable is True, f"seed {SEED}: {report.why}"
    assert report.live, f"seed {SEED}: {report.why}"
    assert report.ok > 100
    assert report.operations == report.ok + report.unknown + report.failed == len(history.records)
    assert sorted(report.faults) == ["kill", "partition", "pause"]
    assert min(report.faults.values()) >= 1


async def test_bad_disks_and_clocks_break_no_promise(tmp_path):
    plan = VerifyPlan(seconds=12.0, faults=("slow-disk", "full-disk", "clock", "slow-link"), seed=SEED, keys=3)

    report, _ = await verify(plan, tmp_path / "cluster", say)

    assert report.linearizable is True, f"seed {SEED}: {report.why}"
    assert report.live, f"seed {SEED}: {report.why}"
    assert min(report.faults.values()) >= 1


async def test_writes_go_on_when_the_leaders_links_carry_nothing_any_more(tmp_path):
    figures = await run_failover(FailoverBench(rounds=1, how="blackhole", seed=SEED), tmp_path / "cluster", say)

    assert figures["rounds"] == len(figures["runs"]) == 1
    assert figures["elections"] >= 1
    assert figures["writes_acknowledged"] > 0


def test_what_a_run_recorded_can_be_judged_again(tmp_path, capfdbinary):
    path = tmp_path / "history.jsonl"
    words = ("verify", "--seconds", "2", "--faults", "pause", "--history", str(path), "--quiet", "-o", "json")

    code = main(words)

    ran = json.loads(capfdbinary.readouterr()[0])
    assert code == 0
    assert main(("verify", "--check", str(path), "-o", "json")) == 0
    checked = json.loads(capfdbinary.readouterr()[0])
    assert [checked[key] for key in ("operations", "ok")] == [ran[key] for key in ("operations", "ok")]
