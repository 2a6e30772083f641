"""How do durable writes compare with etcd's, on this machine, in this hour?

Three etcd servers and three of our nodes on loopback and on the same disk, never at the same time, in turns: etcd,
ours,
etcd, ours, ... Both are loaded at their leader by a generator in a process of its own, one connection per client, one
request in flight each, values of 256 bytes, every write flushed to disk by a majority before it is answered.
Our nodes take snapshots of their state meanwhile, as they always do.

etcd is loaded with h2load (nghttp2-client), which posts one fixed gRPC PutRequest: it overwrites ONE key, while our
load
writes 100,000 different ones. `etcdctl endpoint status` must show afterwards that the raft index grew by the count.

    python benchmarks/versus_etcd.py [--clients 1,64,256] [--rounds 3] [--seconds 5] [-o json]

Needs Debian's etcd-server, etcd-client and nghttp2-client.
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aegis_replication.bench.kv import KvBench, run_kv
from aegis_replication.processes import free_ports

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def put_request(key: bytes, value: bytes) -> bytes:
    """etcdserverpb.PutRequest{key, value} with gRPC's prefix (not compressed, length)."""

    def field(number: int, data: bytes) -> bytes:
        size, length = len(data), b""
        while True:
            size, low = size >> 7, size & 0x7F
            length += bytes([low | 0x80 if size else low])
            if not size:
                return bytes([number << 3 | 2]) + length + data

    message = field(1, key) + field(2, value)
    return b"\0" + len(message).to_bytes(4, "big") + message


class Etcd:
    """Three etcd servers on loopback."""

    def __init__(self, directory: Path) -> None:
        ports = free_ports(6)
        self.directory = directory
        self.clients = [f"127.0.0.1:{port}" for port in ports[:3]]
        self.peers = [f"127.0.0.1:{port}" for port in ports[3:]]
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start them and wait for a leader."""
        cluster = ",".join(f"e{i}=http://{address}" for i, address in enumerate(self.peers))
        for i, (client, peer) in enumerate(zip(self.clients, self.peers, strict=True)):
            command = [
                *("etcd", "--name", f"e{i}", "--data-dir", str(self.directory / f"e{i}")),
                *("--listen-client-urls", f"http://{client}", "--advertise-client-urls", f"http://{client}"),
                *("--listen-peer-urls", f"http://{peer}", "--initial-advertise-peer-urls", f"http://{peer}"),
                *("--initial-cluster", cluster, "--initial-cluster-state", "new", "--logger", "zap"),
                *("--log-level", "error", "--quota-backend-bytes", str(8 << 30)),
            ]
            self.processes.append(
                subprocess.Popen(
                    command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]}
                )
            )
        for _ in range(200):
            try:
                self.leader()
                return
            except (LookupError, subprocess.CalledProcessError, ValueError):
                time.sleep(0.1)
        raise SystemExit("etcd elected no leader within 20 s")

    def status(self) -> list[dict[str, Any]]:
        """`etcdctl endpoint status` of all three."""
        command = ["etcdctl", f"--endpoints={','.join(self.clients)}", "endpoint", "status", "-w", "json"]
        output = subprocess.run(
            command, env={**os.environ, "ETCDCTL_API": "3"}, check=True, capture_output=True, timeout=10
        )
        answer: list[dict[str, Any]] = json.loads(output.stdout)
        return answer

    def leader(self) -> tuple[str, int]:
        """The leader's client address, and the raft index."""
        for one in self.status():
            status = one["Status"]
            if status.get("leader") and status["leader"] == status["header"]["member_id"]:
                return one["Endpoint"].removeprefix("http://"), int(status["raftIndex"])
        raise LookupError("no leader")

    def load(self, clients: int, seconds: float, value_bytes: int) -> dict[str, float]:
        """Load the leader with h2load; writes a second and CPU seconds a thousand writes."""
        address, index_before = self.leader()
        body = self.directory / "body"
        body.write_bytes(put_request(b"k" * 12, b"v" * value_bytes))
        common = ["h2load", "-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers", "-m", "1"]
        url = f"http://{address}/etcdserverpb.KV/Put"
        subprocess.run(
            [*common, "-c", str(clients), "-n", str(clients * 20), url], check=True, capture_output=True, timeout=120
        )
        # A count, not a duration: h2load counts only whole runs by number reliably. Measure the speed first.
        probe = self._timed([*common, "-c", str(clients), "-n", str(clients * 50), url])
        count = max(int(probe["rate"] * seconds / clients), 1) * clients
        before = [cpu_seconds(process.pid) for process in self.processes]
        measured = self._timed([*common, "-c", str(clients), "-n", str(count), url])
        cpu = sum(cpu_seconds(process.pid) - was for process, was in zip(self.processes, before, strict=True))
        _, index_after = self.leader()
        grown, sent = index_after - index_before, clients * 70 + count
        if grown < sent:
            raise SystemExit(f"etcd's raft index grew by {grown}, {sent} writes were sent: HTTP 200 was not OK")
        return {
            "writes_per_second": measured["rate"],
            "server_cpu_s_per_1000": cpu / count * 1000,
            "p50_ms": measured["p50_ms"],
        }

    @staticmethod
    def _timed(command: list[str]) -> dict[str, float]:
        output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
        finished = re.search(r"finished in ([\d.]+)(us|ms|s), ([\d.]+) req/s", output)
        outcome = re.search(r"(\d+) total, \d+ started, \d+ done, (\d+) succeeded", output)
        mean = re.search(r"time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)", output)
        if not finished or not outcome or outcome[1] != outcome[2]:
            raise SystemExit(f"h2load did not succeed with every request:\n{output}")
        scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}
        return {
            "rate": float(finished[3]),
            "p50_ms": float(mean[1]) * scale[mean[2]] if mean else 0.0,
        }

    def stop(self) -> None:
        """Stop all three."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(20)


def run_etcd(clients: int, seconds: float, value_bytes: int, directory: Path | None) -> dict[str, float]:
    """One fresh etcd cluster, loaded once."""
    with tempfile.TemporaryDirectory(prefix="versus-etcd-", dir=directory) as place:
        etcd = Etcd(Path(place))
        etcd.start()
        try:
            return etcd.load(clients, seconds, value_bytes)
        finally:
            etcd.stop()


def run_ours(
    options: argparse.Namespace, clients: int, *, loop: str | None = None, pipeline: int = 1
) -> dict[str, Any]:
    """One fresh cluster of ours, loaded once."""
    bench = KvBench(
        clients=clients,
        seconds=options.seconds,
        value_bytes=options.value_bytes,
        keys=options.keys,
        directory=options.data,
        loop=loop or options.loop,
        pipeline=pipeline,
    )
    return run_kv(bench)


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds, and the medians and ratios."""
    rows = []
    for clients in options.clients:
        etcd_runs, our_runs = [], []
        for round_number in range(options.rounds):
            etcd = run_etcd(clients, options.seconds, options.value_bytes, options.data)
            ours = run_ours(options, clients)
            print(
                f"clients {clients:4d} round {round_number + 1}: etcd {etcd['writes_per_second']:9.0f} w/s "
                f"{etcd['server_cpu_s_per_1000']:.3f} cpu s/1000 · ours {ours['writes_per_second']:9.0f} w/s "
                f"{ours['server_cpu_s_per_1000']:.3f} cpu s/1000 (generator {ours['generator_cpu']:.2f} of a core)",
                file=sys.stderr,
            )
            etcd_runs.append(etcd)
            our_runs.append(ours)
        rows.append(summarise(clients, etcd_runs, our_runs))
    pipelined = run_ours(options, options.pipeline_clients, pipeline=16)
    plain = run_ours(options, 64, loop="asyncio")
    return {
        "rounds": options.rounds,
        "value_bytes": options.value_bytes,
        "keys": options.keys,
        "note": f"etcd overwrites one key, ours writes {options.keys:,} keys",
        "rows": rows,
        "pipelined_16": brief(pipelined),
        "plain_asyncio_64": brief(plain),
    }


