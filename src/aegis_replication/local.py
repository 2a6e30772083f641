"""How do you run a database inside your own program, or a whole cluster in a test? open() and LocalCluster."""

import asyncio
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Final, Self

from aegis_replication.assembly import Doors, MachineLike, Member
from aegis_replication.assembly import make_node as make_node
from aegis_replication.client.arguments import TIMEOUT_SECONDS
from aegis_replication.client.client import Client, TcpDialer
from aegis_replication.client.doors import DoorDialer
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.errors import ConfigError, InvalidArgument, Unavailable
from aegis_replication.ids import NodeId
from aegis_replication.ids import node_id as make_node_id
from aegis_replication.loop_thread import LoopThread
from aegis_replication.node import Node
from aegis_replication.node.event_streams import BUFFER, EventStream
from aegis_replication.transport.memory import MemoryNetwork

SIZE_MAX: Final = 9
START_SECONDS: Final = 60.0  # for the first election; even a machine that is short of everything manages in that time


def open(
    path: str | os.PathLike[str] | None = None,
    *,
    node_id: int | str = "n1",
    peers: Iterable[int | str] | Mapping[int, str] | Mapping[str, str] = (),
    listen: str = "",
    cluster: str = "aegis",
    state_machine: MachineLike = None,
    own_thread: bool = False,
    insecure: bool = False,
    timeout: float = TIMEOUT_SECONDS,
    **raft: Any,
) -> "Database":
    """A database inside this program: `async with open() as db` is one node in memory, without ports or files.

    With `path` it is durable, in that directory. `peers` makes it one voter of several: a list of ids for nodes of this
    program that share the name `cluster`; or a mapping of all ids, `node_id` included, to the "host:port" where peers
    connect, and then `listen` is the "host:port" where callers from elsewhere find this node when it leads.
    `state_machine` is a StateMachine class to replicate instead of keys and values. With `own_thread` the node runs on
    a loop of its own thread, so that work on yours never costs it its office. `raft` are further fields of RaftConfig,
    such as election_timeout.
    """
    name = make_node_id(node_id)
    config = RaftConfig(node_id=name, peers=peers, **raft)
    if config.addresses and config.peers and not listen:
        raise ConfigError(
            "listen is missing: beside peers on the network, say at which 'host:port' clients connect here"
        )
    is_alone = not config.peers
    member = Member(
        config,
        path,
        cluster=cluster,
        state_machine=state_machine,
        network=MemoryNetwork() if is_alone else None,
        doors=Doors() if is_alone else None,
        listen=listen,
        insecure=insecure,
    )
    return Database(member, own_thread=own_thread, timeout=timeout)


class Database(Client):
    """A node of this program, and the client that is connected to it. Made by `open`."""

    def __init__(self, member: Member, *, own_thread: bool = False, timeout: float = TIMEOUT_SECONDS) -> None:
        raft = member.raft
        endpoints = [member.id] if raft.addresses else [member.id, *raft.peers]
        super().__init__(DoorDialer(member.doors, TcpDialer(member.cluster)), endpoints, timeout=timeout)
        self._member = member
        self._thread = LoopThread(f"aegis-{member.id}") if own_thread else None

    @property
    def node(self) -> Node:
        """The node. With own_thread, use its loop for whatever isn't plain reading."""
        return self._member.node

    def events(self, *, buffer: int = BUFFER) -> EventStream:
        """What changes on the node from now on, until it stops: values of aegis_replication.events, with `async for`.

        Beyond `buffer` events the oldest are dropped, and EventsMissed says how many. Raises ConfigError before the
        first start.
        """
        return self.node.events(buffer=buffer)

    async def start(self) -> Self:
        """Start the node; `async with` does. Raises StorageError or ConfigError when it can't."""
        if self._thread is None:
            await self._member.start()
            return self
        self._thread.start()
        try:
            await self._thread.crossing(self._member.start())
        except BaseException:
            self._thread.stop()
            raise
        return self

    async def close(self) -> None:
        """Close the client and stop the node; everything acknowledged is on its disk."""
        await super().close()
        if self._thread is None:
            await self._member.stop()
        elif self._member.is_running:
            await self._thread.crossing(self._member.stop())
            self._thread.stop()

    async def __aenter__(self) -> Self:
        return await self.start()


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
            await self.wait_leader(timeout=max(self.timeout, START_SECONDS))
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
        """Let nodes reach those of their own side only; those that aren't named are one more side together."""
        placed = [[self._member(name).id for name in side] for side in sides]
        placed.append([name for name in self._members if not any(name in side for side in placed)])
        self._network.heal()
        for position, side in enumerate(placed):
            for other in placed[position + 1 :]:
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
