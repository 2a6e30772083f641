"""Does each type say what its page says? The forms of the README, and what the laws can't see."""

import pytest

from aegis_replication.crdt import (
    KINDS,
    Bag,
    BoundedCounter,
    Change,
    DWFlag,
    EWFlag,
    GCounter,
    GSet,
    List,
    LWWMap,
    LWWRegister,
    MaxRegister,
    MinRegister,
    MVRegister,
    ORMap,
    ORSet,
    PNCounter,
    Replica,
    ResettableCounter,
    RWSet,
    Text,
    TwoPSet,
)
from aegis_replication.errors import InsufficientRights
from aegis_replication.vector_clock import HybridTimestamp


def test_the_forms_of_the_readme() -> None:
    counter, remote = GCounter("n1"), GCounter("n2")
    register, elements = LWWRegister(), ORSet("n1")

    counter.increment(5)
    remote.increment()
    counter.merge(remote)
    register.set("value", 1_700_000_000_000)
    elements.add("item")
    elements.add("other")
    elements.remove("item")

    assert (counter.value(), counter.node_value("n1"), counter.node_value("n3")) == (6, 5, 0)
    assert register.value() == "value"
    assert elements.value() == {"other"}


def test_a_signed_counter_goes_below_zero() -> None:
    counter = PNCounter("a")

    counter.increment(2)
    counter.decrement(5)

    assert counter.value() == counter.node_value("a") == -3


def test_a_two_phase_set_never_takes_back_what_was_removed() -> None:
    elements = TwoPSet("a")

    elements.remove("never was")
    elements.add("x")
    elements.add("never was")
    elements.remove("x")
    elements.add("x")

    assert elements.value() == {"never was"}
    assert elements.is_removed("x")
    assert not elements.is_removed("never was")


def test_a_grow_only_set_adds_once() -> None:
    elements = GSet("a")

    first, second = elements.add("x"), elements.add("x")

    assert elements.elements() == ["x"]
    assert not first.is_empty
    assert second.is_empty


def test_add_wins_and_remove_wins() -> None:
    for kind, expected in ((ORSet, {"x"}), (RWSet, set[str]())):
        one, other = kind("a"), kind("b")
        one.add("x")
        other.merge(one)

        one.remove("x")
        other.add("x")
        one.merge(other)
        other.merge(one)

        assert one.value() == other.value() == expected
        one.add("x")
        assert one.value() == {"x"}


def test_enable_wins_and_disable_wins() -> None:
    for kind, expected in ((EWFlag, True), (DWFlag, False)):
        one, other = kind("a"), kind("b")
        before = one.value()

        one.enable()
        other.merge(one)
        one.disable()
        other.enable()
        one.merge(other)
        other.merge(one)

        assert before is False
        assert one.value() is other.value() is expected
        one.enable()
        assert bool(one) is True


def test_a_bag_counts() -> None:
    one, other = Bag("a"), Bag("b")
    one.add("x", 3)
    other.merge(one)

    one.remove("x", 5)
    other.remove("x", 2)
    other.add("y")
    one.merge(other)

    assert one.count("x") == 0
    assert one.value() == {"y": 1}
    one.add("y", 2)
    assert one.elements() == ["y", "y", "y"]
    assert len(one) == 3
    one.discard("y")
    assert "y" not in one


def test_the_highest_and_the_lowest() -> None:
    for kind, expected in ((MaxRegister, 2.5), (MinRegister, -1)):
        one, other = kind("a"), kind("b")

        for value in (1, 2.5, 2):
            one.set(value)
        other.set(-1)
        one.merge(other)
        other.merge(one)

        assert one.value() == other.value() == expected
    assert MaxRegister("a").value() is None


def test_a_register_of_last_writes() -> None:
    register = LWWRegister.with_value({"a": [1, None, True, 1.5, b"x"]}, 10, "n1")

    older = register.set_if_newer("older", 10)
    newer = register.set_if_newer("newer", HybridTimestamp(10, 1))

    assert older.is_empty
    assert not newer.is_empty
    assert (register.value(), register.is_set, register.timestamp) == ("newer", True, 10)
    register.set([1])
    value = register.value()
    value.append(2)
    assert register.value() == [1], "what comes out is a copy"
    assert LWWRegister().value() is None
    assert LWWRegister().timestamp is None


