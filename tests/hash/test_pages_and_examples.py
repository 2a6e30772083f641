"""Do the pages about placement and partitioning show what the command and the examples really print?"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONSOLE = re.compile(r"^```console\n\$ (?P<command>[^\n]*)\n(?P<shown>.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def console_blocks() -> list[tuple[str, str]]:
    pages = [ROOT / "docs" / "hash.md", ROOT / "docs" / "partition.md"]
    return [(each["command"], each["shown"]) for page in pages for each in CONSOLE.finditer(page.read_text("utf-8"))]


def run(*words: str) -> str:
    ended = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    return "".join(f"{line.rstrip()}\n" for line in ended.stdout.splitlines())


def test_the_page_has_commands() -> None:
    assert len(console_blocks()) >= 3


@pytest.mark.parametrize(("command", "shown"), console_blocks())
def test_commands_print_what_the_page_shows(command: str, shown: str) -> None:
    program, *words = shlex.split(command)

    printed = run("-m", "aegis_replication.cli.main", *words)

    assert program == "aegis"
    assert printed == shown


@pytest.mark.parametrize(
    ("example", "last"),
    [("hash_ring.py", "another process agrees: True"), ("partitioning.py", "orders of one day: [1]")],
)
def test_examples_run_and_fit_a_page(example: str, last: str) -> None:
    path = ROOT / "examples" / example

    printed = run(str(path))

    assert printed.splitlines()[-1] == last
    assert len(path.read_text("utf-8").splitlines()) <= 60


def test_growth_is_drawn_as_well_formed_svg() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from xml.etree import ElementTree

    from growth_plot import draw

    drawn = draw("cost", "size", "ns", {"one": [(100, 5.0), (1_000_000, 50.0)], "two": [(100, 7.0), (1_000_000, 49.0)]})

    root = ElementTree.fromstring(drawn)
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 2
    assert ElementTree.parse(ROOT / "docs" / "placement-growth.svg").getroot().tag.endswith("svg")
