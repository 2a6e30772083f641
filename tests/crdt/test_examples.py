"""Do the examples of clocks and replicated types run and fit a page, and is their growth drawn?"""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("example", "said"),
    [
        ("crdt_shopping_cart.py", "phone and laptop agree: True"),
        ("vector_clocks.py", "after a restart it goes on above: True"),
    ],
)
def test_example_runs_and_fits_a_page(example: str, said: str) -> None:
    path = ROOT / "examples" / example

    result = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    assert said in result.stdout.splitlines()
    assert len(path.read_text("utf-8").splitlines()) <= 60


def test_the_growth_plot_is_well_formed() -> None:
    plot = ElementTree.parse(ROOT / "docs" / "crdt-growth.svg").getroot()

    lines = plot.findall("{http://www.w3.org/2000/svg}polyline")

    assert len(lines) >= 5


def test_the_benchmark_runs_and_prints_json() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "crdt.py"), "-o", "json", "--keys", "20", "--rounds", "1"]

    result = subprocess.run(command, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    assert '"ORSet.add"' in result.stdout