def test_a_register_that_keeps_concurrent_values() -> None:
    one, other = MVRegister("a"), MVRegister("b")

    one.set("x")
    other.set("y")
    one.merge(other)

    assert (one.get(), one.value_count, one.has_conflict) == (["x", "y"], 2, True)
    one.set("z")
    assert one.get() == ["z"]
    one.clear()
    assert one.get() == []


def test_a_map_of_last_writes() -> None:
    entries = LWWMap("a")

    entries.set("b", 1, 5)
    entries.set("a", [2], 5)
    entries.remove("b", 6)
    entries.remove("never was")

    assert entries.value() == {"a": [2]}
    assert (entries.keys(), len(entries), "b" in entries, entries.get("b", 9)) == (["a"], 1, False, 9)
    assert (entries["a"], [*entries], entries.items()) == ([2], ["a"], [("a", [2])])
    with pytest.raises(KeyError):
        entries["b"]


def test_many_at_once_are_one_delta() -> None:
    elements, entries, other = ORSet("a"), LWWMap("a"), LWWMap("b")
    elements.add("x")
    entries.set("k", "old", 9)

    added = elements.update(["x", "y", "x"])
    written = entries.update({"k": "new", "l": [1]}, 5)
    other.merge(written)

    assert elements.value() == {"x", "y"}
    assert sorted(added.store) == ["x", "y"]
    assert entries.value() == other.value() == {"k": "new", "l": [1]}
    assert elements.update([]).is_empty
    assert entries.update({}).is_empty


def test_maps_nest() -> None:
    one, other = ORMap("a"), ORMap("b")

    one.at("user", ORMap).at("tags", ORSet).add("x")
    one.at("user", ORMap).at("name", LWWRegister).set("Ada", 1)
    delta = one.at("user", ORMap).at("bio", Text).insert(0, "hello")
    other.merge(delta)
    only_the_delta = other.value()
    other.merge(one)

    assert only_the_delta == {"user": {"bio": "hello"}}
    assert other.value() == {"user": {"tags": {"x"}, "name": "Ada", "bio": "hello"}}
    assert other.to_json() == '{"user":{"bio":"hello","name":"Ada","tags":["x"]}}'
    assert (other.keys(), len(other), "user" in other, [*other]) == (["user"], 1, True, ["user"])
    assert other.get("user", ORMap) == other.value()["user"]
    assert other.get("user", ORSet, "none") == "none"
    other.remove("user", ORMap)
    assert other.value() == {}


def test_a_view_of_a_map_stays_good_after_remove_and_merge() -> None:
    entries, other = ORMap("a"), ORMap("b")
    text, elements = entries.at("t", Text), entries.at("s", ORSet)
    text.insert(0, "hello")
    other.merge(entries)

    entries.remove("t")
    removed = text.value()
    other.at("t", Text).insert(5, "!")
    entries.merge(other)
    text.insert(0, "x")
    elements.add("y")

    assert removed == ""
    assert entries.value() == {"s": {"y"}, "t": text.value()}
    assert set(text.value()) == {"!", "x"}
    assert entries.at("t", Text) is text


def test_only_types_that_can_be_reset_stand_in_maps() -> None:
    for kind in KINDS.values():
        assert issubclass(kind, Replica)
        if kind.IS_RESETTABLE:
            assert ORMap("a").at("k", kind).value() in (0, None, [], set(), {}, "", False)

    assert {name for name, kind in KINDS.items() if not kind.IS_RESETTABLE} == {
        "GCounter",
        "PNCounter",
        "BoundedCounter",
        "TwoPSet",
    }


def test_escrow() -> None:
    one, other = BoundedCounter("a", bound=0), BoundedCounter("b", bound=0)
    one.increment(10)
    other.merge(one)

    with pytest.raises(InsufficientRights) as error:
        other.decrement(4)
    one.transfer("b", 6)
    other.merge(one)
    other.decrement(4)
    one.merge(other)

    assert (error.value.actor, error.value.wanted, error.value.available) == ("b", 4, 0)
    assert (one.value(), one.bound, one.rights(), one.rights("b")) == (6, 0, 4, 2)


