"""How many examples does a law get? A few in every run; ten thousand with `--hypothesis-profile=laws`."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

# The laws themselves stand in modules beside the tests, so that mutants are tried against the very same ones.
sys.path.insert(0, str(Path(__file__).parent))

LAW_EXAMPLES = 10_000

settings.register_profile(
    "laws",
    deadline=None,
    print_blob=True,
    max_examples=LAW_EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow],
)
