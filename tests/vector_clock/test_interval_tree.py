"""Do interval tree clocks reproduce the paper's rules and its run? (Almeida, Baquero, Fonte 2008, §5 and Figure 4.)"""

import random

import pytest

from aegis_replication.errors import InvalidArgument, UndecodableBytes
from aegis_replication.vector_clock import IntervalTreeClock, Ordering, VersionVector


def stamp(clock: IntervalTreeClock) -> tuple[object, object]:
    return clock.identity, clock.events


def test_the_run_of_the_paper() -> None:
    first, second = IntervalTreeClock.seed().fork()
    assert (stamp(first), stamp(second)) == (((1, 0), 0), ((0, 1), 0))

    first, second = first.event(), second.event()
    assert (stamp(first), stamp(second)) == (((1, 0), (0, 1, 0)), ((0, 1), (0, 0, 1)))

    left, right = first.fork()
    left, second = left.event(), second.event()
    assert stamp(left) == (((1, 0), 0), (0, (1, 1, 0), 0))
    assert stamp(right) == (((0, 1), 0), (0, 1, 0))
    assert stamp(second) == ((0, 1), (0, 0, 2))

    joined = right.join(second)
    assert stamp(joined) == (((0, 1), 1), (1, 0, 1))

    kept, given = joined.fork()
    assert stamp(left.join(kept)) == ((1, 0), (1, (0, 1, 0), 1))
    assert stamp(left.join(kept).event()) == ((1, 0), 2)
    assert given.identity == (0, 1)


def test_join_undoes_fork() -> None:
    clock = IntervalTreeClock.seed().event()
    left, right = clock.fork()

    assert left.join(right) == clock == right.join(left)


@pytest.mark.parametrize("seed", range(30))
def test_order_is_the_order_of_known_events(seed: int) -> None:
    """Against a version vector that is told each event by name; identities always part [0, 1)."""
    rng = random.Random(seed)
    replicas: list[tuple[IntervalTreeClock, VersionVector]] = [(IntervalTreeClock.seed(), VersionVector())]
    events = 0

    for step in range(60):
        at = rng.randrange(len(replicas))
        clock, known = replicas.pop(at)
        choice = rng.random()
        if choice < 0.35 and len(replicas) < 6:
            left, right = clock.fork()
            replicas += [(left, known.copy()), (right, known.copy())]
        elif choice < 0.55 and replicas:
            other, also = replicas.pop(rng.randrange(len(replicas)))
            replicas.append((clock.join(other), known.merge(also)))
        elif choice < 0.7 and replicas:
            other, also = replicas.pop(rng.randrange(len(replicas)))
            replicas += [(clock.join(other.peek()), known.copy().merge(also)), (other, also)]
        else:
            events += 1
            known.add((f"event-{events}", 1))
            replicas.append((clock.event(), known))
        for one, one_known in replicas:
            for two, two_known in replicas:
                assert one.compare(two) is one_known.compare(two_known), f"seed {seed}, step {step}: {one} {two}"
        whole = replicas[0][0]
        for other, _ in replicas[1:]:
            whole = whole.join(other)
        assert whole.identity == 1, f"seed {seed}, step {step}"


def test_order_and_bytes() -> None:
    first, second = IntervalTreeClock.seed().fork()

    later = first.event()

    assert first.compare(second) is Ordering.EQUAL
    assert first <= later
    assert later.compare(first) is Ordering.AFTER
    assert later.compare(second.event()) is Ordering.CONCURRENT
    assert IntervalTreeClock.from_bytes(later.to_bytes()) == IntervalTreeClock.from_json(later.to_json()) == later
    assert hash(IntervalTreeClock.from_bytes(later.to_bytes())) == hash(later)


def test_not_normal_trees_are_made_normal() -> None:
    assert IntervalTreeClock((1, 1), (2, 1, 1)) == IntervalTreeClock(1, 3)
    assert IntervalTreeClock(1, (2, (2, 1, 0), 3)).events == (4, (0, 1, 0), 1)


def test_a_stamp_that_owns_nothing_cannot_count() -> None:
    with pytest.raises(InvalidArgument, match="owns no part"):
        IntervalTreeClock.seed().peek().event()


def test_a_forked_stamp_that_is_still_used_is_noticed() -> None:
    clock = IntervalTreeClock.seed()
    left, _ = clock.fork()

    with pytest.raises(InvalidArgument, match="own the same part"):
        clock.join(left)


@pytest.mark.parametrize("text", ["[2,0]", "[1,-1]", "[[1,0,0],0]", "[1,[0,1]]", '["1",0]', "[1]", "[true,0]"])
def test_other_trees_are_one_typed_error(text: str) -> None:
    with pytest.raises(UndecodableBytes):
        IntervalTreeClock.from_json(text)


def test_a_tree_too_deep_is_refused() -> None:
    identity: object = 1
    for _ in range(300):
        identity = (identity, 0)

    with pytest.raises(InvalidArgument, match="deep"):
        IntervalTreeClock(identity, 0)
