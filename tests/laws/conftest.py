"""How many examples does a law get, and how do these tests find the modules beside them?"""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent

# raft_cluster.py of the paper's tests; and the laws of placement and partitioning, which stand in modules of their own
# so that mutants are tried against the very same ones.
sys.path[:0] = [str(HERE), str(HERE.parent / "paper")]

# `--hypothesis-profile=laws`; without it the profile of tests/conftest.py.
settings.register_profile(
    "laws",
    deadline=None,
    print_blob=True,
    max_examples=10_000,
    suppress_health_check=[HealthCheck.too_slow],
)
