"""Who carries out the faults? Each on its own task, and at the end everything is made well again."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from aegis_replication.ids import NodeId
from aegis_replication.link_proxy import LinkProxy
from aegis_replication.link_proxy import Path as Link
from aegis_replication.processes import LocalProcesses, NodeProcess
from aegis_replication.verify.faulty_node import Trouble
from aegis_replication.verify.plan import Fault

_CHECK_SECONDS: Final = 0.2  # how often it is looked whether a node has ended by itself
_RESTART_SECONDS: Final = 0.5
_ASK_SECONDS: Final = 0.2  # for a node to say whether it leads: one that is paused doesn't

Say = Callable[[str], None]


class Nemesis:
    """Strikes a cluster of processes whose peers talk by a proxy."""

    def __init__(
        self, cluster: LocalProcesses, proxy: LinkProxy, troubles: Mapping[NodeId, Path], say: Say = lambda _: None
    ) -> None:
        self._cluster, self._proxy, self._troubles, self._say = cluster, proxy, troubles, say
        self._names = sorted(cluster.nodes)
        # How often each kind was really done.
        self.done: Counter[str] = Counter()
        # Nodes that ended by themselves, with their last words: on a full disk they may, else they must not.
        self.ended: list[str] = []
        # Killed, to be started again by whoever killed them.
        self._down: set[NodeId] = set()
        # How many faults of now pause a node, hold a link or trouble a disk: the last one to end makes it well.
        self._paused: Counter[NodeId] = Counter()
        self._broken: Counter[Link] = Counter()
        self._trouble: dict[NodeId, Trouble] = {}

    async def run(self, faults: Sequence[Fault]) -> None:
        """All faults in their time; ends when the last is over. Then, and when cancelled, call `heal`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._restart_ended())
            strikes = []
            for fault in faults:
                await asyncio.sleep(max(0.0, began + fault.at_s - loop.time()))
                strikes.append(group.create_task(self._strike(fault)))
            if strikes:
                await asyncio.wait(strikes)
            watching.cancel()

    async def heal(self) -> None:
        """Nothing is wrong any more: all nodes run, all links and disks are good."""
        self._proxy.heal()
        self._broken.clear()
        for path in self._troubles.values():
            path.unlink(missing_ok=True)
        for name in self._names:
            self._signal(name, signal.SIGCONT)
        self._paused.clear()
        self._down.clear()
        await asyncio.to_thread(self._cluster.start)

    async def _strike(self, fault: Fault) -> None:
        victim = self._names[fault.victim]
        if fault.hits_leader:
            leader = await asyncio.to_thread(self._cluster.leader, timeout=_ASK_SECONDS)
            victim = victim if leader is None else leader
        other = self._names[fault.other]
        if other == victim:
            other = self._names[(self._names.index(victim) + 1) % len(self._names)]
        self.done[fault.kind] += 1
        words = " ".join(filter(None, (fault.kind, fault.how)))
        self._say(f"  {fault.at_s:6.1f} s  {words} {victim} for {fault.lasts_s:.2f} s")
        await _STRIKES[fault.kind](self, fault, victim, other)

    # --- processes ---

    async def _kill(self, fault: Fault, victim: NodeId, _: NodeId) -> None:
        victims = self._names if fault.how == "all" else [victim]
        mine = [name for name in victims if name not in self._down]
        self._down.update(mine)
        for name in mine:
            self._signal(name, signal.SIGKILL)
        for name in mine:
            await asyncio.to_thread(self._cluster.nodes[name].kill)
            self._paused.pop(name, None)
        await asyncio.sleep(fault.lasts_s)
        for name in mine:
            await asyncio.to_thread(_start, self._cluster.nodes[name])
            self._down.discard(name)

    async def _pause(self, fault: Fault, victim: NodeId, _: NodeId) -> None:
        pid = self._signal(victim, signal.SIGSTOP)
        self._paused[victim] += 1
        await asyncio.sleep(fault.lasts_s)
        if self._paused[victim] > 0:
            self._paused[victim] -= 1
            if not self._paused[victim] and self._cluster.nodes[victim].pid == pid:
                self._signal(victim, signal.SIGCONT)

    def _signal(self, name: NodeId, number: signal.Signals) -> int:
        """Send it if the node runs; its process id, 0 if it doesn't."""
        node = self._cluster.nodes[name]
        if not node.is_running:
            return 0
        os.kill(node.pid, number)
        return node.pid

    async def _restart_ended(self) -> None:
        """A node that ended by itself starts again a little later, as an operator or systemd would have it."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            for name, node in self._cluster.nodes.items():
                if node.is_running or name in self._down or node.process is None:
                    continue
                self.ended.append(f"{name} ended with exit code {node.process.poll()}: {node.last_words(1)}")
                await asyncio.sleep(_RESTART_SECONDS)
                if name not in self._down:
                    await asyncio.to_thread(_start, node)

    # --- links ---

    async def _partition(self, fault: Fault, victim: NodeId, other: NodeId) -> None:
        links = self._links(fault.how, victim, other)
        break_one = self._proxy.cut if fault.how == "reset" else self._proxy.hold
        if fault.how != "flapping":
            await self._broken_for(links, break_one, fault.lasts_s)
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + fault.lasts_s
        while loop.time() < until:
            await self._broken_for(links, break_one, fault.amount)
            await asyncio.sleep(fault.amount)

    def _links(self, how: str, victim: NodeId, other: NodeId) -> list[Link]:
        match how:
            case "one-way":
                return [(victim, other)]
            case "one-way-to-all":
                return [(source, target) for source, target in self._proxy.paths if target == victim]
            case "one-link":
                return [(victim, other), (other, victim)]
            case "halves":
                half = self._names[: len(self._names) // 2]
                return [(a, b) for a, b in self._proxy.paths if (a in half) != (b in half)]
            case "ring" if len(self._names) > 3:  # everybody reaches two others; below five nodes that is no majority
                return [path for path in self._proxy.paths if self._distance(*path) > 1]
            case _:
                return [path for path in self._proxy.paths if victim in path]

    def _distance(self, one: NodeId, other: NodeId) -> int:
        """In steps around the ring of all nodes."""
        steps = abs(self._names.index(one) - self._names.index(other))
        return min(steps, len(self._names) - steps)

    async def _broken_for(self, links: Sequence[Link], break_one: Callable[[NodeId, NodeId], None], s: float) -> None:
        for link in links:
            self._broken[link] += 1
            break_one(*link)
        await asyncio.sleep(s)
        self._mend(links)

    def _mend(self, links: Sequence[Link]) -> None:
        for link in links:
            if self._broken[link] > 0:
                self._broken[link] -= 1
        self._proxy.heal(link for link in links if not self._broken[link])

    async def _slow_link(self, fault: Fault, victim: NodeId, other: NodeId) -> None:
        links = [(victim, other), (other, victim)]
        for link in links:
            self._broken[link] += 1
            if fault.how == "delay":
                self._proxy.slow(*link, delay_ms=fault.amount)
            else:
                self._proxy.slow(*link, bytes_per_second=fault.amount)
        await asyncio.sleep(fault.lasts_s)
        self._mend(links)

    # --- disks and clocks ---

    async def _slow_disk(self, fault: Fault, victim: NodeId, _: NodeId) -> None:
        await self._troubled_for(victim, fault.lasts_s, flush_seconds=fault.amount)

    async def _full_disk(self, fault: Fault, victim: NodeId, _: NodeId) -> None:
        await self._troubled_for(victim, fault.lasts_s, full=fault.how)

    async def _clock(self, fault: Fault, victim: NodeId, _: NodeId) -> None:
        if fault.how == "jump":
            await self._troubled_for(victim, fault.lasts_s, clock_seconds=fault.amount)
        else:
            await self._troubled_for(victim, fault.lasts_s, clock_rate=fault.amount)

    async def _troubled_for(self, victim: NodeId, seconds: float, **what: float | str) -> None:
        self._set_trouble(victim, **what)
        await asyncio.sleep(seconds)
        well = msgspec.structs.asdict(Trouble())
        self._set_trouble(victim, **{name: well[name] for name in what})

    def _set_trouble(self, victim: NodeId, **what: float | str) -> None:
        trouble = msgspec.structs.replace(self._trouble.get(victim, Trouble()), **what)
        self._trouble[victim] = trouble
        path = self._troubles[victim]
        unfinished = path.with_name(path.name + ".unfinished")
        unfinished.write_bytes(msgspec.json.encode(trouble))
        unfinished.replace(path)


def _start(node: NodeProcess) -> None:
    if not node.is_running:
        node.start()


_STRIKES: Final[dict[str, Callable[[Nemesis, Fault, NodeId, NodeId], Awaitable[None]]]] = {
    "kill": Nemesis._kill,
    "pause": Nemesis._pause,
    "partition": Nemesis._partition,
    "slow-link": Nemesis._slow_link,
    "slow-disk": Nemesis._slow_disk,
    "full-disk": Nemesis._full_disk,
    "clock": Nemesis._clock,
}
