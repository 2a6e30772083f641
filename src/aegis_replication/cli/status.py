"""Is the cluster well? Who leads, who lags, how fast the disks are."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cyclopts import App

from aegis_replication.cli import endings
from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_json, print_rows, say
from aegis_replication.cli.target import TARGET, Target
from aegis_replication.errors import AegisError
from aegis_replication.observability.rows import group_of, node_row, summary
from aegis_replication.processes import ask_status

app = App(
    name="status",
    help_epilogue=examples("aegis status", "aegis status --endpoints 10.0.0.1:7480 -o json", "aegis status || page-me"),
)

_COLUMNS = (
    "node",
    "role",
    "term",
    "committed_index",
    "applied_index",
    "lag_entries",
    "flush_p50_ms",
    "flush_p99_ms",
    "flush_mode",
    "format",
    "address",
)
_TITLES = {
    "committed_index": "commit",
    "applied_index": "applied",
    "lag_entries": "lag",
    "flush_p50_ms": "flush p50 ms",
    "flush_p99_ms": "p99 ms",
    "flush_mode": "mode",
}


@app.default
def status(*, target: Target = TARGET, format: Format = FORMAT) -> int:
    """Who leads, who lags, how fast the disks are; exit code 7 when there is no leader or a node doesn't answer."""
    nodes = ask_all(target.addresses(), timeout=min(target.timeout, 5.0))
    rows = [node_row(node) for node in nodes]
    leader = leader_of(nodes)
    troubles = [f"{row['node']} at {row['address']} does not answer: {row['error']}" for row in rows if row["error"]]
    troubles += [f"{row['node']}: {row['founding']}" for row in rows if row["founding"]]
    troubles += [f"{row['node']}: {row['repair']}" for row in rows if row["repair"]]
    if leader is None:
        troubles.append("no node leads with a majority")
    if format.output == "json":
        print_json(summary(leader, troubles, rows))
    else:
        print_rows(rows, format.output, columns=_COLUMNS, titles=_TITLES)
        for note in dict.fromkeys(each for row in rows for each in row["interventions"]):
            say(f"aegis: {note}")
        if held_back := _held_back(rows):
            say(f"aegis: {held_back}")
    for trouble in troubles:
        say(f"aegis: {trouble}")
    return endings.UNHEALTHY if troubles else endings.OK


def ask_all(addresses: list[str], *, timeout: float) -> list[dict[str, Any]]:
    """What every node says of itself: those at `addresses`, and those that they know of.

    A node that doesn't answer is {"node": name or "?", "address": ..., "error": why}.
    """
    answers: dict[str, dict[str, Any]] = {}  # by address asked
    names: dict[str, str] = {}
    waiting = list(addresses)
    with ThreadPoolExecutor(8) as pool:
        while waiting:
            for address, answer in zip(waiting, pool.map(lambda each: _ask(each, timeout), waiting)):
                answers[address] = answer
                names.update({at: name for name, at in answer.get("addresses", {}).items() if at})
            known = {answer.get("client_address") for answer in answers.values()}
            waiting = [at for at in sorted(names) if at not in answers and at not in known]
    found: dict[str, dict[str, Any]] = {}  # by node, or by address where the node is unknown
    for address, answer in answers.items():
        node = answer.get("node") or names.get(address)
        found.setdefault(node or address, {"address": address, **answer, "node": node or "?"})
    _add_silent_voters(found)
    return [found[key] for key in sorted(found, key=lambda key: (found[key]["node"], key))]


def _add_silent_voters(found: dict[str, dict[str, Any]]) -> None:
    """Voters that nobody has an address of. One of them and one silent address: that must be it."""
    voters = {voter for answer in found.values() for voter in group_of(answer).get("voters", ())}
    silent = sorted(voters - set(found))
    nameless = [answer for answer in found.values() if answer["node"] == "?"]
    if len(silent) == len(nameless) == 1:
        nameless[0]["node"] = silent[0]
    elif len(silent) > len(nameless):
        for voter in silent:
            found[voter] = {"node": voter, "address": "?", "error": "no node has a connection to it"}


def _ask(address: str, timeout: float) -> dict[str, Any]:
    try:
        return ask_status(address, timeout=timeout)
    except (AegisError, OSError, ValueError) as error:
        return {"error": str(error)}


def leader_of(nodes: list[dict[str, Any]]) -> str | None:
    """The node that leads in the highest term and has a majority of voters that say so."""
    leaders = [(group["term"], node["node"]) for node in nodes if (group := group_of(node)).get("role") == "leader"]
    if not leaders:
        return None
    term, leader = max(leaders)
    voters = next(group_of(node)["voters"] for node in nodes if node["node"] == leader)
    agreeing = [node for node in nodes if group_of(node).get("term") == term and group_of(node).get("leader") == leader]
    followers = [node for node in agreeing if node["node"] in voters]
    return leader if 2 * len(followers) > len(voters) else None


def _held_back(rows: list[dict[str, Any]]) -> str:
    """Who keeps the cluster from writing a format that others know; "" when nobody does."""
    known = [row for row in rows if row["format"] is not None and row["format_highest"] is not None]
    highest = max((row["format_highest"] for row in known), default=0)
    written = max((row["format"] for row in known), default=0)
    if highest <= written:
        return ""
    behind = [f"{row['node']} knows up to {row['format_highest']}" for row in known if row["format_highest"] <= written]
    behind += [f"{row['node']} is not there to say" for row in rows if row not in known]
    return f"format {written} is written until all members know {written + 1}: {', '.join(behind)}" if behind else ""
