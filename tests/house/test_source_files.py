"""Does each source file say its question first, and does it still fit one sitting?"""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
FILES = sorted(SOURCE.rglob("*.py"))
LINES_MAX = 450  # a ratchet: lower it when the longest file allows, never raise it


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_file_fits_one_sitting(path: Path) -> None:
    line_count = len(path.read_text(encoding="utf-8").splitlines())

    assert line_count <= LINES_MAX, f"{path.name} has {line_count} lines: cut it by idea, not by size"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_first_line_says_what_the_file_answers(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert ast.get_docstring(ast.parse(text)), f"{path.name} has no module docstring"
    assert text.startswith('"""'), f"{path.name} does not begin with its docstring"
