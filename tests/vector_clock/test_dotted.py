"""Are siblings exact: no false conflict, no lost write? Against a model that remembers each write's causes."""

import random

import pytest

from aegis_replication.errors import UndecodableBytes, UnencodableValue
from aegis_replication.vector_clock import DottedVersionVector, DottedVersionVectorSet, VectorClock


def test_two_clients_of_one_server_are_siblings_and_a_reader_replaces_both() -> None:
    """Where a version vector with server names would drop one of them, or call old values new."""
    read = VectorClock()
    stored = DottedVersionVectorSet.new("one", "s")

    both = stored.update("two", context=read, server="s")
    after = both.update("three", context=both.join(), server="s")
    half = both.update("four", context=stored.join(), server="s")

    assert sorted(both.values()) == ["one", "two"]
    assert after.values() == ["three"]
    assert sorted(half.values()) == ["four", "two"]
    assert (both.size, both.ids) == (2, ["s"])


def test_sync_keeps_what_one_side_wrote_and_drops_what_one_side_replaced() -> None:
    base = DottedVersionVectorSet.new("old", "s")
    left = base.update("left", context=base.join(), server="s")
    right = base.update("right", context=base.join(), server="t")

    synced = left.sync(right)

    assert synced == right.sync(left) == synced.sync(left, right, base)
    assert sorted(synced.values()) == ["left", "right"]
    assert base.less(synced)
    assert synced.dominates(left)
    assert not left.less(right)


def test_a_delete_drops_only_what_was_read() -> None:
    stored = DottedVersionVectorSet.new("seen", "s")
    read = stored.join()

    stored = stored.update("beside", context=VectorClock(), server="s").discard(read)

    assert stored.values() == ["beside"]
    assert stored.discard(stored.join()).values() == []


def test_siblings_can_be_reconciled() -> None:
    stored = DottedVersionVectorSet.new(1, "s").update(5, context=VectorClock(), server="s")

    summed = stored.reconcile(sum, server="t")
    latest = stored.last_write(lambda value: value, server="t")

    assert (summed.values(), latest.values()) == ([6], [5])
    assert stored.less(summed)


@pytest.mark.parametrize("seed", range(60))
def test_siblings_are_the_writes_that_no_known_write_has_read(seed: int) -> None:
    rng = random.Random(seed)
    names = ["s", "t", "u"]
    stored = {name: DottedVersionVectorSet() for name in names}
    known: dict[str, set[int]] = {name: set() for name in names}  # writes seen
    replaced: dict[int, set[int]] = {}  # write -> writes it had read
    reads = [(VectorClock(), frozenset[int]())]

    for write in range(40):
        name = rng.choice(names)
        choice = rng.random()
        if choice < 0.5:
            context, seen = rng.choice(reads)
            stored[name] = stored[name].update(write, context=context, server=name)
            replaced[write] = set(seen)
            known[name] |= {write} | seen
        elif choice < 0.75:
            reads.append((stored[name].join(), frozenset(known[name])))
        else:
            other = rng.choice(names)
            stored[name] = stored[name].sync(stored[other])
            known[name] = known[name] | known[other]
        gone = set().union(*(replaced[each] for each in known[name]))
        assert set(stored[name].values()) == known[name] - gone, f"seed {seed}, write {write}"
        again = DottedVersionVectorSet.from_bytes(stored[name].to_bytes())
        assert again == stored[name] == DottedVersionVectorSet.from_json(stored[name].to_json())


@pytest.mark.parametrize(
    "text", ['[["s",0,[]]]', '[["s",1,"x"]]', '[["s",1,[]],["s",2,[]]]', '[["s",1,["x","y"]]]', '[["s",1]]', "7"]
)
def test_other_shapes_are_one_typed_error(text: str) -> None:
    with pytest.raises(UndecodableBytes):
        DottedVersionVectorSet.from_json(text)


def test_a_sibling_that_cannot_come_back_is_named_by_its_place() -> None:
    stored = DottedVersionVectorSet.new({"at": [1, {2: "x"}]}, "t").update("fine", context=VectorClock(), server="s")

    with pytest.raises(
        UnencodableValue, match=r"values\(\)\[1\]\['at'\]\[1\] can't go into JSON: the key 2"
    ) as refused:
        stored.to_json()

    assert refused.value.path == "values()[1]['at'][1]"
    assert DottedVersionVectorSet.from_bytes(stored.to_bytes()) == stored


def test_sets_of_equal_values_hash_alike() -> None:
    """1 equals True in Python, and a list has no hash."""
    one, other = DottedVersionVectorSet.new([1], "s"), DottedVersionVectorSet.new([True], "s")

    assert one == other
    assert hash(one) == hash(other)


def test_the_original_name_is_an_alias() -> None:
    assert DottedVersionVector is DottedVersionVectorSet
