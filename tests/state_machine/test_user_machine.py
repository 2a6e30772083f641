"""Does a user's own class behave as a replicated machine: all or nothing, equal everywhere, back from a snapshot?"""

# ruff: noqa: RUF012 - state in a class body is a beginning that every instance gets a copy of

import copy
import dataclasses
import enum
import heapq
import subprocess
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from datetime import date
from itertools import repeat
from typing import Any, ClassVar

import msgspec
import pytest

from aegis_replication.errors import IncompatibleVersion, InvalidArgument, InvalidCommand, ProtocolError, WrongIdentity
from aegis_replication.log import Kind, make_entry
from aegis_replication.state_machine.base import FAILED, INVALID, Failure
from aegis_replication.state_machine.commands import NO_SESSION, encode_command, encode_query
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine
from aegis_replication.state_machine.user import StateMachine, call, command, decode_answer, query
from aegis_replication.state_machine.user_machine import PIECE_BYTES, UserMachine, machine_for


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


@pytest.fixture
def node() -> Node:
    node = Node()
    for sku in ("a", "b", "c"):
        node(Store.add, sku, 10)
    node(Store.order, "a", 3)
    node(Store.order, "b", 1)
    node(Store.configure, {"a": {"b": 1}})
    return node


# --- commands and queries ---


def test_commands_change_the_state_and_queries_see_it(node: Node) -> None:
    assert node(Store.add, "a", 2) == 9
    assert node.ask(Store.count, "a") == 9
    assert node.ask(Store.everything)[1] == Order("a", 3)


def test_defaults_and_names_of_arguments_work_as_in_a_call(node: Node) -> None:
    assert call(Store.add, "x") == call(Store.add, "x", 1) == call(Store.add, count=1, sku="x")


