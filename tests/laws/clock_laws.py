"""What must hold for every clock? Each law is a function that raises if it doesn't."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from hypothesis import strategies as st

from aegis_replication.errors import ClockSkewError, IncompatibleVersion, UndecodableBytes
from aegis_replication.vector_clock import (
    DottedVersionVectorSet,
    HybridLogicalClock,
    HybridTimestamp,
    IntervalTreeClock,
    LamportClock,
    LamportTimestamp,
    Ordering,
    VectorClock,
    VersionedValue,
    VersionVector,
)

NODES = "abc"
MAX_OFFSET_MS = 250

Step: TypeAlias = tuple[int, int, int]
"""What happens, where, and with whom; each law reads the numbers in its own way."""

counts = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 4), max_size=4)
clocks = st.builds(VectorClock, counts)
dots = st.sets(st.tuples(st.sampled_from(NODES), st.integers(1, 9)), max_size=12)
vectors = st.builds(VersionVector.of, dots)
histories = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
names = st.text(min_size=1, max_size=3).filter(lambda text: text.isprintable())
# Steps that take most of the clock's hard edges: full counters, peers at the bound, a wall clock that is set back.
walls = st.lists(
    st.tuples(
        st.integers(0, 9), st.integers(0, 2), st.sampled_from([0, 0, 0, 1, 5, -3, 99, 100, 120, -100, 249, 250, -250])
    ),
    min_size=1,
    max_size=40,
)


def order_is_partial(one: Any, two: Any, three: Any) -> None:
    """For VectorClock and VersionVector; all ways to ask give one answer."""
    assert one <= one
    assert not one < one
    if one <= two and two <= three:
        assert one <= three, f"{one} <= {two} <= {three}"
    equal = one <= two and two <= one
    assert equal == (one == two) == (one.to_bytes() == two.to_bytes()), f"{one}, {two}"
    assert not equal or hash(one.copy()) == hash(two.copy())
    assert (one < two) == (one <= two and one != two) == (two > one)
    assert (one <= two) == (two >= one)
    expected = {
        (True, True): Ordering.EQUAL,
        (True, False): Ordering.BEFORE,
        (False, True): Ordering.AFTER,
        (False, False): Ordering.CONCURRENT,
    }
    assert one.compare(two) is expected[one <= two, two <= one]
    assert two.compare(one) is expected[two <= one, one <= two]


def merge_is_the_least_upper_bound(one: Any, two: Any, three: Any) -> None:
    """And the meet the greatest lower one; both are commutative, associative and idempotent."""
    merged, met = one.copy().merge(two), one.meet(two)

    assert one <= merged >= two, f"{one}, {two}: {merged}"
    assert one >= met <= two, f"{one}, {two}: {met}"
    if one <= three >= two:
        assert merged <= three, f"{merged} is above {three}"
    if one >= three <= two:
        assert met >= three, f"{met} is below {three}"
    assert merged == two.copy().merge(one)
    assert met == two.meet(one)
    assert merged.copy().merge(three) == one.copy().merge(two.copy().merge(three))
    assert one.copy().merge(one) == one.meet(one) == one


def zeros_are_as_absent(with_zeros: dict[str, int], other: VectorClock) -> None:
    without = VectorClock({node: count for node, count in with_zeros.items() if count})
    built = VectorClock(with_zeros)
    by_set = VectorClock()
    for node, count in with_zeros.items():
        by_set.set(node, 7)
        by_set.set(node, count)

    for each in (built, by_set):
        assert each == without, f"{with_zeros}"
        assert each.compare(other) is without.compare(other), f"{with_zeros} and {other}"
        assert each.to_bytes() == without.to_bytes()


def vector_order_is_happened_before(history: Sequence[Step]) -> None:
    """Against each event's set of causes; messages may be lost, repeated, and overtake each other."""
    clocks = {node: VectorClock() for node in NODES}
    known: dict[str, frozenset[int]] = {node: frozenset() for node in NODES}
    events: list[tuple[VectorClock, frozenset[int]]] = []
    for number, (action, where, which) in enumerate(history):
        node = NODES[where % 3]
        if action < 5 and events:  # receives what an event before sent
            clock, causes = events[which * len(events) // 6]
            clocks[node].merge(clock)
            known[node] |= causes
        clocks[node].increment(node)
        known[node] |= {number}
        events.append((clocks[node].copy(), known[node]))
    for one, one_causes in events:
        for two, two_causes in events:
            assert one.compare(two) is by_sets(one_causes, two_causes), f"{one}, {two}"


def vectors_are_sets_of_dots(one: set[tuple[str, int]], other: set[tuple[str, int]]) -> None:
    left, right = VersionVector.of(one), VersionVector.of(other)
    merged = left.copy().merge(right)

    assert list(left.dots()) == sorted(one)
    assert set(merged.dots()) == one | other
    assert set(left.minus(right).dots()) == one - other
    assert set(left.meet(right).dots()) == one & other
    assert set(left.missing(right).dots()) == other - one
    assert left.compare(right) is by_sets(one, other)
    for actor in NODES:
        seen = {number for name, number in one if name == actor}
        gaps = {number for name, number in left.exceptions() if name == actor}
        assert gaps == set(range(1, left.highest(actor) + 1)) - seen
        assert merged.event(actor)[1] > max(seen, default=0)


def siblings_are_exact(history: Sequence[Step]) -> None:
    """The values that are there are the writes that are known and that no known write or delete had read."""
    servers = {name: DottedVersionVectorSet() for name in NODES}
    known: dict[str, frozenset[int]] = {name: frozenset() for name in NODES}  # writes
    gone: dict[str, frozenset[int]] = {name: frozenset() for name in NODES}  # those that were replaced
    reads = [(VectorClock(), frozenset[int]())]
    for number, (action, where, which) in enumerate(history):
        name, other = NODES[where % 3], NODES[which % 3]
        context, seen = reads[which * len(reads) // 6]
        if action < 4:
            servers[name] = servers[name].update(number, context=context, server=name)
            known[name] |= {number} | seen
            gone[name] |= seen
        elif action < 5:
            servers[name] = servers[name].discard(context)
            known[name] |= seen
            gone[name] |= seen
        elif action < 7:
            reads.append((servers[name].join(), known[name]))
        else:
            servers[name] = servers[name].sync(servers[other])
            known[name] |= known[other]
            gone[name] |= gone[other]
        assert sorted(servers[name].values()) == sorted(known[name] - gone[name]), f"step {number} of {history}"
        for one in NODES:
            expected = by_sets((known[name], gone[name]), (known[one], gone[one]))
            assert by_knowledge(servers[name], servers[one]) is expected, f"step {number} of {history}"
    for name in NODES:
        reads_back(servers[name])
        assert servers[name].sync(*servers.values()) == DottedVersionVectorSet().sync(*reversed(servers.values()))


def tree_order_is_happened_before(history: Sequence[Step]) -> None:
    """Against each stamp's set of events; the shares of all stamps always make up [0, 1), and trees stay normal."""
    stamps: list[tuple[IntervalTreeClock, frozenset[int]]] = [(IntervalTreeClock.seed(), frozenset())]
    for number, (action, where, which) in enumerate(history):
        clock, known = stamps.pop(where % len(stamps))
        if action < 3 and len(stamps) < 5:
            stamps += [(share, known) for share in clock.fork()]
        elif action < 5 and stamps:
            other, also = stamps.pop(which % len(stamps))
            stamps.append((clock.join(other), known | also))
        elif action < 7 and stamps:
            other, also = stamps[which % len(stamps)]
            stamps.append((clock.join(other.peek()), known | also))
        else:
            stamps.append((clock.event(), known | {number}))
        whole = IntervalTreeClock(0, 0)
        for one, one_known in stamps:
            whole = whole.join(one)
            assert IntervalTreeClock(one.identity, one.events) == one, f"{one} is not normal"
            latest, latest_known = stamps[-1]
            assert latest.compare(one) is by_sets(latest_known, one_known), f"step {number}: {latest}, {one}"
        assert whole.identity == 1, f"step {number}: all own {whole.identity}"
    for one, _ in stamps:
        reads_back(one)


def join_undoes_fork(history: Sequence[Step]) -> None:
    clock = IntervalTreeClock.seed()
    for action, _, _ in history:
        left, right = clock.fork()

        assert left.join(right) == right.join(left) == clock
        clock = (left.event(), right.event(), left, right, left.event().join(right.event()))[action % 5]


def hybrid_stamps_rise_within_the_bound(steps: Sequence[Step]) -> None:
    """Along each node and each message, across crashes; never further ahead of the wall clock than allowed."""
    kept = dict.fromkeys(NODES, 0)
    clocks = {node: hybrid(node, kept) for node in NODES}
    walls_ms = dict.fromkeys(NODES, 10_000)
    last = {node: HybridTimestamp(0) for node in NODES}
    sent: list[HybridTimestamp] = [HybridTimestamp(10_000, 2**16 - 2, "z"), HybridTimestamp(10_250, 2**16 - 1, "z")]
    for number, (action, where, by_ms) in enumerate(steps):
        node = NODES[where]
        walls_ms[node] = max(0, walls_ms[node] + by_ms)
        now_ms, before = walls_ms[node], clocks[node].read()
        if action == 9:  # kill -9: only what was persisted is left
            clocks[node] = hybrid(node, kept)
            continue
        message = sent[number % len(sent)] if action < 5 else None
        try:
            stamp = clocks[node].update(message, now_ms) if message else clocks[node].now(now_ms)
        except ClockSkewError:
            unmoved = clocks[node].read() == before
            assert unmoved, f"step {number}: a refused stamp was absorbed"
            latest = max(before, message or before)
            lowest_ms = latest.physical_ms + (latest.logical == 2**16 - 1)
            assert lowest_ms > now_ms + MAX_OFFSET_MS, f"step {number}: above {latest} was refused at {now_ms} ms"
            continue
        assert stamp > last[node], f"step {number}: {stamp} after {last[node]}"
        assert message is None or stamp > message, f"step {number}: {stamp} after receiving {message}"
        assert 0 <= stamp.physical_ms - now_ms <= MAX_OFFSET_MS, f"step {number}: {stamp} at {now_ms} ms"
        assert stamp.physical_ms <= kept[node], f"step {number}: {stamp} is above the persisted {kept[node]}"
        assert stamp.pack() > last[node].pack()
        assert HybridTimestamp.unpack(stamp.pack(), node) == stamp
        last[node] = stamp
        sent.append(stamp)


def lamport_stamps_rise(steps: Sequence[Step]) -> None:
    clocks = {node: LamportClock(node) for node in NODES}
    last = {node: LamportTimestamp(0, node) for node in NODES}
    sent: list[LamportTimestamp] = []
    for action, where, which in steps:
        node = NODES[where % 3]
        message = sent[which * len(sent) // 6] if sent and action < 6 else None
        stamp = clocks[node].receive(message) if message else clocks[node].tick()
        assert stamp.time > last[node].time
        assert message is None or stamp.time > message.time, f"{stamp} after receiving {message}"
        assert stamp not in sent
        last[node] = stamp
        sent.append(stamp)


def reads_back(clock: Any) -> None:
    """From bytes and from JSON, to an equal one with equal bytes."""
    for again in (type(clock).from_bytes(clock.to_bytes()), type(clock).from_json(clock.to_json())):
        assert again == clock, f"{clock} came back as {again}"
        assert again.to_bytes() == clock.to_bytes()
        assert again.to_json() == clock.to_json()


def a_changed_byte_is_a_typed_error_or_another_clock(clock: Any, at: int, bit: int) -> None:
    """Nothing but UndecodableBytes and IncompatibleVersion comes out, whatever goes in."""
    damaged = bytearray(clock.to_bytes())
    damaged[at % len(damaged)] ^= 1 << bit
    try:
        read = type(clock).from_bytes(bytes(damaged))
    except (UndecodableBytes, IncompatibleVersion):
        return
    if isinstance(read, VersionedValue | DottedVersionVectorSet):
        # Another value may have come of it, such as a map with numbers as keys, or one that doesn't equal itself (NaN):
        # bytes keep it, JSON has no word for it.
        assert type(read).from_bytes(read.to_bytes()).to_bytes() == read.to_bytes()
    else:
        reads_back(read)


def by_knowledge(one: DottedVersionVectorSet, other: DottedVersionVectorSet) -> Ordering:
    """All ways to ask, and that they agree."""
    assert one.less(other) == other.dominates(one)
    assert not (one.less(other) and other.less(one))
    if one == other:
        return Ordering.EQUAL
    return Ordering.BEFORE if one.less(other) else Ordering.AFTER if other.less(one) else Ordering.CONCURRENT


def by_sets(one: Any, two: Any) -> Ordering:
    """The order of sets, or of pairs of sets, by inclusion."""
    if isinstance(one, tuple):
        before = all(mine <= theirs for mine, theirs in zip(one, two))
        after = all(mine >= theirs for mine, theirs in zip(one, two))
    else:
        before, after = one <= two, one >= two
    return [[Ordering.CONCURRENT, Ordering.AFTER], [Ordering.BEFORE, Ordering.EQUAL]][before][after]


def hybrid(node: str, kept: dict[str, int]) -> HybridLogicalClock:
    def persist(bound_ms: int) -> None:
        assert bound_ms > kept[node]
        kept[node] = bound_ms

    return HybridLogicalClock(
        node, max_offset_ms=MAX_OFFSET_MS, resume_after_ms=kept[node], persist=persist, persist_step_ms=100
    )


everything = (
    clocks
    | vectors
    | st.builds(VectorClock, st.dictionaries(names, st.integers(0, 2**63 - 1), max_size=3))
    | st.builds(VersionVector, st.dictionaries(names, st.integers(0, 2**63 - 1), max_size=3))
    | st.builds(VersionedValue, values, clocks, st.integers(0, 2**63 - 1))
    | st.builds(LamportClock, names, st.integers(0, 2**63 - 1))
    | st.builds(HybridTimestamp, st.integers(0, 2**48 - 1), st.integers(0, 2**16 - 1), names | st.just(""))
    | st.builds(
        lambda entries: DottedVersionVectorSet(
            {name: (len(held) + base + (not held), held) for name, (base, held) in entries.items()}
        ),
        st.dictionaries(names, st.tuples(st.integers(0, 2**62), st.lists(values, max_size=2)), max_size=2),
    )
)
