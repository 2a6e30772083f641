"""Do version, changelog, dependencies and their documentation agree?"""

import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import aegis_replication

VERSION: str = aegis_replication.__version__
ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_version_has_one_source() -> None:
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "src/aegis_replication/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


def test_changelog_begins_with_unreleased_and_never_runs_ahead_of_the_version() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)

    released = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - \d{4}-\d{2}-\d{2}", heading) for heading in headings[1:]]
    versions = [tuple(map(int, match.groups())) for match in released if match]

    assert headings[0] == "[Unreleased]"
    assert None not in released, f"a release is written `## [1.2.3] - 2026-01-31`: {headings}"
    assert versions == sorted(versions, reverse=True)
    assert all(version <= tuple(map(int, VERSION.split("."))) for version in versions)


def test_each_dependency_is_explained() -> None:
    extras, groups = PROJECT["project"]["optional-dependencies"], PROJECT["dependency-groups"]
    requirements = [*PROJECT["project"]["dependencies"], *chain(*extras.values(), *groups.values())]
    names = {re.split(r"[\[>=;~!< ]", requirement)[0] for requirement in requirements}
    taken = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8").partition("\n## Not taken")[0]

    explained = re.findall(r"^\| `([\w.-]+)`", taken, flags=re.MULTILINE)

    assert names - {"aegis-replication"} == set(explained)


def test_importing_the_package_loads_no_extra() -> None:
    heavy = ("cyclopts", "grpc", "h11", "hypothesis", "prometheus_client", "pytest", "rich", "uvloop")

    result = subprocess.run(
        [sys.executable, "-c", "import aegis_replication, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )

    loaded = set(result.stdout.split())
    assert "aegis_replication" in loaded
    assert not loaded & set(heavy)


def test_every_word_of_the_makefile_is_listed_by_help() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", text, flags=re.MULTILINE)

    words = set(re.findall(r"^([a-z-]+):.*## \S", text, flags=re.MULTILINE))

    assert phony is not None
    assert set(phony.group(1).split()) == words


def test_the_pytest_plugin_is_switched_off_only_while_it_is_unwritten() -> None:
    written = (ROOT / "src/aegis_replication/testing.py").exists() or (ROOT / "src/aegis_replication/testing").is_dir()

    switched_off = "no:aegis_replication" in PROJECT["tool"]["pytest"]["ini_options"]["addopts"]

    assert written is not switched_off, "pyproject.toml: `-p no:aegis_replication` goes when testing is there"
