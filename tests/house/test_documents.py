"""Does every Python block of README.md and docs/ run, and print what the page says it prints?

A page is one program: its blocks share one namespace and one event loop, and may `await` at the top level. A block
fenced as ```` ```text output ```` is compared with what the Python block above it printed. A block that cannot run
here says why: ```` ```python no-run: needs three machines ````.
"""

import ast
import asyncio
import contextlib
import inspect
import io
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(?P<label>[^\n`]*)\n(?P<text>.*?)^```[ ]*$", flags=re.MULTILINE | re.DOTALL)


class Block(msgspec.Struct, frozen=True, gc=False):
    label: str
    text: str
    line: int  # of its first line, counted from 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_of_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    run_page(page.read_text(encoding="utf-8"), str(page))


def test_a_wrong_block_is_noticed() -> None:
    with pytest.raises(AssertionError, match="printed"):
        run_page("```python\nprint(1 + 1)\n```\n\n```text output\n3\n```\n", "page.md")
    with pytest.raises(ZeroDivisionError):
        run_page("```python\n1 / 0\n```\n", "page.md")


def test_blocks_share_a_namespace_and_may_await() -> None:
    run_page(
        "```python\nimport asyncio\nfuture = asyncio.get_running_loop().create_future()\nawait asyncio.sleep(0)\n```\n"
        "```python\nfuture.set_result(2)\nprint(await future)\n```\n\n```text output\n2\n```\n"
        "```python no-run: divides by zero\n1 / 0\n```\n",
        "page.md",
    )


def blocks(page: str) -> Iterator[Block]:
    for match in FENCE.finditer(page):
        yield Block(match["label"].strip(), match["text"], page.count("\n", 0, match.start("text")))


def run_page(page: str, name: str) -> None:
    namespace: dict[str, object] = {"__name__": "__page__"}
    printed = ""
    with asyncio.Runner() as runner:
        for block in blocks(page):
            if block.label == "text output":
                assert printed == block.text, f"{name}:{block.line}: printed {printed!r}, the page says {block.text!r}"
            elif block.label == "python":
                printed = runner.run(run_block(block, name, namespace))
            else:
                assert not block.label.startswith("python") or block.label.startswith("python no-run: "), block.label


async def run_block(block: Block, name: str, namespace: dict[str, object]) -> str:
    """What the block printed. Its lines keep the page's numbers, so that a traceback points into the page."""
    code = compile(
        "\n" * block.line + block.text, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        result = eval(code, namespace)
        if inspect.isawaitable(result):
            await result
    return output.getvalue()
