"""Does a seed explain everything? The same seed must do the same, in any process."""

import os
import subprocess
import sys

import pytest

from aegis_replication.simulation import Cluster, run, run_many

SEEDS = (1, 2, 3, 5, 8)


def digests_in_another_process(hash_seed: str) -> list[str]:
    code = f"from aegis_replication.simulation import run\nfor seed in {SEEDS}: print(run(seed).trace_digest)"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_seed_gives_the_same_digest_whatever_the_hash_seed() -> None:
    first = digests_in_another_process("1")
    second = digests_in_another_process("4242")
    here = [run(seed).trace_digest for seed in SEEDS]

    assert first == second == here
    assert len(set(first)) == len(SEEDS)


def test_a_run_leaves_nothing_behind_for_the_next() -> None:
    alone = run(4).trace_digest
    run(3)

    assert run(4).trace_digest == alone


def test_workers_change_nothing() -> None:
    seeds = range(10, 16)

    assert run_many(seeds, workers=2) == run_many(seeds, workers=1)


def test_equal_stories_give_equal_digests() -> None:
    def told() -> str:
        cluster = Cluster(3, seed=5)
        cluster.put("k", "1")
        cluster.crash(cluster.leader())
        cluster.recover()
        return cluster.trace.digest

    assert told() == told()


@pytest.mark.parametrize("seed", [1, 2])
def test_another_seed_does_something_else(seed: int) -> None:
    assert run(seed).trace_digest != run(seed + 100).trace_digest
