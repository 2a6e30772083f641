"""How is a node put together? Disk, network, doors and machine, from a configuration or from what a program gives."""

import asyncio
import logging
import os
import secrets
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeAlias

from aegis_replication import wire
from aegis_replication.client.doors import OpenDoor
from aegis_replication.config.settings import NodeConfig
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.errors import ConfigError
from aegis_replication.ids import DATA_GROUP, NodeId
from aegis_replication.log import FORMAT_HIGHEST
from aegis_replication.node import Node, NodeOptions
from aegis_replication.node.beginning import close_machines
from aegis_replication.node.figures import node_figures
from aegis_replication.state_machine.base import Machine
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.limits import KeyValueLimits
from aegis_replication.state_machine.sessions import SessionMachine
from aegis_replication.state_machine.user import StateMachine
from aegis_replication.state_machine.user_machine import machine_for
from aegis_replication.storage.base import Identity, Storage
from aegis_replication.storage.directory import DirectoryStorage
from aegis_replication.storage.memory import MemoryStorage
from aegis_replication.transport.base import ClientDoor, PeerTransport
from aegis_replication.transport.memory import MemoryClientDoor, MemoryNetwork, default_network
from aegis_replication.transport.tcp import is_loopback, parse_address
from aegis_replication.transport.tcp_clients import TcpClientDoor
from aegis_replication.transport.tcp_peers import TcpPeerTransport

log = logging.getLogger("aegis.node")

StorageLike: TypeAlias = Storage | str | os.PathLike[str] | None
"""A directory, a Storage, or None (also "memory") for one that lives as long as its node."""

MachineLike: TypeAlias = Any
"""None for keys and values, a StateMachine class, or whatever state_machine.user_machine.machine_for takes."""


def make_node(config: NodeConfig) -> Node:
    """A node as `aegis node start` runs it: on its data directory, with TCP for peers and clients; start it yourself.

    Raises StorageError when the directory can't be used, ConfigError for a configuration that can't work.
    """
    storage = open_storage(config.node.data, config.cluster.name, config.node_id, joins=bool(config.cluster.join))
    limits = config.wire_limits()
    own = greeting(
        config.cluster.name,
        config.node_id,
        storage,
        client_address=config.advertise,
        peer_address=config.peer_advertise,
        priority=config.raft.priority,
        format_highest=config.raft.format_highest,
        limits=limits,
    )
    machine = SessionMachine(KeyValueMachine(KeyValueLimits(value_bytes=limits.value_bytes)))
    return Node(
        NodeOptions(
            config=config.raft_config(),
            cluster=config.cluster.name,
            client_address=config.advertise,
            peer_address=config.peer_advertise,
            peer_addresses=config.peers,
        ),
        storage=storage,
        peers=TcpPeerTransport(own, config.peers, listen=config.peer_listen, random=Random()),
        doors=[TcpClientDoor(own, listen=config.node.listen, peer_address=config.peer_listen)],
        machines={DATA_GROUP: machine},
    )


class AdminDoor(Protocol):
    """A port for operators' tools, beside those of clients and peers."""

    address: str  # where it really listens, once started

    async def start(self) -> None:
        """Listen. Raises ConfigError when the address can't be had."""

    async def stop(self) -> None:
        """Close everything."""


def make_http_door(config: NodeConfig, node: Node) -> AdminDoor | None:
    """The node's door for probes and monitoring, where one is asked for; start and stop it yourself.

    Raises ConfigError when what it needs isn't installed.
    """
    if not config.node.http:
        return None
    try:
        from aegis_replication.admin_http.door import HttpDoor
        from aegis_replication.admin_http.figures import client_figures, http_figures, peer_figures
        from aegis_replication.admin_http.metrics import Source, metrics_page
        from aegis_replication.admin_http.pages import pages
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] not in ("h11", "prometheus_client"):
            raise
        raise ConfigError(
            f"node.http = {config.node.http!r}: {error.name} is not installed: "
            "python -m pip install 'aegis-replication[http]', or leave --http out"
        ) from None
    made = HttpDoor(node.id, listen=config.node.http)
    sources: list[Source] = [partial(node_figures, node), partial(http_figures, made)]
    if isinstance(node.peers, TcpPeerTransport):
        sources.append(partial(peer_figures, node.peers))
    sources.extend([partial(client_figures, door) for door in node.doors if isinstance(door, TcpClientDoor)])
    made.pages = pages(node, metrics_page(sources))
    return made


def open_storage(storage: StorageLike, cluster: str, node: NodeId, *, joins: bool = False) -> Storage:
    """The storage that is meant; `joins`: a new one is for a node that is to be added to a cluster.

    Raises StorageError, DirectoryInUse or WrongIdentity.
    """
    identity = Identity(cluster, node, secrets.randbits(64), joins=joins)
    if storage is None or storage == "memory":
        return MemoryStorage(identity)
    if isinstance(storage, str | os.PathLike):
        return DirectoryStorage.open(Path(storage), identity)
    return storage


def greeting(
    cluster: str,
    node: NodeId,
    storage: Storage,
    *,
    client_address: str,
    peer_address: str = "",
    priority: int = 1,
    format_highest: int = FORMAT_HIGHEST,
    limits: wire.Limits | None = None,
) -> wire.Hello:
    """How a node introduces itself."""
    return wire.Hello(
        "peer",
        wire.PROTOCOL_LOWEST,
        wire.PROTOCOL_HIGHEST,
        cluster=cluster,
        node=node,
        incarnation=storage.identity.incarnation,
        client_address=client_address,
        peer_address=peer_address,
        priority=priority,
        format_highest=format_highest,
        limits=limits or wire.Limits(),
    )


