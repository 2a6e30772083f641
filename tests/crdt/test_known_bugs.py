"""Do the traces on which other implementations failed come out right here? Each names what went wrong, and where."""

import itertools

import pytest

from aegis_replication.crdt import (
    DWFlag,
    EWFlag,
    GCounter,
    List,
    LWWMap,
    LWWRegister,
    MVRegister,
    ORMap,
    ORSet,
    Replica,
    ResettableCounter,
    RWSet,
    Text,
)
from aegis_replication.errors import BehindStableCut


def test_an_element_removed_on_two_replicas_stays_removed() -> None:
    """riak_dt #82: the copy of a's add came back through c."""
    a, b, c = ORSet("a"), ORSet("b"), ORSet("c")
    a.add("x")
    b.add("x")
    c.merge(a)

    a.remove("x")
    a.merge(b)
    b.remove("x")
    a.merge(c)
    b.merge(a)

    assert "x" not in b
    assert b.value() == set()


def test_a_removed_element_does_not_return_with_an_older_union() -> None:
    """riak_dt #78: foo and bar at 1, baz at 2, C is their union, 1 removes bar, then merges C."""
    one, two, union = ORSet("1"), ORSet("2"), ORSet("3")
    one.add("foo")
    one.add("bar")
    two.add("baz")
    union.merge(one)
    union.merge(two)

    one.remove("bar")
    one.merge(union)

    assert one.value() == {"foo", "baz"}


@pytest.mark.parametrize("kind", [EWFlag, DWFlag])
def test_flags_do_not_have_it_either(kind: type[EWFlag]) -> None:
    """riak_dt #78 and #82 for flags."""
    a, b, c = kind("a"), kind("b"), kind("c")
    a.enable()
    b.enable()
    c.merge(a)

    a.disable()
    a.merge(b)
    b.merge(a)
    b.disable()
    a.merge(c)
    b.merge(a)

    assert b.value() is False


def test_a_field_removed_beside_an_addition_keeps_the_addition_alone() -> None:
    """riak_dt #92 and #93."""
    a, b = ORMap("a"), ORMap("b")
    a.at("f", ORSet).add("x")
    b.merge(a)

    a.remove("f")
    b.at("f", ORSet).add("y")
    a.merge(b)
    without = a.value()
    a.remove("f")
    a.at("f", ORSet).add("z")
    b.at("f", ORSet).add("y")
    a.merge(b)
    b.merge(a)

    assert without == {"f": {"y"}}
    assert a.value() == b.value() == {"f": {"y", "z"}}


def test_reset_beside_an_increment_resets_exactly_what_it_saw() -> None:
    """A map's counter holds 5; reset beside an increment of 1 gives 1. Riak's embedded counter gives 6."""
    a, b = ORMap("a"), ORMap("b")
    a.at("n", ResettableCounter).increment(5)
    b.merge(a)

    b.at("n", ResettableCounter).reset()
    a.at("n", ResettableCounter).increment(1)
    a.merge(b)
    b.merge(a)

    assert a.value() == b.value() == {"n": 1}


def test_a_counter_increments_in_its_round_until_a_context_or_a_copy_leaves() -> None:
    counter, other = ResettableCounter("a"), ResettableCounter("b")
    for _ in range(100):
        counter.increment()
    in_one_round = len(counter.context())

    counter.increment()
    read = counter.read()
    counter.increment(10)
    counter.reset(context=read.context)
    other.merge(counter)

    assert in_one_round == 1
    assert counter.value() == other.value() == 10


def test_equal_stamps_give_one_winner_in_every_order() -> None:
    """rust-crdt #95, the delta CRDT reference code #7, Truxify #13124: the tie kept the local value."""
    for make in (LWWRegister, lambda name: LWWRegister()):
        registers = [make(name) for name in "abc"]
        deltas = [register.set(value, 7) for register, value in zip(registers, ["x", "z", "y"])]
        values = set()
        for order in itertools.permutations(deltas):
            register = LWWRegister()
            for delta in order:
                register.merge(delta)
            values.add(register.value())
        assert len(values) == 1


def test_two_writes_of_one_node_in_one_tick_keep_the_second() -> None:
    """actor-ts #950, and the original's register, which diverged."""
    register, other = LWWRegister("a"), LWWRegister("b")

    first = register.set("first", 5)
    second = register.set("second", 5)
    other.merge(second)
    other.merge(first)

    assert register.value() == other.value() == "second"


def test_a_slow_clock_drops_no_local_write() -> None:
    """riak_dt_lwwreg and the original: `set` was ignored when the wall clock was behind."""
    register, other = LWWRegister("a"), LWWRegister("b")
    other.set("ahead", 9_000)
    register.merge(other)

    register.set("mine", 1_000)
    other.merge(register)

    assert register.value() == other.value() == "mine"


def test_equal_concurrent_values_keep_clocks_of_their_own() -> None:
    """The original keyed them by value, so that one overwrote the other's clock; Rust's crdts #10."""
    a, b, c = MVRegister("a"), MVRegister("b"), MVRegister("c")
    a.set("same")
    b.set("same")
    c.merge(a)

    c.set("after a's")
    c.merge(b)

    assert c.value() == ["same", "after a's"]
    assert c.has_conflict


def test_removals_survive_the_merge_of_a_stale_replica() -> None:
    """The original's ORSet and LWWMap: removals left no trace and came back."""
    elements, entries = ORSet("a"), LWWMap("a")
    elements.add("x")
    entries.set("k", "v", 1)
    stale_elements, stale_entries = elements.copy(), entries.copy()

    elements.remove("x")
    entries.remove("k", 2)
    elements.merge(stale_elements)
    entries.merge(stale_entries)

    assert elements.value() == set()
    assert entries.value() == {}


