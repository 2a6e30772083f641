"""Does every test exist that docs/testing.md names beside a bug of others?"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
ROWS_MIN = 46


def rows() -> list[tuple[str, str, str]]:
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    section = page.partition("### Bugs of others\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", section, flags=re.MULTILINE)
    return [row for row in found if row[0] not in ("where", "---")]


def exists(name: str) -> bool:
    """A transcript, or a function of a test file."""
    file, _, function = name.partition("::")
    if not function:
        return (TESTS / f"{file}.txt").is_file()
    path = TESTS / f"{file}.py"
    if not path.is_file():
        return False
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return function in {each.name for each in body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_the_table_names_exists() -> None:
    named = [name for _, _, tests in rows() for name in re.findall(r"`(.+?)`", tests)]

    missing = [name for name in named if not exists(name)]

    assert missing == []
    assert len(named) > len(rows())


def test_every_bug_has_a_test_or_says_why_there_is_none() -> None:
    found = rows()

    bare = [where for where, _, tests in found if "`" not in tests and not tests.startswith("absent: ")]

    assert len(found) >= ROWS_MIN
    assert bare == []
    assert len({where for where, _, _ in found}) == len(found), "a bug stands there twice"


def test_a_name_that_is_gone_is_noticed() -> None:
    assert exists("house/test_table_of_known_bugs::test_a_name_that_is_gone_is_noticed")
    assert not exists("house/test_table_of_known_bugs::test_that_never_was")
    assert not exists("house/test_that_never_was::test_x")
    assert not exists("scenarios/that_never_was")
