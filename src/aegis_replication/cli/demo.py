"""A cluster on this machine: to play with, or as a proof."""

import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import App, Parameter

from aegis_replication import __version__
from aegis_replication.cli import endings
from aegis_replication.cli.loops import run
from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_json, print_record, print_rows, say
from aegis_replication.cli.progress import progress
from aegis_replication.cli.target import DEFAULT_ENDPOINTS
from aegis_replication.demo.check import Proof, prove
from aegis_replication.demo.cluster import can_serve_http, demo_cluster, is_empty
from aegis_replication.demo.control import ask_running
from aegis_replication.demo.playground import Playground
from aegis_replication.errors import ConfigError
from aegis_replication.processes import LocalProcesses
from aegis_replication.storage.files import RealFiles

app = App(
    name="demo",
    help_epilogue=examples(
        "aegis demo                 # Ctrl-C stops and removes everything",
        "aegis demo kill n1         # from a second terminal",
        "aegis demo start n1",
        "aegis demo --check         # the proof; exit code 0 only if nothing was lost",
        "aegis demo --check -o json",
    ),
)

_PREFIX = "aegis-demo-"
_MEMORY_FILESYSTEMS = ("tmpfs", "ramfs")
_DISK_TEMPORARY = "/var/tmp"


@app.default
def demo(
    *,
    check: Annotated[bool, Parameter(negative=())] = False,
    nodes: Annotated[int, Parameter(name=["--nodes", "-n"])] = 3,
    data: Path | None = None,
    loop: Literal["auto", "uvloop", "asyncio"] = "auto",
    format: Format = FORMAT,
) -> int:
    """Run a cluster on this machine in the foreground, or put one through its proof.

    --check loads every named Unicode character through the cluster, kills the leader with SIGKILL at 40 %, starts it
    again at 60 %, reads everything back, kills all nodes at once, starts them from their disks, reads everything again,
    and compares the stopped nodes' copies on disk.

    Parameters
    ----------
    check
        Run the proof and end.
    nodes
        How many nodes.
    data
        Where the nodes' directories are made, and kept; else a temporary directory that is removed afterwards.
    loop
        The nodes' event loop.
    """
    if check and data is not None and not is_empty(data):
        raise ConfigError(f"--data {data}: the proof starts from nothing: give a new or empty directory")
    if check and nodes < 3:
        raise ConfigError(f"--nodes {nodes}: losing the leader needs others that take over: give 3 or more")
    http = can_serve_http() and not check
    with _directory(data) as directory, demo_cluster(directory, nodes=nodes, loop=loop, http=http) as cluster:
        if check:
            with progress() as shown:
                proof = run(prove(cluster, shown), "auto")
            _print_proof(proof, format.output)
            return endings.OK if proof.holds else endings.ERROR
        playground = Playground(
            cluster, say, lambda leader, term, seconds: _print_ready(cluster, format.output, leader, term, seconds)
        )
        run(playground.run(), "auto")
        say("stopped" + ("" if data is None else f"; the nodes' directories are kept in {directory}"))
    return endings.OK


@app.command(help_epilogue=examples("aegis demo kill n1"))
def kill(node: str, /) -> None:
    """Kill a node of the running demo (SIGKILL).

    Parameters
    ----------
    node
        Its name, such as n1.
    """
    say(ask_running({"do": "kill", "node": node})["said"])


@app.command(help_epilogue=examples("aegis demo start n1"))
def start(node: str, /) -> None:
    """Start a killed node of the running demo again, from its disk.

    Parameters
    ----------
    node
        Its name, such as n1.
    """
    say(ask_running({"do": "start", "node": node})["said"])


@contextmanager
def _directory(data: Path | None) -> Iterator[Path]:
    """`data`, or a temporary directory on a disk: what lies in memory proves nothing."""
    if data is not None:
        yield data
        return
    parent = tempfile.gettempdir()
    if RealFiles().filesystem(parent) in _MEMORY_FILESYSTEMS and os.access(_DISK_TEMPORARY, os.W_OK):
        parent = _DISK_TEMPORARY
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent, ignore_cleanup_errors=True) as name:
        yield Path(name)


def _print_ready(cluster: LocalProcesses, output: str, leader: str, term: int, seconds: float) -> None:
    """What is there, and how to talk to it."""
    rows: list[dict[str, Any]] = [
        {
            "node": name,
            "role": "leader" if name == leader else "follower",
            "clients": node.client_address,
            "peers": node.peer_address,
            "http": node.http_address,
            "log": str(node.log_path),
        }
        for name, node in cluster.nodes.items()
    ]
    if output != "table":
        print_rows(rows, output, columns=[])
        return
    doors = [node.http_address for node in cluster.nodes.values() if node.http_address]
    filesystem = RealFiles().filesystem(str(cluster.directory))
    say(
        f"aegis {__version__} · {len(rows)} nodes · data: {cluster.directory} ({filesystem}) · "
        f"python {platform.python_version()}"
    )
    print_rows(rows, output, columns=["node", "role", "clients", "peers", *(["http"] if doors else []), "log"])
    say(f"ready in {seconds:.1f} s (elected {leader}, term {term})")
    first = next(iter(cluster.nodes.values())).client_address
    where = "" if first == DEFAULT_ENDPOINTS else f"export AEGIS_ENDPOINTS={cluster.endpoints}; "
    say(f"  shell    {where}aegis kv put hello world && aegis kv get hello")
    say("           aegis status")
    if doors:
        say(f"  probes   curl -s http://{doors[0]}/readyz      (and /livez, /metrics, /v1/status)")
    say(f'  python   async with aegis.connect("aegis://{cluster.endpoints}") as db: await db.get("hello")')
    say(f"try:  aegis demo kill {leader}   (your writes go on)          Ctrl-C stops{_removes(cluster)}")


def _removes(cluster: LocalProcesses) -> str:
    return " and removes everything" if cluster.directory.name.startswith(_PREFIX) else " it"


def _print_proof(proof: Proof, output: str) -> None:
    if output != "table":
        (print_json if output == "json" else _print_line)(msgspec.to_builtins(proof))
        return
    print_record(
        {
            "records": proof.records,
            "acknowledged": proof.acknowledged,
            "lost": proof.lost,
            "lost after restart": proof.lost_after_restart,
            "replicas equal": proof.replicas_equal,
            "writes stalled for": f"{proof.write_stall_ms:,.0f} ms",
            "who led when": ", ".join(
                f"{each.node} from {each.at_s:.1f} s (term {each.term})" for each in proof.leaders
            ),
            "elections": proof.elections,
            "writes per second": f"{proof.writes_per_second:,.0f}",
            "flushes": proof.flushes,
            "live on disk": f"{proof.live_bytes / 1e6:,.1f} MB",
            "allocated on disk": f"{proof.allocated_bytes / 1e6:,.1f} MB",
            "filesystem": proof.filesystem,
            "loop": proof.loop,
        },
        output,
    )
    if proof.holds:
        say("passed: nothing acknowledged is missing, and the copies are equal")
    else:
        say("FAILED: " + "; ".join(_failures(proof)))


def _print_line(value: Any) -> None:
    print_json(value, indent=0)


def _failures(proof: Proof) -> Iterator[str]:
    if proof.acknowledged != proof.records:
        yield f"{proof.records - proof.acknowledged:,} records were never acknowledged"
    if proof.lost or proof.lost_after_restart:
        yield f"{proof.lost:,} acknowledged records were lost, {proof.lost_after_restart:,} after the restart"
    if not proof.replicas_equal:
        yield "the copies differ"
