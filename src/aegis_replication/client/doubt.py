"""When a leader is silent, does somebody else lead by now? Asked beside the calls that wait, which stay where they are.

A stopped machine, or one behind a black hole, keeps its connections open: without asking, its clients would wait for a
sign of life long after the others have elected a new leader. Asking costs little and decides nothing: whoever answers
calls that went elsewhere is not listened to, and sessions make it safe to send them again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import cycle
from random import Random
from typing import Any, Final

from aegis_replication.client.links import Link
from aegis_replication.errors import AegisError
from aegis_replication.ids import GroupId

PATIENCE_MIN_SECONDS: Final = 0.1  # below the shortest usual election: asked too early, nobody knows anything new
PATIENCE_MAX_SECONDS: Final = 1.0
ASK_FIRST_SECONDS: Final = 0.02  # between one node that is asked and the next ...
ASK_GROWTH: Final = 1.15  # ... and so much longer each time
ASK_MAX_SECONDS: Final = 0.5
ANSWER_SECONDS: Final = 1.0


class Patience:
    """How long may a leader be silent? As TCP reckons it (RFC 6298): usual time of an answer and four deviations."""

    __slots__ = ("_deviation", "_mean", "_sampled_at", "sampled")

    def __init__(self) -> None:
        self.sampled = 0  # number of the call whose time is taken; 0: none
        self._sampled_at = 0.0
        self._mean = self._deviation = 0.0

    def begin(self, number: int, now: float) -> None:
        """Take the time of this call."""
        self.sampled, self._sampled_at = number, now

    def end(self, now: float) -> None:
        """It was answered."""
        took = now - self._sampled_at
        self.sampled = 0
        if not self._mean:
            self._mean, self._deviation = took, took / 2
        else:
            self._deviation += (abs(took - self._mean) - self._deviation) / 4
            self._mean += (took - self._mean) / 8

    @property
    def seconds(self) -> float:
        """So long; a leader that is slow to all is not asked about all the time."""
        return min(PATIENCE_MAX_SECONDS, max(PATIENCE_MIN_SECONDS, self._mean + 4 * self._deviation))


class Doubt:
    """Watches one client's leader for silence, and looks for its successor meanwhile.

    `ask(address, timeout)` gives the link to a node and its status, `get(address, timeout)` a link, `waits(leader)`
    tells whether calls wait for its answer, `move(old, new)` takes them from one to the other.
    """

    # fmt: off
    __slots__ = ("patience", "_ask", "_busy_since", "_endpoints", "_get", "_group", "_move", "_random", "_task",
                 "_term", "_timer", "_waits")
    # fmt: on

    def __init__(
        self,
        *,
        ask: Callable[[str, float], Awaitable[tuple[Link, dict[str, Any]]]],
        get: Callable[[str, float], Awaitable[Link]],
        waits: Callable[[Link], bool],
        move: Callable[[Link, Link], None],
        endpoints: Sequence[str],
        group: GroupId,
        random: Random,
    ) -> None:
        self.patience = Patience()
        self._ask, self._get, self._waits, self._move = ask, get, waits, move
        self._endpoints = endpoints  # grows as nodes become known
        self._group = group
        self._random = random
        self._busy_since = 0.0  # since when some call has waited
        self._term = 0  # of the leader in use, as far as told
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def on_busy(self, now: float) -> None:
        """A call waits where none waited before."""
        self._busy_since = now

    @property
    def is_watching(self) -> bool:
        """Will `check` be called?"""
        return self._timer is not None

    def watch(self, check: Callable[[], None], due: float) -> None:
        """Have `check` called then."""
        self._timer = asyncio.get_running_loop().call_at(due, check)

    def check(self, leader: Link | None, waiting: Collection[int], now: float) -> float:
        """`check` was called: is the leader silent for too long? When to be called again, if calls still wait then."""
        self._timer = None
        patience = self.patience
        if patience.sampled not in waiting:
            patience.sampled = 0  # it ended without an answer
        if leader is None or not self._waits(leader):
            return now + PATIENCE_MIN_SECONDS
        due = max(leader.heard_at, self._busy_since) + patience.seconds
        if due > now:
            return due
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._look_for_successor(leader))
        return now + patience.seconds

    def on_leader(self, term: int) -> None:
        """Another node is taken for the leader, of `term` as it says (0: it wasn't asked)."""
        self._term = term
        self.patience.sampled = 0

    async def close(self) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look_for_successor(self, leader: Link) -> None:
        """Ask the others in turn, not waiting for those that don't answer, until one is found or the leader speaks."""
        heard_at = leader.heard_at
        others = [address for address in self._endpoints if address != leader.address]
        self._random.shuffle(others)
        pause = ASK_FIRST_SECONDS
        found: asyncio.Future[tuple[Link, int]] = asyncio.get_running_loop().create_future()
        asking: set[asyncio.Task[None]] = set()
        try:
            for address in cycle(others):
                task = asyncio.get_running_loop().create_task(self._ask_for_successor(address, leader, found))
                asking.add(task)
                task.add_done_callback(asking.discard)
                await asyncio.wait({found}, timeout=pause)
                if leader.heard_at != heard_at or not self._waits(leader):
                    return
                if found.done():
                    link, term = found.result()
                    self._term = term
                    self._move(leader, link)
                    return
                pause = min(ASK_MAX_SECONDS, pause * ASK_GROWTH)
        finally:
            for task in asking:
                task.cancel()

    async def _ask_for_successor(self, address: str, leader: Link, found: "asyncio.Future[tuple[Link, int]]") -> None:
        try:
            link, report = await self._ask(address, ANSWER_SECONDS)
            group = report.get("groups", {}).get(str(self._group), {})
            term = int(group.get("term", 0))
            if group.get("role") != "leader":
                where = report.get("addresses", {}).get(group.get("leader"))
                if not where or where == leader.address:
                    return
                link = await self._get(where, ANSWER_SECONDS)
        except AegisError:
            return  # it can't be asked; the next one can
        if term > self._term and link is not leader and not found.done():
            found.set_result((link, term))
