"""Does every module import only what stands below it, and would a breach be seen?"""

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "aegis_replication"
CONTRACTS = ROOT / ".importlinter"


def test_all_import_contracts_are_kept() -> None:
    result = lint_imports(ROOT, ROOT / "src")

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "addition", "named"),
    [
        pytest.param("storage/base.py", "import aegis_replication.transport\n", "Floors", id="strangers-on-one-floor"),
        pytest.param("errors.py", "import aegis_replication.log\n", "Floors", id="upwards"),
        pytest.param("stray.py", "", "aegis_replication.stray", id="module-without-a-floor"),
        pytest.param("ids.py", "import time\n", "Deciders", id="clock-in-a-decider"),
    ],
)
def test_a_breach_is_reported_by_name(tmp_path: Path, module: str, addition: str, named: str) -> None:
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))

    with (tmp_path / PACKAGE.name / module).open("a", encoding="utf-8") as file:
        file.write("\n" + addition)
    result = lint_imports(tmp_path, tmp_path)

    assert result.returncode == 1, result.stdout + result.stderr
    assert named in " ".join(result.stdout.split())


def test_every_decider_is_under_the_contract_that_keeps_the_world_out() -> None:
    written = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    floors = [set(line.replace("(", "").replace(")", "").split(" | ")) for line in lines("floors", "layers")]
    highest_decider = next(number for number, floor in enumerate(floors) if "wire" in floor)
    deciders = set[str]().union(*floors[highest_decider:]) | {"engine"}

    listed = {name.removeprefix("aegis_replication.") for name in lines("no-world", "source_modules")}

    missing = sorted(deciders & written - listed)
    assert not missing, f"add to source_modules of the contract no-world in .importlinter: {missing}"


def lint_imports(directory: Path, source: Path) -> subprocess.CompletedProcess[str]:
    """Runs the project's contracts on the package found in `source`, without a cache."""
    command = Path(sys.executable).with_name("lint-imports")
    assert command.exists(), f"{command} is missing; run: make install"
    return subprocess.run(
        [command, "--config", CONTRACTS, "--no-cache", "--no-logo"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(source), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def lines(contract: str, option: str) -> list[str]:
    parser = configparser.ConfigParser()
    parser.read(CONTRACTS, encoding="utf-8")
    return parser[f"importlinter:contract:{contract}"][option].split("\n")[1:]
