"""How long is nobody served when the leader is gone? A fault, the next acknowledged write, recovery; and again."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final, Literal, TypeAlias

import msgspec

from aegis_replication.client.client import Client, connect
from aegis_replication.errors import AegisError, ConfigError, OutcomeUnknown, Unavailable
from aegis_replication.ids import NodeId
from aegis_replication.link_proxy import LinkProxy
from aegis_replication.processes import LocalProcesses

How: TypeAlias = Literal["kill", "stop", "blackhole"]

WRITE_SECONDS: Final = 30.0
LEVEL_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.005  # of a writer between two writes: a steady stream, far from saturation
_CALM_SECONDS: Final = 0.5  # at the most, between level and the next fault: it meets any phase of the heartbeat
_POLL_SECONDS: Final = 0.05

_SETTINGS: Final = {
    "AEGIS_RAFT__ELECTION_TIMEOUT_MIN": "150",
    "AEGIS_RAFT__ELECTION_TIMEOUT_MAX": "300",
    "AEGIS_RAFT__HEARTBEAT_INTERVAL": "50",
}


class FailoverBench(msgspec.Struct, frozen=True, kw_only=True):
    """What `aegis bench failover` is asked to do."""

    local: int = 3
    rounds: int = 30
    how: How = "kill"
    clients: int = 4  # connections, each with a few writers
    seed: int = 0
    loop: str = "auto"


async def run_failover(bench: FailoverBench, directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Run all rounds; the figures. Raises AegisError when it can't be run or a round doesn't come back."""
    if bench.local < 3:
        raise ConfigError(f"--local {bench.local}: losing the leader needs others that take over: give 3 or more")
    if not 1 <= bench.rounds <= 10_000 or not 1 <= bench.clients <= 100:
        raise ConfigError("--rounds must be 1 to 10,000, --clients 1 to 100: try --rounds 30 --clients 4")
    async with AsyncExitStack() as stack:
        cluster = LocalProcesses(
            directory, count=bench.local, options=("--cluster", "bench", "--loop", bench.loop), environment=_SETTINGS
        )
        stack.callback(cluster.kill_all)
        proxy: LinkProxy | None = None
        if bench.how == "blackhole":
            proxy = await _put_between(cluster, stack)
        say(f"starting {bench.local} nodes in {directory}")
        await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(cluster.wait_leader)
        databases = [
            await stack.enter_async_context(connect(f"aegis://{cluster.endpoints}", timeout=WRITE_SECONDS))
            for _ in range(bench.clients)
        ]
        stream = _Stream(databases)
        rounds = _Rounds(bench, cluster, proxy, stream, say)
        async with asyncio.TaskGroup() as group:
            writing = [group.create_task(each) for each in stream.writers()]
            try:
                await rounds.run()
            finally:
                for task in writing:
                    task.cancel()
    return rounds.figures()


async def _put_between(cluster: LocalProcesses, stack: AsyncExitStack) -> LinkProxy:
    proxy = LinkProxy({name: node.peer_address for name, node in cluster.nodes.items()})
    await proxy.start()
    stack.push_async_callback(proxy.stop)
    for node in cluster.nodes.values():
        node.peers = dict(proxy.addresses)
    return proxy


class _Stream:
    """Writes that go on all the time, and the first answer to one that began after a given moment."""

    WRITERS = 2  # per connection

    def __init__(self, databases: Sequence[Client]) -> None:
        self._databases = databases
        self._since = float("inf")
        self._answered: asyncio.Future[float]
        self.acknowledged = 0

    def writers(self) -> list[Any]:
        """One coroutine per writer, each running until it is cancelled."""
        return [
            self._write(database, f"w{number}/{which}")
            for number, database in enumerate(self._databases)
            for which in range(self.WRITERS)
        ]

    async def _write(self, database: Client, key: str) -> None:
        while True:
            await self._put(database, key)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _put(self, database: Client, key: str) -> None:
        began = time.monotonic()
        try:
            await database.put(key, str(began))
        except OutcomeUnknown:
            return
        self.acknowledged += 1
        if began >= self._since and not self._answered.done():
            self._answered.set_result(time.monotonic())

    async def next_answer(self, since: float) -> float:
        """When the first write that began at `since` or later was acknowledged. Each connection begins one now."""
        self._since, self._answered = since, asyncio.get_running_loop().create_future()
        probes = [asyncio.ensure_future(self._put(each, f"p{n}")) for n, each in enumerate(self._databases)]
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                answered = await self._answered
                await asyncio.gather(*probes)
        except TimeoutError:
            raise Unavailable(
                f"no write was acknowledged for {WRITE_SECONDS:.0f} s after the leader was gone"
            ) from None
        finally:
            self._since = float("inf")
            for probe in probes:
                probe.cancel()
        return answered


