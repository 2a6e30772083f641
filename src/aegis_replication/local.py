"""How do you run a database inside your own program, or a whole cluster in a test? open() and LocalCluster."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Final, Self

from aegis_replication.assembly import Doors, MachineLike, Member
from aegis_replication.assembly import make_node as make_node
from aegis_replication.client.arguments import TIMEOUT_SECONDS
from aegis_replication.client.client import Client
from aegis_replication.client.doors import DoorDialer
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.errors import InvalidArgument, Unavailable
from aegis_replication.ids import NodeId
from aegis_replication.node import Node
from aegis_replication.transport.memory import MemoryNetwork

SIZE_MAX: Final = 9


class LocalCluster:
    """A cluster of `size` real nodes in this program: an in-memory network, and disks in memory or below `directory`.

        async with LocalCluster(3) as cluster:
            db = cluster.client()
            await db.put("k", "1")
            await cluster.kill(cluster.leader)
            await db.put("k", "2")

    `state_machine` is a StateMachine class that the nodes replicate instead of keys and values. `raft` overrides fields
    of RaftConfig, such as election_timeout=(150, 300); `seed` makes the elections' timeouts the same each time.
    """

    def __init__(
        self,
        size: int = 3,
        *,
        directory: str | os.PathLike[str] | None = None,
        state_machine: MachineLike = None,
        timeout: float = TIMEOUT_SECONDS,
        seed: int | None = None,
        **raft: Any,
    ) -> None:
        if size not in range(1, SIZE_MAX + 1):
            raise InvalidArgument(f"size = {size!r}: give 1 to {SIZE_MAX} nodes, such as 3")
        self.timeout = timeout
        self._network = MemoryNetwork()
        self._doors = Doors()
        self._clients: list[Client] = []
        self._changed = asyncio.Event()
        random = Random(seed)
        names = [f"n{number}" for number in range(1, size + 1)]
        self._members = {
            name: Member(
                RaftConfig(node_id=name, peers=names, **raft),
                None if directory is None else Path(directory) / name,
                cluster="local",
                state_machine=state_machine,
                network=self._network,
                doors=self._doors,
                random=Random(random.getrandbits(64)),
            )
            for name in names
        }

    # --- life ---

    async def __aenter__(self) -> Self:
        try:
            for name in self._members:
                await self.start(name)
            await self.wait_leader()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all clients and stop all nodes."""
        clients, self._clients = self._clients, []
        for client in clients:
            await client.close()
        for member in self._members.values():
            await member.stop()

    # --- its parts ---

    def client(self, *, timeout: float | None = None) -> Client:
        """A client of this cluster; closed with it at the latest."""
        client = Client(DoorDialer(self._doors), self._members, timeout=self.timeout if timeout is None else timeout)
        self._clients.append(client)
        return client

    @property
    def nodes(self) -> dict[NodeId, Node]:
        """The nodes that run now."""
        return {name: member.node for name, member in self._members.items() if member.is_running}

    @property
    def leader(self) -> NodeId | None:
        """Who leads: the node that says so of the highest term; None while nobody does."""
        leading = [node for node in self.nodes.values() if node.is_leader]
        return max(leading, key=lambda node: node.replica().raft.term).id if leading else None

    async def wait_leader(self, *, timeout: float | None = None) -> NodeId:
        """Who leads, as soon as somebody does whom a majority follows. Raises Unavailable after `timeout` seconds."""
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout):
                while True:
                    self._changed.clear()
                    leader = self.leader
                    if leader is not None and self._followers(leader) * 2 > len(self._members):
                        return leader
                    await self._changed.wait()
        except TimeoutError:
            raise Unavailable(f"no leader among {', '.join(self.nodes) or 'no running node'}") from None

    def _followers(self, leader: NodeId) -> int:
        term = self.nodes[leader].replica().raft.term
        return sum(node.leader == leader and node.replica().raft.term == term for node in self.nodes.values())

    # --- trouble, on purpose ---

    async def start(self, node: NodeId) -> Node:
        """Start a node that was stopped or killed, on its own disk."""
        started = await self._member(node).start()
        started.observe(lambda change: self._changed.set())
        self._changed.set()
        return started

    async def stop(self, node: NodeId) -> None:
        """Stop a node as an operator does."""
        await self._member(node).stop()
        self._changed.set()

    async def kill(self, node: NodeId) -> None:
        """End a node as `kill -9` does."""
        await self._member(node).kill()
        self._changed.set()

    def partition(self, *sides: Iterable[NodeId]) -> None:
        """Let nodes reach those of their own side only; one that isn't named is a side of its own."""
        placed = [[self._member(name).id for name in side] for side in sides]
        alone = [[name] for name in self._members if not any(name in side for side in placed)]
        self._network.heal()
        for position, side in enumerate([*placed, *alone]):
            for other in [*placed, *alone][position + 1 :]:
                for source in side:
                    for target in other:
                        self._network.cut(source, target)

    def heal(self) -> None:
        """Let everybody reach everybody."""
        self._network.heal()

    def _member(self, node: NodeId) -> Member:
        member = self._members.get(node)
        if member is None:
            raise InvalidArgument(f"there is no node {node!r} here, only {', '.join(self._members)}")
        return member
