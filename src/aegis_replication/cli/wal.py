"""What does a stopped node's log hold, is it whole, and what if it can't be repaired?"""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from aegis_replication.cli import endings
from aegis_replication.cli.confirming import confirm
from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_json, print_record, print_rows, say
from aegis_replication.errors import InvalidArgument
from aegis_replication.offline.setting_aside import set_aside as move_aside
from aegis_replication.storage.inspection import DAMAGE, Inspection

Flag = Annotated[bool, Parameter(negative=())]

app = App(name="wal", help="Look into the log of a stopped node.")

_COLUMNS = (
    "position",
    "type",
    "group",
    "term",
    "index",
    "kind",
    "count",
    "bytes",
    "flushed_before",
    "carried",
    "detail",
)


@app.command(help_epilogue=examples("aegis wal dump ./n1", "aegis wal dump ./n1 --first 1000 --limit 20 -o jsonl"))
def dump(directory: Path, /, *, first: int = 0, limit: int | None = None, format: Format = FORMAT) -> None:
    """Print the records of the log in their order, up to its end or the first bad one (`verify` says which it is).

    Parameters
    ----------
    directory
        The data directory of a node that is not running.
    first
        Leave out so many records from the front.
    limit
        At most so many records.
    """
    if first < 0 or (limit is not None and limit < 1):
        raise InvalidArgument("--first and --limit count records: give 0 or more, and 1 or more")
    with Inspection(directory) as inspection:
        records = islice(inspection.records(), first, None if limit is None else first + limit)
        rows: Iterator[dict[str, Any]] = (msgspec.to_builtins(record) for record in records)
        print_rows(rows if format.output == "jsonl" else list(rows), format.output, columns=_COLUMNS)


@app.command(help_epilogue=examples("aegis wal verify ./n1", "aegis wal verify ./n1 -o json"))
def verify(directory: Path, /, *, format: Format = FORMAT) -> int:
    """Read and check every record and every snapshot; exit code 1 when something is damaged.

    An unfinished last write is no damage: the node cuts it off at its next start.

    Parameters
    ----------
    directory
        The data directory of a node that is not running.
    """
    with Inspection(directory) as inspection:
        count = sum(1 for _ in inspection.records())
        findings = inspection.verify()
        identity = inspection.identity
    damaged = any(finding.severity == DAMAGE for finding in findings)
    rows = [msgspec.to_builtins(finding) for finding in findings]
    if format.output == "json":
        whose = {"cluster": identity.cluster, "node": identity.node}
        print_json({**whose, "records": count, "damaged": damaged, "findings": rows})
    elif rows:
        print_rows(rows, format.output, columns=("severity", "path", "offset", "message"))
    verdict = "damaged" if damaged else "whole"
    say(f"aegis: {directory}: node {identity.node} of cluster {identity.cluster}, {count:,} records: {verdict}")
    return endings.ERROR if damaged else endings.OK


@app.command(help_epilogue=examples("aegis wal set-aside ./n1", "aegis wal set-aside ./n1 --yes"))
def set_aside(directory: Path, /, *, yes: Flag = False, format: Format = FORMAT) -> None:
    """Keep a directory that can't be repaired aside, so that its node comes back empty and is added anew.

    For a node that refuses to start since its log or its identity is damaged beyond repair, and only while a majority
    of the others is well: what no other node holds is lost with it. Nothing is deleted. After a crash, call it again.

    Parameters
    ----------
    directory
        The data directory of a node that is not running.
    yes
        Don't ask.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    found = move_aside(directory, stamp, is_to_change=False)
    say(f"aegis: {directory}: log, snapshots and identity of node {found.node} of cluster {found.cluster} move to")
    say(f"  {found.kept_in}. The node forgets its votes and its data: it must be removed and added anew.")
    confirm(found.node, yes=yes)
    done = move_aside(directory, stamp, is_to_change=True)
    if format.output == "table":
        say(
            f"aegis: done. Ask a running node: aegis node remove {done.node}; start {done.node} with --join and an "
            "endpoint of the cluster"
        )
    else:
        print_record(msgspec.structs.asdict(done), format.output)