class Doors(dict[str, OpenDoor]):
    """The doors of one cluster's nodes in this program, by node."""


_doors: "weakref.WeakValueDictionary[str, Doors]" = weakref.WeakValueDictionary()
_doors_lock = threading.Lock()


def default_doors(cluster: str) -> Doors:
    """The doors that all nodes of this cluster share within the program, kept for as long as one of them uses it."""
    with _doors_lock:
        doors = _doors.get(cluster)
        if doors is None:
            doors = _doors[cluster] = Doors()
        return doors


class Member:
    """A node inside a program: started, stopped and started again on the same storage, with a door in memory.

    Peers with addresses are reached over TCP, those without in this program. `listen` opens a door for other programs'
    clients. `state_machine` is made anew at each start, so give a class rather than an instance.
    """

    def __init__(
        self,
        raft: RaftConfig,
        storage: StorageLike = None,
        *,
        cluster: str = "aegis",
        state_machine: MachineLike = None,
        transport: PeerTransport | None = None,
        network: MemoryNetwork | None = None,
        doors: Doors | None = None,
        listen: str = "",
        insecure: bool = False,
        random: Random | None = None,
    ) -> None:
        self.raft, self.cluster, self.listen = raft, cluster, listen
        self.doors = default_doors(cluster) if doors is None else doors
        self._network = network
        self._transport = transport
        self._storage = storage
        self._kept: MemoryStorage | None = None  # a storage in memory is the node's disk: it outlives its stops
        self._state_machine = state_machine
        self._random = random or Random()
        self._node: Node | None = None
        self.is_running = False
        self._exposed = _exposed(raft, listen)
        if self._exposed and not insecure:
            raise ConfigError(
                f"{self._exposed}: other machines can connect there, and traffic is not encrypted yet; use "
                "127.0.0.1, or pass insecure=True in a network you trust"
            )

    @property
    def id(self) -> NodeId:
        return self.raft.node_id

    @property
    def node(self) -> Node:
        """The node as it was started last."""
        if self._node is None:
            raise ConfigError(f"node {self.id} was not started yet: await start() first")
        return self._node

    async def start(self) -> Node:
        """Recover and take part. Raises StorageError, ConfigError or InvalidArgument; then nothing runs."""
        if self.is_running:
            raise ConfigError(f"node {self.id} runs already: stop it first")
        machine = _machine(self._state_machine)
        storage = self._kept or open_storage(self._storage, self.cluster, self.id)
        if isinstance(storage, MemoryStorage):
            self._kept = storage
        try:
            node = self._assemble(storage, machine)
            await node.start()
        except BaseException:
            storage.close()
            close_machines([machine])
            raise
        self._node, self.is_running = node, True
        if self._exposed:
            log.warning("node=%s: insecure: %s: anybody who can connect can read and write all", self.id, self._exposed)
        return node

    def _assemble(self, storage: Storage, machine: Machine) -> Node:
        raft = self.raft
        own = greeting(
            self.cluster,
            self.id,
            storage,
            client_address=self.listen or ("" if raft.addresses else self.id),
            peer_address=raft.addresses.get(self.id, ""),
            priority=raft.priority,
            format_highest=raft.format_highest,
        )
        door = MemoryClientDoor(own)
        self.doors[self.id] = OpenDoor(door, asyncio.get_running_loop())
        doors: list[ClientDoor] = [door]
        if self.listen:
            doors.append(TcpClientDoor(own, listen=self.listen))
        return Node(
            NodeOptions(
                config=raft,
                cluster=self.cluster,
                client_address=own.client_address,
                peer_address=own.peer_address,
                peer_addresses=raft.addresses,
            ),
            storage=storage,
            peers=self._transport or self._make_transport(own),
            doors=doors,
            machines={DATA_GROUP: machine},
            random=Random(self._random.getrandbits(64)),
        )

    def _make_transport(self, own: wire.Hello) -> PeerTransport:
        raft = self.raft
        if not raft.addresses:
            network = self._network or default_network(self.cluster)
            return network.transport(own, raft.peers)
        missing = [name for name in raft.voters if name not in raft.addresses]
        if missing:
            raise ConfigError(
                f"peers: no address for {', '.join(missing)}: give every node's, this one's too, "
                f"as {{{missing[0]!r}: '127.0.0.1:7101', ...}}; or ids alone for nodes in this program"
            )
        return TcpPeerTransport(own, raft.addresses, listen=raft.addresses[self.id], random=Random())

    async def stop(self) -> None:
        """Stop taking part; everything acknowledged is on its disk."""
        if not self.is_running:
            return
        self.is_running = False
        await self.node.stop()

    async def kill(self) -> None:
        """End as a killed process does: nothing more is written, not even what a clean stop would write."""
        if self.is_running and not isinstance(self.node.storage, MemoryStorage):
            self.node.storage.fail("killed")
        await self.stop()


def _machine(given: MachineLike) -> Machine:
    """A fresh machine: classes are instantiated, functions called."""
    is_factory = callable(given) and not (isinstance(given, type) and issubclass(given, StateMachine))
    make: Callable[[], Any] | None = given if is_factory and not hasattr(given, "handlers") else None
    return machine_for(make() if make is not None else given)


def _exposed(raft: RaftConfig, listen: str) -> str:
    """The first setting that reaches beyond this machine, as "key = value"; "" when none does."""
    for key, address in (("listen", listen), *((f"peers[{name!r}]", each) for name, each in raft.addresses.items())):
        if address and not is_loopback(parse_address(address, what=key, any_port=key == "listen")):
            return f"{key} = {address!r}"
    return ""
