"""Is a command of a user's own class all or nothing, and does a query change nothing?"""

import copy
import sys
from collections.abc import Callable
from typing import Any

import pytest
from stores import CHANGING, WAYS, Name, Node, Order, Place, Store

from aegis_replication.errors import InvalidArgument, InvalidCommand
from aegis_replication.state_machine.base import FAILED, Failure
from aegis_replication.state_machine.commands import NO_SESSION, encode_command
from aegis_replication.state_machine.user import StateMachine, call, command

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
