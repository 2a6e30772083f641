"""How are sets of counts kept small? As runs: sorted, disjoint, never adjacent pairs (first, last), both counted in."""

from bisect import bisect_right
from collections.abc import Iterable
from typing import TypeAlias

Runs: TypeAlias = list[tuple[int, int]]


def normalised(runs: Iterable[tuple[int, int]]) -> Runs:
    """The same counts as runs; the input may overlap and come in any order."""
    result: Runs = []
    for first, last in sorted(runs):
        if result and first <= result[-1][1] + 1:
            if last > result[-1][1]:
                result[-1] = (result[-1][0], last)
        else:
            result.append((first, last))
    return result


def contains(runs: Runs, count: int) -> bool:
    at = bisect_right(runs, (count, 2**64)) - 1
    return at >= 0 and count <= runs[at][1]


def intersection(one: Runs, other: Runs) -> Runs:
    result: Runs = []
    i = j = 0
    while i < len(one) and j < len(other):
        first, last = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if first <= last:
            result.append((first, last))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return result


def difference(one: Runs, other: Runs) -> Runs:
    """What `one` has and `other` hasn't."""
    result: Runs = []
    j = 0
    for first, last in one:
        while j < len(other) and other[j][1] < first:
            j += 1
        at, k = first, j
        while k < len(other) and other[k][0] <= last:
            if other[k][0] > at:
                result.append((at, other[k][0] - 1))
            at = max(at, other[k][1] + 1)
            k += 1
        if at <= last:
            result.append((at, last))
    return result


def covers(one: Runs, other: Runs) -> bool:
    return not difference(other, one)
