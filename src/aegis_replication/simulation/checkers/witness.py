"""Does the order in which the log applied commands explain every answer? A proof of linearizability, or its refutation.

The machine carries commands out in the log's order, so no other order can be the right one: where a search through all
orders would take too long, this one is enough. It must respect real time, and every read must fit between two writes.
"""

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from aegis_replication.simulation.checkers.linearizability import FOREVER, Anomaly, Operation, step

Placed = tuple[int, Operation]
"""Where the log applied an operation (rises in the order of effects), and the operation."""


def check_in_order(placed: Iterable[Placed], reads: Iterable[Operation]) -> Anomaly | None:
    """The first anomaly of the keys in order; `placed` are the writes that the log holds, `reads` have answers."""
    writes_by_key: dict[str, list[Placed]] = {}
    for write in placed:
        writes_by_key.setdefault(write[1].key, []).append(write)
    reads_by_key: dict[str, list[Operation]] = {}
    for read in reads:
        reads_by_key.setdefault(read.key, []).append(read)
    for key in sorted(writes_by_key.keys() | reads_by_key.keys()):
        writes = [write for _, write in sorted(writes_by_key.get(key, []), key=lambda each: each[0])]
        anomaly = _check_key(key, writes, sorted(reads_by_key.get(key, []), key=lambda read: read.called))
        if anomaly is not None:
            return anomaly
    return None


def _check_key(key: str, writes: Sequence[Operation], reads: Sequence[Operation]) -> Anomaly | None:
    states: list[Any] = [None]  # the key's value before the first write, after it, ...
    latest_call = 0
    for position, write in enumerate(writes):
        state, answer = step(states[-1], write.action)
        # One that was over before an earlier one in the log was even called is in the wrong place.
        if write.returned < latest_call or (write.returned != FOREVER and answer != write.result):
            return _anomaly(key, write, states[-1:], writes[max(0, position - 6) : position])
        latest_call = max(latest_call, write.called)
        states.append(state)
    return _place_reads(key, writes, states, reads)


def _place_reads(
    key: str, writes: Sequence[Operation], states: Sequence[Any], reads: Sequence[Operation]
) -> Anomaly | None:
    """Give each read, in the order of their calls, the earliest place that real time and its answer allow."""
    returns = sorted((write.returned, position) for position, write in enumerate(writes))
    over = [returned for returned, _ in returns]
    furthest = [0]  # how many writes from the front must come before, once so many have returned
    for _, position in returns:
        furthest.append(max(furthest[-1], position + 1))
    ended: list[tuple[int, int]] = []  # (returned, place) of reads, with rising places as far as it matters
    for read in reads:
        low = furthest[bisect_left(over, read.called)]
        low = max([low, *(place for returned, place in ended if returned < read.called)])
        place = low
        while place <= len(writes) and (place == low or writes[place - 1].called < read.returned):
            if states[place] == read.result:
                break
            place += 1
        else:
            return _anomaly(key, read, states[low : place + 1], writes[max(0, low - 6) : place])
        if place > len(writes):
            return _anomaly(key, read, states[low:], writes[max(0, low - 6) :])
        ended.append((read.returned, place))
    return None


def _anomaly(key: str, operation: Operation, possible: Sequence[Hashable], recent: Sequence[Operation]) -> Anomaly:
    return Anomaly(key, operation, list(possible), list(recent))
