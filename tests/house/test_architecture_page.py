"""Does docs/architecture.md still draw the floors that `.importlinter` holds?"""

import re
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[2]


def floors() -> str:
    parser = ConfigParser()
    parser.read(ROOT / ".importlinter")
    layers = parser["importlinter:contract:floors"]["layers"].strip().splitlines()
    return "\n".join(line.strip() for line in layers)


def test_the_page_draws_the_floors_that_are_held() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()

    drawn = re.search(r"<!-- floors -->\n```\n(.*?)\n```\n<!-- /floors -->", page, re.DOTALL)

    assert drawn is not None
    assert drawn[1] == floors(), f"copy this into docs/architecture.md:\n{floors()}"
