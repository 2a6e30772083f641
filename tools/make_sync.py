"""How does the blocking API come about? Written from the async one: same names, same signatures, same words.

`make sync` writes client.py, operations.py and local.py of sync/; tests/house notices when that is due.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "aegis_replication"

# By file that is written: which classes and functions have a blocking twin, and where they come from.
FILES = {
    "sync/operations.py": (("MembersClient", "client.members"), ("BackupClient", "client.backup")),
    "sync/client.py": (
        ("WriteBatch", "client.batch"),
        ("Client", "client.client"),
        ("connect", "client.client"),
    ),
    "sync/local.py": (("Database", "local"), ("LocalCluster", "local"), ("open", "local")),
}
QUESTIONS = {
    "sync/operations.py": "What can an operator's program ask without `await`? Members, and backups.",
    "sync/client.py": "What can be asked of a cluster without `await`? The client, for any number of threads.",
    "sync/local.py": "How does a blocking program hold a database or a cluster of its own? open() and LocalCluster.",
}
TWINS = {
    "WriteBatch": "aegis_replication.sync.client",
    "MembersClient": "aegis_replication.sync.operations",
    "BackupClient": "aegis_replication.sync.operations",
    "Client": "aegis_replication.sync.client",
    "MachineProxy": "aegis_replication.sync.machines",
    "Database": "aegis_replication.sync.local",
    "LocalCluster": "aegis_replication.sync.local",
}

WORDS = (
    (r"to be used on one event loop by any number of tasks at a time", "to be used by any number of threads at a time"),
    (r"\basync (with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bto await\b", "to call"),
    (r"\bawaited\b", "called"),
    (r" With own_thread, use its loop for whatever isn't plain reading\.", ""),
)

HEAD = '''"""{question}

Written by `make sync` (tools/make_sync.py) from the async twins: change those.
"""

{imports}
'''

Function = ast.FunctionDef | ast.AsyncFunctionDef


def make() -> dict[Path, str]:
    """The files and their text, formatted."""
    return {PACKAGE / name: make_file(name) for name in FILES}


def make_file(name: str) -> str:
    writer = Writer(f"aegis_replication.{name.removesuffix('.py').replace('/', '.')}")
    parts = [writer.twin(each, module) for each, module in FILES[name]]
    head = HEAD.format(question=QUESTIONS[name], imports="\n".join(writer.imports()))
    text = head + "\n\n" + "\n\n\n".join(parts) + "\n"
    ruff = str(Path(sys.executable).with_name("ruff"))
    target = ["--stdin-filename", str(PACKAGE / name)]
    for command in (["check", "--fix", "--quiet", "--select", "I", *target], ["format", "--quiet", *target]):
        text = subprocess.run([ruff, *command, "-"], input=text, capture_output=True, text=True, check=True).stdout
    return text


class Writer:
    """Writes twins, and remembers which names they need."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.needed: set[str] = {"from typing import Any, Self", "from aegis_replication.loop_thread import LoopThread"}

    def imports(self) -> list[str]:
        """Import statements, the standard library first."""
        ours = {line for line in self.needed if "aegis_replication" in line}
        return [*sorted(self.needed - ours), "", *sorted(ours)]

    # --- one twin ---

    def twin(self, name: str, module: str) -> str:
        source = Source(module)
        original = source.find(name)
        if isinstance(original, ast.ClassDef):
            return self.class_(original, source)
        assert isinstance(original, ast.FunctionDef), f"{name} is neither a class nor a plain function"
        return self.function(original, source)

    def function(self, original: ast.FunctionDef, source: "Source") -> str:
        twin = ast.unparse(original.returns).strip("'") if original.returns else "None"
        self.need(source, original)
        self.needed.add("from aegis_replication.loop_thread import background")
        made = f"{source.alias}.{original.name}({call_arguments(original)})"
        return (
            f"def {original.name}({signature(original)}) -> {twin}:\n{docstring(original, 1)}"
            f"    return {twin}.around({made}, background())"
        )

    def class_(self, original: ast.ClassDef, source: "Source") -> str:
        name = original.name
        bases = [base.id for base in original.bases if isinstance(base, ast.Name) and base.id in TWINS]
        self.needed.add(source.alias_import)
        self.need_twins(bases)
        head = f"class {name}({', '.join(bases)}):" if bases else f"class {name}:"
        methods = [method for method in original.body if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)]
        parts = [head + "\n" + docstring(original, 1).rstrip("\n"), self.beginning(name, methods, source)]
        for method in methods:
            text = self.method(method, source)
            if text:
                parts.append(text)
        return "\n\n".join(parts)

    def beginning(self, name: str, methods: list[Function], source: "Source") -> str:
        """How a twin gets what it is the twin of."""
        around = (
            f"    _inner: {source.alias}.{name}\n    _thread: LoopThread\n\n"
            "    @classmethod\n"
            f"    def around(cls, inner: Any, thread: LoopThread) -> Self:\n"
            '        """The twin of `inner`, which lives on the loop of `thread`."""\n'
            "        self = cls.__new__(cls)\n        self._inner, self._thread = inner, thread\n        return self"
        )
        if name != "LocalCluster":
            return around
        original = next(method for method in methods if method.name == "__init__")
        self.need(source, original)
        self.needed.add("from aegis_replication.loop_thread import background")
        return (
            f"{around}\n\n    def __init__(self, {signature(original)}) -> None:\n"
            f"        self._inner = {source.alias}.{name}({call_arguments(original)})\n"
            "        self._thread = background()"
        )

    def method(self, method: Function, source: "Source") -> str | None:
        """The blocking twin of one method; None for what has none."""
        name = method.name
        if name == "__aenter__":
            return (
                "    def __enter__(self) -> Self:\n        self._thread.call(self._inner.__aenter__())\n"
                "        return self"
            )
        if name == "__aexit__":
            self.need(source, method)
            return (
                f"    def __exit__(self, {signature(method)}) -> None:\n"
                "        self._thread.call(self._inner.__aexit__(kind, error, traceback))"
            )
        if name == "__len__":
            return "    def __len__(self) -> int:\n        return len(self._inner)"
        if name.startswith("_"):
            return None
        self.need(source, method)
        returns = for_blocking(ast.unparse(method.returns)) if method.returns else "None"
        decorators = [ast.unparse(each) for each in method.decorator_list]
        head = "".join(f"    @{each}\n" for each in decorators)
        head += f"    def {name}(self{', ' * bool(signature(method))}{signature(method)}) -> {returns}:\n"
        return (
            head + docstring(method, 2) + "        " + self.body(method, returns, is_property="property" in decorators)
        )

    def body(self, method: Function, returns: str, *, is_property: bool) -> str:
        there = f"self._inner.{method.name}"
        arguments = call_arguments(method)
        if is_property:
            return f"return self._thread.look(lambda: {there})"
        if returns == "Self" and isinstance(method, ast.FunctionDef):
            return f"{there}({arguments})\n        return self"
        if returns == "Self":
            return f"self._thread.call({there}({arguments}))\n        return self"
        if returns in TWINS:
            self.need_twins([returns])
            return f"return {returns}.around({there}({arguments}), self._thread)"
        if returns.startswith("Iterator["):
            return f"return self._thread.each({there}({arguments}))"
        work = f"call({there}({arguments}))"
        if isinstance(method, ast.FunctionDef):
            work = f"look({there}{', ' * bool(arguments)}{arguments})"
        return f"self._thread.{work}" if returns == "None" else f"return self._thread.{work}"

    def need_twins(self, names: list[str]) -> None:
        self.needed |= {f"from {TWINS[name]} import {name}" for name in names if TWINS[name] != self.module}

    def need(self, source: "Source", node: Function) -> None:
        """Import what a signature names."""
        parts: list[ast.AST] = [node.args]
        if node.returns is not None:
            parts.append(node.returns)
        for part in parts:
            for each in ast.walk(part):
                if isinstance(each, ast.Name) and each.id not in TWINS:
                    line = source.import_of(each.id)
                    if line:
                        self.needed.add(for_blocking(line))
        self.needed.add(source.alias_import)


