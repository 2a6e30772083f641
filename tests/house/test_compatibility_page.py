"""Is every name that docs/compatibility.md gives importable?"""

import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()
ROWS = [line.split("|") for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line]
NAMES = sorted({name for row in ROWS for name in re.findall(r"`(aegis_replication[\w.]*)`", row[2])})


def test_every_row_says_what_is_here_or_that_nothing_is() -> None:
    silent = [
        row[1] for row in ROWS if row[1].strip() != "the crate" and "`" not in row[2] and "not offered" not in row[2]
    ]

    assert not silent


@pytest.mark.parametrize("name", NAMES)
def test_the_name_can_be_imported(name: str) -> None:
    module, _, attribute = name.rpartition(".")

    try:
        found = getattr(import_module(module), attribute)
    except AttributeError:
        found = import_module(name)

    assert found is not None
