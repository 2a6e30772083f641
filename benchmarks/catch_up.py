"""How long does a node need to catch up that is far behind, beside the work, and what does that cost the others?

`--what state`: so many MiB are written while a follower is down, and the log of them is gone: it is sent a snapshot.
`--what log`: so many entries are added to the logs of the other two while all are stopped; the follower lacks them all.
"""

import argparse
import asyncio
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from aegis_replication.client.client import Client, connect
from aegis_replication.errors import OutcomeUnknown
from aegis_replication.log import Kind, LogWrite, make_entry
from aegis_replication.processes import LocalProcesses
from aegis_replication.state_machine.commands import NO_SESSION, Put, encode_command, join_commands
from aegis_replication.storage.directory import DirectoryStorage

MEBIBYTE = 1024 * 1024
VALUE_BYTES = 32 * 1024  # of the state
ENTRY_VALUE_BYTES = 100  # of the log's entries
FILLING_TASKS = 64
LOADING_TASKS = 16
PATIENCE_SECONDS = 1200.0


def main() -> None:
    """Measure what was asked for, and print it as JSON."""
    asked = _options()
    figures: dict[str, Any] = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
        "election_timeout_ms": [asked.election_timeout, 2 * asked.election_timeout],
    }
    for what in ("state", "log") if asked.what == "both" else (asked.what,):
        with _cluster(asked) as cluster:
            figures[what] = asyncio.run(_measure(cluster, what, asked))
    print(msgspec.json.format(msgspec.json.encode(figures), indent=2).decode())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", choices=["state", "log", "both"], default="both")
    parser.add_argument("--state-mib", type=int, default=1024, help="of keys and values (three copies go to the disk)")
    parser.add_argument("--entries", type=int, default=1_000_000, help="that the follower lacks")
    parser.add_argument("--bytes-per-second", type=int, default=64 * MEBIBYTE, help="raft.snapshot_bytes_per_second")
    parser.add_argument(
        "--election-timeout", type=int, default=150, help="the shortest, in ms; the longest is twice it"
    )
    parser.add_argument(
        "--directory", type=Path, help="where the data goes; the system's for temporary files if not given"
    )
    return parser.parse_args()


