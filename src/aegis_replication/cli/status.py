"""Is the cluster well? Who leads, who lags, how fast the disks are."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cyclopts import App

from aegis_replication.cli import endings
from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_json, print_rows, say
from aegis_replication.cli.target import TARGET, Target
from aegis_replication.errors import AegisError
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
    if leader is None:
        troubles.append("no node leads with a majority")
    if format.output == "json":
        print_json({"leader": leader, "healthy": not troubles, "troubles": troubles, "nodes": rows})
    else:
        print_rows(rows, format.output, columns=_COLUMNS, titles=_TITLES)
        for note in dict.fromkeys(each for row in rows for each in row["interventions"]):
            say(f"aegis: {note}")
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
    voters = {voter for answer in found.values() for voter in _group(answer).get("voters", ())}
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
    leaders = [(group["term"], node["node"]) for node in nodes if (group := _group(node)).get("role") == "leader"]
    if not leaders:
        return None
    term, leader = max(leaders)
    voters = next(_group(node)["voters"] for node in nodes if node["node"] == leader)
    agreeing = [node for node in nodes if _group(node).get("term") == term and _group(node).get("leader") == leader]
    followers = [node for node in agreeing if node["node"] in voters]
    return leader if 2 * len(followers) > len(voters) else None


def node_row(node: Mapping[str, Any]) -> dict[str, Any]:
    """One node's answer as a line of the table."""
    group, disk = _group(node), node.get("disk", {})
    committed, applied = group.get("committed_index"), group.get("applied_index")
    return {
        "node": node["node"],
        "role": group.get("role", "unreachable"),
        "term": group.get("term"),
        "leader": group.get("leader"),
        "committed_index": committed,
        "applied_index": applied,
        "last_index": group.get("last_index"),
        "lease_ms": group.get("lease_ms"),
        "lag_entries": None if committed is None or applied is None else group["last_index"] - applied,
        "flush_p50_ms": disk.get("flush_p50_ms"),
        "flush_p99_ms": disk.get("flush_p99_ms"),
        "flush_mode": disk.get("flush_mode"),
        "flushes": disk.get("flushes"),
        "live_bytes": disk.get("live_bytes"),
        "allocated_bytes": disk.get("allocated_bytes"),
        "filesystem": disk.get("filesystem"),
        "loop": node.get("loop"),
        "uptime_s": node.get("uptime_s"),
        "version": node.get("version"),
        "address": node.get("client_address") or node["address"],
        "error": node.get("error"),
        "interventions": [
            f"{each['what']} on {each['node']} after entry {each['index']} of term {each['term']}, {each['detail']}"
            for each in group.get("interventions", ())
        ],
    }


def _group(node: Mapping[str, Any]) -> dict[str, Any]:
    group: dict[str, Any] = node.get("groups", {}).get("1", {})
    return group
