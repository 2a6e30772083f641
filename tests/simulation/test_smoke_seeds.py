"""Do whole runs keep every promise? A hundred seeds in every test run, and the seeds that once found something.

`aegis simulate --seeds 500` runs many more.
"""

import pytest

from aegis_replication.simulation import Report, run, run_many
from aegis_replication.simulation.run import COUNTED

SMOKE = range(100)

# Seeds that broke something once, and what it was. A seed means another run as soon as anything draws another number:
# it stands for the kind of run that found it.
REGRESSIONS = {
    20: "an append acknowledged while a snapshot was on its way left the guess of what to send next behind",
    52: "the same, with acknowledgements that had waited for the disk",
}


@pytest.fixture(scope="module")
def smoke() -> Report:
    return run_many(SMOKE, workers=1)


def test_smoke_seeds_break_no_promise(smoke: Report) -> None:
    assert not smoke.violations, "\n\n".join(map(str, smoke.violations))


def test_every_cluster_comes_back_once_the_faults_are_over(smoke: Report) -> None:
    assert not smoke.not_live, "\n\n".join(map(str, smoke.not_live))
    assert not smoke.undecided


def test_the_runs_are_not_hollow(smoke: Report) -> None:
    missing = [kind for kind in COUNTED if not smoke.faults[kind]]

    assert not missing
    assert smoke.seeds == len(SMOKE)
    assert smoke.operations_acknowledged > 100 * len(SMOKE)
    assert smoke.elections > 2 * len(SMOKE)
    assert smoke.simulated_seconds > 3 * len(SMOKE)
    assert smoke.events > 1000 * len(SMOKE)


@pytest.mark.parametrize("seed", REGRESSIONS, ids=lambda seed: f"seed-{seed}")
def test_a_seed_that_once_failed_passes(seed: int) -> None:
    report = run(seed)

    assert report.is_good, "\n".join(map(str, report.failures))
