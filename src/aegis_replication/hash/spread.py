"""Which of the candidates, in order of preference, hold the replicas, so that no zone or host holds two of them?"""

from collections.abc import Iterator, Mapping, Sequence

from aegis_replication.errors import SpreadNotMet
from aegis_replication.hash.checks import checked_count
from aegis_replication.hash.model import Node, Replicas, Unmet

REPLICAS_MAX = 1_000_000


def choose(
    candidates: Iterator[str], nodes: Mapping[str, Node], n: int, spread: Sequence[str], *, strict: bool
) -> Replicas:
    """The `n` best candidates such that each next one shares as little as possible with those before it.

    `spread` names labels, the widest first ("zone", "host"). Nodes without a label count as sharing one value of it,
    so that the lack of a label never passes for a spread. Raises SpreadNotMet if `strict` and not all was possible.
    """
    checked_count("n", n, 1, REPLICAS_MAX)
    if isinstance(spread, str):
        spread = (spread,)
    chosen = _spread_out(candidates, nodes, n, spread) if spread else _first(candidates, n)
    unmet = tuple(_unmet(chosen, nodes, n, spread))
    if unmet and strict:
        raise SpreadNotMet(unmet)
    return Replicas(chosen, unmet)


def _first(candidates: Iterator[str], n: int) -> list[str]:
    chosen = []
    for candidate in candidates:
        chosen.append(candidate)
        if len(chosen) == n:
            break
    return chosen


def _spread_out(candidates: Iterator[str], nodes: Mapping[str, Node], n: int, spread: Sequence[str]) -> list[str]:
    used: list[dict[str, int]] = [{} for _ in spread]
    chosen: list[str] = []

    def sharing(candidate: str) -> tuple[int, ...]:
        labels = nodes[candidate].labels
        return tuple(counts.get(labels.get(label, ""), 0) for label, counts in zip(spread, used))

    def take(candidate: str) -> None:
        chosen.append(candidate)
        labels = nodes[candidate].labels
        for label, counts in zip(spread, used):
            value = labels.get(label, "")
            counts[value] = counts.get(value, 0) + 1

    # One pass is enough for those that share nothing: counts only rise, so who is passed over stays so.
    passed_over = []
    for candidate in candidates:
        if any(sharing(candidate)):
            passed_over.append(candidate)
        else:
            take(candidate)
            if len(chosen) == n:
                return chosen
    # Widest label first, so that five replicas in three zones lie 2, 2, 1; the order of preference breaks ties.
    while passed_over and len(chosen) < n:
        best = min(passed_over, key=sharing)
        passed_over.remove(best)
        take(best)
    return chosen


def _unmet(chosen: Sequence[str], nodes: Mapping[str, Node], n: int, spread: Sequence[str]) -> Iterator[Unmet]:
    if len(chosen) < n:
        yield Unmet("node", n, len(chosen))
    for label in spread:
        found = len({nodes[id].labels.get(label, "") for id in chosen})
        if found < n:
            yield Unmet(label, n, found)
