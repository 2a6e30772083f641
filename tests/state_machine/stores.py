"""A user's machine with an attribute of every kind that matters, and every way in which a command may change it."""

# ruff: noqa: RUF012 - state in a class body is a beginning that every instance gets a copy of

import copy
import dataclasses
import enum
import heapq
from collections.abc import Callable
from itertools import repeat
from typing import Any, ClassVar

import msgspec

from aegis_replication.log import Kind, make_entry
from aegis_replication.state_machine.base import Failure
from aegis_replication.state_machine.commands import NO_SESSION, encode_command, encode_query
from aegis_replication.state_machine.sessions import SessionMachine
from aegis_replication.state_machine.user import StateMachine, call, command, decode_answer, query
from aegis_replication.state_machine.user_machine import UserMachine, machine_for


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Tree:
    children: "dict[str, Tree]"


class Name(enum.StrEnum):
    KEY = "a key"


class Place(msgspec.Struct, frozen=True):
    row: int
    shelf: str


@dataclasses.dataclass
class Order:
    sku: str
    count: int
    notes: list[str] = dataclasses.field(default_factory=list)


class Store(StateMachine):
    """Has an attribute of every kind that matters."""

    limit: ClassVar[int] = 100

    stock: dict[str, int] = {}
    places: dict[int, Place] = {}
    orders: dict[int, Order] = {}
    tags: dict[str, set[str]] = {}
    next_order: int
    history: list[str]
    colours: set[int] = set()
    best: Order | None = None
    worst: Order | None = None
    settings: dict[str, dict[str, int]] | None = None

    def __init__(self) -> None:
        self.next_order = 1
        self.history = []

    @command
    def add(self, sku: str, count: int = 1) -> int:
        """A helper of this class can be called from another command as usual."""
        self.stock[sku] = self.stock.get(sku, 0) + count
        if self.stock[sku] > self.limit:
            raise OverflowError(f"more than {self.limit} of {sku}")
        return self.stock[sku]

    @command
    def order(self, sku: str, count: int) -> int:
        number = self.next_order
        self.next_order += 1
        self.orders[number] = Order(sku, count)
        self.history.append(f"order {number}")
        self.tags.setdefault(sku, set()).add(f"order {number}")
        self.best = self.orders[number]
        self.add(sku, -count)
        if self.stock[sku] < 0:
            raise ValueError(f"only {self.stock[sku] + count} of {sku}")
        return number

    @command
    def note(self, number: int, text: str, fail: bool = False) -> Order:
        self.orders[number].notes.append(text)
        if fail:
            raise RuntimeError(text)
        return self.orders[number]

    @command
    def run(self, what: str) -> None:
        """Carries out one of the ways below: a test can't send code."""
        WAYS[what](self)

    @command
    def fail(self, what: str) -> None:
        WAYS[what](self)
        raise KeyError("after all that")

    @command
    def configure(self, settings: dict[str, dict[str, int]]) -> None:
        self.settings = settings

    @command
    def when(self) -> tuple[int, int]:
        return self.clock_ms, self.index

    @query
    def count(self, sku: str) -> int:
        return self.stock.get(sku, 0)

    @query
    def everything(self) -> dict[int, Order]:
        return self.orders

    @query
    def tagged(self, sku: str) -> set[str]:
        return self.tags.get(sku, set())

    @query
    def look(self, what: str) -> None:
        WAYS[what](self)


def _replace_and_fill(store: Store) -> None:
    store.places = {}
    store.places[2] = Place(2, "b")


def _set_everywhere(store: Store, make: Callable[[], Order]) -> None:
    store.orders[1], store.orders[2], store.best, store.worst = make(), make(), make(), make()


