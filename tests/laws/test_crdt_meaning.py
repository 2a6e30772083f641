"""Do the types mean what they say? Values from the happens-before graph, clocks an hour apart, escrow in partitions."""

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from crdt_histories import LIVES, History, Step, joined, steps
from crdt_oracle import ORACLES, judge
from hypothesis import given
from hypothesis import strategies as st

from aegis_replication.crdt import BoundedCounter, LWWMap, LWWRegister, MVRegister, ORSet
from aegis_replication.errors import InsufficientRights

HOUR_MS = 3_600_000


@pytest.mark.parametrize("name", ORACLES)
def test_the_value_is_what_the_happens_before_graph_says(name: str) -> None:
    """L11: add wins, remove wins, reset-remove and the rest, from the causes of each event alone."""

    @given(taken=steps)
    def means(taken: list[Step]) -> None:
        judge(name, taken)

    means()


@given(taken=st.lists(st.tuples(st.booleans(), st.sampled_from("xyz")), max_size=30))
def test_one_replica_alone_is_the_plain_python_type(taken: list[tuple[bool, str]]) -> None:
    """L11, sequential: set, dict and list."""
    plain_set: set[str] = set()
    plain_map: dict[str, int] = {}
    plain_list: list[str] = []
    replicated_set, replicated_map = ORSet("a"), LWWMap("a")
    text = LIVES["Text"].make("a")

    for at, (is_add, key) in enumerate(taken):
        if is_add:
            replicated_set.add(key)
            plain_set.add(key)
            replicated_map.set(key, at, 0)
            plain_map[key] = at
            text.insert(at % (len(plain_list) + 1), key)
            plain_list.insert(at % (len(plain_list) + 1), key)
        else:
            replicated_set.remove(key)
            plain_set.discard(key)
            replicated_map.remove(key)
            plain_map.pop(key, None)
            if plain_list:
                text.delete(at % len(plain_list))
                del plain_list[at % len(plain_list)]
        assert replicated_set.value() == plain_set
        assert replicated_map.value() == plain_map
        assert text.value() == "".join(plain_list)


@given(taken=steps)
def test_a_remove_takes_only_what_its_context_has(taken: list[Step]) -> None:
    """L12: whatever came after the read stays."""
    history = History(LIVES["ORSet"], taken)
    history.exchange()
    server, other = history.replicas[0], history.replicas[1]
    read = server.read()

    fresh = other.add("x")
    server.merge(fresh)
    delta = server.remove("x", context=read.context)

    assert "x" in server, "the add that the client had not read"
    assert all(dot in read.context for dot in delta.context.dots())


@given(
    writes=st.lists(
        st.tuples(st.integers(0, 2), st.integers(-HOUR_MS, HOUR_MS), st.sampled_from([1, True, 1.0, "1", None, [1]])),
        min_size=1,
        max_size=5,
    ),
    has_actors=st.booleans(),
)
def test_all_orders_of_delivery_give_one_winner(writes: list[tuple[int, int, Any]], has_actors: bool) -> None:
    """L13: equal stamps, clocks an hour apart, values that Python calls equal."""
    registers = [LWWRegister(name if has_actors else None) for name in "abc"]
    deltas = []
    for at, skew_ms, value in writes:
        deltas.append(registers[at].set(value, max(0, HOUR_MS + skew_ms // HOUR_MS * HOUR_MS)))
        assert registers[at].value() == value, "no local write is lost"

    winners = set()
    for order in itertools.permutations(deltas):
        register = LWWRegister()
        for delta in order:
            register.merge(delta)
        winners.add((register.to_bytes(), repr(register.value())))

    assert len(winners) == 1


@given(stamps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=6))
def test_a_local_write_is_read_back_however_slow_the_clock(stamps: list[tuple[int, int]]) -> None:
    """L13: of a register and of a map, also just after merging a stamp from the future."""
    registers, maps = [LWWRegister(name) for name in "abc"], [LWWMap(name) for name in "abc"]
    ahead = LWWRegister("z")
    ahead.set("from the future", HOUR_MS)

    for number, (at, stamp) in enumerate(stamps):
        registers[at].merge(ahead)
        registers[at].set(number, stamp)
        maps[at].set("key", number, stamp)
        assert registers[at].value() == number
        assert maps[at]["key"] == number
        if number % 2:
            maps[at].remove("key", stamp)
            assert "key" not in maps[at]
        for each in maps:
            each.merge(maps[at])


@given(
    taken=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2), st.integers(1, 9)), max_size=40),
    bound=st.integers(-5, 5),
)
def test_a_bounded_counter_never_falls_below_its_bound(taken: list[tuple[int, int, int, int]], bound: int) -> None:
    """L14: under partitions, lost merges and transfers; nor does any replica promise more than there is."""
    check_bound(taken, bound)


def check_bound(taken: list[tuple[int, int, int, int]], bound: int) -> None:
    counters = [BoundedCounter(name, bound=bound) for name in "abc"]
    spent = made = 0
    for action, at, other, amount in taken:
        try:
            if action == 0:
                counters[at].increment(amount)
                made += amount
            elif action == 1:
                counters[at].decrement(amount)
                spent += amount
            elif action == 2 and at != other:
                counters[at].transfer("abc"[other], amount)
            else:
                counters[at].merge(counters[other])
        except InsufficientRights:
            assert amount > counters[at].rights()
        whole = BoundedCounter(bound=bound)
        for each in counters:
            whole.merge(each)
        assert whole.value() == bound + made - spent >= bound, "L14"
        assert sum(whole.rights(name) for name in "abc") == made - spent
        assert all(each.rights() <= whole.rights(each.actor) for each in counters)


@pytest.mark.parametrize("make", [ORSet, LWWMap, MVRegister])
def test_a_delta_is_far_smaller_than_the_state(make: Callable[[str], Any]) -> None:
    """L7: one add to 10,000 elements travels in at most 200 bytes, and says nothing of the others."""
    replica = make("node-1.7f3a9c5e21b84d06")
    write = {
        ORSet: lambda n: replica.add(f"element-{n}"),
        LWWMap: lambda n: replica.set(f"key-{n}", "v", n),
        MVRegister: lambda n: replica.set(f"value-{n}"),
    }[make]

    for number in range(10_000):
        delta = write(number)

    assert len(delta.to_bytes()) <= 200
    assert len(delta.context) <= 2


def test_a_peer_that_lacks_ten_of_100_000_keys_is_brought_level_with_a_hundredth() -> None:
    one = LWWMap("a")
    for number in range(100_000):
        one.set(f"key-{number}", f"value-{number}", 1)
    other = one.copy("b")
    rng = random.Random(7)
    for number in rng.sample(range(100_000), 10):
        one.set(f"key-{number}", "changed", 2)

    delta = one.delta(other.context())
    other.merge(delta)

    assert other == one
    assert len(delta.to_bytes()) <= len(one.to_bytes()) // 100


@given(taken=steps, loss=st.integers(0, 2**31))
def test_three_rounds_after_the_heal_all_are_level(taken: list[Step], loss: int) -> None:
    """A round: each replica has exchanged with each peer once; 3 in 10 messages are lost and asked for again."""
    history = History(LIVES["ORMap of sets and counters"], taken)
    rng = random.Random(loss)

    for _ in range(3):
        for one in history.replicas:
            for other in history.replicas:
                while rng.random() < 0.3:
                    one.delta(other.context())  # made, and lost
                other.merge(one.delta(other.context()))

    assert len({replica.to_bytes() for replica in history.replicas}) == 1
    assert history.replicas[0] == joined(history.life, *history.replicas)
