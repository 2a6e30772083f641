"""Does a cluster of real processes stay linearizable under real faults? Start, load, harm, heal, judge."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec

from aegis_replication.client.client import connect
from aegis_replication.errors import InvalidArgument, Unavailable
from aegis_replication.ids import NodeId
from aegis_replication.link_proxy import LinkProxy
from aegis_replication.processes import LocalProcesses
from aegis_replication.verify.faulty_node import ENVIRONMENT
from aegis_replication.verify.history import History
from aegis_replication.verify.judgement import Judgement, judge
from aegis_replication.verify.nemesis import Nemesis
from aegis_replication.verify.plan import KINDS, Fault, draw_faults
from aegis_replication.verify.register import TIMEOUT_SECONDS, RegisterClient

ELECTION_TIMEOUT_MS: Final = (150, 300)
HEARTBEAT_MS: Final = 50
LEVEL_SECONDS: Final = 60.0
"""After healing all nodes must have applied the same within this time, or the cluster counts as not live."""

_SETTINGS: Final = {
    "AEGIS_RAFT__ELECTION_TIMEOUT_MIN": str(ELECTION_TIMEOUT_MS[0]),
    "AEGIS_RAFT__ELECTION_TIMEOUT_MAX": str(ELECTION_TIMEOUT_MS[1]),
    "AEGIS_RAFT__HEARTBEAT_INTERVAL": str(HEARTBEAT_MS),
    "AEGIS_RAFT__SNAPSHOT_THRESHOLD": "500",  # so that snapshots and followers behind them are part of every run
}


class VerifyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What `aegis verify` is asked to do."""

    nodes: int = 3
    clients: int = 6
    keys: int = 5
    seconds: float = 60.0
    faults: tuple[str, ...] = ("kill", "pause", "partition")
    seed: int = 0
    loop: str = "auto"


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. The keys are part of what scripts may rely on."""

    operations: int
    ok: int
    unknown: int
    failed: int
    linearizable: bool | None
    live: bool  # level within 60 s after all was made well again
    longest_stall_ms: float
    faults: dict[str, int]
    elections: int
    ended_by_themselves: int  # nodes; on a full or broken disk that is how they refuse
    nodes: int
    clients: int
    seconds: float
    seed: int
    why: str = ""  # of a bad one

    @property
    def is_good(self) -> bool:
        return bool(self.linearizable) and self.live


async def verify(
    plan: VerifyPlan, directory: Path, say: Callable[[str], None], *, faults: Sequence[Fault] | None = None
) -> tuple[VerifyReport, History]:
    """Run one verification; its report and its history. Raises AegisError when it can't be run.

    `faults` is a schedule of the caller's own, instead of one drawn from the plan.
    """
    _validate(plan)
    run = _Run(plan, directory, say, faults)
    async with AsyncExitStack() as stack:
        stack.callback(run.cluster.kill_all)
        await run.start(stack)
        await run.load_and_harm(stack)
        not_live = await run.settle(stack)
    say("judging the history")
    judgement = await asyncio.to_thread(judge, run.history)
    return run.report(judgement, not_live), run.history


def _validate(plan: VerifyPlan) -> None:
    if not 1 <= plan.nodes <= 9:
        raise InvalidArgument(f"--local {plan.nodes}: give 1 to 9 nodes")
    if not 0 < plan.seconds <= 86_400:
        raise InvalidArgument(f"--seconds {plan.seconds:g}: give more than 0 and at most a day")
    if not 1 <= plan.clients <= 100 or not 1 <= plan.keys <= 1_000:
        raise InvalidArgument("--clients must be 1 to 100, --keys 1 to 1,000: more only makes histories hard to judge")
    single = [kind for kind in plan.faults if kind in ("partition", "slow-link")]
    if plan.nodes == 1 and single:
        raise InvalidArgument(f"--faults {','.join(single)}: a single node has no links; give --local 3")


def _drawn(plan: VerifyPlan) -> Sequence[Fault]:
    random = Random(f"{plan.seed}/faults")
    timeout_s = ELECTION_TIMEOUT_MS[1] / 1000.0
    return draw_faults(random, plan.faults, seconds=plan.seconds, nodes=plan.nodes, election_timeout_s=timeout_s)


class _Run:
    """One verification on its way."""

    def __init__(
        self, plan: VerifyPlan, directory: Path, say: Callable[[str], None], faults: Sequence[Fault] | None
    ) -> None:
        self.plan, self.say = plan, say
        self.faults = faults if faults is not None else _drawn(plan)
        self.cluster = LocalProcesses(
            directory,
            count=plan.nodes,
            options=("--cluster", "verify", "--loop", plan.loop),
            environment=_SETTINGS,
            launcher=(sys.executable, "-m", "aegis_replication.verify.faulty_node"),
        )
        self.proxy = LinkProxy({name: node.peer_address for name, node in self.cluster.nodes.items()})
        troubles: dict[NodeId, Path] = {}
        for name, node in self.cluster.nodes.items():
            troubles[name] = directory / f"trouble-{name}.json"
            node.environment[ENVIRONMENT] = str(troubles[name])
        self.nemesis = Nemesis(self.cluster, self.proxy, troubles, say)
        self.history = History()
        self.clients: list[RegisterClient] = []
        self._first_term = self._last_term = 0

    async def start(self, stack: AsyncExitStack) -> None:
        """All nodes run, and one leads."""
        await self.proxy.start()
        stack.push_async_callback(self.proxy.stop)
        for node in self.cluster.nodes.values():
            node.peers = dict(self.proxy.addresses)
        self.say(f"starting {self.plan.nodes} nodes in {self.cluster.directory}")
        await asyncio.to_thread(self.cluster.start)
        await asyncio.to_thread(self.cluster.wait_leader)
        self._first_term = await self._term()

    async def load_and_harm(self, stack: AsyncExitStack) -> None:
        """Clients at work while the faults strike; then all is made well and the clients end."""
        plan = self.plan
        keys = [f"r{number}" for number in range(plan.keys)]
        for number in range(1, plan.clients + 1):
            database = await stack.enter_async_context(self._connect())
            random = Random(f"{plan.seed}/client {number}")
            self.clients.append(RegisterClient(f"c{number}", database, keys, self.history, random))
        until = time.monotonic() + plan.seconds
        async with asyncio.TaskGroup() as group:
            for client in self.clients:
                group.create_task(client.run())
            try:
                await self.nemesis.run(self.faults)
                await asyncio.sleep(max(0.0, until - time.monotonic()))
            finally:
                await self.nemesis.heal()
            for client in self.clients:
                client.end()

    async def settle(self, stack: AsyncExitStack) -> str:
        """All level, and every key read once more by a client of its own; why not, if that doesn't come about."""
        self.say("healed; waiting until all nodes are level")
        try:
            await asyncio.to_thread(self.cluster.wait_caught_up, timeout=LEVEL_SECONDS)
        except Unavailable as error:
            return str(error)
        database = await stack.enter_async_context(self._connect())
        keys = [f"r{number}" for number in range(self.plan.keys)]
        reader = RegisterClient("c0", database, keys, self.history, Random(self.plan.seed))
        for key in keys:
            await reader.read(key)
        self._last_term = await self._term()
        return ""

    def _connect(self) -> Any:
        return connect(f"aegis://{self.cluster.endpoints}", cluster="verify", timeout=TIMEOUT_SECONDS)

    async def _term(self) -> int:
        answers = await asyncio.to_thread(self.cluster.status)
        return max((answer["groups"]["1"]["term"] for answer in answers.values() if answer), default=0)

    def report(self, judgement: Judgement, not_live: str) -> VerifyReport:
        """The figures."""
        history, plan = self.history, self.plan
        done: dict[str, int] = {kind: self.nemesis.done[kind] for kind in KINDS if kind in plan.faults}
        return VerifyReport(
            operations=len(history.records),
            ok=history.count("ok"),
            unknown=history.count("unknown"),
            failed=history.count("failed"),
            linearizable=judgement.linearizable,
            live=not not_live,
            longest_stall_ms=round(history.longest_stall_ms(), 1),
            faults=done,
            elections=max(0, self._last_term - self._first_term),
            ended_by_themselves=len(self.nemesis.ended),
            nodes=plan.nodes,
            clients=plan.clients,
            seconds=plan.seconds,
            seed=plan.seed,
            why="; ".join(filter(None, (judgement.why, not_live))),
        )


def faults_of(text: str) -> tuple[str, ...]:
    """The kinds named in "kill,pause", each once; "none" and "all" are words of their own."""
    if text == "none":
        return ()
    named: Sequence[str] = KINDS if text == "all" else [part.strip() for part in text.split(",") if part.strip()]
    return tuple(dict.fromkeys(named))
