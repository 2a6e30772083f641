"""What does a key-value workload cost? Starts local nodes, runs the generator beside them, and reports both sides."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from aegis_replication import wire
from aegis_replication.admin import SetLease, encode_admin
from aegis_replication.bench.load import LoadPlan, LoadResult
from aegis_replication.errors import AegisError, ConfigError
from aegis_replication.processes import Connection, LocalProcesses, ask_status

_MEMORY_FILESYSTEMS = {"tmpfs", "ramfs"}
_GENERATOR_BOUND = 0.8


class KvBench(msgspec.Struct, frozen=True, kw_only=True):
    """What `aegis bench kv` is asked to do."""

    local: int = 3  # nodes to start on this machine; 0: use `endpoints`
    endpoints: tuple[str, ...] = ()
    clients: int = 64
    pipeline: int = 1
    value_bytes: int = 256
    keys: int = 100_000
    seconds: float = 10.0
    warmup_seconds: float = 1.0
    reads: bool = False
    lease: bool = False  # let the leader answer reads by lease
    api: bool = False  # load through the client library instead of the bare protocol
    loop: str = "auto"
    directory: Path | None = None
    allow_memory: bool = False


def run_kv(bench: KvBench, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Run it and give the figures; raises AegisError when it can't be run or the figures would mean nothing."""
    _validate(bench)
    if not bench.local:
        return _measure(bench, _leader_of(bench.endpoints), None, say)
    with (
        tempfile.TemporaryDirectory(prefix="aegis-bench-", dir=bench.directory) as directory,
        LocalProcesses(Path(directory), count=bench.local, options=("--loop", bench.loop)) as cluster,
    ):
        say(f"starting {bench.local} nodes under {directory}")
        cluster.start()
        leader = cluster.wait_leader()
        cluster.wait_caught_up()
        if bench.lease:
            _switch_lease_on(cluster.nodes[leader].client_address)
        figures = _measure(bench, cluster.nodes[leader].client_address, cluster, say)
        cluster.stop()
        return figures


def _switch_lease_on(address: str) -> None:
    body = encode_admin(SetLease(True))
    with Connection(address) as connection:
        status, answer = connection.ask(wire.ADMIN, body)
        deadline = time.monotonic() + 10.0
        # What the members say of themselves may be on its way into the log still.
        while status == wire.CHANGE_REFUSED and time.monotonic() < deadline:
            time.sleep(0.1)
            status, answer = connection.ask(wire.ADMIN, body)
        if status != wire.OK:
            raise AegisError(f"leases can't be switched on: status {status}: {answer}")
    time.sleep(0.5)  # a few heartbeats


def _validate(bench: KvBench) -> None:
    if bench.clients < 1 or bench.pipeline < 1 or bench.seconds <= 0:
        raise ConfigError(
            "clients, pipeline and seconds must be above zero: try --clients 64 --pipeline 1 --seconds 10"
        )
    if bench.value_bytes < 8:
        raise ConfigError(f"value_bytes = {bench.value_bytes}: must be 8 or more (the value names its write); try 256")
    if bench.pipeline > 1000:
        raise ConfigError(f"pipeline = {bench.pipeline}: a session's window is 1,024 commands; try 16")
    if bench.lease and not bench.local:
        raise ConfigError("lease with endpoints: switch it on there first, with `aegis cluster lease on`")
    if not bench.local and not bench.endpoints:
        raise ConfigError("neither local nodes nor endpoints: try --local 3")


def _leader_of(endpoints: tuple[str, ...]) -> str:
    answers = []
    for endpoint in endpoints:
        try:
            answers.append((endpoint, ask_status(endpoint)["groups"]["1"]))
        except AegisError:
            continue
    leaders = [(group["term"], endpoint) for endpoint, group in answers if group["role"] == "leader"]
    if not leaders:
        raise ConfigError(f"no leader among {', '.join(endpoints)}: name the endpoints of all nodes")
    return max(leaders)[1]


