"""How fast are replicated types, beside pycrdt (Rust) and crdts (Python)? Medians of interleaved rounds, one process.

    python benchmarks/crdt.py -o json            figures and ratios
    python benchmarks/crdt.py --plot FILE.svg    also cost per operation as the objects grow, drawn as SVG

Peers that aren't installed are left out and named (`make bench-peers` installs them). Every figure is processor time,
with all work that the call asks for: ours makes a delta for each change; pycrdt makes one for a whole transaction, so
it is also measured with one transaction per change.
"""

import gc
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from aegis_replication.crdt import LWWMap, ORMap, ORSet, Text

sys.path.insert(0, str(Path(__file__).parent))
from report import options, ratio_of, report

GROWTH = [100, 1_000, 10_000, 100_000, 1_000_000]

Case = Callable[[int], Callable[[], Any]]
"""For a number of keys: prepares, and gives back what is to be timed."""


def main() -> None:
    asked = options("Measure replicated types beside other packages.", keys=10_000, rounds=7)
    title = "Replicated types: time per operation as the object grows"
    labels = title, "elements, keys or characters", "ns per operation"
    report(asked, compared(asked.keys, asked.rounds), rows, growth, labels)


def rows(figures: dict[str, Any]) -> list[str]:
    return [
        *(f"{name:36}{value:14,.0f} ns per key" for name, value in figures["operation_ns"].items()),
        *(f"{name:36}{value:14,} bytes for one change" for name, value in figures["delta_bytes"].items()),
    ]


def compared(key_count: int, rounds: int) -> dict[str, Any]:
    cases, delta_bytes, left_out = ours(key_count), our_delta_bytes(key_count), []
    for name, peer in (("pycrdt", pycrdt_cases), ("crdts", crdts_cases)):
        try:
            module = import_module(name)
        except ImportError:
            left_out.append(name)
            continue
        more, size = peer(module, key_count)
        cases |= more
        delta_bytes[name] = size
    nanoseconds = measured(cases, key_count, rounds)
    return {
        "key_count": key_count,
        "rounds": rounds,
        "operation_ns": {name: round(value, 1) for name, value in nanoseconds.items()},
        "merge_ms": {name: round(value * key_count / 1e6, 3) for name, value in nanoseconds.items() if "merge" in name},
        "delta_bytes": delta_bytes,
        "ratios": ratios(nanoseconds),
        "left_out": left_out,
    }


def ours(key_count: int) -> dict[str, Case]:
    keys = [f"key-{number}" for number in range(key_count)]

    def add(count: int) -> Callable[[], Any]:
        elements = ORSet("a")
        return lambda: [elements.add(key) for key in keys]

    def set_new(count: int) -> Callable[[], Any]:
        entries = LWWMap("a")
        return lambda: [entries.set(key, "value", 1) for key in keys]

    def set_again(count: int) -> Callable[[], Any]:
        entries = filled("a", keys)
        return lambda: [entries.set(key, "value", 2) for key in keys]

    def merge_new(count: int) -> Callable[[], Any]:
        entries, other = LWWMap("a"), filled("b", keys)
        return lambda: entries.merge(other)

    def merge_other_keys(count: int) -> Callable[[], Any]:
        entries, other = filled("a", keys), filled("b", [f"other-{key}" for key in keys])
        return lambda: entries.merge(other)

    def merge_same_keys(count: int) -> Callable[[], Any]:
        entries, other = filled("a", keys), filled("b", keys)
        return lambda: entries.merge(other)

    def add_at_once(count: int) -> Callable[[], Any]:
        elements = ORSet("a")
        return lambda: elements.update(keys)

    def set_at_once(count: int) -> Callable[[], Any]:
        entries, values = LWWMap("a"), dict.fromkeys(keys, "value")
        return lambda: entries.update(values, 1)

    return {
        "ORSet.add": add,
        "ORSet.update, one delta": add_at_once,
        "LWWMap.update, one delta": set_at_once,
        "LWWMap.set, new keys": set_new,
        "LWWMap.set, again": set_again,
        "LWWMap.merge into an empty one": merge_new,
        "LWWMap.merge, other keys": merge_other_keys,
        "LWWMap.merge, same keys": merge_same_keys,
    }