class _Rounds:
    """The rounds, and what they came to."""

    def __init__(
        self,
        bench: FailoverBench,
        cluster: LocalProcesses,
        proxy: LinkProxy | None,
        stream: _Stream,
        say: Callable[[str], None],
    ) -> None:
        self._bench, self._cluster, self._proxy, self._stream, self._say = bench, cluster, proxy, stream, say
        self._random = Random(bench.seed)
        self.seconds: list[float] = []
        self.elections = 0
        self.not_needed = 0

    async def run(self) -> None:
        """All of them; each begins with all nodes level and a steady leader."""
        leader, term = await self._level()
        for number in range(1, self._bench.rounds + 1):
            await asyncio.sleep(self._random.uniform(0.0, _CALM_SECONDS))
            now_leader, now_term = await self._leader()
            self.not_needed += now_term - term
            leader, term = now_leader, now_term
            began = time.monotonic()
            self._strike(leader)
            seconds = await self._stream.next_answer(began) - began
            self.seconds.append(seconds)
            new_leader, new_term = await self._leader(besides=leader)
            self.elections += new_term - term
            self._say(f"  {number:3d}: {leader} gone, {new_leader} acknowledged after {seconds * 1000.0:.0f} ms")
            await self._recover(leader)
            _, term = await self._level()
            self.not_needed += term - new_term

    def _strike(self, leader: NodeId) -> None:
        if self._proxy is not None:
            self._proxy.isolate(leader)
        else:
            number = signal.SIGKILL if self._bench.how == "kill" else signal.SIGSTOP
            os.kill(self._cluster.nodes[leader].pid, number)

    async def _recover(self, leader: NodeId) -> None:
        node = self._cluster.nodes[leader]
        if self._proxy is not None:
            self._proxy.heal()
        elif self._bench.how == "kill":
            await asyncio.to_thread(node.kill)
            await asyncio.to_thread(node.start)
        else:
            os.kill(node.pid, signal.SIGCONT)

    async def _leader(self, besides: NodeId = "") -> tuple[NodeId, int]:
        """Who leads in the highest term, and that term."""
        deadline = time.monotonic() + LEVEL_SECONDS
        while time.monotonic() < deadline:
            best = max(
                (
                    (group["term"], name)
                    for name, group in (await self._groups(besides)).items()
                    if group["role"] == "leader"
                ),
                default=None,
            )
            if best is not None:
                return best[1], best[0]
            await asyncio.sleep(_POLL_SECONDS)
        raise Unavailable(f"no node leads after {LEVEL_SECONDS:.0f} s")

    async def _level(self) -> tuple[NodeId, int]:
        """Wait until all nodes follow one leader and have applied what was committed at the beginning."""
        deadline = time.monotonic() + LEVEL_SECONDS
        target = -1
        groups: dict[NodeId, dict[str, Any]] = {}
        while time.monotonic() < deadline:
            groups = await self._groups()
            target = target if target >= 0 else max((each["committed_index"] for each in groups.values()), default=-1)
            leaders = {each["leader"] for each in groups.values()}
            terms = {each["term"] for each in groups.values()}
            if (
                len(groups) == self._bench.local
                and len(leaders) == len(terms) == 1
                and None not in leaders
                and all(each["applied_index"] >= target for each in groups.values())
            ):
                return leaders.pop(), terms.pop()
            await asyncio.sleep(_POLL_SECONDS)
        raise Unavailable(f"the nodes are not level after {LEVEL_SECONDS:.0f} s: {groups}")

    async def _groups(self, besides: NodeId = "") -> dict[NodeId, dict[str, Any]]:
        """What each node that answers says of its group. `besides`: one that is not asked, since it may be stopped."""
        asked = [name for name in self._cluster.nodes if name != besides]
        answers = await asyncio.to_thread(self._cluster.status, asked)
        return {name: answer["groups"]["1"] for name, answer in answers.items() if answer}

    def figures(self) -> dict[str, Any]:
        """The keys are part of what scripts may rely on."""
        ordered = sorted(self.seconds)
        if not ordered:
            raise AegisError("no round was finished")
        return {
            "median_s": round(median(ordered), 4),
            "p90_s": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.9))], 4),
            "worst_s": round(ordered[-1], 4),
            "rounds": len(ordered),
            "how": self._bench.how,
            "elections": self.elections,
            "elections_not_needed": self.not_needed,
            "nodes": self._bench.local,
            "clients": self._bench.clients,
            "writes_acknowledged": self._stream.acknowledged,
            "seed": self._bench.seed,
            "runs": [round(seconds, 4) for seconds in self.seconds],
        }
