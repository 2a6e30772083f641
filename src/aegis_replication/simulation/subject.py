"""Whose machine is simulated? The key-value machine, or a class of your own, with requests drawn for it."""

import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from inspect import getattr_static
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, Protocol

import msgspec

from aegis_replication.errors import InvalidArgument, LimitExceeded
from aegis_replication.ids import GroupId
from aegis_replication.simulation.checkers.model import KeyValueModel, SessionModel
from aegis_replication.simulation.checkers.user_model import UserModel
from aegis_replication.simulation.own_disk import KeyValueOnDisk
from aegis_replication.simulation.workload import Ask, Client, KeyValueWorkload
from aegis_replication.state_machine.base import Machine
from aegis_replication.state_machine.durable_sessions import DurableSessionMachine
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine
from aegis_replication.state_machine.user import COMMAND_KIND, MARK, QUERY_KIND, StateMachine, method_of
from aegis_replication.state_machine.user_machine import UserMachine


class Workload(Protocol):
    """Where clients get their requests from."""

    def choose(self, client: Client, random: Random) -> Ask:
        """The next request of `client`."""

    def learn(self, asked: Ask, result: Any) -> None:
        """An answer came."""

    def read_all(self) -> list[Ask]:
        """What to ask at the very end."""


class Subject(Protocol):
    """A machine under simulation, its model, and what is asked of it."""

    def make_machine(self, sessions_max: int, idle_ms: int) -> Machine:
        """A new machine for one replica."""

    def make_model(self, sessions_max: int, idle_ms: int) -> SessionModel:
        """What its answers are held to."""

    def make_workload(self, groups: Sequence[GroupId], skew: float, is_uniform: bool) -> Workload:
        """The requests of one run."""


class KeyValueSubject:
    """The key-value machine, in memory or on a disk of its own."""

    def __init__(self, *, keeps_its_state: bool = False) -> None:
        self._keeps_its_state = keeps_its_state

    def make_machine(self, sessions_max: int, idle_ms: int) -> Machine:
        if self._keeps_its_state:
            return DurableSessionMachine(KeyValueOnDisk(), sessions_max=sessions_max, idle_ms=idle_ms)
        return SessionMachine(KeyValueMachine(), sessions_max=sessions_max, idle_ms=idle_ms)

    def make_model(self, sessions_max: int, idle_ms: int) -> SessionModel:
        return KeyValueModel(sessions_max, idle_ms)

    def make_workload(self, groups: Sequence[GroupId], skew: float, is_uniform: bool) -> Workload:
        return KeyValueWorkload(groups, key_count=4, skew=skew, is_uniform=is_uniform)


class UserSubject:
    """A user's StateMachine.

    Requests are drawn from the types of its methods' parameters, unless it has a static method
    `simulated_request(random)` that returns one, made with `call(Inventory.reserve, "teapot", 1)`.
    """

    def __init__(self, machine: type[StateMachine]) -> None:
        self._class = machine
        self._draw_for = self._drawers()

    def _make(self) -> UserMachine:
        return UserMachine(self._class())

    def make_machine(self, sessions_max: int, idle_ms: int) -> Machine:
        return SessionMachine(self._make(), sessions_max=sessions_max, idle_ms=idle_ms)

    def make_model(self, sessions_max: int, idle_ms: int) -> SessionModel:
        return UserModel(self._make, sessions_max, idle_ms)

    def make_workload(self, groups: Sequence[GroupId], skew: float, is_uniform: bool) -> Workload:
        return UserWorkload(groups, skew, self._draw_for)

    def _drawers(self) -> Callable[[Random], tuple[Any, bool]]:
        """What draws a request, and says whether it is a query."""
        self._make()  # raises here what is wrong with the class
        functions = [getattr_static(self._class, name) for name in dir(self._class)]
        methods = [method_of(function) for function in functions if callable(function) and hasattr(function, MARK)]
        commands = [method.arguments for method in methods if method.kind == COMMAND_KIND]
        queries = [method.arguments for method in methods if method.kind == QUERY_KIND]
        own = getattr(self._class, "simulated_request", None)
        if own is not None:
            return lambda random: _is_query(own(random), commands, queries, self._class)
        for arguments in (*commands, *queries):
            draw_call(arguments, Random(0))  # raises now, not in the middle of a run
        return lambda random: _draw(random, commands, queries)


def _is_query(request: Any, commands: list[type], queries: list[type], owner: type) -> tuple[Any, bool]:
    if type(request) not in commands and type(request) not in queries:
        raise InvalidArgument(
            f"{owner.__qualname__}.simulated_request returned {request!r:.200}: return "
            f"call({owner.__qualname__}.<method>, ...)"
        )
    return request, type(request) in queries


def _draw(random: Random, commands: list[type], queries: list[type]) -> tuple[Any, bool]:
    is_query = bool(queries) and random.random() < 0.3
    return draw_call(random.choice(queries if is_query else commands), random), is_query


def check_size(asked: Ask, segment_bytes: int) -> None:
    """Raises LimitExceeded for a request that no entry of a simulated log can hold: its segments are small."""
    limit = segment_bytes - 8192
    size = len(msgspec.msgpack.encode(asked.body))
    if size > limit:
        raise LimitExceeded(f"{type(asked.body).__name__} (segment_bytes={segment_bytes:,})", size, limit)


