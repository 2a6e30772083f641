"""Where would keys live? Placements previewed without a cluster: how even they are, and what a change would move."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from cyclopts import App, Parameter

from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_json, print_rows, say
from aegis_replication.errors import InvalidArgument
from aegis_replication.hash import ALGORITHMS, BoundedLoad, HashRing, MovementPlan, Node, PlacementStats
from aegis_replication.hash.base import PlacementBase
from aegis_replication.hash.model import checked_node

app = App(name="ring", help="Plan where keys live, without a cluster.")

Algorithm: TypeAlias = Literal[
    "ring", "ketama", "jump", "rendezvous", "maglev", "anchor", "multi_probe", "bounded_load"
]
Spread: TypeAlias = Annotated[str, Parameter(name="--spread")]

BAR_WIDTH = 40
NODES_MAX = 10_000
MOVES_SHOWN = 20
_PARTS = " ▏▎▍▌▋▊▉█"


@app.command(
    help_epilogue=examples(
        "aegis ring plan n1 n2 n3",
        "aegis ring plan n1@zone=a n2@zone=b n3@zone=c@weight=2",
        "aegis ring plan --nodes 5 --add n6 --remove n2 --replicas 3",
        "aegis ring plan --nodes 10 --algorithm rendezvous -o json",
    )
)
def plan(
    *specs: str,
    nodes: Annotated[str, Parameter(name=["--nodes", "-n"])] = "",
    add: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    remove: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    algorithm: Algorithm = "ring",
    vnodes: int = 150,
    replicas: int = 1,
    spread: Spread = "",
    format: Format = FORMAT,
) -> None:
    """Show how evenly nodes share the keys and, with --add or --remove, what that change would copy.

    Parameters
    ----------
    specs
        Nodes: an id, and after it what is known of it, as in n1@zone=eu@host=h7@weight=2.
    nodes
        Instead: how many, named n1, n2, ..., or nodes with commas between.
    add
        A node that joins; may be repeated.
    remove
        The id of a node that leaves; may be repeated.
    algorithm
        How keys are placed.
    vnodes
        Points of a node of weight 1, for ring and bounded_load.
    replicas
        Copies of each key, for what a change moves.
    spread
        Labels whose values the copies should differ in, the widest first, with commas between: zone,host.
    """
    before = _placement(algorithm, [*_nodes(specs), *_listed(nodes)], vnodes)
    if not before.nodes:
        raise InvalidArgument("no nodes: name some, as in  aegis ring plan n1 n2 n3,  or say how many: --nodes 3")
    after = before.copy()
    for id in remove:
        after.remove_node(id)
    after.add_nodes(_nodes(add))
    moved = before.diff(after, replicas=replicas, spread=_labels(spread)) if add or remove else None
    _print_plan(after.stats(), moved, format.output)


@app.command(
    help_epilogue=examples(
        "aegis ring diff --before n1,n2,n3 --after n1,n2,n3,n4",
        "aegis ring diff --before 10 --after 11 --replicas 3 -o json",
        "aegis ring diff --before n1,n2 --after n1,n2@weight=2 --algorithm rendezvous",
    )
)
def diff(
    *,
    before: str,
    after: str,
    algorithm: Algorithm = "ring",
    after_algorithm: Algorithm | None = None,
    vnodes: int = 150,
    replicas: int = 1,
    spread: Spread = "",
    format: Format = FORMAT,
) -> None:
    """Show what must be copied between two sets of nodes, or between two algorithms.

    Parameters
    ----------
    before
        How many nodes, named n1, n2, ..., or nodes with commas between, as in n1@zone=eu,n2@zone=us@weight=2.
    after
        The same, for the goal.
    algorithm
        How keys are placed.
    after_algorithm
        How they are placed afterwards, if differently.
    vnodes
        Points of a node of weight 1, for ring and bounded_load.
    replicas
        Copies of each key.
    spread
        Labels whose values the copies should differ in, the widest first, with commas between: zone,host.
    """
    old = _placement(algorithm, _listed(before), vnodes)
    new = _placement(after_algorithm or algorithm, _listed(after), vnodes)
    if algorithm in ("anchor", "bounded_load", "jump") and after_algorithm in (None, algorithm):
        new = _changed(old, new)
    _print_plan(new.stats(), old.diff(new, replicas=replicas, spread=_labels(spread)), format.output)


@app.command(
    help_epilogue=examples(
        "aegis ring lookup user:123 --nodes n1,n2,n3",
        "aegis ring lookup user:1 user:2 --nodes 12 --replicas 3 -o jsonl",
        "aegis ring lookup user:123 --nodes n1@zone=a,n2@zone=b,n3@zone=b --replicas 2 --spread zone --why",
    )
)
def lookup(
    *keys: str,
    nodes: Annotated[str, Parameter(name=["--nodes", "-n"])],
    algorithm: Algorithm = "ring",
    vnodes: int = 150,
    replicas: int = 1,
    spread: Spread = "",
    why: Annotated[bool, Parameter(negative=())] = False,
    format: Format = FORMAT,
) -> None:
    """Show which nodes would hold these keys, the primary first.

    Parameters
    ----------
    keys
        The keys.
    nodes
        How many nodes, named n1, n2, ..., or nodes with commas between, as in n1@zone=eu,n2@zone=us.
    algorithm
        How keys are placed.
    vnodes
        Points of a node of weight 1, for ring and bounded_load.
    replicas
        Copies of each key.
    spread
        Labels whose values the copies should differ in, the widest first, with commas between: zone,host.
    why
        Say step by step how each key came to its node.
    """
    if not keys:
        raise InvalidArgument("no keys: name some, as in  aegis ring lookup user:123 --nodes 3")
    placement = _placement(algorithm, _listed(nodes), vnodes)
    rows: list[dict[str, Any]] = []
    for key in keys:
        chosen = placement.get_nodes(key, replicas, _labels(spread))
        row: dict[str, Any] = {
            "key": key,
            "node": chosen.primary,
            "nodes": list(chosen),
            "position": placement.key_position(key),
            "unmet": [str(each) for each in chosen.unmet],
        }
        if why:
            row["steps"] = list(placement.explain(key).steps)
        rows.append(row)
    if why and format.output == "table":
        for row in rows:
            print(f"{row['key']}: {', '.join(row['nodes'])}")
            for step in row["steps"]:
                print(f"  {step}")
    else:
        print_rows(rows, format.output, columns=("key", "nodes", "position"))
    for text in dict.fromkeys(text for row in rows for text in row["unmet"]):
        say(f"aegis: {text}")


def _print_plan(stats: PlacementStats, moved: MovementPlan | None, output: str) -> None:
    shares = [
        {
            "node": share.node,
            "share_fraction": share.share,
            "expected_fraction": share.expected,
            "share_over_expected": share.ratio,
        }
        for share in stats.shares
    ]
    record: dict[str, Any] = {
        "algorithm": stats.algorithm,
        "node_count": stats.node_count,
        "exact": stats.exact,
        "sample_count": stats.sample_count,
        "max_over_mean": stats.max_over_mean,
        "min_over_mean": stats.min_over_mean,
        "coefficient_of_variation": stats.coefficient_of_variation,
        "table_bytes": stats.table_bytes,
        "shares": shares,
        "movement": None if moved is None else _movement(moved),
    }
    if output == "table":
        _print_balance(stats)
        if moved is not None:
            _print_movement(moved)
    else:
        print_json(record, indent=2 if output == "json" else 0)


def _movement(moved: MovementPlan) -> dict[str, Any]:
    return {
        "moved_fraction": moved.moved_fraction,
        "ideal_fraction": moved.ideal_fraction,
        "exact": moved.exact,
        "sample_count": moved.sample_count,
        "moves": [
            {
                "source": move.source,
                "target": move.target,
                "fraction": move.fraction,
                "range_count": len(move.ranges) if moved.exact else None,
            }
            for move in moved.moves
        ],
    }


def _print_balance(stats: PlacementStats) -> None:
    longest = max(max(share.share, share.expected) for share in stats.shares)
    rows = [
        {
            "node": share.node,
            "share": f"{share.share:.2%}",
            "due": f"{share.ratio:.0%}",
            "": bar(share.share / longest, share.expected / longest),
        }
        for share in stats.shares
    ]
    print_rows(rows, "table", columns=("node", "share", "due", ""), titles={"due": "of its due"})
    how = "exact" if stats.exact else f"estimated from {stats.sample_count:,} positions"
    print(
        f"{stats.algorithm} of {stats.node_count} nodes: the fullest has {stats.max_over_mean:.2f}, the emptiest "
        f"{stats.min_over_mean:.2f} of its due ({how}; | marks what is due)"
    )


def _print_movement(moved: MovementPlan) -> None:
    how = "exact" if moved.exact else f"estimated from {moved.sample_count:,} positions"
    print(f"\nto copy: {moved.moved_fraction:.2%} of all replicas ({how})")
    print(f"the least possible: {moved.ideal_fraction:.2%}")
    rows = [
        {"from": move.source, "to": move.target, "part": f"{move.fraction:.2%}"} for move in moved.moves[:MOVES_SHOWN]
    ]
    if rows:
        print_rows(rows, "table", columns=("from", "to", "part"))
    if len(moved.moves) > MOVES_SHOWN:
        print(f"... and {len(moved.moves) - MOVES_SHOWN} smaller moves (-o json lists all)")


def bar(length: float, mark: float, width: int = BAR_WIDTH) -> str:
    """A bar of `length`, a fraction of `width`, to an eighth of a character, with a | where `mark` is."""
    eighths = round(length * width * 8)
    drawn = "█" * (eighths // 8) + (_PARTS[eighths % 8] if eighths % 8 else "")
    at = min(width - 1, round(mark * width) - 1 if mark > 0 else 0)
    cells = list(drawn.ljust(max(at + 1, len(drawn))))
    cells[at] = "|"
    return "".join(cells)


def _placement(algorithm: str, nodes: Sequence[Node], vnodes: int) -> PlacementBase[Any]:
    if algorithm == "ring":
        return HashRing(vnodes, nodes=nodes)
    if algorithm == "bounded_load":
        return BoundedLoad(vnodes=vnodes, nodes=nodes)
    placement = ALGORITHMS[algorithm]()  # type: ignore[call-arg]  # all have defaults
    placement.add_nodes(nodes)
    return placement


def _changed(old: PlacementBase[Any], goal: PlacementBase[Any]) -> PlacementBase[Any]:
    """`old` changed into the goal's nodes: for algorithms in which the order of changes counts."""
    new = old.copy()
    wanted = {node.id: node for node in goal.nodes}
    for node in reversed(old.nodes):
        if node.id not in wanted:
            new.remove_node(node.id)
        elif wanted[node.id].weight != node.weight:
            new.set_weight(node.id, wanted[node.id].weight)
    new.add_nodes(node for node in goal.nodes if node.id not in old)
    return new


def _labels(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _listed(text: str) -> list[Node]:
    """Nodes with commas between, or as many as a number says."""
    if text.isdecimal():
        if not 1 <= (count := int(text)) <= NODES_MAX:
            raise InvalidArgument(f"{count} nodes: give 1 to {NODES_MAX:,}, or their names with commas between")
        return [Node(f"n{index}") for index in range(1, count + 1)]
    return _nodes(part.strip() for part in text.split(",") if part.strip())


def _nodes(specs: Iterable[str]) -> list[Node]:
    return [_node(spec) for spec in specs]


def _node(spec: str) -> Node:
    id, *facts = spec.split("@")
    labels: dict[str, str] = {}
    weight = 1.0
    for fact in facts:
        name, equals, value = fact.partition("=")
        if not (name and equals and value):
            raise InvalidArgument(f"{fact!r} in node {spec!r} is not name=value: write n1@zone=eu@weight=2")
        if name != "weight":
            labels[name] = value
            continue
        try:
            weight = float(value)
        except ValueError:
            raise InvalidArgument(f"weight {value!r} of node {id!r} is not a number: write {id}@weight=2") from None
    return checked_node(id, weight, labels)