# Every way in which a command may change the state.
WAYS: dict[str, Callable[[Store], Any]] = {
    "nothing": lambda store: None,
    "set item": lambda store: store.stock.__setitem__("a", 77),
    "new item": lambda store: store.stock.__setitem__("new", 7),
    "delete item": lambda store: store.stock.__delitem__("c"),
    "pop": lambda store: store.stock.pop("c"),
    "pop with default": lambda store: store.stock.pop("zz", 0),
    "popitem": lambda store: store.stock.popitem(),
    "clear": lambda store: store.stock.clear(),
    "update": lambda store: store.stock.update({"a": 5, "zz": 6}, yy=1),
    "update in place": lambda store: store.stock.__ior__({"a": 5}),
    "setdefault": lambda store: store.stock.setdefault("zz", 1),
    "replace dict": lambda store: setattr(store, "stock", {"x": 1}),
    "replace and fill dict": lambda store: _replace_and_fill(store),
    "replace by another's": lambda store: setattr(store, "stock", {"x": 1} | store.stock),
    "number": lambda store: setattr(store, "next_order", 99),
    "list append": lambda store: store.history.append("x"),
    "list by C code": lambda store: heapq.heappush(store.history, "x"),
    "list replaced": lambda store: setattr(store, "history", ["x"]),
    "set add": lambda store: store.colours.add(5),
    "object": lambda store: store.best.notes.append("x"),  # type: ignore[union-attr]
    "object replaced": lambda store: setattr(store, "best", None),
    "nested dict": lambda store: store.settings["a"].__setitem__("b", 2),  # type: ignore[index]
    "value in place": lambda store: store.orders[1].notes.append("x"),
    "value by get": lambda store: store.orders.get(1).notes.append("x"),  # type: ignore[union-attr]
    "value by values": lambda store: [each.notes.append("x") for each in store.orders.values()],
    "value by items": lambda store: [each.notes.append("x") for _, each in store.orders.items()],
    "value by copy": lambda store: store.orders.copy()[1].notes.append("x"),
    "value by dict()": lambda store: dict(store.orders)[1].notes.append("x"),
    "value by **": lambda store: {0: None, **store.orders}[1].notes.append("x"),  # type: ignore[dict-item,union-attr]
    "value by |": lambda store: (store.orders | {})[1].notes.append("x"),
    "value by reflected |": lambda store: ({} | store.orders)[1].notes.append("x"),
    "value by copy.copy": lambda store: copy.copy(store.orders)[1].notes.append("x"),
    "value by popitem": lambda store: store.orders.popitem()[1].notes.append("x"),
    "value by pop": lambda store: store.orders.pop(1).notes.append("x"),
    "value by setdefault": lambda store: store.orders.setdefault(1, Order("", 0)).notes.append("x"),
    "set in a dict": lambda store: store.tags["a"].add("x"),
    "equal copies everywhere": lambda store: _set_everywhere(store, lambda: Order("a", 3)),
    "one object everywhere": lambda store: _set_everywhere(store, repeat(Order("a", 3)).__next__),
    "same object in two places": lambda store: setattr(store, "best", store.orders[1]),
}
CHANGING = sorted(set(WAYS) - {"nothing", "pop with default"})


class Node:
    """One replica of a Store, fed by hand."""

    def __init__(self, machine: Any = Store) -> None:
        self.machine = machine_for(machine)
        self.index = 0

    def __call__(self, function: Callable[..., Any], *args: Any, at_ms: int = 0) -> Any:
        self.index += 1
        body = encode_command(NO_SESSION, 0, 0, call(function, *args))
        self.machine.check(body)
        entry = make_entry(1, 1, self.index, Kind.COMMANDS, self.machine.join([body]), count=1, stamp=at_ms << 16)
        [result] = self.machine.apply(entry)
        return result

    def ask(self, function: Callable[..., Any], *args: Any) -> Any:
        result = self.machine.query(encode_query(call(function, *args)))
        return result if type(result) is Failure else decode_answer(function, msgspec.msgpack.encode(result))

    @property
    def user(self) -> Store:
        assert isinstance(self.machine, SessionMachine)
        assert isinstance(self.machine.inner, UserMachine)
        store = self.machine.inner.machine
        assert isinstance(store, Store)
        return store

    def pieces(self) -> list[bytes]:
        return list(self.machine.freeze())[1:]

    def restarted(self) -> "Node":
        other = Node()
        other.machine.restore(list(self.machine.freeze()))
        other.index = self.index
        return other
