"""What must be copied between two placements, and how even is one? Both walk the key space, exactly or by sample."""

import math
from collections.abc import Iterator, Sequence

from aegis_replication.hash.checks import checked_count
from aegis_replication.hash.functions import mix
from aegis_replication.hash.model import (
    Move,
    MovementPlan,
    Node,
    NodeShare,
    Placement,
    PlacementStats,
    PositionRange,
)

REPLICAS_MAX = 1_000
SAMPLE_COUNT_MIN = 64
SAMPLE_COUNT_MAX = 1 << 24
# Samples are spread by a seed of their own, so that they aren't the positions of anybody's keys.
_SAMPLE_SEED = 0x5A4D504C


class Region:
    """A part of the key space in which both placements answer alike everywhere, or a sample of it."""

    __slots__ = ("before", "after", "start", "end", "fraction")

    def __init__(self, before: int, after: int, start: int, end: int, fraction: float) -> None:
        # The position to ask each placement for: the same one, unless they hash with different functions.
        self.before, self.after = before, after
        # Positions [start, end), empty for a sample.
        self.start, self.end = start, end
        self.fraction = fraction


def movement_plan(
    before: Placement, after: Placement, *, replicas: int, spread: Sequence[str], sample_count: int
) -> MovementPlan:
    checked_count("replicas", replicas, 1, REPLICAS_MAX)
    regions, exact = _regions(before, after, sample_count)
    sums: dict[tuple[str, str], float] = {}
    ranges: dict[tuple[str, str], list[PositionRange]] = {}
    region_count = 0
    for region in regions:
        region_count += 1
        if replicas == 1:
            old, new = [before.node_at(region.before)], [after.node_at(region.after)]
        else:
            old = before.nodes_at(region.before, replicas, spread)
            new = after.nodes_at(region.after, replicas, spread)
        if old == new:
            continue
        for pair in _copies(old, new):
            sums[pair] = sums.get(pair, 0.0) + region.fraction / replicas
            if exact:
                _extend(ranges.setdefault(pair, []), region)
    moves = [Move(s, t, total, tuple(ranges.get((s, t), ()))) for (s, t), total in sums.items()]
    moves.sort(key=lambda move: (-move.fraction, move.source, move.target))
    ideal = _ideal_fraction(before.nodes, after.nodes)
    return MovementPlan(tuple(moves), ideal, exact, 0 if exact else region_count)


def placement_stats(placement: Placement, table_bytes: int, *, sample_count: int) -> PlacementStats:
    regions, exact = _regions(placement, placement, sample_count)
    held = {node.id: 0.0 for node in placement.nodes}
    region_count = 0
    for region in regions:
        region_count += 1
        held[placement.node_at(region.before)] += region.fraction
    weight = sum(node.weight for node in placement.nodes)
    shares = tuple(NodeShare(node.id, held[node.id], node.weight / weight) for node in placement.nodes)
    ratios = [share.ratio for share in shares]
    return PlacementStats(
        algorithm=placement.algorithm,
        node_count=len(shares),
        max_over_mean=max(ratios),
        min_over_mean=min(ratios),
        coefficient_of_variation=math.sqrt(sum((ratio - 1.0) ** 2 for ratio in ratios) / len(ratios)),
        table_bytes=table_bytes,
        exact=exact,
        sample_count=0 if exact else region_count,
        shares=shares,
    )


def _copies(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Source and target of each replica that is new: from one that gives it up, if any, else from the old primary."""
    leaving = [id for id in old if id not in new]
    joining = [id for id in new if id not in old]
    for index, target in enumerate(joining):
        yield (leaving[index] if index < len(leaving) else old[0]), target


def _regions(before: Placement, after: Placement, sample_count: int) -> tuple[Iterator[Region], bool]:
    """All regions, and whether they cover the key space exactly."""
    same_positions = before.hash_function == after.hash_function
    if same_positions and (cuts := before.cuts()) is not None:
        other_cuts = cuts if after is before else after.cuts()
        if other_cuts is not None:
            return _exact(sorted({*cuts, *other_cuts}), before.position_bits), True
    checked_count("sample_count", sample_count, SAMPLE_COUNT_MIN, SAMPLE_COUNT_MAX)
    # Both empty-handed cases raise here, before a generator hides them.
    before.cuts(), after.cuts()
    return (_sampled(sample_count) if same_positions else _sampled_keys(before, after, sample_count)), False


def _exact(cuts: list[int], position_bits: int) -> Iterator[Region]:
    space = 1 << position_bits
    start = 0
    for cut in cuts:
        yield Region(cut, cut, start, cut + 1, (cut + 1 - start) / space)
        start = cut + 1
    if start < space:
        yield Region(space - 1, space - 1, start, space, (space - start) / space)


def _sampled(sample_count: int) -> Iterator[Region]:
    for index in range(sample_count):
        position = mix(index, _SAMPLE_SEED)
        yield Region(position, position, 0, 0, 1 / sample_count)


def _sampled_keys(before: Placement, after: Placement, sample_count: int) -> Iterator[Region]:
    for index in range(sample_count):
        key = f"sample-{index}"
        yield Region(before.key_position(key), after.key_position(key), 0, 0, 1 / sample_count)


def _extend(ranges: list[PositionRange], region: Region) -> None:
    if ranges and ranges[-1].after == region.start:
        ranges[-1] = PositionRange(ranges[-1].start, region.end)
    else:
        ranges.append(PositionRange(region.start, region.end))


def _ideal_fraction(before: Sequence[Node], after: Sequence[Node]) -> float:
    """What the nodes that gain must receive at least; a node can't hold more of a key than one whole replica."""
    old_total = sum(node.weight for node in before)
    new_total = sum(node.weight for node in after)
    old = {node.id: node.weight / old_total for node in before}
    return sum(max(0.0, node.weight / new_total - old.get(node.id, 0.0)) for node in after)
