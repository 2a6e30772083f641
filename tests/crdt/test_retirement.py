"""Do actors that left for good leave no growing trace, and is every misuse of their names one typed error?"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from aegis_replication.crdt import (
    BoundedCounter,
    Delta,
    GCounter,
    LWWMap,
    ORMap,
    ORSet,
    PNCounter,
    ResettableCounter,
    Text,
)
from aegis_replication.errors import (
    ActorReused,
    BehindStableCut,
    ContextNotSeen,
    ContextTooOld,
    InvalidArgument,
    MergeMismatch,
    UndecodableBytes,
)
from aegis_replication.vector_clock import VersionVector


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (GCounter, lambda each: each.increment()),
        (PNCounter, lambda each: each.decrement()),
        (BoundedCounter, lambda each: each.increment()),
        (ORSet, lambda each: each.add("x")),
        (LWWMap, lambda each: each.set("k", "v")),
        (ORMap, lambda each: each.at("n", ResettableCounter).increment()),
    ],
)
def test_a_thousand_retired_actors_leave_no_more_than_ten(kind: Any, change: Callable[[Any], Delta]) -> None:
    """As a process does that gets a new name with each start: two replicas, one of them always new."""
    stays = kind("stays")
    sizes = {}

    for number in range(1, 1_001):
        comes = stays.copy(f"incarnation-{number}")
        stays.merge(change(comes))
        comes.merge(change(stays))
        stays.merge(comes)
        stays.collect(stays.context(), retired=[f"incarnation-{number}"])
        sizes[number] = len(stays.to_bytes())

    assert stays.size().actor_count == 2
    assert sizes[1_000] <= sizes[10] + 40, "numbers grow by some bytes, nothing else does"
    assert kind is not GCounter or stays.value() == 2_000


def test_a_client_that_read_before_a_retirement_may_change_what_it_read() -> None:
    server, left = ORSet("server"), ORSet("left")
    left.add("x")
    server.merge(left)
    read = server.read()

    server.collect(read.context, retired=["left"])
    seen = server.has_seen(read.context)
    server.remove("x", context=read.context)
    server.collect(server.context())  # the name is forgotten

    assert seen
    assert server.value() == set()
    with pytest.raises((ContextTooOld, ContextNotSeen)):
        server.remove("x", context=read.context)


def test_a_peer_that_has_not_heard_of_a_retirement_is_brought_level() -> None:
    one, left = ORMap("one"), ORMap("left")
    left.at("t", Text).append("abc")
    left.at("s", ORSet).add("x")
    one.merge(left)
    other = one.copy("other")
    cut = one.context()

    one.collect(cut, retired=["left"])
    one.at("t", Text).delete(1)
    one.at("s", ORSet).remove("x")
    other.at("t", Text).insert(3, "d")
    late = other.at("s", ORSet).add("y")
    other_told = one.delta(other.context())
    one.merge(late)
    one.merge(other.delta(one.context()))
    other.merge(other_told)

    assert one == other
    assert one.value() == {"t": "acd", "s": {"y"}}
    assert other.context().actors == ["(retired)", "one", "other"]


def test_the_members_must_agree_on_who_is_retired_first() -> None:
    one = ORSet("one")
    for name in ("x", "y"):
        left = one.copy(name)
        one.merge(left.add(name))
    other = one.copy("other")
    cut = one.context()

    one.collect(cut, retired=["x"])
    other.collect(cut, retired=["y"])

    with pytest.raises(MergeMismatch, match="'x' was retired where the other side retired 'y'"):
        one.merge(other)
    assert one.value() == {"x", "y"}


def test_a_retired_name_cannot_be_used_again() -> None:
    replica, left = ORSet("a"), ORSet("left")
    left.add("x")
    replica.merge(left)
    replica.collect(replica.context(), retired=["left"])
    delta = left.add("after it had left")

    with pytest.raises(ActorReused, match="'left' is used twice: it was retired"):
        replica.copy("left")
    with pytest.raises(ActorReused, match="retired after its dot 1, and has written"):
        replica.merge(delta)
    with pytest.raises(ActorReused):
        left.merge(replica)
    with pytest.raises(ActorReused):
        ORSet("left").merge(replica)
    assert replica.value() == {"x"}
    assert left.value() == {"x", "after it had left"}


def test_what_is_older_than_all_names_that_are_remembered_is_refused() -> None:
    replica, left = ORSet("a"), ORSet("left")
    delta = left.add("x")
    replica.merge(left)
    away = replica.copy("away")
    replica.collect(replica.context(), retired=["left"])
    replica.collect(replica.context())

    for old in (delta, away, ORSet("b").add("never asked anybody")):
        with pytest.raises(BehindStableCut, match=r"Start .* anew"):
            replica.merge(old)
    away.add("y")
    with pytest.raises(BehindStableCut, match="away"):
        away.merge(replica)

    assert replica.merge(ORSet("fresh")) is False
    assert replica.value() == {"x"}
    assert away.value() == {"x", "y"}


@pytest.mark.parametrize(
    ("retired", "reason"),
    [
        (["a"], "'a' can't be retired here: this replica writes"),
        (["(retired)"], "can't be retired here"),
        (["late"], r"actor 'late' can't be retired at this cut, which has \[\(1, 1\)\] of its dots"),
        (["gap"], "take a cut that has them all"),
    ],
)
def test_who_may_still_write_is_not_retired(retired: list[str], reason: str) -> None:
    replica, late, gap = ORSet("a"), ORSet("late"), ORSet("gap")
    replica.add("x")
    replica.merge(late.add("x"))
    gap.add("lost on the way")
    replica.merge(gap.add("x"))
    cut = replica.context()
    replica.merge(late.add("y"))
    before = replica.to_bytes()

    with pytest.raises(InvalidArgument, match=reason):
        replica.collect(cut, retired=retired)

    assert replica.to_bytes() == before


def test_nobody_gets_the_name_that_stands_for_all_who_left() -> None:
    for use in (lambda: ORSet("(retired)"), lambda: ORSet("a").copy("(retired)")):
        with pytest.raises(InvalidArgument, match="stands for all retired actors"):
            use()


@pytest.mark.parametrize(
    ("retired", "reason"),
    [
        ([], "don't lead to the cut"),
        ([["x", 0, 1]], "don't lead to the cut"),
        ([["x", 0, 1], ["y", 2, 1]], "don't follow each other"),
        ([["x", 0, 1], ["x", 1, 1]], "retired twice"),
        ([["a", 0, 1], ["y", 1, 1]], "still have dots of their own"),
        ([["x", 0, 0], ["y", 0, 2]], "give a whole number from 1"),
        ([["x", 0], ["y", 1, 1]], "not the body"),
        (7, "not the body"),
    ],
)
def test_retirements_that_cannot_be_are_refused_in_bytes(retired: Any, reason: str) -> None:
    replica = ORSet("a")
    for name in ("x", "y"):
        replica.merge(replica.copy(name).add(name))
    replica.add("z")
    replica.collect(replica.context(), retired=["x", "y"])
    version, kind, body = msgspec.msgpack.decode(replica.to_bytes())
    assert body[5] == [["x", 0, 1], ["y", 1, 1]]

    forged = msgspec.msgpack.encode([version, kind, [*body[:5], retired]])

    with pytest.raises(UndecodableBytes, match=reason):
        ORSet.from_bytes(forged)


def test_actors_that_never_wrote_leave_nothing_to_retire() -> None:
    replica = ORSet("a")
    replica.add("x")

    replica.collect(replica.context(), retired=["never seen"])

    assert replica.context() == VersionVector({"a": 1})
    assert ORSet.from_bytes(replica.to_bytes()) == replica
