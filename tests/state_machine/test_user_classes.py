"""Which classes can be replicated, and is every other one refused by name?"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from stores import Colour, Node, Order, Place, Store, Tree

from aegis_replication.errors import InvalidArgument
from aegis_replication.state_machine.base import INVALID
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine
from aegis_replication.state_machine.user import StateMachine, call, command
from aegis_replication.state_machine.user_machine import machine_for

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