def test_a_remove_that_never_saw_the_add_does_not_delete_it() -> None:
    """crdts on the package index: its ORSet is a set of last writes, ordered by a Lamport clock."""
    a, b = ORSet("a"), ORSet("b")
    for _ in range(5):
        b.add("other")
    a.add("x")

    b.remove("x")
    a.merge(b)

    assert "x" in a


def test_comparing_sees_removals() -> None:
    """python3-crdt never compared the remove set."""
    a = ORSet("a")
    a.add("x")
    before = a.copy()

    a.remove("x")
    a.add("y")
    b = a.copy()
    b.remove("y")

    assert a != before
    assert a != b


def test_a_delta_that_says_nothing_still_moves_the_context() -> None:
    """Akka: a None delta that did not advance the version broke causal delivery."""
    a, b = ORSet("a"), ORSet("b")
    added = a.add("x")

    removed = a.remove("x")
    b.merge(removed)
    changed = b.merge(added)

    assert b.value() == set()
    assert not changed
    assert b.context() == a.context()


def test_a_map_does_not_resurrect_old_values() -> None:
    """Akka's ORMap: after remove and put, the old value was merged in again."""
    a, b = ORMap("a"), ORMap("b")
    a.at("cart", ORSet).add("old")
    b.merge(a)

    a.remove("cart")
    a.at("cart", ORSet).add("new")
    b.merge(a)
    a.merge(b)

    assert a.value() == b.value() == {"cart": {"new"}}


def test_a_change_of_type_spoils_no_merge() -> None:
    """In Akka it can't be repaired."""
    a, b = ORMap("a"), ORMap("b")
    a.at("k", ORSet).add("x")
    b.at("k", ResettableCounter).increment(3)

    a.merge(b)
    b.merge(a)

    assert a.value() == b.value() == {"k": {"ORSet": {"x"}, "ResettableCounter": 3}}
    assert [kind.NAME for kind in a.kinds("k")] == ["ORSet", "ResettableCounter"]


@pytest.mark.parametrize("order", [*itertools.permutations(range(6))])
def test_all_orders_of_add_merge_and_remove_are_the_observed_remove(order: tuple[int, ...]) -> None:
    """riak_dt pull 78, #113: against the set of (add, seen by a remove) pairs."""
    replicas = [ORSet(name) for name in "abc"]
    model: list[tuple[set[int], set[int]]] = [(set(), set()) for _ in replicas]  # adds known, adds removed

    for step in order:
        at, other = step % 3, (step + 1) % 3
        if step < 3:
            replicas[at].add("x")
            model[at][1].update(model[at][0])  # an add takes the place of those it saw
            model[at][0].add(step)
        elif step == 4:
            replicas[at].remove("x")
            model[at][1].update(model[at][0])
        replicas[other].merge(replicas[at])
        model[other][0].update(model[at][0])
        model[other][1].update(model[at][1])
        for replica, (known, gone) in zip(replicas, model):
            assert ("x" in replica) == bool(known - gone), f"order {order}"


def test_runs_typed_at_one_place_are_not_mixed() -> None:
    """RGA may interleave them; forwards, and backwards key by key."""
    base = Text("base")
    base.insert(0, "[]")
    a, b = base.copy("a"), base.copy("b")

    for at, key in enumerate("hello"):
        a.insert(1 + at, key)
    for key in reversed("world"):
        b.insert(1, key)
    a.merge(b)
    b.merge(a)

    assert a.value() == b.value()
    assert a.value() in ("[helloworld]", "[worldhello]")


def test_both_delete_and_one_inserts_there() -> None:
    a = List("a")
    a.insert(0, 1, 2, 3)
    b = a.copy("b")

    a.delete(0, 3)
    b.delete(1)
    b.insert(1, "new")
    a.merge(b)
    b.merge(a)

    assert a.value() == b.value() == ["new"]


def test_the_same_deltas_in_any_order_give_equal_digests() -> None:
    """go-ds-crdt #238, CRDT-Redis #1 and #2: the same operations, different values, when the network reorders."""
    source: list[Replica] = [GCounter("a"), ORSet("a"), Text("a")]
    counter, elements, text = GCounter("a"), ORSet("a"), Text("a")
    made = [
        [counter.increment(n + 1) for n in range(4)],
        [elements.add("x"), elements.add("y"), elements.remove("x"), elements.add("x")],
        [text.insert(0, "ab"), text.insert(2, "c"), text.delete(0), text.insert(0, "z")],
    ]

    for kind, whole, deltas in zip(source, [counter, elements, text], made):
        digests = set()
        for order in itertools.permutations(deltas):
            late = type(kind)()
            for delta in order:
                late.merge(delta)
                late.merge(order[0])
            digests.add(late.digest())
        assert digests == {whole.digest()}


def test_an_add_from_after_a_collection_outlives_the_remove_that_was_collected() -> None:
    """Our own: the add's delta says nothing of the remove, and was dropped with it where that was collected later."""
    a, b = RWSet("a"), RWSet("b")
    a.remove("x")
    b.merge(a)
    cut = a.context()

    a.collect(cut)
    b.merge(a.add("x"))
    seen_at_once = b.value()
    b.collect(cut)
    a.merge(b)

    assert seen_at_once == b.value() == a.value() == {"x"}


def test_a_delta_from_after_a_collection_is_refused_by_a_replica_that_was_away() -> None:
    a, away = RWSet("a"), RWSet("b")
    away.add("y")
    before = away.to_bytes()
    a.remove("x")
    a.collect(a.context())

    with pytest.raises(BehindStableCut, match="Start it anew"):
        away.merge(a.add("x"))

    assert away.to_bytes() == before
