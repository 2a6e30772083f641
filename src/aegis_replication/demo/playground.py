"""A cluster to play with: runs in the foreground, tells of each change of leader, and goes when you leave."""

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

from aegis_replication.client.client import Client, connect
from aegis_replication.demo.control import Control, runtime_directory
from aegis_replication.demo.watch import Leadership, Watch
from aegis_replication.errors import AegisError, ConfigError, OutcomeUnknown
from aegis_replication.ids import NodeId
from aegis_replication.processes import LocalProcesses, NodeProcess

PROBE_KEY = b"demo/probe"
_PROBE_SECONDS = 0.02
_LOOK_SECONDS = 0.2


class Playground:
    """One running demo. A probe counts up a key all the time, so that a change of leader can say what it cost."""

    def __init__(
        self,
        cluster: LocalProcesses,
        say: Callable[[str], None],
        on_ready: Callable[[NodeId, int, float], None],
        wall_clock: Callable[[], str] = lambda: time.strftime("%H:%M:%S"),
    ) -> None:
        self._cluster, self._say, self._on_ready, self._wall_clock = cluster, say, on_ready, wall_clock
        self._watch = Watch(cluster, self._on_leader)
        self._loop: asyncio.AbstractEventLoop
        self._stopping = asyncio.Event()
        self._expected_dead: set[NodeId] = set()
        self._reported: set[tuple[NodeId, int]] = set()
        # The probe's count: what was acknowledged, what of it was gone later, the longest wait since the last report.
        self._acknowledged = 0
        self._lost = 0
        self._stall_seconds = 0.0

    async def run(self) -> None:
        """Until SIGINT or SIGTERM."""
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._stopping.set)
        control = Control(runtime_directory(), self._on_request)
        addresses = {name: node.client_address for name, node in self._cluster.nodes.items()}
        await control.open({"directory": str(self._cluster.directory), "nodes": addresses})
        try:
            began = time.monotonic()
            await asyncio.to_thread(self._cluster.start)
            await asyncio.to_thread(self._cluster.wait_leader)
            await asyncio.to_thread(self._watch.look)
            first = self._watch.leaders[-1]
            self._on_ready(first.node, first.term, time.monotonic() - began)
            self._watch.start()
            probe = asyncio.create_task(self._probe())
            deaths = asyncio.create_task(self._look_for_deaths())
            await self._stopping.wait()
            for task in (probe, deaths):
                task.cancel()
            await asyncio.gather(probe, deaths, return_exceptions=True)
        finally:
            await asyncio.to_thread(self._watch.stop)
            await control.close()
            await asyncio.to_thread(self._cluster.stop)

    # --- what a second terminal asks ---

    async def _on_request(self, request: dict[str, Any]) -> dict[str, Any]:
        do, name = request.get("do"), request.get("node")
        if do not in ("kill", "start"):
            raise ConfigError(f"{do!r} is not something that a demo does: kill or start")
        node = self._cluster.nodes.get(str(name))
        if node is None:
            raise ConfigError(f"no node {name!r} here: there are {', '.join(self._cluster.nodes)}")
        return {"said": await (self._kill(node) if do == "kill" else self._start(node))}

    async def _kill(self, node: NodeProcess) -> str:
        if not node.is_running:
            raise ConfigError(f"{node.node} is not running: aegis demo start {node.node}")
        self._expected_dead.add(node.node)
        self._stall_seconds = 0.0
        await asyncio.to_thread(node.kill)
        self._tell(f"{node.node} killed (SIGKILL)")
        alive = sum(each.is_running for each in self._cluster.nodes.values())
        if 2 * alive <= len(self._cluster.nodes):
            self._tell(f"{alive} of {len(self._cluster.nodes)} nodes left: no majority, so reads and writes wait")
        return f"killed {node.node}; start it again with  aegis demo start {node.node}"

    async def _start(self, node: NodeProcess) -> str:
        if node.is_running:
            raise ConfigError(f"{node.node} is running already: aegis demo kill {node.node}")
        await asyncio.to_thread(node.start)
        self._expected_dead.discard(node.node)
        self._tell(f"{node.node} started from its disk")
        return f"started {node.node}"

    # --- what happens ---

    def _on_leader(self, leader: Leadership) -> None:
        """Called on the watch's thread."""
        if leader.silent_ms is not None:
            self._loop.call_soon_threadsafe(lambda: asyncio.ensure_future(self._report(leader)))

    async def _report(self, leader: Leadership) -> None:
        """One line, once the probe has got through to the new leader."""
        before = self._acknowledged
        for _ in range(200):
            if self._acknowledged > before:
                break
            await asyncio.sleep(0.05)
        previous = next((each.node for each in reversed(self._watch.leaders) if each.term < leader.term), "?")
        self._tell(
            f"{leader.node} elected leader term {leader.term} ({previous} silent {leader.silent_ms:.0f} ms) · "
            f"{self._lost} acked writes lost · longest write stall {self._stall_seconds * 1000.0:.0f} ms"
        )
        self._stall_seconds = 0.0

    async def _probe(self) -> None:
        async with connect(f"aegis://{self._cluster.endpoints}") as database:
            expected = await self._first_count(database)
            while True:
                asked = time.monotonic()
                try:
                    count = await database.increment(PROBE_KEY, timeout=3600.0)
                except OutcomeUnknown:  # it may have counted, or not: start from what is there
                    expected = await self._first_count(database)
                    continue
                except AegisError:
                    await asyncio.sleep(_LOOK_SECONDS)
                    continue
                expected += 1
                if count != expected:
                    self._tell(
                        f"{PROBE_KEY.decode()} is {count} where {expected} were acknowledged: please report this"
                    )
                    expected = count
                self._acknowledged += 1
                self._stall_seconds = max(self._stall_seconds, time.monotonic() - asked)
                await asyncio.sleep(_PROBE_SECONDS)

    async def _first_count(self, database: Client) -> int:
        item = await database.get(PROBE_KEY, timeout=3600.0)
        return int(item.value) if item is not None else 0

    async def _look_for_deaths(self) -> None:
        """A node that ended by itself is worth a line and its last words."""
        while True:
            for name, node in self._cluster.nodes.items():
                process = node.process
                if process is None or process.poll() is None or name in self._expected_dead:
                    continue
                if (name, process.pid) not in self._reported:
                    self._reported.add((name, process.pid))
                    self._tell(f"{name} ended by itself (exit code {process.returncode}):\n{node.last_words()}")
            await asyncio.sleep(_LOOK_SECONDS)

    def _tell(self, line: str) -> None:
        self._say(f"{self._wall_clock()} {line}")