def _measure(
    bench: KvBench, address: str, cluster: LocalProcesses | None, say: Callable[[str], None]
) -> dict[str, Any]:
    before = ask_status(address)
    filesystem = before["disk"]["filesystem"]
    if filesystem in _MEMORY_FILESYSTEMS and not bench.allow_memory:
        raise ConfigError(f"the data directory is on {filesystem}, which keeps nothing: name one on a disk with --data")
    plan = LoadPlan(
        address=address,
        clients=bench.clients,
        pipeline=bench.pipeline,
        value_bytes=bench.value_bytes,
        keys=bench.keys,
        seconds=bench.seconds,
        warmup_seconds=bench.warmup_seconds,
        reads=bench.reads,
    )
    say(f"loading {address} with {bench.clients} clients for {bench.seconds:g} s")
    load, cpu = _run_generator(plan, cluster, "api_load" if bench.api else "load")
    after = ask_status(address)
    if load.keys_wrong:
        raise AegisError(f"{load.keys_wrong} of {load.keys_read_back} keys don't hold their last acknowledged value")
    return _figures(bench, load, cpu, before, after)


def _run_generator(plan: LoadPlan, cluster: LocalProcesses | None, module: str) -> tuple[LoadResult, dict[str, float]]:
    """The generator in its own process; the nodes' CPU time over about the measured span."""
    generator = subprocess.Popen(
        [sys.executable, "-m", f"aegis_replication.bench.{module}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert generator.stdin is not None
    assert generator.stdout is not None
    generator.stdin.write(msgspec.msgpack.encode(plan))
    generator.stdin.close()
    samples: list[tuple[float, dict[str, float]]] = []
    if cluster is not None:
        while generator.poll() is None:
            samples.append((time.monotonic(), {name: node.cpu_seconds() for name, node in cluster.nodes.items()}))
            time.sleep(0.05)
    output = generator.stdout.read()
    if generator.wait() != 0:
        raise AegisError("the load generator failed; its message is above")
    load = msgspec.msgpack.decode(output, type=LoadResult)
    if not samples:
        return load, {}
    first = min(samples, key=lambda sample: abs(sample[0] - load.started_at))
    last = min(samples, key=lambda sample: abs(sample[0] - load.ended_at))
    span = max(last[0] - first[0], 1e-9) / load.seconds
    return load, {name: (last[1][name] - first[1][name]) / span for name in first[1]}


def _figures(
    bench: KvBench, load: LoadResult, cpu: dict[str, float], before: dict[str, Any], after: dict[str, Any]
) -> dict[str, Any]:
    thousands = load.operations / 1000.0 or 1.0
    elections = after["groups"]["1"]["term"] - before["groups"]["1"]["term"]
    what = "reads_per_second" if bench.reads else "writes_per_second"
    return {
        what: round(load.operations / load.seconds, 1),
        "operations": load.operations,
        "seconds": round(load.seconds, 3),
        "clients": bench.clients,
        "pipeline": bench.pipeline,
        "through": "client library" if bench.api else "wire protocol",
        "value_bytes": bench.value_bytes,
        "p50_ms": load.p50_ms,
        "p99_ms": load.p99_ms,
        "p999_ms": load.p999_ms,
        "max_ms": load.max_ms,
        "server_cpu_s_per_1000": round(sum(cpu.values()) / thousands, 5),
        "server_cpu_s_per_1000_by_node": {name: round(seconds / thousands, 5) for name, seconds in cpu.items()},
        "server_cpu": round(sum(cpu.values()) / load.seconds, 3),
        "generator_cpu": round(load.generator_cpu, 3),
        "generator_cpu_s_per_1000": round(load.generator_cpu_s / thousands, 5),
        "generator_bound": load.generator_cpu > _GENERATOR_BOUND,
        "errors": load.errors,
        "first_error": load.first_error,
        "elections": elections,
        "leader": after["node"],
        "nodes": bench.local,
        "keys_read_back": load.keys_read_back,
        "flushes": after["disk"]["flushes"] - before["disk"]["flushes"],
        "flush_p50_ms": after["disk"]["flush_p50_ms"],
        "flush_p99_ms": after["disk"]["flush_p99_ms"],
        "flush_mode": after["disk"]["flush_mode"],
        "filesystem": after["disk"]["filesystem"],
        "loop": after["loop"],
        "turns": after["turns"] - before["turns"],
    }
