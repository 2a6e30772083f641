"""Who led when? Asks the node processes for their status, over and over, from a thread of its own."""

import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from aegis_replication.ids import NodeId
from aegis_replication.processes import LocalProcesses

POLL_SECONDS = 0.04


class Leadership(msgspec.Struct, frozen=True):
    """A leader as it was first seen."""

    node: NodeId
    term: int
    at_s: float  # since the watch began
    silent_ms: float | None  # since the leader before it was last heard; None for the first


class Watch:
    """Keeps the list of leaders, and the last status that each process gave."""

    def __init__(
        self,
        cluster: LocalProcesses,
        on_leader: Callable[[Leadership], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._on_leader = on_leader
        self._clock = clock
        self._began = clock()
        self._heard = self._began  # when a leader last said that it leads
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        # Each new (term, node), in the order seen.
        self.leaders: list[Leadership] = []
        # The last status of each process that ever ran, by (node, process id).
        self.statuses: dict[tuple[NodeId, int], dict[str, Any]] = {}

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._ended.set()
        self._thread.join(timeout=10.0)

    @property
    def flushes(self) -> int:
        """How often the processes flushed, by their last words: what a killed one did after them is not counted."""
        return sum(status["disk"]["flushes"] for status in self.statuses.values())

    def _watch(self) -> None:
        while not self._ended.is_set():
            self.look()
            self._ended.wait(POLL_SECONDS)

    def look(self) -> None:
        """Ask every node once."""
        processes = {name: node.process for name, node in self._cluster.nodes.items()}
        answers = self._cluster.status()
        leading: list[tuple[int, NodeId]] = []
        for name, answer in answers.items():
            process = processes[name]
            if answer is None or process is None:
                continue
            self.statuses[name, process.pid] = answer
            group = answer["groups"]["1"]
            if group["role"] == "leader":
                leading.append((group["term"], name))
        if leading:
            self._saw(*max(leading))

    def _saw(self, term: int, node: NodeId) -> None:
        now = self._clock()
        last = self.leaders[-1] if self.leaders else None
        if last is None or term > last.term:
            silent_ms = None if last is None else (now - self._heard) * 1000.0
            leadership = Leadership(node, term, now - self._began, silent_ms)
            self.leaders.append(leadership)
            self._on_leader(leadership)
        self._heard = now
