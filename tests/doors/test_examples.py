"""Do the examples about clients and doors run, and do they fit a page?"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAST = {
    "kv.py": "tour/report = a hundred",
    "replicated_class.py": "refused: ValueError: 1 of teapot short",
    "raft_node.py": "the next leader knows it: b'value' in a later term: True",
    "embedded.py": "starts so far: 2",
    "sync_client.py": "jobs: 100",
}


@pytest.mark.parametrize("name", LAST)
def test_example_runs_and_fits_a_page(name: str) -> None:
    path = ROOT / "examples" / name

    ended = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == LAST[name]
    assert len(path.read_text("utf-8").splitlines()) <= 60