def test_sequences() -> None:
    values, text = List("a"), Text("a")

    values.append(1, [2], None)
    values.insert(1, "x")
    values.delete(2)
    text.append("hallo")
    text.delete(1)
    text.insert(1, "e")
    text.insert(len(text), " 👋")

    assert values.value() == [*values] == [1, "x", None]
    assert (values[1], len(values)) == ("x", 3)
    assert str(text) == text.value() == "hello 👋"
    assert len(text) == 7
    assert text.insert(0, "").is_empty


def test_watchers_are_told_of_keys_and_origin() -> None:
    entries, other = ORMap("a"), ORMap("b")
    told: list[Change] = []
    below: list[Change] = []
    stop = entries.subscribe(told.append)
    entries.at("s", ORSet).subscribe(below.append)

    entries.at("s", ORSet).add("x")
    other.at("s", ORSet).add("y")
    other.at("n", ResettableCounter).increment()
    entries.merge(other)
    entries.merge(other)
    stop()
    stop()
    entries.at("s", ORSet).add("z")

    assert [(change.keys, change.is_local) for change in told] == [(("s",), True), (("s", "n"), False)]
    assert [(change.keys, change.is_local) for change in below] == [(("x",), True), (("y",), False), (("z",), True)]


def test_a_remote_client_changes_what_it_has_read() -> None:
    """Read contexts: as with dotted versions, its write replaces what it had read and stands beside the rest."""
    register = MVRegister("server")
    register.set("first")
    ours, theirs = register.read(), register.read()

    register.set("ours", context=ours.context)
    register.set("theirs", context=theirs.context)

    assert register.value() == ["ours", "theirs"]
    register.set("both", context=register.read().context)
    assert register.value() == ["both"]


def test_size_tells_what_is_kept() -> None:
    elements = ORSet("a")
    for number in range(100):
        elements.add(number)
    for number in range(40):
        elements.remove(number)

    size = elements.size()

    assert (size.entry_count, size.seen_count, size.actor_count, size.gap_count) == (60, 100, 1, 0)
    assert size.encoded_bytes == len(elements.to_bytes())


def test_collecting_keeps_values_and_drops_what_is_past() -> None:
    counter, entries, text = ResettableCounter("a"), LWWMap("a"), Text("a")
    for number in range(50):
        counter.increment()
        counter.context()
        entries.set(number, "v", 1)
        text.insert(number, "x")
    for number in range(49):
        entries.remove(number)
    text.delete(10, 40)

    gone = [each.collect(each.context()) for each in (counter, entries, text)]

    assert gone == [49, 49, 50]
    assert counter.value() == 50
    assert entries.value() == {49: "v"}
    assert text.value() == "x" * 10
    assert [each.size().entry_count for each in (counter, entries, text)] == [1, 1, 1]
    text.insert(10, "!")
    assert text.value() == "x" * 10 + "!"


def test_bytes_keep_the_actor_out_and_the_state_in() -> None:
    elements = ORSet("a")
    elements.add(("x", 1, b"y"))

    again = ORSet.from_bytes(elements.to_bytes(), "b")
    again.add("z")

    assert again.actor == "b"
    assert again.value() == {("x", 1, b"y"), "z"}
    assert again.merged(elements).actor is None
    assert elements.value() == {("x", 1, b"y")}
    assert ORSet.from_bytes(ORSet("c").to_bytes()) == ORSet("d")


def test_json_shows_every_value() -> None:
    entries = LWWMap("a")
    entries.set(2, b"ab", 1)
    entries.set("x", {"b": 1.5, "a": None}, 1)

    elements = ORSet("a")
    elements.add(("t", 1))

    assert entries.to_json() == '[[2,"YWI="],["x",{"a":null,"b":1.5}]]'
    assert elements.to_json() == '[["t",1]]'


def test_equal_stamps_are_settled_by_what_was_written_and_not_by_who_wrote_it() -> None:
    """A name may change when its actor is retired."""
    for first, second in (("a", "b"), ("b", "a")):
        one, other = LWWMap(first), LWWMap(second)
        base = LWWMap("c").set("removed", 1, 1)
        for each in (one, other):
            each.merge(base)
        one.set("k", "x", 5)
        other.set("k", "y", 5)
        one.set("removed", 2, 7)
        other.remove("removed", 7)

        one.merge(other)
        other.merge(one)

        assert one.value() == other.value() == {"k": "y", "removed": 2}
