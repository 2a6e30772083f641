"""How does what nodes say of themselves read as a table? For `aegis status`, and for a node's own page."""

from collections.abc import Mapping, Sequence
from typing import Any


def summary(leader: str | None, troubles: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The whole, as JSON shows it."""
    return {"leader": leader, "healthy": not troubles, "troubles": troubles, "nodes": rows}


def own_summary(status: Mapping[str, Any]) -> dict[str, Any]:
    """The same as one node knows it: its own row, and who leads as far as it has heard."""
    leader = group_of(status).get("leader")
    troubles = [f"{status['node']}: {status['founding']}"] if status.get("founding") else []
    troubles += [] if leader else [f"{status['node']} knows no leader"]
    return summary(leader, troubles, [node_row({"address": "", **status})])


def node_row(node: Mapping[str, Any]) -> dict[str, Any]:
    """One node's answer as a line of the table."""
    group, disk = group_of(node), node.get("disk", {})
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
        "format": group.get("format"),
        "format_highest": group.get("format_highest"),
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
        "founding": node.get("founding", ""),
        "repair": "; ".join(each["repair"] for each in node.get("groups", {}).values() if each.get("repair")),
        "damaged_entries": group.get("damaged_entries"),
        "repaired_entries": group.get("repaired_entries"),
        "interventions": [
            f"{each['what']} on {each['node']} after entry {each['index']} of term {each['term']}, {each['detail']}"
            for each in group.get("interventions", ())
        ],
    }


def group_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """What a node says of the data group; empty if it didn't answer."""
    group: dict[str, Any] = node.get("groups", {}).get("1", {})
    return group
