"""How were the golden bytes of clocks and replicated types made? What is in the file is never changed, only added to.

python tests/golden/make_values.py tests/golden/values-1.json
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aegis_replication.crdt import (
    Bag,
    BoundedCounter,
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
    ResettableCounter,
    RWSet,
    Text,
    TwoPSet,
)
from aegis_replication.vector_clock import (
    DottedVersionVectorSet,
    HybridTimestamp,
    IntervalTreeClock,
    LamportClock,
    VectorClock,
    VersionedValue,
    VersionVector,
)


def main(path: Path) -> None:
    made = json.loads(path.read_text()) if path.exists() else {}
    made |= {name: make().to_bytes().hex() for name, make in MADE.items() if name not in made}
    path.write_text(json.dumps(made, indent=1) + "\n")


def two(kind: Any, change: Callable[[Any, int], object], **settings: Any) -> Callable[[], Any]:
    """Two replicas that change at once, merge, and change again: dots of both, some of them gone."""

    def make() -> Any:
        one, other = kind("n1", **settings), kind("n2", **settings)
        for number in range(3):
            change(one, number)
        change(other, 1)
        other.merge(one)
        change(other, 2)
        one.merge(other)
        return one

    return make


def interval_tree() -> IntervalTreeClock:
    left, right = IntervalTreeClock.seed().fork()
    kept, given = left.event().fork()
    return kept.event().join(right.event().peek()).join(given.event())


def map_of_all(replica: ORMap, number: int) -> None:
    replica.at(("k", number), ORSet).add("x")
    replica.at("n", ResettableCounter).increment(number + 1)
    replica.at("deep", ORMap).at(b"t", Text).append("ab")
    replica.at("deep", ORMap).at(7, LWWMap).set("v", {"list": [number, None, 1.5]}, number)
    if number == 2:
        replica.remove(("k", 1))


def collected_set() -> RWSet:
    replica = RWSet("n1")
    replica.add("kept")
    replica.remove("gone")
    replica.collect(replica.context())
    return replica


def retired_actors() -> ORSet:
    replica = ORSet("n1")
    for name in ("x", "y"):
        other = replica.copy(name)
        other.add(f"of {name}")
        replica.merge(other)
    replica.collect(replica.context(), retired=["x", "y"])
    return replica


def counted(counter: Any, number: int) -> None:
    counter.increment(number + 1)
    if number == 1 and hasattr(counter, "decrement"):
        counter.decrement(1)


MADE: dict[str, Callable[[], Any]] = {
    "VectorClock": lambda: VectorClock({"b": 2**40, "a": 1, "ü": 7}),
    "VersionVector": lambda: VersionVector({"b": 3, "a": 1}, dots=[("b", 7), ("b", 8), ("c", 2)]),
    "DottedVersionVectorSet": lambda: DottedVersionVectorSet(
        {"s": (9, ["x", {"b": 1, "a": ["\0", -1]}]), "r": (1, ())}
    ),
    "VersionedValue": lambda: VersionedValue(
        {"b": [None, True, 2.5], "a": "ü"}, VectorClock({"n": 1}), 1_700_000_000_000
    ),
    "LamportClock": lambda: LamportClock("n1", 77),
    "HybridTimestamp": lambda: HybridTimestamp(1_700_000_000_000, 5, "n1"),
    "IntervalTreeClock": interval_tree,
    "GCounter": two(GCounter, counted),
    "PNCounter": two(PNCounter, counted),
    "ResettableCounter": two(ResettableCounter, counted),
    "BoundedCounter": two(BoundedCounter, counted, bound=-5),
    "LWWRegister": two(LWWRegister, lambda each, n: each.set([n, {"k": b"v"}], 5)),
    "LWWRegister without an actor": lambda: written(LWWRegister()),
    "MVRegister": two(MVRegister, lambda each, n: each.set({"n": n})),
    "MaxRegister": two(MaxRegister, lambda each, n: each.set(n * 1.5)),
    "MinRegister": two(MinRegister, lambda each, n: each.set(-n)),
    "EWFlag": two(EWFlag, lambda each, n: each.enable() if n % 2 else each.disable()),
    "DWFlag": two(DWFlag, lambda each, n: each.enable() if n % 2 else each.disable()),
    "GSet": two(GSet, lambda each, n: each.add(("t", n))),
    "TwoPSet": two(TwoPSet, lambda each, n: each.add(n) if n < 2 else each.remove(1)),
    "ORSet": two(ORSet, lambda each, n: each.add(("x", n, b"\xff")) if n < 2 else each.remove(("x", 1, b"\xff"))),
    "ORSet, of retired actors": retired_actors,
    "RWSet": two(RWSet, lambda each, n: each.add("x") if n % 2 else each.remove("x")),
    "RWSet, collected": collected_set,
    "Bag": two(Bag, lambda each, n: each.add("x", 3) if n % 2 else each.remove("x")),
    "LWWMap": two(LWWMap, lambda each, n: each.set(n, [n], n) if n < 2 else each.remove(1, 9)),
    "ORMap": two(ORMap, map_of_all),
    "List": two(List, lambda each, n: each.insert(0, n, "x") if n < 2 else each.delete(0)),
    "Text": two(Text, lambda each, n: each.insert(0, f"ü{n}") if n < 2 else each.delete(1)),
}


def written(register: LWWRegister) -> LWWRegister:
    register.set("value", HybridTimestamp(1_700_000_000_000, 5, "n1"))
    return register


if __name__ == "__main__":
    main(Path(sys.argv[1]))
