"""Is every misuse one typed error, with the replica left as it was?"""

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from aegis_replication.crdt import (
    KINDS,
    BoundedCounter,
    Delta,
    GCounter,
    GSet,
    List,
    LWWMap,
    LWWRegister,
    MaxRegister,
    MVRegister,
    ORMap,
    ORSet,
    PNCounter,
    ResettableCounter,
    Text,
)
from aegis_replication.errors import (
    ActorReused,
    AegisError,
    BehindStableCut,
    ContextNotSeen,
    ContextTooOld,
    IncompatibleVersion,
    InvalidArgument,
    MergeMismatch,
    UndecodableBytes,
    UnencodableValue,
)
from aegis_replication.vector_clock import VersionVector
from aegis_replication.vector_clock.codec import pack


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: GCounter(""),
        lambda: GCounter(1.5),  # type: ignore[arg-type]
        lambda: GCounter("a").increment(0),
        lambda: GCounter("a").increment(-1),
        lambda: GCounter("a").increment(True),
        lambda: GCounter("a").increment(2**63),
        lambda: GCounter().increment(),
        lambda: BoundedCounter("a", bound=1.5),  # type: ignore[arg-type]
        lambda: BoundedCounter("a").transfer("a", 1),
        lambda: LWWRegister().set("x", -1),
        lambda: LWWRegister().set("x", "now"),  # type: ignore[arg-type]
        lambda: LWWRegister().set(float("nan"), 1),
        lambda: LWWRegister().set({1: 2}, 1),
        lambda: LWWRegister().set({"a": {1, 2}}, 1),
        lambda: LWWRegister().set(2**64, 1),
        lambda: LWWRegister().set("\ud800", 1),
        lambda: LWWRegister().set(object(), 1),
        lambda: MaxRegister("a").set(float("inf")),
        lambda: MaxRegister("a").set("5"),  # type: ignore[arg-type]
        lambda: ORSet("a").add(1.5),
        lambda: ORSet("a").add(True),
        lambda: ORSet("a").add(["x"]),
        lambda: ORSet("a").add(("x", 1.0)),
        lambda: ORSet("a").add("\ud800"),
        lambda: ORSet().add("x"),
        lambda: LWWMap("a").set(None, 1),
        lambda: LWWMap("a").set("k", 1, -1),
        lambda: ORMap("a").at("k", GCounter),
        lambda: ORMap("a").at("k", int),  # type: ignore[type-var]
        lambda: ORMap("a").at("k", ORSet).merge(ORSet("b")),
        lambda: ORMap("a").at("k", ORSet).delta(),
        lambda: ORMap("a").at("k", ORSet).collect(VersionVector()),
        lambda: Text("a").insert(1, "x"),
        lambda: Text("a").insert(0, 5),  # type: ignore[arg-type]
        lambda: Text("a").delete(0),
        lambda: ORSet("a").merge(GSet("b")),
        lambda: BoundedCounter("a", bound=1).merge(BoundedCounter("b", bound=2)),
    ],
)
def test_misuse_is_an_invalid_argument(misuse: Callable[[], object]) -> None:
    with pytest.raises(InvalidArgument):
        misuse()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ((1, 2), "value"),
        ([0, (1, 2)], "value[1]"),
        ({"seats": [{1: "A"}]}, "value['seats'][0]"),
        ({"a": {"b": {3}}}, "value['a']['b']"),
        ([float("inf")], "value[0]"),
        ([2**64], "value[0]"),
    ],
)
@pytest.mark.parametrize(
    "put",
    [
        lambda value: LWWRegister("a").set(value, 1),
        lambda value: MVRegister("a").set(value),
        lambda value: LWWMap("a").set("k", value, 1),
        lambda value: LWWMap("a").update({"k": value}, 1),
        lambda value: List("a").append(value),
    ],
)
def test_a_value_that_would_come_back_changed_is_refused_by_its_path(
    put: Callable[[Any], object], value: Any, path: str
) -> None:
    with pytest.raises(UnencodableValue) as refused:
        put(value)

    assert refused.value.path == path


def test_other_types_and_other_bounds_do_not_merge() -> None:
    elements = ORSet("a")

    with pytest.raises(MergeMismatch, match="a GSet can't be merged into a ORSet"):
        elements.merge(GSet("b").add("x"))

    assert elements.value() == set()


def test_a_re_used_actor_is_noticed_by_its_owner_and_by_others() -> None:
    """antidote #129, riak_kv pull 814: a backup was restored, and its replica wrote on under the same name."""
    replica = ORSet("a")
    replica.add("x")
    restored = ORSet.from_bytes(replica.to_bytes(), "a")
    replica.add("y")
    restored.add("z")
    third = replica.copy("c")

    with pytest.raises(ActorReused, match=r"dot \('a', 2\)"):
        third.merge(restored)
    with pytest.raises(ActorReused):
        replica.merge(restored)
    restored.add("w")
    with pytest.raises(ActorReused, match="Give the restored or cloned replica an actor id of its own"):
        replica.merge(restored)

    assert third == replica
    assert replica.value() == {"x", "y"}


