"""What is a Raft node, seen by a program that replicates its own machine? RaftNode: start, propose, read, stop."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from aegis_replication import wire
from aegis_replication.assembly import MachineLike, Member, StorageLike
from aegis_replication.client.arguments import TIMEOUT_SECONDS, seconds_of
from aegis_replication.client.calls import describe, final_error
from aegis_replication.client.doors import CLIENT_HELLO
from aegis_replication.client.machines import marked
from aegis_replication.consensus.config import RaftConfig as RaftConfig
from aegis_replication.errors import (
    AegisError,
    DeadlineExceeded,
    DiskFull,
    InvalidArgument,
    InvalidCommand,
    NotAnInteger,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
)
from aegis_replication.ids import DATA_GROUP, NodeId, Term
from aegis_replication.node import Node
from aegis_replication.state_machine import compat
from aegis_replication.state_machine.commands import (
    NO_SESSION,
    Command,
    Query,
    decode_result,
    encode_command,
    encode_query,
)
from aegis_replication.state_machine.user import COMMAND_KIND, QUERY_KIND, call
from aegis_replication.transport.base import PeerTransport
from aegis_replication.transport.connection import ClientConnection

CALLS_MAX: Final = 100_000


class RaftNode:
    """One replica of a state machine: `start` it, `propose` commands to the leader, `stop` it.

        node = RaftNode(RaftConfig(node_id=1, peers=[2, 3]), "data/1", state_machine=Inventory)
        await node.start()
        if node.is_leader:
            done = await node.propose(Inventory.reserve, "sku", 3)

    `storage` is a directory, a Storage, or None for memory. Peers given as ids are found in this program, by the name
    `cluster`; peers given as a mapping of ids (this node's own among them) to "host:port" are reached over TCP. Without
    `state_machine` the node replicates keys and values. A node may be started again after a stop, on the same storage.
    """

    def __init__(
        self,
        config: RaftConfig,
        storage: StorageLike = None,
        *,
        transport: PeerTransport | None = None,
        state_machine: MachineLike = None,
        cluster: str = "aegis",
        insecure: bool = False,
    ) -> None:
        self.config = config
        self._member = Member(
            config, storage, cluster=cluster, state_machine=state_machine, transport=transport, insecure=insecure
        )
        self._connection: ClientConnection | None = None
        self._waiting: dict[int, asyncio.Future[tuple[int, bytes]]] = {}
        self._next_number = 1
        self._changed = asyncio.Event()

    # --- life ---

    async def start(self) -> None:
        """Recover from the storage and take part. Raises StorageError or ConfigError; then nothing runs."""
        node = await self._member.start()
        node.observe(lambda change: self._changed.set())
        door = self._member.doors[self.id].door
        self._connection = await door.connect(CLIENT_HELLO, on_replies=self._on_replies, on_lost=self._on_lost)

    async def stop(self) -> None:
        """Stop taking part; everything acknowledged is on its disk. Who still waits gets OutcomeUnknown."""
        await self._member.stop()
        self._changed.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    # --- what it knows ---

    @property
    def id(self) -> NodeId:
        """This node's name."""
        return self.config.node_id

    @property
    def node(self) -> Node:
        """The node behind this door."""
        return self._member.node

    @property
    def is_leader(self) -> bool:
        """Does this node lead, as far as it knows?"""
        return self._member.is_running and self.node.is_leader

    @property
    def leader(self) -> NodeId | None:
        """Who leads, as far as this node knows."""
        return self.node.leader if self._member.is_running else None

    @property
    def term(self) -> Term:
        """The term that this node is in."""
        return self.node.replica().raft.term

    async def wait_leader(self, *, timeout: float = TIMEOUT_SECONDS) -> NodeId:
        """Who leads, as soon as this node knows. Raises Unavailable after `timeout` seconds or when it is stopped."""
        try:
            async with asyncio.timeout(seconds_of(timeout)):
                while self._member.is_running:
                    self._changed.clear()
                    if self.leader is not None:
                        return self.leader
                    await self._changed.wait()
        except TimeoutError:
            raise Unavailable(f"node {self.id} knows no leader after {timeout:g} s") from None
        raise Unavailable(f"node {self.id} isn't running: start it first")

    # --- what it does ---

    async def propose(self, command: Any, *args: Any, timeout: float = TIMEOUT_SECONDS, **kwargs: Any) -> Any:
        """Replicate a command and apply it; what the machine returned, once a majority has it on disk.

        `command` is a @command method with its arguments, such as `propose(Inventory.reserve, "sku", 3)`; or a value
        that the machine takes, such as state_machine.commands.Put (or state_machine.compat.Command). Raises NotLeader,
        naming the leader, on every other node; CommandFailed when the machine raised; OutcomeUnknown when leadership or
        time was lost meanwhile. It is proposed once: nothing is retried here.
        """
        if isinstance(command, compat.Command):
            return await self._propose_compat(command, timeout)
        asked, decode = _asked(command, args, kwargs, COMMAND_KIND)
        try:
            body = encode_command(NO_SESSION, 0, 0, asked)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidArgument(f"{describe(asked)}: {error}") from None
        return decode(await self._call(wire.COMMAND, body, describe(asked), seconds_of(timeout)))

    async def read(self, query: Any, *args: Any, timeout: float = TIMEOUT_SECONDS, **kwargs: Any) -> Any:
        """Ask the machine on this node, which must lead; linearizable: every write acknowledged before is seen.

        `query` is a @query method with its arguments, or a value such as state_machine.commands.Get.
        """
        asked, decode = _asked(query, args, kwargs, QUERY_KIND)
        return decode(await self._call(wire.QUERY, encode_query(asked), describe(asked), seconds_of(timeout)))

    async def _propose_compat(self, command: compat.Command, timeout: float) -> compat.CommandResult:
        """The crate's form: what the machine refuses is a result, what the cluster refuses still raises."""
        ask = self.propose if command.is_write else self.read
        try:
            return compat.CommandResult.of(command, await ask(command.native(), timeout=timeout))
        except (NotAnInteger, InvalidCommand) as error:
            return compat.CommandResult.of(command, error)

    async def _call(self, kind: int, body: bytes, what: str, seconds: float) -> bytes:
        connection = self._connection
        if connection is None or not self._member.is_running:
            raise Unavailable(f"node {self.id} isn't running: await start() first")
        if len(self._waiting) >= CALLS_MAX:
            raise Overloaded(f"{CALLS_MAX:,} calls wait on node {self.id} already: propose again later")
        number = self._next_number
        self._next_number += 1
        future: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            connection.send(wire.encode_request(kind, DATA_GROUP, number, body))
            async with asyncio.timeout(seconds):
                status, answer = await future
        except TimeoutError:
            if kind == wire.COMMAND:
                raise OutcomeUnknown(what, f"no majority had confirmed it after {seconds:g} s") from None
            raise DeadlineExceeded(f"{what}: no majority had confirmed the leader after {seconds:g} s") from None
        finally:
            self._waiting.pop(number, None)
        if status == wire.OK:
            return answer
        raise final_error(status, answer) or _retryable(status, answer, what)

    def _on_replies(self, packets: Sequence[bytes]) -> None:
        for packet in packets:
            number, status, body = wire.decode_reply(packet)
            future = self._waiting.get(number)
            if future is not None and not future.done():
                future.set_result((status, body))

    def _on_lost(self, reason: str) -> None:
        self._connection = None
        stopped = msgspec.msgpack.encode(reason)
        for future in self._waiting.values():
            if not future.done():
                future.set_result((wire.UNKNOWN, stopped))


def _asked(asked: Any, args: Sequence[Any], kwargs: dict[str, Any], kind: str) -> tuple[Any, Callable[[bytes], Any]]:
    """What goes into the log or to the machine, and how its result is read."""
    if isinstance(asked, msgspec.Struct):
        if args or kwargs:
            raise InvalidArgument(f"{describe(asked)} beside arguments: they belong into it")
        if isinstance(asked, Command | Query):
            return asked, lambda body: decode_result(type(asked), body)
        return asked, msgspec.msgpack.decode
    method = marked(asked, kind=kind)
    return call(asked, *args, **kwargs), method.result.decode


def _retryable(status: int, body: bytes, what: str) -> AegisError:
    detail = msgspec.msgpack.decode(body)
    if status == wire.NOT_LEADER:
        return NotLeader(DATA_GROUP, detail[0])
    if status == wire.UNKNOWN:
        return OutcomeUnknown(what, str(detail))
    if status == wire.OVERLOADED:
        return Overloaded(str(detail))
    if status == wire.DISK_FULL:
        return DiskFull(str(detail))
    return Unavailable(f"{what}: {detail}")
