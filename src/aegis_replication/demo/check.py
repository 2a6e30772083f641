"""The proof: kill the leader under load, cut them all off at once, and look for what was acknowledged."""

import asyncio
import platform
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from aegis_replication.client.client import Client, connect
from aegis_replication.demo.copies import Copies, compare_copies
from aegis_replication.demo.progress import Progress
from aegis_replication.demo.records import Record, unicode_records
from aegis_replication.demo.watch import Leadership, Watch
from aegis_replication.errors import AegisError, Unavailable
from aegis_replication.ids import LogIndex, NodeId
from aegis_replication.processes import LocalProcesses

_IN_FLIGHT = 256  # puts under way at once, each one's answer awaited
_READ_AT_ONCE = 500  # keys per linearizable read
_READS_IN_FLIGHT = 4
_KILL_AT, _START_AT = 0.4, 0.6
_PUT_TIMEOUT_S = 30.0
_CATCH_UP_TIMEOUT_S = 60.0
_SHOW_SECONDS = 0.1


class Proof(msgspec.Struct):
    """What came of it. The keys are the report's, and part of what scripts may rely on."""

    records: int = 0
    acknowledged: int = 0
    lost: int = 0
    lost_after_restart: int = 0
    replicas_equal: bool = False
    write_stall_ms: float = 0.0
    elections: int = 0
    writes_per_second: float = 0.0
    flushes: int = 0
    live_bytes: int = 0
    allocated_bytes: int = 0
    filesystem: str = ""
    loop: str = ""
    nodes: int = 0
    leaders: tuple[Leadership, ...] = ()
    killed: NodeId = ""
    compared_index: int = 0
    python: str = platform.python_version()

    @property
    def holds(self) -> bool:
        """Nothing acknowledged is missing or different, everything was acknowledged, and the copies are equal."""
        return (
            self.records > 0
            and self.acknowledged == self.records
            and not self.lost
            and not self.lost_after_restart
            and self.replicas_equal
        )


async def prove(cluster: LocalProcesses, progress: Progress, records: Sequence[Record] | None = None) -> Proof:
    """Run the whole proof on a cluster that isn't started yet, and stop it. Raises AegisError when it can't be run."""
    proof = Proof(nodes=len(cluster.nodes))
    watch = Watch(cluster, lambda leader: progress.say(f"  {leader.node} leads in term {leader.term}"))
    try:
        progress.say(f"starting {proof.nodes} nodes in {cluster.directory}")
        await _start(cluster)
        watch.start()
        await asyncio.to_thread(cluster.wait_leader)
        chosen = list(unicode_records()) if records is None else list(records)
        proof.records = len(chosen)
        load = _Load(cluster, chosen, progress)
        async with _client(cluster) as database:
            await load.run(database)
            proof.killed = load.killed
            proof.acknowledged = len(load.acknowledged)
            proof.write_stall_ms = round(load.stall_seconds * 1000.0, 1)
            proof.writes_per_second = round(proof.acknowledged / load.seconds, 1)
            await asyncio.to_thread(cluster.wait_caught_up)
            proof.lost = await _count_lost(database, chosen, load.acknowledged, progress, "reading back")
        progress.say(f"  killing all {proof.nodes} nodes at once (SIGKILL), and starting them from their disks")
        await asyncio.to_thread(cluster.kill_all)
        await _start(cluster)
        await asyncio.to_thread(cluster.wait_leader)
        async with _client(cluster) as database:
            proof.lost_after_restart = await _count_lost(database, chosen, load.acknowledged, progress, "reading again")
        await asyncio.to_thread(cluster.wait_caught_up)
        await asyncio.to_thread(watch.look)
    finally:
        await asyncio.to_thread(watch.stop)
    _take_figures(proof, watch)
    endings = await asyncio.to_thread(cluster.stop)
    progress.say("  stopped the nodes; comparing their copies on disk")
    for node, code in endings.items():
        if code != 0:
            raise AegisError(f"{node} ended with exit code {code}:\n{cluster.nodes[node].last_words()}")
    copies = await asyncio.to_thread(compare_copies, {name: node.directory for name, node in cluster.nodes.items()})
    proof.replicas_equal, proof.compared_index = copies.equal, copies.index
    if not copies.equal:
        progress.say(f"  the copies differ: {_difference(copies)}")
    return proof


async def _start(cluster: LocalProcesses) -> None:
    await asyncio.to_thread(cluster.start)


@asynccontextmanager
async def _client(cluster: LocalProcesses) -> AsyncIterator[Client]:
    async with connect(f"aegis://{cluster.endpoints}", timeout=_PUT_TIMEOUT_S) as database:
        yield database


