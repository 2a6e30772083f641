"""How does an operator change a simulated cluster? One request after another, again and again until it is answered."""

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec

from aegis_replication import wire
from aegis_replication.admin import AdminRequest, encode_admin
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.simulation.clock import Clock

ATTEMPT_MS = 400.0
PATIENCE_MS = 3_000.0

_decode = msgspec.msgpack.Decoder().decode


class Task:
    """Requests that belong together, in order; with `must` none of them is ever given up."""

    __slots__ = ("begun_ms", "must", "on_done", "requests")

    def __init__(
        self, requests: Sequence[AdminRequest], on_done: Callable[[AdminRequest, bool], None], *, must: bool
    ) -> None:
        self.requests = deque(requests)
        self.on_done = on_done  # (request, whether it was done rather than refused or given up)
        self.must = must
        self.begun_ms = 0.0


class Operator:
    """Somebody with a list of tasks, who reaches every node and asks one thing at a time."""

    __slots__ = ("_clock", "_nodes", "_random", "_send", "_target", "_turn", "group", "site", "tasks")

    def __init__(
        self,
        index: int,
        group: GroupId,
        clock: Clock,
        nodes: Callable[[], list[NodeId]],
        send: Callable[[str, str, bytes], None],
    ) -> None:
        self.site = f"#{index}"
        self.group = group
        self.tasks: deque[Task] = deque()
        self._clock = clock
        self._nodes = nodes
        self._send = send
        self._random: Random = clock.random(f"operator {index}")
        self._target: NodeId | None = None
        self._turn = 0  # which attempt an answer or a timer belongs to

    @property
    def is_idle(self) -> bool:
        return not self.tasks

    def do(self, task: Task) -> None:
        """Begin `task` when those before it are done."""
        self.tasks.append(task)
        if len(self.tasks) == 1:
            self._begin()

    def forget_what_may(self) -> None:
        """Give up everything that isn't a must."""
        self.tasks = deque(task for task in self.tasks if task.must)
        self._turn += 1
        self._begin()

    def _begin(self) -> None:
        if self.tasks:
            self.tasks[0].begun_ms = self._clock.now_ms
            self._attempt()

    def _attempt(self) -> None:
        task = self.tasks[0]
        if not task.must and self._clock.now_ms - task.begun_ms > PATIENCE_MS:
            self._finish(done=False)
            return
        self._turn += 1
        if self._target is None:
            self._target = self._random.choice(self._nodes())
        body = encode_admin(task.requests[0])
        self._send(self.site, self._target, wire.encode_request(wire.ADMIN, self.group, self._turn, body))
        self._clock.after(ATTEMPT_MS, self._look_after, self._turn)

    def _look_after(self, turn: int) -> None:
        if turn == self._turn and self.tasks:  # no answer came
            self._target = None
            self._attempt()

    def receive(self, packet: bytes) -> None:
        """A node's reply arrived."""
        turn, status, body = wire.decode_reply(packet[4:])
        if turn != self._turn or not self.tasks:
            return
        if status == wire.OK:
            self._finish(done=True)
            return
        detail: Any = _decode(body)
        if status == wire.NOT_LEADER:
            self._target = detail[0] if detail[0] in self._nodes() else None
        is_final = status == wire.INVALID or (status == wire.CHANGE_REFUSED and detail[0] != "ChangePending")
        if is_final and not self.tasks[0].must:
            self._finish(done=False)
            return
        self._turn += 1
        self._clock.after(20.0 + 60.0 * self._random.random(), self._try_again, self._turn)

    def _try_again(self, turn: int) -> None:
        if turn == self._turn and self.tasks:
            self._attempt()

    def _finish(self, *, done: bool) -> None:
        task = self.tasks[0]
        request = task.requests.popleft()
        if not done:
            task.requests.clear()
        if not task.requests:
            self.tasks.popleft()
        self._turn += 1
        task.on_done(request, done)
        self._begin()
