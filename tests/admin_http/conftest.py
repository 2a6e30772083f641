"""What do the tests of the HTTP door share? Virtual time, and callers without sockets."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("h11", reason="the extra http is not installed")
pytest.importorskip("prometheus_client", reason="the extra http is not installed")

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "client")]