class _Load:
    """Puts every record, many under way at once, and does harm on the way."""

    def __init__(self, cluster: LocalProcesses, records: Sequence[Record], progress: Progress) -> None:
        self._cluster, self._records, self._progress = cluster, records, progress
        # Keys whose put was answered. Only grows.
        self.acknowledged: set[bytes] = set()
        self.killed: NodeId = ""
        self.seconds = 0.0
        # The longest time between two acknowledged writes that followed one another.
        self.stall_seconds = 0.0
        self._last_acknowledged = 0.0
        self._kill_due, self._start_due = asyncio.Event(), asyncio.Event()

    async def run(self, database: Client) -> None:
        """All records, then the restarted node has caught up."""
        self._progress.begin("loading", len(self._records))
        pending = iter(self._records)
        began = self._last_acknowledged = time.monotonic()
        async with asyncio.TaskGroup() as helpers:
            showing = helpers.create_task(self._show())
            helpers.create_task(self._harm())
            async with asyncio.TaskGroup() as putting:
                for _ in range(min(_IN_FLIGHT, len(self._records))):
                    putting.create_task(self._put_each(database, pending))
            self.seconds = time.monotonic() - began
            showing.cancel()
            self._progress.update(len(self.acknowledged))
            self._progress.end()
            self._kill_due.set()
            self._start_due.set()

    async def _put_each(self, database: Client, pending: Any) -> None:
        kill_at, start_at = int(len(self._records) * _KILL_AT), int(len(self._records) * _START_AT)
        for key, value in pending:
            await database.put(key, value)
            now = time.monotonic()
            self.stall_seconds = max(self.stall_seconds, now - self._last_acknowledged)
            self._last_acknowledged = now
            self.acknowledged.add(key)
            if len(self.acknowledged) == kill_at:
                self._kill_due.set()
            elif len(self.acknowledged) == start_at:
                self._start_due.set()

    async def _harm(self) -> None:
        """Kill the leader at 40 %, start it again at 60 %."""
        await self._kill_due.wait()
        leader = await asyncio.to_thread(self._cluster.leader)
        if leader is None:
            leader = await asyncio.to_thread(self._cluster.wait_leader)
        await asyncio.to_thread(self._cluster.nodes[leader].kill)
        self.killed = leader
        self._progress.say(
            f"  killed {leader}, the leader (SIGKILL), at {len(self.acknowledged):,} acknowledged writes"
        )
        await self._start_due.wait()
        await asyncio.to_thread(self._cluster.nodes[leader].start)
        self._progress.say(f"  started {leader} again at {len(self.acknowledged):,}")
        await self._wait_reached(leader, await self._committed())
        self._progress.say(f"  {leader} has caught up, at {len(self.acknowledged):,}")

    async def _committed(self) -> LogIndex:
        """What the cluster has committed by now, as far as the nodes that answer know."""
        answers = await asyncio.to_thread(self._cluster.status)
        return max((answer["groups"]["1"]["committed_index"] for answer in answers.values() if answer), default=0)

    async def _wait_reached(self, node: NodeId, index: LogIndex) -> None:
        """Until `node` has applied entry `index`; the load goes on meanwhile."""
        deadline = time.monotonic() + _CATCH_UP_TIMEOUT_S
        while time.monotonic() < deadline:
            answer = (await asyncio.to_thread(self._cluster.status))[node]
            if answer is not None and answer["groups"]["1"]["applied_index"] >= index:
                return
            await asyncio.sleep(_SHOW_SECONDS)
        words = self._cluster.nodes[node].last_words()
        raise Unavailable(f"{node} did not catch up within {_CATCH_UP_TIMEOUT_S:.0f} s; its last words:\n{words}")

    async def _show(self) -> None:
        while True:
            self._progress.update(len(self.acknowledged))
            await asyncio.sleep(_SHOW_SECONDS)


async def _count_lost(
    database: Client, records: Sequence[Record], acknowledged: set[bytes], progress: Progress, what: str
) -> int:
    """How many acknowledged records a linearizable read doesn't find as they were written."""
    progress.begin(what, len(records))
    parts = iter(range(0, len(records), _READ_AT_ONCE))
    lost = done = 0

    async def read_parts() -> None:
        nonlocal lost, done
        for first in parts:
            part = records[first : first + _READ_AT_ONCE]
            found = await database.get_many([key for key, _ in part])
            for (key, value), item in zip(part, found, strict=True):
                lost += key in acknowledged and (item is None or item.value != value)
            done += len(part)
            progress.update(done)

    async with asyncio.TaskGroup() as reading:
        for _ in range(_READS_IN_FLIGHT):
            reading.create_task(read_parts())
    progress.end()
    return lost


def _take_figures(proof: Proof, watch: Watch) -> None:
    """What the nodes said of themselves at the end."""
    proof.leaders = tuple(watch.leaders)
    proof.elections = len(watch.leaders)
    proof.flushes = watch.flushes
    newest = {node: status for (node, _), status in watch.statuses.items()}
    proof.live_bytes = sum(status["disk"]["live_bytes"] for status in newest.values())
    proof.allocated_bytes = sum(status["disk"]["allocated_bytes"] for status in newest.values())
    some = next(iter(newest.values()), None)
    if some is not None:
        proof.filesystem, proof.loop = some["disk"]["filesystem"], some["loop"]


def _difference(copies: Copies) -> str:
    copies_by_node = ", ".join(f"{node} {digest} at {copies.reached[node]}" for node, digest in copies.digests.items())
    return f"up to entry {copies.index}: {copies_by_node}"