def median(runs: list[dict[str, Any]], key: str) -> float:
    """The middle run's figure."""
    return statistics.median(run[key] for run in runs)


def brief(figures: dict[str, Any]) -> dict[str, Any]:
    """What matters of a run of ours."""
    keys = (
        "writes_per_second",
        "clients",
        "pipeline",
        "p50_ms",
        "p99_ms",
        "server_cpu_s_per_1000",
        "generator_cpu",
        "loop",
    )
    return {key: figures[key] for key in keys}


def summarise(clients: int, etcd: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of both, and ratios of the medians."""
    row = {"clients": clients}
    for name, runs in (("etcd", etcd), ("ours", ours)):
        for key in ("writes_per_second", "server_cpu_s_per_1000", "p50_ms"):
            row[f"{name}_{key}"] = round(median(runs, key), 5)
    row["ours_p99_ms"] = median(ours, "p99_ms")
    row["generator_cpu"] = median(ours, "generator_cpu")
    row["generator_bound"] = any(run["generator_bound"] for run in ours)
    row["writes_ratio"] = round(row["ours_writes_per_second"] / row["etcd_writes_per_second"], 2)
    row["cpu_ratio"] = round(row["etcd_server_cpu_s_per_1000"] / row["ours_server_cpu_s_per_1000"], 2)
    return row


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    print("clients   etcd w/s   ours w/s  ratio  etcd cpu  ours cpu  ratio  p99 ms")
    for row in result["rows"]:
        print(
            f"{row['clients']:>7} {row['etcd_writes_per_second']:>10.0f} {row['ours_writes_per_second']:>10.0f} "
            f"{row['writes_ratio']:>6.2f} {row['etcd_server_cpu_s_per_1000']:>9.4f} "
            f"{row['ours_server_cpu_s_per_1000']:>9.4f} {row['cpu_ratio']:>6.2f} {row['ours_p99_ms']:>7.2f}"
        )
    for name in ("pipelined_16", "plain_asyncio_64"):
        run = result[name]
        speed, cpu = run["writes_per_second"], run["server_cpu_s_per_1000"]
        print(f"{name}: {speed:.0f} w/s, p99 {run['p99_ms']} ms, {cpu} cpu s/1000")
    print(f"cpu: CPU seconds of all three servers per 1000 writes. {result['note']}.")


def main() -> None:
    """Parse, check what is needed, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=lambda text: [int(part) for part in text.split(",")], default=[1, 64, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--value-bytes", type=int, default=256)
    parser.add_argument("--keys", type=int, default=10_000, help="how many keys our load writes")
    parser.add_argument("--pipeline-clients", type=int, default=64)
    parser.add_argument("--loop", default="auto")
    parser.add_argument("--data", type=Path, default=None, help="where the data directories go (a real disk)")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args()
    missing = [tool for tool in ("etcd", "etcdctl", "h2load") if shutil.which(tool) is None]
    if missing:
        raise SystemExit(f"missing: {', '.join(missing)}: apt-get install etcd-server etcd-client nghttp2-client")
    result = compare(options)
    if options.output == "json":
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
