"""How does a blocking program hold a database or a cluster of its own? open() and LocalCluster.

Written by `make sync` (tools/make_sync.py) from the async twins: change those.
"""

import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from aegis_replication import local
from aegis_replication.assembly import MachineLike
from aegis_replication.client.arguments import TIMEOUT_SECONDS
from aegis_replication.ids import NodeId
from aegis_replication.loop_thread import LoopThread, background
from aegis_replication.node import Node
from aegis_replication.node.event_streams import BUFFER, EventStream
from aegis_replication.sync.client import Client


class Database(Client):
    """A node of this program, and the client that is connected to it. Made by `open`."""

    _inner: local.Database
    _thread: LoopThread

    @classmethod
    def around(cls, inner: Any, thread: LoopThread) -> Self:
        """The twin of `inner`, which lives on the loop of `thread`."""
        self = cls.__new__(cls)
        self._inner, self._thread = inner, thread
        return self

    @property
    def node(self) -> Node:
        """The node."""
        return self._thread.look(lambda: self._inner.node)

    def events(self, *, buffer: int = BUFFER) -> EventStream:
        """What changes on the node from now on, until it stops: values of aegis_replication.events, with `for`.

        Beyond `buffer` events the oldest are dropped, and EventsMissed says how many. Raises ConfigError before the
        first start.
        """
        return self._thread.look(self._inner.events, buffer=buffer)

    def start(self) -> Self:
        """Start the node; `with` does. Raises StorageError or ConfigError when it can't."""
        self._thread.call(self._inner.start())
        return self

    def close(self) -> None:
        """Close the client and stop the node; everything acknowledged is on its disk."""
        self._thread.call(self._inner.close())

    def __enter__(self) -> Self:
        self._thread.call(self._inner.__aenter__())
        return self


class LocalCluster:
    """A cluster of `size` real nodes in this program: an in-memory network, and disks in memory or below `directory`.

        with LocalCluster(3) as cluster:
            db = cluster.client()
            db.put("k", "1")
            cluster.kill(cluster.leader)
            db.put("k", "2")

    `state_machine` is a StateMachine class that the nodes replicate instead of keys and values. `raft` overrides fields
    of RaftConfig, such as election_timeout=(150, 300); `seed` makes the elections' timeouts the same each time.
    """

    _inner: local.LocalCluster
    _thread: LoopThread

    @classmethod
    def around(cls, inner: Any, thread: LoopThread) -> Self:
        """The twin of `inner`, which lives on the loop of `thread`."""
        self = cls.__new__(cls)
        self._inner, self._thread = inner, thread
        return self

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
        self._inner = local.LocalCluster(
            size, directory=directory, state_machine=state_machine, timeout=timeout, seed=seed, **raft
        )
        self._thread = background()

    def __enter__(self) -> Self:
        self._thread.call(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.call(self._inner.__aexit__(kind, error, traceback))

    def close(self) -> None:
        """Close all clients and stop all nodes."""
        self._thread.call(self._inner.close())

    def client(self, *, timeout: float | None = None) -> Client:
        """A client of this cluster; closed with it at the latest."""
        return Client.around(self._inner.client(timeout=timeout), self._thread)

    @property
    def nodes(self) -> dict[NodeId, Node]:
        """The nodes that run now."""
        return self._thread.look(lambda: self._inner.nodes)

    @property
    def leader(self) -> NodeId | None:
        """Who leads: the node that says so of the highest term; None while nobody does."""
        return self._thread.look(lambda: self._inner.leader)

    def wait_leader(self, *, timeout: float | None = None) -> NodeId:
        """Who leads, as soon as somebody does whom a majority follows. Raises Unavailable after `timeout` seconds."""
        return self._thread.call(self._inner.wait_leader(timeout=timeout))

    def start(self, node: NodeId) -> Node:
        """Start a node that was stopped or killed, on its own disk."""
        return self._thread.call(self._inner.start(node))

    def stop(self, node: NodeId) -> None:
        """Stop a node as an operator does."""
        self._thread.call(self._inner.stop(node))

    def kill(self, node: NodeId) -> None:
        """End a node as `kill -9` does."""
        self._thread.call(self._inner.kill(node))

    def partition(self, *sides: Iterable[NodeId]) -> None:
        """Let nodes reach those of their own side only; those that aren't named are one more side together."""
        self._thread.look(self._inner.partition, *sides)

    def heal(self) -> None:
        """Let everybody reach everybody."""
        self._thread.look(self._inner.heal)


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
) -> Database:
    """A database inside this program: `with open() as db` is one node in memory, without ports or files.

    With `path` it is durable, in that directory. `peers` makes it one voter of several: a list of ids for nodes of this
    program that share the name `cluster`; or a mapping of all ids, `node_id` included, to the "host:port" where peers
    connect, and then `listen` is the "host:port" where callers from elsewhere find this node when it leads.
    `state_machine` is a StateMachine class to replicate instead of keys and values. With `own_thread` the node runs on
    a loop of its own thread, so that work on yours never costs it its office. `raft` are further fields of RaftConfig,
    such as election_timeout.
    """
    return Database.around(
        local.open(
            path,
            node_id=node_id,
            peers=peers,
            listen=listen,
            cluster=cluster,
            state_machine=state_machine,
            own_thread=own_thread,
            insecure=insecure,
            timeout=timeout,
            **raft,
        ),
        background(),
    )