@pytest.mark.parametrize("wrong", [((), {}), (("a", 1, 2), {}), (("a",), {"many": 3})])
def test_a_call_that_does_not_fit_is_refused_before_it_is_sent(wrong: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    with pytest.raises(InvalidArgument, match="add"):
        call(Store.add, *wrong[0], **wrong[1])


def test_arguments_of_the_wrong_type_are_refused_at_the_door(node: Node) -> None:
    with pytest.raises(InvalidCommand, match="str"):
        node(Store.add, 5)
    with pytest.raises(InvalidCommand):
        node.machine.check(encode_command(NO_SESSION, 0, 0, ["unknown", 1]))
    with pytest.raises(InvalidCommand):
        node.machine.check(encode_command(NO_SESSION, 0, 0, call(Store.count, "a")))


def test_the_clock_is_the_entrys(node: Node) -> None:
    assert node(Store.when, at_ms=123_456) == (123_456, node.index)
    assert node.restarted().user.clock_ms == 123_456


def test_a_machine_can_be_used_as_a_plain_object() -> None:
    store = Store()
    store.clock_ms = 5

    assert [store.add("a", 3), store.order("a", 1), store.count("a"), store.when()] == [3, 1, 2, (5, 0)]
    assert Store().stock == {}


def test_each_instance_begins_with_its_own_values() -> None:
    one, other = Store(), Store()

    one.stock["a"] = 1

    assert other.stock == {}


# --- all or nothing ---


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_command_that_raises_leaves_the_state_as_it_was(node: Node, way: str) -> None:
    before = {name: copy.deepcopy(node.user.__dict__[name]) for name in Store._aegis_attributes}

    result = node(Store.fail, way)

    assert result == Failure(FAILED, ["KeyError", "'after all that'"])
    assert {name: node.user.__dict__[name] for name in Store._aegis_attributes} == before
    assert node(Store.add, "a", 1) == 8


@pytest.mark.parametrize("way", CHANGING)
def test_what_a_command_changed_is_there_after_a_restart(node: Node, way: str) -> None:
    before = node.pieces()[1:]

    assert node(Store.run, way) is None

    assert node.pieces()[1:] != before
    again = node.restarted()
    assert again.pieces() == node.pieces()
    assert {name: again.user.__dict__[name] for name in Store._aegis_attributes} == {
        name: node.user.__dict__[name] for name in Store._aegis_attributes
    }


@pytest.mark.parametrize("way", CHANGING)
def test_a_query_changes_nothing_however_it_tries(node: Node, way: str) -> None:
    before = node.pieces()

    answer = node.ask(Store.look, way)

    assert answer.status == FAILED
    assert answer.detail[0] == "ReadOnly"
    assert node.pieces() == before


def test_a_query_may_look_at_everything(node: Node) -> None:
    before = node.pieces()

    assert node.ask(Store.look, "nothing") is None
    assert node.ask(Store.everything).keys() == {1, 2}
    assert node.pieces() == before


def test_nested_commands_are_undone_together(node: Node) -> None:
    result = node(Store.order, "c", 11)

    assert result == Failure(FAILED, ["ValueError", "only 10 of c"])
    assert node(Store.order, "c", 10) == 3
    assert node.user.history == ["order 1", "order 2", "order 3"]


def test_an_objects_values_in_place_are_undone(node: Node) -> None:
    node(Store.note, 1, "first")

    assert node(Store.note, 1, "second", True).status == FAILED
    assert node(Store.note, 1, "third") == Order("a", 3, ["first", "third"])


def test_objects_in_two_places_part_after_the_command(node: Node) -> None:
    node(Store.run, "same object in two places")
    node(Store.note, 1, "for the order alone")

    assert node.user.best == Order("a", 3)
    assert node.restarted().pieces() == node.pieces()


def test_an_object_set_in_two_places_parts_even_where_it_equals_what_was_there(node: Node) -> None:
    node(Store.run, "equal copies everywhere")
    node(Store.run, "one object everywhere")

    node(Store.run, "value in place")
    node(Store.run, "object")

    assert node.user.__dict__["orders"] == {1: Order("a", 3, ["x"]), 2: Order("a", 3)}
    assert (node.user.best, node.user.worst) == (Order("a", 3, ["x"]), Order("a", 3))


def test_a_result_is_not_a_window_into_the_state(node: Node) -> None:
    result = node(Store.note, 1, "first")

    result.notes.append("from outside")

    assert node.user.__dict__["orders"][1].notes == ["first"]


def test_running_state_can_not_be_changed_from_outside(node: Node) -> None:
    with pytest.raises(TypeError, match=r"Store.next_order is replicated"):
        node.user.next_order = 5
    with pytest.raises(TypeError, match=r"Store.stock is replicated"):
        node.user.stock["a"] = 5
    with pytest.raises(AttributeError, match="deleted"):
        del node.user.next_order


# --- values must be what the annotations say ---

WRONG: dict[str, Callable[[Store], Any]] = {
    "value": lambda store: store.stock.__setitem__("a", "text"),
    "key": lambda store: store.stock.__setitem__(5, 5),  # type: ignore[index]
    "key of a subclass": lambda store: store.stock.__setitem__(Name("a key"), 5),
    "equal key": lambda store: store.places.__setitem__(2.0, Place(1, "")),  # type: ignore[index]
    "attribute": lambda store: setattr(store, "next_order", "text"),
    "none": lambda store: setattr(store, "stock", None),
    "dict": lambda store: setattr(store, "stock", {"a": "text"}),
    "list": lambda store: store.history.append(5),  # type: ignore[arg-type]
    "object": lambda store: setattr(store.orders[1], "count", "text"),
    "int too large": lambda store: store.stock.__setitem__("a", 2**64),
    "number too large": lambda store: setattr(store, "next_order", -(2**63) - 1),
    "half a surrogate": lambda store: store.history.append("\ud800"),
    "surrogate key": lambda store: store.stock.__setitem__("\ud800", 1),
    "class": lambda store: store.places.__setitem__(1, object()),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("way", sorted(WRONG))
def test_a_value_that_no_snapshot_could_hold_is_refused_and_undone(
    node: Node, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WAYS, "wrong", WRONG[way])
    before = node.pieces()[1:]

    result = node(Store.run, "wrong")

    assert result.status == FAILED
    assert result.detail[0] == "TypeError"
    assert node.pieces()[1:] == before


def test_a_result_of_another_type_than_promised_is_refused_and_undone() -> None:
    class Liar(StateMachine):
        count: int = 0

        @command
        def lie(self) -> int:
            self.count += 1
            return "text"  # type: ignore[return-value]

    node = Node(Liar)

    assert node(Liar.lie).detail == ["TypeError", "Expected `int`, got `str`"]
    assert node(Liar.lie).detail[0] == "TypeError"


def test_errors_are_told_alike_on_every_replica() -> None:
    class Rude(StateMachine):
        @command
        def rude(self, length: int) -> None:
            raise ValueError(f"{object()} \ud800" + "x" * length)

    [kind, text] = Node(Rude)(Rude.rude, 5000).detail

    assert kind == "ValueError"
    assert text.startswith("<object object> ?x")
    assert len(text) <= 1000


def test_a_command_can_not_end_the_node() -> None:
    class Leaving(StateMachine):
        count: int = 0

        @command
        def leave(self) -> int:
            self.count += 1
            if self.count == 1:
                sys.exit("bye")
            return self.count

        @command
        def deepen(self) -> None:
            self.count += 1
            self.deepen()

    node = Node(Leaving)

    assert node(Leaving.leave) == Failure(FAILED, ["SystemExit", "bye"])
    assert node(Leaving.deepen).detail[0] == "RecursionError"
    assert node.machine.inner.machine.count == 0  # type: ignore[attr-defined]


def test_a_node_without_memory_stops_instead_of_answering() -> None:
    class Hungry(StateMachine):
        @command
        def eat(self) -> None:
            raise MemoryError

    with pytest.raises(MemoryError):
        Node(Hungry)(Hungry.eat)


# --- snapshots ---


def test_sets_give_equal_bytes_whatever_their_order() -> None:
    class Sets(StateMachine):
        names: set[str] = set()
        by_key: dict[int, set[str]] = {}

        @command
        def add(self, names: list[str]) -> set[str]:
            self.names.update(names)
            self.by_key.setdefault(1, set()).update(names)
            return self.names

    names = [f"name {number}" for number in range(200)]
    one, other = Node(Sets), Node(Sets)

    assert one(Sets.add, names) == other(Sets.add, names[::-1]) == sorted(names)
    assert one.pieces() == other.pieces()


def test_a_dict_attribute_keeps_its_order_over_a_restart(node: Node) -> None:
    node(Store.run, "delete item")
    node(Store.add, "c", 1)
    node(Store.add, "Z", 1)

    assert list(node.restarted().user.stock) == list(node.user.stock) == ["a", "b", "c", "Z"]


def test_large_state_comes_in_bounded_pieces_that_do_not_see_later_commands() -> None:
    class Large(StateMachine):
        items: dict[int, str] = {}
        objects: dict[int, Order] = {}
        text: str = ""

        @command
        def fill(self, count: int, text: str) -> None:
            for number in range(count):
                self.items[number] = text
                self.objects[number] = Order(text, number)
            self.text = text * count

    node = Node(Large)
    node(Large.fill, 3000, "x" * 200)
    before = node.pieces()

    pulled = []
    for piece in node.machine.freeze():
        pulled.append(piece)
        node(Large.fill, 1000, "changed")

    assert pulled[1:] == before
    assert len(before) >= 7
    assert max(map(len, before)) <= PIECE_BYTES + 1000
    again = Node(Large)
    again.machine.restore(pulled)
    assert again.pieces() == before


def test_equal_commands_give_equal_bytes_under_every_hash_seed() -> None:
    program = """
import msgspec
from aegis_replication.log import make_entry
from aegis_replication.state_machine.commands import encode_command
from aegis_replication.state_machine.user import StateMachine, call, command
from aegis_replication.state_machine.user_machine import machine_for

class Tags(StateMachine):
    by_name: dict[str, set[str]] = {}
    seen: set[bytes] = set()
    order: dict[str, int] = {}

    @command
    def tag(self, name: str, tags: list[str]) -> frozenset[str]:
        self.by_name.setdefault(name, set()).update(tags)
        self.seen |= {tag.encode() for tag in tags}
        for tag in tags:
            self.order[tag] = len(self.order)
        return frozenset(self.by_name[name])

machine = machine_for(Tags)
body = encode_command(bytes(16), 1, 1, call(Tags.tag, "n", [f"t{i}" for i in range(50)]))
opened = encode_command(bytes(16), 0, 0, None)
results = machine.apply(make_entry(1, 1, 1, 1, machine.join([opened, body]), stamp=1 << 16))
print(machine.digest(), msgspec.msgpack.encode(results).hex())
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }

    assert len(outputs) == 1


def test_an_attribute_that_is_new_in_the_class_begins_as_written_there() -> None:
    def old() -> type[StateMachine]:
        class Growing(StateMachine):
            count: int = 0

            @command
            def up(self) -> int:
                self.count += 1
                return self.count

        return Growing

    class Growing(StateMachine):
        count: int = 0
        names: dict[str, int] = {"first": 1}
        colour: Colour = Colour.RED

        @command
        def up(self) -> int:
            self.count += 1
            return self.count

    before, after = Node(old()), Node(Growing)
    before(Growing.up)

    after.machine.restore(list(before.machine.freeze()))

    assert after(Growing.up) == 2
    assert after.machine.inner.machine.names == {"first": 1}  # type: ignore[attr-defined]
    with pytest.raises(IncompatibleVersion, match="colour, names"):
        before.machine.restore(list(after.machine.freeze()))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda pieces: [pieces[0]], ProtocolError),
        (lambda pieces: [*pieces[:-1], pieces[-1][:-1]], ProtocolError),
        (lambda pieces: [*pieces, b"\x92\xa4none\xc4\x00"], ProtocolError),
        (lambda pieces: [piece.replace(b"order 1", b"order \xff") for piece in pieces], ProtocolError),
        (lambda pieces: [piece.replace(b"Store", b"Other") for piece in pieces], WrongIdentity),
        (lambda pieces: [pieces[0], pieces[1].replace(b"Store\x01", b"Store\x02"), *pieces[2:]], IncompatibleVersion),
    ],
)
def test_a_snapshot_that_is_not_one_is_refused_and_the_state_stays(
    node: Node, change: Callable[[list[bytes]], Iterable[bytes]], error: type[Exception]
) -> None:
    pieces = list(node.machine.freeze())

    with pytest.raises(error):
        node.machine.restore(change(pieces))

    assert list(node.machine.freeze()) == pieces


def test_a_snapshot_of_a_user_machine_is_not_one_of_a_store_of_keys(node: Node) -> None:
    with pytest.raises(WrongIdentity, match="Store"):
        SessionMachine(KeyValueMachine()).restore(list(node.machine.freeze()))


# --- classes that can't be replicated are refused, by name ---


def attribute_of(hint: Any, value: Any) -> type[StateMachine]:
    """A machine with one attribute `state` of that type."""

    def go(self: Any) -> None:
        pass

    go.__annotations__ = {"return": None}
    namespace = {"__annotations__": {"state": hint}, "state": value, "go": command(go), "__module__": __name__}
    return type("One", (StateMachine,), namespace)


@pytest.mark.parametrize(
    ("hint", "value", "why"),
    [
        (dict, {}, "not typed all through"),
        (list, [], "not typed all through"),
        (Any, 1, "not typed all through"),
        (dict[str, Any], {}, "not typed all through"),
        (defaultdict, defaultdict(), "defaultdict"),
        (OrderedDict, OrderedDict(), "OrderedDict"),
        (object, 1, "object"),
        (complex, 1j, "complex"),
        (Callable[[], int], int, "Callable"),
        (dict[str, Callable[[], int]], {}, "Callable"),
        (Order | Place, Place(1, ""), "dict-like"),
        (set[Order], set(), "sorted"),
        (set[int | str], set(), "sorted"),
        (frozenset[frozenset[int]], frozenset(), "sorted"),
        (list[dict[int, set[int]]], [], "keys aren't text"),
        (dict[str, int], None, "expected a dict"),
        (dict[str, int], {"a": "b"}, "got `str`"),
        (int, "text", "got `str`"),
        (int, 2**64, "serialize"),
        (Tree, Tree({}), "contains itself"),
        (dict[str, tuple[Order, Order]], {"a": 1}, "got `int`"),
        ("Missing", 1, "Missing"),
    ],
)
def test_an_attribute_that_can_not_be_kept_is_refused_by_name(hint: Any, value: Any, why: str) -> None:
    with pytest.raises(InvalidArgument, match="One") as caught:
        machine_for(attribute_of(hint, value))

    assert why in str(caught.value)
    assert hint == "Missing" or "One.state" in str(caught.value)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, 1),
        (float, 1.5),
        (str | None, None),
        (bytes, b"x"),
        (date, date(2026, 1, 2)),
        (Colour, Colour.RED),
        (tuple[int, ...], (1, 2)),
        (list[Order], [Order("a", 1)]),
        (dict[tuple[int, str], frozenset[int]], {(1, "a"): frozenset([3, 1])}),
        (dict[Colour, Order], {Colour.RED: Order("a", 1)}),
        (set[tuple[int, str]], {(1, "a"), (0, "b")}),
        (dict[str, dict[int, list[Place]]], {"a": {1: [Place(1, "")]}}),
        (Place, Place(1, "x")),
        (bool, True),
        (bytearray, bytearray(b"x")),
    ],
)
def test_an_attribute_that_can_be_kept_comes_back_equal(hint: Any, value: Any) -> None:
    cls = attribute_of(hint, value)
    one, other = machine_for(cls()), machine_for(cls())

    other.restore(list(one.freeze()))

    assert other.inner.machine.state == value  # type: ignore[attr-defined]
    assert other.digest() == one.digest()


def test_an_attribute_that_is_not_annotated_is_refused_when_it_is_set() -> None:
    class Forgetful(StateMachine):
        def __init__(self) -> None:
            self.cache = {}

    with pytest.raises(InvalidArgument, match=r"Forgetful.cache is not annotated"):
        Forgetful()


def test_an_attribute_without_a_value_is_refused_by_name() -> None:
    class Empty(StateMachine):
        count: int

        @command
        def up(self) -> None:
            self.count += 1

    with pytest.raises(InvalidArgument, match=r"Empty.count has no value"):
        machine_for(Empty)
    with pytest.raises(AttributeError, match="no value yet"):
        Empty().up()


def test_a_class_without_commands_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="has no @command"):
        machine_for(StateMachine)


async def _async(self: Any) -> None: ...


def _untyped(self: Any, x) -> None: ...  # type: ignore[no-untyped-def]


def _unreturned(self: Any, x: int): ...  # type: ignore[no-untyped-def]


def _variable(self: Any, *x: int) -> None: ...


def _keyword(self: Any, *, x: int) -> None: ...


def _strange(self: Any, x: object) -> None: ...


def _strange_result(self: Any) -> Any: ...


def _any(self: Any, x: list[Any]) -> None: ...


def _endless(self: Any, x: "Tree") -> None: ...


@pytest.mark.parametrize(
    "method", [_async, _untyped, _unreturned, _variable, _keyword, _strange, _strange_result, _any, _endless]
)
def test_a_method_that_can_not_be_a_command_is_refused_by_name(method: Callable[..., Any]) -> None:
    cls = type("Bad", (StateMachine,), {method.__name__: command(method), "__module__": __name__})

    with pytest.raises(InvalidArgument, match=method.__name__):
        machine_for(cls)


def test_slots_and_reserved_names_are_refused_when_the_class_is_made() -> None:
    with pytest.raises(InvalidArgument, match="__slots__"):
        type("Slotted", (StateMachine,), {"__slots__": ("a",)})
    with pytest.raises(InvalidArgument, match="index"):
        type("Taken", (StateMachine,), {"__annotations__": {"index": int}})


def test_a_subclass_inherits_state_and_may_begin_it_differently() -> None:
    class Base(StateMachine):
        count: int = 1

        @command
        def up(self) -> int:
            self.count += 1
            return self.count

    class Derived(Base):
        count = 10
        other: str = ""

    node = Node(Derived)

    assert node(Derived.up) == 11
    assert Derived._aegis_attributes == ("count", "other")


def test_an_instance_serves_one_node_only() -> None:
    store = Store()
    machine_for(store)

    with pytest.raises(InvalidArgument, match="instance of its own"):
        machine_for(store)


def test_machine_for_takes_what_can_be_replicated_and_nothing_else() -> None:
    whole = machine_for()

    assert isinstance(whole, SessionMachine)
    assert machine_for(whole) is whole
    assert isinstance(machine_for(KeyValueMachine()), SessionMachine)
    assert isinstance(machine_for(Store()), SessionMachine)
    with pytest.raises(InvalidArgument, match="no state machine"):
        machine_for(object())


def test_bytes_that_are_no_query_are_answered_as_invalid(node: Node) -> None:
    assert [node.machine.query(query).status for query in (b"", b"\xc0", b"\x91\xa4none")] == [INVALID] * 3


def test_calling_what_is_not_marked_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="neither"):
        call(Store.__init__)