class Source:
    """One module that twins are made from."""

    def __init__(self, module: str) -> None:
        self.module = f"aegis_replication.{module}"
        self.tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        package, _, self.alias = self.module.rpartition(".")
        self.alias_import = f"from {package} import {self.alias}"

    def find(self, name: str) -> ast.stmt:
        return next(node for node in self.tree.body if getattr(node, "name", "") == name)

    def import_of(self, name: str) -> str | None:
        """How `name` is imported there, or from there; None for a builtin."""
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom):
                if name in (alias.asname or alias.name for alias in node.names):
                    return f"from {node.module} import {name}"
            elif isinstance(node, ast.Import):
                if name in (alias.asname or alias.name for alias in node.names):
                    return f"import {name}"
            elif name in defined(node):
                return f"from {self.module} import {name}"
        return None


def defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    elif isinstance(node, ast.ClassDef | ast.FunctionDef):
        yield node.name


def signature(node: Function) -> str:
    """The parameters as written, without self."""
    arguments = ast.parse(f"def f({ast.unparse(node.args)}): ...").body[0]
    assert isinstance(arguments, ast.FunctionDef), "a def is a def"
    if arguments.args.args and arguments.args.args[0].arg == "self":
        del arguments.args.args[0]
    return for_blocking(ast.unparse(arguments.args))


def call_arguments(node: Function) -> str:
    """The same parameters, passed on."""
    parts = [each.arg for each in node.args.args if each.arg != "self"]
    parts += [f"*{node.args.vararg.arg}"] if node.args.vararg else []
    parts += [f"{each.arg}={each.arg}" for each in node.args.kwonlyargs]
    parts += [f"**{node.args.kwarg.arg}"] if node.args.kwarg else []
    return ", ".join(parts)


def docstring(node: Function | ast.ClassDef, depth: int) -> str:
    text = ast.get_docstring(node)
    assert text, f"{node.name} has no docstring to take over"
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    indent = "    " * depth
    lines = [line and indent + line for line in text.split("\n")]
    end = '"""' if len(lines) == 1 else f'\n{indent}"""'
    return f'{indent}"""' + "\n".join(lines).lstrip() + f"{end}\n"


def for_blocking(annotation: str) -> str:
    return annotation.strip("'").replace("AsyncIterator", "Iterator")


if __name__ == "__main__":
    for path, text in make().items():
        path.write_text(text, encoding="utf-8")
