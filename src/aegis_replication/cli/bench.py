"""How fast is it here, and how soon does it go on without its leader? Flags and figures."""

import tempfile
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from aegis_replication.bench.failover import FailoverBench, run_failover
from aegis_replication.bench.kv import KvBench, run_kv
from aegis_replication.cli import endings
from aegis_replication.cli.loops import run
from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_record, say

app = App(name="bench", help="Measure durable writes, linearizable reads, and failover.")

_COLUMNS = (
    "operations",
    "clients",
    "pipeline",
    "value_bytes",
    "p50_ms",
    "p99_ms",
    "p999_ms",
    "max_ms",
    "server_cpu_s_per_1000",
    "generator_cpu",
    "errors",
    "elections",
    "keys_read_back",
    "flushes",
    "flush_p50_ms",
    "flush_mode",
    "filesystem",
    "loop",
)


@app.command(
    help_epilogue=examples(
        "aegis bench kv --local 3 --clients 64 --value-bytes 256 --seconds 10",
        "aegis bench kv --local 3 --clients 64 --pipeline 16 -o json",
        "aegis bench kv --local 3 --reads",
        "aegis bench kv --local 3 --reads --lease",
        "aegis bench kv --local 3 --api",
        "aegis bench kv --endpoints 10.0.0.1:7480,10.0.0.2:7480,10.0.0.3:7480",
    )
)
def kv(
    *,
    local: int | None = None,
    endpoints: str | None = None,
    clients: int = 64,
    pipeline: int = 1,
    value_bytes: int = 256,
    keys: int = 100_000,
    seconds: float = 10.0,
    warmup_seconds: float = 1.0,
    reads: Annotated[bool, Parameter(negative=())] = False,
    lease: Annotated[bool, Parameter(negative=())] = False,
    api: Annotated[bool, Parameter(negative=())] = False,
    loop: Literal["auto", "uvloop", "asyncio"] = "auto",
    data: Path | None = None,
    allow_memory: Annotated[bool, Parameter(negative=())] = False,
    format: Format = FORMAT,
) -> int:
    """Load a cluster from one process that speaks the wire protocol itself, one connection per client, closed loop.

    Every write is on the disks of a majority before it is answered, and the last acknowledged value of every key is
    read back at the end.

    Parameters
    ----------
    local
        Start this many nodes on this machine for it; else 3, unless --endpoints names a cluster.
    endpoints
        The cluster to load: host:port of all its nodes, with commas between. AEGIS_ENDPOINTS is not read here, because
        the load overwrites keys.
    clients
        Connections, each with one request (or --pipeline of them) under way.
    pipeline
        Requests under way per connection.
    value_bytes
        Size of each value.
    keys
        How many different keys.
    seconds
        Measured time, after the warm-up.
    warmup_seconds
        Not measured.
    reads
        Linearizable reads instead of durable writes.
    lease
        Switch leases on first, on the nodes started for it.
    api
        Through the client library (one client, --clients tasks) instead of the bare protocol.
    loop
        The nodes' event loop.
    data
        Where the local nodes' directories are made, and removed again; else the system's directory for such things.
    allow_memory
        Measure also where the directory is on a memory file system, which keeps nothing.
    """
    bench = KvBench(
        local=(0 if endpoints else 3) if local is None else local,
        endpoints=tuple(part.strip() for part in (endpoints or "").split(",") if part.strip()),
        clients=clients,
        pipeline=pipeline,
        value_bytes=value_bytes,
        keys=keys,
        seconds=seconds,
        warmup_seconds=warmup_seconds,
        reads=reads,
        lease=lease,
        api=api,
        loop=loop,
        directory=data,
        allow_memory=allow_memory,
    )
    figures = run_kv(bench, say)
    rate = "reads_per_second" if reads else "writes_per_second"
    print_record(figures, format.output, columns=(rate, *_COLUMNS))
    if figures["generator_bound"]:
        say("aegis: generator-bound: the load generator used more than 80 % of a core; the nodes could do more")
    if figures["errors"]:
        say(f"aegis: {figures['errors']} requests failed, the first with: {figures['first_error']}")
        return endings.ERROR
    return endings.OK


@app.command(
    help_epilogue=examples(
        "aegis bench failover --local 3 --rounds 30 --how kill",
        "aegis bench failover --how blackhole -o json",
    )
)
def failover(
    *,
    local: int = 3,
    rounds: int = 30,
    how: Literal["kill", "stop", "blackhole"] = "kill",
    clients: int = 4,
    seed: int = 0,
    loop: Literal["auto", "uvloop", "asyncio"] = "auto",
    data: Path | None = None,
    format: Format = FORMAT,
) -> int:
    """Take the leader away under a steady stream of writes, and measure the time to the next acknowledged one.

    Election timeouts are 150 to 300 ms. What counts is the first write that began after the fault, as a client of the
    library sees it. After each round the node comes back, and the next begins when all are level.

    Parameters
    ----------
    local
        How many nodes to start on this machine.
    rounds
        How often.
    how
        kill: SIGKILL. stop: SIGSTOP, so its connections stay open. blackhole: its links to the other nodes carry
        nothing any more, and it still serves its clients until it notices.
    clients
        Connections that write.
    seed
        Draws the moments.
    loop
        The nodes' event loop.
    data
        Where the nodes' directories are made, and removed again; else the system's directory for such things.
    """
    bench = FailoverBench(local=local, rounds=rounds, how=how, clients=clients, seed=seed, loop=loop)
    with tempfile.TemporaryDirectory(prefix="aegis-bench-", dir=data, ignore_cleanup_errors=True) as directory:
        figures = run(run_failover(bench, Path(directory), say), "auto")
    columns = [name for name in figures if name != "runs"] if format.output == "table" else []
    print_record(figures, format.output, columns=columns)
    return endings.OK