@pytest.mark.parametrize(
    ("make", "first", "second"),
    [
        (MVRegister, lambda each: each.set("x"), lambda each: each.set("y")),
        (LWWRegister, lambda each: each.set(1, 5), lambda each: each.set(True, 5)),
        (LWWMap, lambda each: each.set("k", 1, 5), lambda each: each.set("k", 2, 5)),
        (PNCounter, lambda each: each.increment(5), lambda each: each.decrement(5)),
        (ResettableCounter, lambda each: each.increment(5), lambda each: each.decrement(5)),
        (Text, lambda each: each.insert(0, "x"), lambda each: each.insert(0, "y")),
        (ORSet, lambda each: each.add("x"), lambda each: each.add("y")),
    ],
)
def test_one_dot_with_two_meanings_is_noticed_by_anyone(
    make: Callable[[str], Any], first: Callable[[Any], Delta], second: Callable[[Any], Delta]
) -> None:
    one, twin, third = make("a"), make("a"), make("c")
    first(one)
    second(twin)
    third.merge(one)
    before = third.to_bytes()

    with pytest.raises(ActorReused):
        third.merge(twin)

    assert third.to_bytes() == before


def test_a_read_context_from_elsewhere_waits_until_its_writes_are_here() -> None:
    here, there = ORSet("a"), ORSet("b")
    there.add("x")
    read = there.read()

    with pytest.raises(ContextNotSeen, match="merge first"):
        here.remove("x", context=read.context)
    here.merge(there)
    here.remove("x", context=read.context)

    assert here.value() == set()


def test_a_cut_must_be_seen_and_rise() -> None:
    counter, other = ResettableCounter("a"), ResettableCounter("b")
    other.increment()
    counter.increment()
    early = counter.read()
    counter.merge(other)

    with pytest.raises(ContextNotSeen):
        counter.collect(VersionVector({"z": 1}))
    counter.collect(counter.context())
    with pytest.raises(InvalidArgument, match="below the one before"):
        counter.collect(early.context)
    with pytest.raises(ContextTooOld, match="read again"):
        counter.reset(context=early.context)

    assert counter.value() == 2


def test_a_replica_that_was_away_while_garbage_was_collected_is_refused() -> None:
    here, away = LWWMap("a"), LWWMap("b")
    away.set("k", "old", 5)
    here.set("k", "new", 6)
    here.remove("k", 7)
    here.collect(here.context())

    with pytest.raises(BehindStableCut, match="Start it anew"):
        here.merge(away)
    with pytest.raises(BehindStableCut):
        away.merge(here)
    fresh = LWWMap("c")
    fresh.merge(here)

    assert here.value() == fresh.value() == {}
    assert fresh == here


def test_bytes_from_a_newer_version_are_refused() -> None:
    newer = msgspec.msgpack.encode([2, "ORSet", []])

    for decode in (ORSet.from_bytes, Delta.from_bytes):
        with pytest.raises(IncompatibleVersion, match="version 2"):
            decode(newer)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        [None, [], [], [], [], []],
        [5, [], [], [], []],  # settings of a type that has none
        [None, ["b", "a"], [], [], []],  # actors not sorted
        [None, ["a", "a"], [], [], []],
        [None, [1], [], [], []],
        [None, ["a"], [[0, 1]], [], []],  # half a run
        [None, ["a"], [[1, 1, 1]], [], []],  # no such actor
        [None, ["a"], [[-1, 1, 1]], [], []],
        [None, ["a"], [[0, 2, 1]], [], []],
        [None, ["a"], [[0, 1, 1]], [["x", [0, 2, True]]], []],  # a dot outside the context
        [None, ["a"], [[0, 1, 1]], [["x", [0, 1, 1]]], []],  # a payload that is none
        [None, ["a"], [[0, 1, 1]], [["x", [0, 1]]], []],
        [None, ["a"], [[0, 1, 1]], [[1.5, [0, 1, True]]], []],
        [None, ["a"], [[0, 1, 1]], [["x", 7]], []],
        [None, ["a"], [[0, 1, 1]], 7, []],
    ],
)
def test_a_body_that_is_no_state_is_refused(body: Any) -> None:
    with pytest.raises(UndecodableBytes):
        ORSet.from_bytes(pack("ORSet", body))


def test_a_map_in_bytes_holds_only_what_a_map_may_hold() -> None:
    for name in ("GCounter", "Unheard", 5):
        with pytest.raises(UndecodableBytes):
            ORMap.from_bytes(pack("ORMap", [None, [], [], [[name, "k", []]], []]))


@pytest.mark.parametrize("name", KINDS)
def test_damaged_bytes_are_one_typed_error(name: str) -> None:
    """Cut anywhere, or with bytes changed at random: a state, or one error; never another exception."""
    replica = example(name)
    encoded = replica.to_bytes()
    rng = random.Random(3)
    kind: Any = KINDS[name]

    for cut in range(len(encoded)):
        with pytest.raises(UndecodableBytes):
            kind.from_bytes(encoded[:cut])
    for _ in range(500):
        damaged = bytearray(encoded)
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            state = kind.from_bytes(bytes(damaged))
            state.value()
            assert kind.from_bytes(state.to_bytes()) == state
        except AegisError:
            pass


def example(name: str) -> Any:
    kind: Any = KINDS[name]
    replica = kind("a")
    for method, arguments in (
        ("increment", (3,)),
        ("enable", ()),
        ("add", ("x",)),
        ("append", ("hello",)),
    ):
        if hasattr(replica, method):
            getattr(replica, method)(*arguments)
    if name == "LWWMap":
        replica.set("k", {"a": [1]}, 5)
    elif name.endswith("Register"):
        replica.set(5)
    elif name == "ORMap":
        replica.at("k", ORMap).at("s", ORSet).add("x")
    return replica
