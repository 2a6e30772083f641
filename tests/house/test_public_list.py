"""Is the public list one list: what loads, what type checkers are told, and what the blocking API offers?"""

import ast
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import aegis_replication
from aegis_replication import local, sync
from aegis_replication.client import batch, client

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "aegis_replication"


@pytest.mark.parametrize("name", dir(aegis_replication))
def test_each_public_name_loads(name: str) -> None:
    assert getattr(aegis_replication, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'opne'"):
        aegis_replication.opne  # type: ignore[attr-defined]  # noqa: B018


def test_type_checkers_are_told_the_same_list() -> None:
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))

    told = {alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}

    assert told | {"__version__"} == set(dir(aegis_replication))


def test_importing_the_package_loads_none_of_its_parts() -> None:
    result = subprocess.run(
        [sys.executable, "-c", "import aegis_replication, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )

    loaded = set(result.stdout.split())

    assert {name for name in loaded if name.startswith("aegis_replication")} == {"aegis_replication"}
    assert not loaded & {"asyncio", "msgspec"}


def test_the_blocking_api_is_up_to_date() -> None:
    for path, text in make_sync().make().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.relative_to(ROOT)} is out of date: run make sync"


@pytest.mark.parametrize(
    ("twin", "original"),
    [
        (sync.Client, client.Client),
        (sync.WriteBatch, batch.WriteBatch),
        (sync.Database, local.Database),
        (sync.LocalCluster, local.LocalCluster),
    ],
)
def test_each_public_method_has_a_blocking_twin_with_the_same_parameters(twin: Any, original: Any) -> None:
    methods = {name: each for name, each in vars(original).items() if inspect.isfunction(each) and name[0] != "_"}

    for name, method in methods.items():
        blocking = getattr(twin, name)
        assert not inspect.iscoroutinefunction(blocking)
        assert [*inspect.signature(blocking).parameters] == [*inspect.signature(method).parameters], name

    assert methods


def make_sync() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sync", ROOT / "tools" / "make_sync.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