class UserWorkload:
    """Draws requests for a user's machine."""

    __slots__ = ("_draw", "_groups", "_skew")

    def __init__(self, groups: Sequence[GroupId], skew: float, draw: Callable[[Random], tuple[Any, bool]]) -> None:
        self._groups = list(groups)
        self._skew = skew
        self._draw = draw

    def choose(self, client: Client, random: Random) -> Ask:
        group = self._groups[0] if random.random() < self._skew else random.choice(self._groups)
        request, is_query = self._draw(random)
        return Ask(group, request, (), is_query=is_query)

    def learn(self, asked: Ask, result: Any) -> None:
        pass

    def read_all(self) -> list[Ask]:
        return []


# --- where the class comes from -------------------------------------------------------------------------------------


def find_subject(spec: str | None) -> Subject:
    """The subject that "package.module:Class" or "path/to/file.py:Class" names; None: the key-value machine.

    Raises InvalidArgument, saying what is wrong, for anything that isn't a StateMachine.
    """
    if spec is None:
        return KeyValueSubject()
    where, _, name = spec.rpartition(":")
    if not where or not name:
        raise InvalidArgument(f"machine {spec!r}: name a class as package.module:Class or path/to/file.py:Class")
    found = getattr(_module(spec, where), name, None)
    if not isinstance(found, type) or not issubclass(found, StateMachine):
        raise InvalidArgument(f"machine {spec!r}: {where} has no StateMachine {name!r}")
    return UserSubject(found)


def _module(spec: str, where: str) -> ModuleType:
    try:
        if not where.endswith(".py"):
            if (here := os.getcwd()) not in sys.path:  # a console script's path doesn't begin where the user stands
                sys.path.insert(0, here)
            return import_module(where)
        path = Path(where)
        loader = spec_from_file_location(path.stem, path)
        if loader is None or loader.loader is None or not path.is_file():
            raise InvalidArgument(f"machine {spec!r}: there is no file {where}")
        module = module_from_spec(loader)
        loader.loader.exec_module(module)
        return module
    except InvalidArgument:
        raise
    except Exception as error:  # whatever the user's module raises while it is imported
        raise InvalidArgument(f"machine {spec!r}: {where} can't be imported: {error!r}") from error


# --- arguments ------------------------------------------------------------------------------------------------------


def draw_call(arguments: type, random: Random) -> Any:
    """A command or query with arguments drawn from their types; few different ones, so that clients meet."""
    fields = msgspec.inspect.type_info(arguments).fields  # type: ignore[attr-defined]
    try:
        return arguments(**{field.encode_name: draw_value(field.type, random) for field in fields})
    except KeyError as error:
        raise InvalidArgument(
            f"{arguments.__name__}: no values can be drawn for a parameter of type {error.args[0]}: give the class a "
            "static method simulated_request(random) that returns call(Class.method, ...)"
        ) from None


def draw_value(type_: Any, random: Random) -> Any:
    """Some value of a type. Raises KeyError, with its name, for one that nothing is known about."""
    draw = _DRAW.get(type(type_).__name__)
    if draw is None:
        raise KeyError(type(type_).__name__.removesuffix("Type"))
    return draw(type_, random)


def _fields(type_: Any, random: Random) -> Any:
    return type_.cls(**{field.name: draw_value(field.type, random) for field in type_.fields})


def _items(type_: Any, random: Random) -> list[Any]:
    return [draw_value(type_.item_type, random) for _ in range(random.randint(0, 3))]


_DRAW: dict[str, Callable[[Any, Random], Any]] = {
    "IntType": lambda type_, random: random.choice((0, 1, 2, 3, 5, 8, -1)),
    "FloatType": lambda type_, random: random.choice((0.0, 1.0, 0.25, -2.5, 1e9)),
    "StrType": lambda type_, random: random.choice(("a", "b", "c", "d")),
    "BytesType": lambda type_, random: random.choice((b"", b"a", b"b")),
    "BoolType": lambda type_, random: random.random() < 0.5,
    "NoneType": lambda type_, random: None,
    "DateTimeType": lambda type_, random: datetime.fromtimestamp(random.randrange(10**9), UTC),
    "EnumType": lambda type_, random: random.choice(list(type_.cls)),
    "LiteralType": lambda type_, random: random.choice(type_.values),
    "UnionType": lambda type_, random: draw_value(random.choice(type_.types), random),
    "ListType": _items,
    "VarTupleType": lambda type_, random: tuple(_items(type_, random)),
    "TupleType": lambda type_, random: tuple(draw_value(each, random) for each in type_.item_types),
    "SetType": lambda type_, random: set(_items(type_, random)),
    "FrozenSetType": lambda type_, random: frozenset(_items(type_, random)),
    "DictType": lambda type_, random: {
        draw_value(type_.key_type, random): draw_value(type_.value_type, random) for _ in range(random.randint(0, 3))
    },
    "StructType": _fields,
    "DataclassType": _fields,
    "CustomType": lambda type_, random: _unknown(type_),
}


def _unknown(type_: Any) -> Any:
    raise KeyError(getattr(type_.cls, "__name__", str(type_.cls)))