@contextmanager
def _cluster(asked: argparse.Namespace) -> Iterator[LocalProcesses]:
    """Three nodes, running; what they wrote is removed at the end."""
    root = Path(tempfile.mkdtemp(prefix="catch-up-", dir=asked.directory))
    settings = {
        "AEGIS_RAFT__ELECTION_TIMEOUT_MIN": str(asked.election_timeout),
        "AEGIS_RAFT__ELECTION_TIMEOUT_MAX": str(2 * asked.election_timeout),
        "AEGIS_RAFT__HEARTBEAT_INTERVAL": str(asked.election_timeout // 3),
        "AEGIS_RAFT__SNAPSHOT_BYTES_PER_SECOND": str(asked.bytes_per_second),
    }
    try:
        with LocalProcesses(root, environment=settings) as cluster:
            cluster.start()
            cluster.wait_caught_up()
            yield cluster
    finally:
        shutil.rmtree(root, ignore_errors=True)


async def _measure(cluster: LocalProcesses, what: str, asked: argparse.Namespace) -> dict[str, Any]:
    late = next(name for name in sorted(cluster.nodes) if name != cluster.wait_leader())
    others = [name for name in cluster.nodes if name != late]
    had = _group(cluster, late)["last_index"]
    _say(f"{what}: {late} has {had} entries and is stopped")
    if what == "state":
        cluster.nodes[late].kill()
        await _fill(cluster, asked.state_mib * MEBIBYTE // VALUE_BYTES)
    else:
        cluster.stop()
        for name in others:
            _add_entries(cluster.nodes[name].directory, asked.entries)
        for name in others:
            cluster.nodes[name].start()
    leader = await _settled(cluster, others)
    async with connect(f"aegis://{cluster.endpoints}", timeout=PATIENCE_SECONDS) as database:
        load = _Load(database)
        running = asyncio.create_task(load.run())
        await asyncio.sleep(2.0)
        figures = await _catch_up(cluster, leader, late, load)
        load.is_ending = True
        await running
    return {"entries_behind_at_first": figures.pop("goal") - had, **figures}


async def _catch_up(cluster: LocalProcesses, leader: str, late: str, load: "_Load") -> dict[str, Any]:
    """Start the late one under load, and watch until it has what was committed then."""
    before = _group(cluster, leader)
    pid, resident = cluster.nodes[leader].pid, _memory(cluster, leader, "VmRSS")
    _count_peak_anew(pid)
    _say(f"{late} starts, {leader} leads with {resident / MEBIBYTE:.0f} MiB and {before['last_index']} entries")
    load.begin()
    start = time.monotonic()
    cluster.nodes[late].start()
    while True:
        await asyncio.sleep(0.05)
        found = (await asyncio.to_thread(cluster.status, [late]))[late]
        if found and found["groups"]["1"]["applied_index"] >= before["committed_index"]:
            break
        if time.monotonic() - start > PATIENCE_SECONDS:
            raise SystemExit(f"{late} is still at {found and found['groups']['1']} after {PATIENCE_SECONDS:.0f} s")
    seconds = time.monotonic() - start
    after, snapshot_index = _group(cluster, leader), found["groups"]["1"]["snapshot_index"]
    return {
        "goal": before["committed_index"],
        "seconds": round(seconds, 1),
        "by_snapshot": snapshot_index > 0,
        "snapshot_mib": _snapshot_mib(cluster, late),
        "writes_served": load.served,
        "longest_gap_ms": round(1000 * load.longest_gap),
        "elections": after["term"] - before["term"],
        "leader_mib_before": resident // MEBIBYTE,
        "leader_mib_peak": _memory(cluster, leader, "VmHWM") // MEBIBYTE,
        "leader_log_mib": after["log_bytes_in_memory"] // MEBIBYTE,
        "follower_mib_peak": _memory(cluster, late, "VmHWM") // MEBIBYTE,
    }


class _Load:
    """Clients that write small values one after another, and the longest time in which none of them was answered."""

    def __init__(self, database: Client) -> None:
        self._database = database
        self.is_ending = False
        self.begin()

    def begin(self) -> None:
        """Count from now on."""
        self.served, self.longest_gap, self._last = 0, 0.0, time.monotonic()

    async def run(self) -> None:
        """Until it is to end."""
        await asyncio.gather(*(self._write(number) for number in range(LOADING_TASKS)))

    async def _write(self, number: int) -> None:
        while not self.is_ending:
            with suppress(OutcomeUnknown):
                await self._database.put(b"load/%d" % number, bytes(ENTRY_VALUE_BYTES))
            now = time.monotonic()
            self.longest_gap, self._last = max(self.longest_gap, now - self._last), now
            self.served += 1


# --- being far behind ------------------------------------------------------------------------------------------------


async def _fill(cluster: LocalProcesses, keys: int) -> None:
    """Write so many large values."""
    numbers, random, start = iter(range(keys)), Random(1), time.monotonic()

    async def write(database: Client) -> None:
        for number in numbers:
            with suppress(OutcomeUnknown):
                await database.put(b"large/%08d" % number, random.randbytes(VALUE_BYTES))

    async with connect(f"aegis://{cluster.endpoints}", timeout=PATIENCE_SECONDS) as database:
        await asyncio.gather(*(write(database) for _ in range(FILLING_TASKS)))
    _say(f"{keys} values of {VALUE_BYTES // 1024} KiB written in {time.monotonic() - start:.0f} s")


def _add_entries(directory: Path, count: int) -> None:
    """Lengthen a stopped node's log by entries of one command each, the same ones on each node."""
    storage = DirectoryStorage.open(directory)
    try:
        group = storage.recover()[1]
        last = group.entries[-1] if group.entries else group.base
        for first in range(0, count, 1000):
            entries = tuple(
                make_entry(1, last.term, last.index + 1 + number, Kind.COMMANDS, _payload(number), count=1, stamp=0)
                for number in range(first, min(first + 1000, count))
            )
            storage.write([LogWrite(1, first // 1000 + 1, entries=entries)], durable=False)
            storage.maintain()
        storage.flush()
    finally:
        storage.close()
    _say(f"{count} entries added to {directory.name}")


def _payload(number: int) -> bytes:
    value = b"%08d" % number * (ENTRY_VALUE_BYTES // 8)
    return join_commands([encode_command(NO_SESSION, 1, 1, Put(b"entry/%08d" % number, value))])


# --- looking ---------------------------------------------------------------------------------------------------------


async def _settled(cluster: LocalProcesses, names: list[str]) -> str:
    """Wait until these show all that is in their logs; who leads them."""
    cluster.wait_leader(timeout=PATIENCE_SECONDS)
    cluster.wait_caught_up(timeout=PATIENCE_SECONDS)
    await asyncio.sleep(5.0)  # a snapshot that is due by now is written
    leader = cluster.wait_leader()
    assert leader in names, f"{leader} leads, and is not one of {names}"
    return leader


def _group(cluster: LocalProcesses, name: str) -> dict[str, Any]:
    answer = cluster.status([name], timeout=60.0)[name]
    if answer is None:
        raise SystemExit(f"{name} says nothing: {cluster.nodes[name].last_words()}")
    group: dict[str, Any] = answer["groups"]["1"]
    return group


def _memory(cluster: LocalProcesses, name: str, what: str) -> int:
    """Bytes that a process holds now (VmRSS), or held at most (VmHWM). Linux."""
    for line in Path(f"/proc/{cluster.nodes[name].pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"{name} says nothing of its memory")


def _count_peak_anew(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _snapshot_mib(cluster: LocalProcesses, name: str) -> int:
    files = (cluster.nodes[name].directory / "snapshots").glob("*.snap")
    return sum(path.stat().st_size for path in files) // MEBIBYTE


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True, file=sys.stderr)


if __name__ == "__main__":
    main()
