"""How fast are placements, beside the packages that do the same? Medians of interleaved rounds, warm, in one process.

    python benchmarks/placement.py -o json            figures and ratios
    python benchmarks/placement.py --plot FILE.svg    also cost per lookup as the tables grow, drawn as SVG

Peers that aren't installed are left out and named (`make bench-peers` installs them).
"""

import gc
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from aegis_replication.hash import (
    AnchorHash,
    BoundedLoad,
    HashRing,
    JumpHash,
    MaglevHash,
    MultiProbeHash,
    RendezvousHash,
)
from aegis_replication.hash.arrays import jump_array

sys.path.insert(0, str(Path(__file__).parent))
from report import options, ratio_of, report

NODE_COUNT = 10
NODES = [f"node-{index}" for index in range(NODE_COUNT)]
GROWTH = [100, 1_000, 10_000, 100_000, 1_000_000]

Case = Callable[[list[Any]], None]


def one_by_one(lookup: Callable[[Any], Any]) -> Case:
    def run(keys: list[Any]) -> None:
        for key in keys:
            lookup(key)

    return run


def at_once(lookup: Callable[[list[Any]], Any]) -> Case:
    def run(keys: list[Any]) -> None:
        lookup(keys)

    return run


def measured(cases: dict[str, tuple[Case, Any]], rounds: int) -> dict[str, float]:
    """Median nanoseconds of processor time per key: other processes' turns don't count.

    Every round runs every case once, so that a slow moment hits all alike.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (run, keys) in cases.items():
            gc.collect()
            gc.disable()
            run(keys)  # the case before has filled the caches with its own tables
            start = time.process_time_ns()
            run(keys)
            times[name].append((time.process_time_ns() - start) / len(keys))
            gc.enable()
    return {name: statistics.median(each) for name, each in times.items()}


def optional(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


def compared(key_count: int, rounds: int) -> dict[str, Any]:
    keys = [f"user:{index}:profile" for index in range(key_count)]
    as_bytes = [key.encode() for key in keys]
    ring, jump = HashRing(nodes=NODES), JumpHash(NODE_COUNT)
    positions = [ring.key_position(key) for key in keys]
    cases: dict[str, tuple[Case, Any]] = {
        "ring_get_node": (one_by_one(ring.get_node), keys),
        "ring_get_many": (at_once(ring.get_many), keys),
        "ring_get_many_bytes": (at_once(ring.get_many), as_bytes),
        "jump_bucket_u64": (one_by_one(jump.bucket_u64), positions),
        "jump_bucket_many": (at_once(jump.bucket_many), keys),
    }
    left_out = []
    if (numpy := optional("numpy")) is not None:
        array = numpy.array(positions, dtype=numpy.uint64)
        cases["jump_array"] = (at_once(lambda some: jump_array(some, NODE_COUNT)), array)
    else:
        left_out.append("numpy")
    if (uhashring := optional("uhashring")) is not None:
        peer = uhashring.HashRing(nodes=NODES)
        cases["uhashring_get_node"] = (one_by_one(peer.get_node), keys)
    else:
        left_out.append("uhashring")
    if (jump_extension := optional("jump")) is not None:
        fast = jump_extension.hash
        cases["jump_extension"] = (at_once(lambda some: [fast(position, NODE_COUNT) for position in some]), positions)
    else:
        left_out.append("jump-consistent-hash")
    nanoseconds = measured(cases, rounds)
    return {
        "key_count": key_count,
        "rounds": rounds,
        "node_count": NODE_COUNT,
        "vnodes": ring.vnodes,
        "lookup_ns": {name: round(value, 1) for name, value in nanoseconds.items()},
        "ratios": ratios(nanoseconds),
        "left_out": left_out,
    }


def ratios(nanoseconds: dict[str, float]) -> dict[str, float]:
    """How many times faster than the peer we are."""
    pairs = {
        "ring_get_node_over_uhashring": ("uhashring_get_node", "ring_get_node"),
        "ring_get_many_over_uhashring": ("uhashring_get_node", "ring_get_many"),
        "ring_get_many_bytes_over_uhashring": ("uhashring_get_node", "ring_get_many_bytes"),
        "jump_array_over_jump_extension": ("jump_extension", "jump_array"),
        "jump_bucket_many_over_jump_extension": ("jump_extension", "jump_bucket_many"),
    }
    return ratio_of(nanoseconds, pairs)


def growth(rounds: int) -> dict[str, list[tuple[int, float]]]:
    """Nanoseconds per lookup against the number of entries that each algorithm keeps."""
    series: dict[str, list[tuple[int, float]]] = {}
    for count in GROWTH:
        for name, make in _GROWING.items():
            lookup = make(count)
            # What takes long needs few repetitions: a rendezvous of a million nodes hashes a million times per key.
            key_count = max(5, min(5_000, 20_000_000 // count)) if name == "rendezvous (nodes)" else 5_000
            keys = [f"user:{index}:profile" for index in range(key_count)]
            lookup(keys[0])
            (value,) = measured({name: (one_by_one(lookup), keys)}, rounds).values()
            series.setdefault(name, []).append((count, round(value, 1)))
    return series


def _names(count: int) -> list[str]:
    return [f"node-{index}" for index in range(count)]


_GROWING: dict[str, Callable[[int], Callable[[str], str]]] = {
    "ring (points)": lambda count: HashRing(10, nodes=_names(count // 10)).get_node,
    "jump (nodes)": lambda count: JumpHash(count).get_node,
    "rendezvous (nodes)": lambda count: RendezvousHash(nodes=_names(count)).get_node,
    "maglev (slots)": lambda count: MaglevHash(_PRIMES[count], nodes=_names(count // 100)).get_node,
    "anchor (buckets, half in use)": lambda count: AnchorHash(count, nodes=_names(count // 2)).get_node,
    "multi-probe (nodes)": lambda count: MultiProbeHash(nodes=_names(count)).get_node,
    "bounded load (partitions)": lambda count: BoundedLoad(count, nodes=NODES).get_node,
}
_PRIMES = {100: 101, 1_000: 1_009, 10_000: 10_007, 100_000: 100_003, 1_000_000: 1_000_003}


def main() -> None:
    asked = options("Measure placements beside other packages.", keys=20_000, rounds=15)
    labels = "Placement: time per lookup as the tables grow", "entries (points, nodes, slots ...)", "ns per lookup"
    report(asked, compared(asked.keys, asked.rounds), rows, lambda: growth(5), labels)


def rows(figures: dict[str, Any]) -> list[str]:
    return [f"{name:24}{value:10.1f} ns per key {1e3 / value:9.2f} M/s" for name, value in figures["lookup_ns"].items()]


if __name__ == "__main__":
    main()