def filled(actor: str, keys: list[str]) -> LWWMap:
    entries = LWWMap(actor)
    for key in keys:
        entries.set(key, actor, 1)
    return entries


def our_delta_bytes(key_count: int) -> dict[str, int]:
    elements = ORSet("a")
    for number in range(key_count):
        elements.add(f"key-{number}")
    return {"ORSet.add": len(elements.add("one more").to_bytes())}


def pycrdt_cases(pycrdt: Any, key_count: int) -> tuple[dict[str, Case], int]:
    keys = [f"key-{number}" for number in range(key_count)]

    def document(value: str, names: list[str]) -> Any:
        doc = pycrdt.Doc()
        entries = doc.get("map", type=pycrdt.Map)
        with doc.transaction():
            for key in names:
                entries[key] = value
        return doc

    def set_at_once(count: int) -> Callable[[], Any]:
        doc = pycrdt.Doc()
        entries = doc.get("map", type=pycrdt.Map)

        def run() -> None:
            with doc.transaction():
                for key in keys:
                    entries[key] = "value"

        return run

    def set_each(count: int) -> Callable[[], Any]:
        entries = pycrdt.Doc().get("map", type=pycrdt.Map)

        def run() -> None:
            for key in keys:
                entries[key] = "value"

        return run

    def merging(ours: str, names: list[str], other_names: list[str]) -> Case:
        def prepare(count: int) -> Callable[[], Any]:
            doc, other = document(ours, names), document("other", other_names)
            return lambda: doc.apply_update(other.get_update(doc.get_state()))

        return prepare

    doc = document("value", keys)
    before = doc.get_state()
    doc.get("map", type=pycrdt.Map)["one more"] = True
    return {
        "pycrdt set, one transaction": set_at_once,
        "pycrdt set, one transaction each": set_each,
        "pycrdt merge into an empty one": merging("a", [], keys),
        "pycrdt merge, other keys": merging("a", keys, [f"other-{key}" for key in keys]),
        "pycrdt merge, same keys": merging("a", keys, keys),
    }, len(doc.get_update(before))


