"""Does anything in src/ run bytes as code, or let Python's salted hash leave the process?"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
FILES = sorted(SOURCE.rglob("*.py"))

BANNED_MODULES = {
    "pickle": "loading it runs code",
    "cPickle": "loading it runs code",
    "dill": "loading it runs code",
    "cloudpickle": "loading it runs code",
    "marshal": "its format changes with Python's version",
    "shelve": "it is pickle in a file",
}
BANNED_CALLS = {
    "eval": "it runs text as code",
    "exec": "it runs text as code",
    "compile": "it turns text into code",
    "__import__": "import at the top of the file",
}
BANNED_METHODS = {
    ("os", "system"): "use subprocess with a list of arguments",
    ("os", "popen"): "use subprocess with a list of arguments",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_source_has_no_banned_call(path: Path) -> None:
    found = list(banned(path.read_text(encoding="utf-8")))

    assert not found, "\n".join(f"{path.relative_to(SOURCE)}:{line}: {reason}" for line, reason in found)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import marshal as m",
        "from shelve import open",
        "eval('1')",
        "exec('1')",
        "compile('1', 'f', 'exec')",
        "slot = hash(key) % 16",
        "sorted(keys, key=hash)",
        "class A:\n    def __eq__(self, other):\n        return hash(self) == hash(other)",
        "import os\nos.system('ls')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
    ],
)
def test_each_banned_form_is_found(source: str) -> None:
    assert len(list(banned(source))) >= 1


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n    def __hash__(self):\n        return hash(self.key)",
        "self.hash(key)",
        "re.compile('a+')",
        "await asyncio.create_subprocess_exec('ls')",
        "from aegis_replication.hash import HashRing",
    ],
)
def test_what_only_looks_like_one_is_allowed(source: str) -> None:
    assert list(banned(source)) == []


def banned(source: str) -> Iterator[tuple[int, str]]:
    """Line and reason of each banned import, call or use of the builtin `hash`."""
    return visit(ast.parse(source), inside_hash_method=False)


def visit(node: ast.AST, *, inside_hash_method: bool) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.FunctionDef):
        inside_hash_method = node.name == "__hash__"
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        for name in names:
            if reason := BANNED_MODULES.get(name.partition(".")[0]):
                yield node.lineno, f"{name}: {reason}"
    elif isinstance(node, ast.Name) and node.id == "hash" and not inside_hash_method:
        # Salted per process: two nodes, or one node before and after a restart, would disagree.
        yield node.lineno, "builtin hash(): differs between processes; use aegis_replication.hash"
    elif isinstance(node, ast.Call):
        yield from banned_call(node)
    for child in ast.iter_child_nodes(node):
        yield from visit(child, inside_hash_method=inside_hash_method)


def banned_call(node: ast.Call) -> Iterator[tuple[int, str]]:
    match node.func:
        case ast.Name(id=name) if name in BANNED_CALLS:
            yield node.lineno, f"{name}(): {BANNED_CALLS[name]}"
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if (owner, name) in BANNED_METHODS:
            yield node.lineno, f"{owner}.{name}(): {BANNED_METHODS[owner, name]}"
    for keyword in node.keywords:
        if keyword.arg == "shell" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True:
            yield node.lineno, "shell=True: use a list of arguments"