def crdts_cases(crdts: Any, key_count: int) -> tuple[dict[str, Case], int]:
    """It takes long, so it gets a tenth of the keys: its time per key doesn't depend on how many there are."""
    keys = [f"key-{number}" for number in range(max(1, key_count // 10))]
    scale = key_count // len(keys)

    def repeated(run: Callable[[], Any]) -> Callable[[], Any]:
        run.scale = scale  # type: ignore[attr-defined]
        return run

    def add(count: int) -> Callable[[], Any]:
        elements = crdts.ORSet()
        return repeated(lambda: [elements.observe(key) for key in keys])

    def set_new(count: int) -> Callable[[], Any]:
        entries = crdts.LWWMap()
        return repeated(lambda: [entries.set(key, "value", b"a") for key in keys])

    def merge(count: int) -> Callable[[], Any]:
        entries, other = crdts.LWWMap(), crdts.LWWMap()
        other.clock.uuid = entries.clock.uuid
        for key in keys:
            other.set(key, "value", b"b")
        return repeated(lambda: [entries.update(change) for change in other.history()])

    size = len(crdts.ORSet().observe("one more").pack())
    return {"crdts ORSet.observe": add, "crdts LWWMap.set": set_new, "crdts LWWMap merge": merge}, size


def measured(cases: dict[str, Case], key_count: int, rounds: int) -> dict[str, float]:
    """Median nanoseconds of processor time per key: other processes' turns don't count.

    Every round runs every case once, so that a slow moment hits all alike.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, prepare in cases.items():
            run = prepare(key_count)
            gc.collect()
            gc.disable()
            start = time.process_time_ns()
            run()
            spent = time.process_time_ns() - start
            gc.enable()
            times[name].append(spent * getattr(run, "scale", 1) / key_count)
    return {name: statistics.median(each) for name, each in times.items()}


def ratios(nanoseconds: dict[str, float]) -> dict[str, float]:
    """How many times faster than the peer we are; below 1: slower."""
    pairs = {
        "ORSet.add over pycrdt": ("pycrdt set, one transaction each", "ORSet.add"),
        "LWWMap.set over pycrdt": ("pycrdt set, one transaction each", "LWWMap.set, new keys"),
        "ORSet.update over pycrdt": ("pycrdt set, one transaction", "ORSet.update, one delta"),
        "LWWMap.update over pycrdt": ("pycrdt set, one transaction", "LWWMap.update, one delta"),
        "ORSet.add over pycrdt in one": ("pycrdt set, one transaction", "ORSet.add"),
        "LWWMap.set over pycrdt in one": ("pycrdt set, one transaction", "LWWMap.set, new keys"),
        "merge over pycrdt, into an empty one": ("pycrdt merge into an empty one", "LWWMap.merge into an empty one"),
        "merge over pycrdt, other keys": ("pycrdt merge, other keys", "LWWMap.merge, other keys"),
        "merge over pycrdt, same keys": ("pycrdt merge, same keys", "LWWMap.merge, same keys"),
        "ORSet.add over crdts": ("crdts ORSet.observe", "ORSet.add"),
        "ORSet.update over crdts": ("crdts ORSet.observe", "ORSet.update, one delta"),
        "LWWMap.update over crdts": ("crdts LWWMap.set", "LWWMap.update, one delta"),
        "LWWMap.set over crdts": ("crdts LWWMap.set", "LWWMap.set, new keys"),
        "merge over crdts": ("crdts LWWMap merge", "LWWMap.merge into an empty one"),
    }
    return ratio_of(nanoseconds, pairs)


def growth() -> dict[str, list[tuple[int, float]]]:
    """Nanoseconds per operation on objects of each size: what costs the same however large the object is."""
    series: dict[str, list[tuple[int, float]]] = {}
    for size in GROWTH:
        for name, prepare in _GROWING.items():
            if name.startswith("Text") and size > 100_000:
                continue  # a million characters take long to write, and nobody's text has them
            operation = prepare(size)
            operation(-1)  # what is made once, such as an index, is made
            gc.collect()
            gc.disable()
            start = time.process_time_ns()
            for number in range(1_000):
                operation(number)
            series.setdefault(name, []).append((size, round((time.process_time_ns() - start) / 1_000, 1)))
            gc.enable()
        elements = _elements(size)
        start = time.process_time_ns()
        ORSet("c").merge(elements)
        per_element = (time.process_time_ns() - start) / size
        series.setdefault("ORSet merge of a state, per element", []).append((size, round(per_element, 1)))
    return series


def _elements(size: int) -> ORSet:
    elements = ORSet("a")
    for number in range(size):
        elements.add(f"key-{number}")
    return elements


def _add(size: int) -> Callable[[int], Any]:
    elements = _elements(size)
    return lambda number: elements.add(f"new-{number}")


def _merge_delta(size: int) -> Callable[[int], Any]:
    elements = _elements(size)
    peer = elements.copy("b")
    deltas = {number: elements.add(f"new-{number}") for number in range(-1, 1_000)}
    return lambda number: peer.merge(deltas[number])


def _set(size: int) -> Callable[[int], Any]:
    entries = filled("a", [f"key-{number}" for number in range(size)])
    return lambda number: entries.set(f"key-{number % size}", "again", 2)


def _add_nested(size: int) -> Callable[[int], Any]:
    entries = ORMap("a")
    for number in range(size):
        entries.at(f"key-{number % 100}", ORSet).add(number)
    return lambda number: entries.at(f"key-{number % 100}", ORSet).add(f"new-{number}")


def _insert(size: int) -> Callable[[int], Any]:
    text = Text("a")
    for _ in range(0, size, 100):
        text.append("x" * 100)
    return lambda number: text.insert(size // 2, "y")


_GROWING: dict[str, Callable[[int], Callable[[int], Any]]] = {
    "ORSet add": _add,
    "ORSet merge of one delta": _merge_delta,
    "LWWMap set": _set,
    "ORMap add in a set": _add_nested,
    "Text insert in the middle": _insert,
}


if __name__ == "__main__":
    main()
