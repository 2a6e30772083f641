"""What can be asked of a cluster? Every call finds the leader, is safe to retry, and ends in time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from random import Random
from types import TracebackType
from typing import Any, Self, TypeAlias

import msgspec

from aegis_replication import wire
from aegis_replication.client.arguments import (
    LEADER,
    LINEARIZABLE,
    TIMEOUT_SECONDS,
    Text,
    key_range,
    seconds_of,
    staleness_of,
    value_bytes,
    whole,
)
from aegis_replication.client.backup import BackupClient
from aegis_replication.client.batch import WriteBatch
from aegis_replication.client.calls import describe
from aegis_replication.client.endpoints import parse_endpoints
from aegis_replication.client.links import Dialer
from aegis_replication.client.machines import MachineProxy, marked
from aegis_replication.client.members import MembersClient
from aegis_replication.client.replicas import Replicas
from aegis_replication.client.router import ASK_SECONDS, Router
from aegis_replication.client.writer import Writer
from aegis_replication.errors import AegisError, InvalidArgument
from aegis_replication.ids import DATA_GROUP, NodeId
from aegis_replication.state_machine.commands import (
    KEYS_PER_REPLY_MAX,
    Batch,
    BatchResult,
    Command,
    CompareAndSet,
    Condition,
    Count,
    Delete,
    DeleteRange,
    Get,
    GetMany,
    Increment,
    Item,
    KeyValue,
    Operation,
    Page,
    Put,
    Query,
    Range,
    Swap,
    Take,
    decode_result,
    encode_query,
    text_key,
)
from aegis_replication.state_machine.user import COMMAND_KIND, QUERY_KIND, StateMachine, call
from aegis_replication.transport.connection import ClientConnection, OnLost, OnReplies, connect_tcp

Found: TypeAlias = list[KeyValue | None]


class NodeStatus(msgspec.Struct, frozen=True):
    """What one node says of itself, or why it says nothing."""

    address: str
    report: dict[str, Any] = {}  # as Node.status() makes it; empty when there is an `error`
    error: str = ""

    @property
    def node(self) -> NodeId | None:
        """Its id."""
        return self.report.get("node")

    @property
    def role(self) -> str:
        """ "leader", "follower", ... of the data group; "unreachable" when it gave no answer."""
        group: dict[str, str] = next(iter(self.report.get("groups", {}).values()), {})
        return group.get("role", "unreachable")


def connect(addresses: str, *, cluster: str = "", timeout: float = TIMEOUT_SECONDS) -> "Client":
    """A client of the cluster whose nodes are at `addresses`, such as "aegis://n1:7480,n2:7480".

    One address is enough, several survive the loss of one. Nothing is sent before the first call. With `cluster`, nodes
    of another name are refused. `timeout` is what calls take that name none, in seconds.
    """
    return Client(TcpDialer(cluster), parse_endpoints(addresses), timeout=timeout)


class TcpDialer:
    """Connects over TCP."""

    def __init__(self, cluster: str = "") -> None:
        self._hello = wire.Hello("client", wire.PROTOCOL_LOWEST, wire.PROTOCOL_HIGHEST, cluster=cluster)

    async def dial(self, address: str, *, timeout: float, on_replies: OnReplies, on_lost: OnLost) -> ClientConnection:
        """A connection to the node at `address`."""
        return await connect_tcp(address, self._hello, timeout=timeout, on_replies=on_replies, on_lost=on_lost)


class Client(MembersClient, BackupClient):
    """A cluster's keys and values, to be used on one event loop by any number of tasks at a time.

    Keys and values are bytes, or text that is stored as UTF-8. Every call takes `timeout=` in seconds. What a call may
    raise: OutcomeUnknown when a write was sent and no answer came in time (it may have been, or still be, applied);
    Unavailable when nobody leads or can be reached (it had no effect); DeadlineExceeded for a read without an answer;
    InvalidArgument (InvalidCommand, LimitExceeded) for one that the cluster will never take.
    """

    def __init__(
        self,
        dialer: Dialer,
        endpoints: Iterable[str],
        *,
        timeout: float = TIMEOUT_SECONDS,
        random: Random | None = None,
        on_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(Router(dialer, endpoints, random=random), timeout=timeout)
        self._replicas = Replicas(dialer, self._router.endpoints, DATA_GROUP, random or Random())
        self._writer = Writer(self._router)
        self._on_close = on_close

    # --- one key ---

    async def put(self, key: Text, value: Text, *, timeout: float | None = None) -> int:
        """Set `key` to `value`; the key's new version."""
        version: int = await self._write(Put(text_key(key), value_bytes(value)), timeout)
        return version

    async def get(
        self,
        key: Text,
        *,
        consistency: str = LINEARIZABLE,
        replica: str = LEADER,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> KeyValue | None:
        """What `key` holds, with its version; None when it is absent.

        All reads take these: replica="any" asks any node, which asks the leader up to where it must know the log: as
        current, and the leader computes nothing. With `max_staleness` in seconds any node may answer at once from what
        it knows, if that certainly holds every write acknowledged longer ago; else it asks the leader all the same.
        """
        name = text_key(key)
        item: Item | None = await self._read(Get(name), staleness_of(consistency, replica, max_staleness), timeout)
        return None if item is None else KeyValue(name, item.value, item.version)

    async def get_many(
        self,
        keys: Iterable[Text],
        *,
        consistency: str = LINEARIZABLE,
        replica: str = LEADER,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> Found:
        """What each of `keys` holds, in their order; None for those that are absent.

        Each answer is current; they are of one moment if they fit one reply (about 1 MiB, 10,000 keys).
        """
        names = [text_key(key) for key in keys]
        where = staleness_of(consistency, replica, max_staleness)
        found: Found = []
        while len(found) < len(names):
            part = tuple(names[len(found) : len(found) + KEYS_PER_REPLY_MAX])
            items: tuple[Item | None, ...] = await self._read(GetMany(part), where, timeout)
            found += [
                None if item is None else KeyValue(name, item.value, item.version)
                for name, item in zip(part, items, strict=False)
            ]
        return found

    async def delete(self, key: Text, *, timeout: float | None = None) -> int:
        """Remove `key`; the version it had, 0 if there was none."""
        version: int = await self._write(Delete(text_key(key)), timeout)
        return version

    async def take(self, key: Text, *, timeout: float | None = None) -> KeyValue | None:
        """Remove `key` and give back what it held; None when it was absent."""
        name = text_key(key)
        item: Item | None = await self._write(Take(name), timeout)
        return None if item is None else KeyValue(name, item.value, item.version)

    async def cas(
        self,
        key: Text,
        new: Text | None,
        *,
        expect: Text | None = None,
        expect_version: int | None = None,
        timeout: float | None = None,
    ) -> Swap:
        """Set `key` to `new` (None: remove it) if it holds `expect`, or has version `expect_version` (0: is absent).

        At least one of the two must be given. The result is true if it was done, and has the key's version now.
        """
        if expect is None and expect_version is None:
            raise InvalidArgument("nothing to compare with: give expect=, or expect_version= (0: the key is absent)")
        command = CompareAndSet(
            text_key(key),
            None if new is None else value_bytes(new),
            None if expect is None else value_bytes(expect),
            expect_version,
        )
        swap: Swap = await self._write(command, timeout)
        return swap

    async def increment(self, key: Text, by: int = 1, *, timeout: float | None = None) -> int:
        """Add `by` to the decimal integer in `key` (absent: 0); the sum.

        Raises NotAnInteger when the key holds anything else, or the sum leaves 64 bits.
        """
        total: int = await self._write(Increment(text_key(key), whole("by", by)), timeout)
        return total

    # --- ranges ---

    async def list(
        self,
        *,
        prefix: Text | None = None,
        start: Text | None = None,
        end: Text | None = None,
        limit: int = 1_000,
        cursor: bytes | None = None,
        consistency: str = LINEARIZABLE,
        replica: str = LEADER,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> Page:
        """Keys and values in the order of their bytes: those with `prefix`, or of [start, end), or all.

        A page ends at `limit` keys (10,000 at the most) or about 1 MiB; give its `cursor` back for the next one, it is
        None after the last. Each page is current; `scan` goes through all of them.
        """
        first, after = key_range(prefix, start, end)
        if not 1 <= whole("limit", limit) <= KEYS_PER_REPLY_MAX:
            raise InvalidArgument(f"limit = {limit}: give 1 to {KEYS_PER_REPLY_MAX:,} keys a page")
        where = staleness_of(consistency, replica, max_staleness)
        page: Page = await self._read(Range(first if cursor is None else cursor, after, limit), where, timeout)
        return page

    async def scan(
        self,
        *,
        prefix: Text | None = None,
        start: Text | None = None,
        end: Text | None = None,
        limit: int = 1_000,
        consistency: str = LINEARIZABLE,
        replica: str = LEADER,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[KeyValue]:
        """Every key and value of the range in order, fetched in pages of `limit`; `timeout` is for each page.

        Keys written meanwhile appear if they lie behind the page that was fetched last.
        """
        cursor: bytes | None = None
        while True:
            page = await self.list(
                prefix=prefix,
                start=start,
                end=end,
                limit=limit,
                cursor=cursor,
                consistency=consistency,
                replica=replica,
                max_staleness=max_staleness,
                timeout=timeout,
            )
            for item in page.items:
                yield item
            cursor = page.cursor
            if cursor is None:
                return

    async def count(
        self,
        *,
        prefix: Text | None = None,
        start: Text | None = None,
        end: Text | None = None,
        consistency: str = LINEARIZABLE,
        replica: str = LEADER,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> int:
        """How many keys the range has; of all if none is given."""
        where = staleness_of(consistency, replica, max_staleness)
        total: int = await self._read(Count(*key_range(prefix, start, end)), where, timeout)
        return total

    async def delete_range(
        self,
        *,
        prefix: Text | None = None,
        start: Text | None = None,
        end: Text | None = None,
        limit: int = 0,
        timeout: float | None = None,
    ) -> int:
        """Remove the keys with `prefix`, or of [start, end), at most `limit` from the front (0: all); how many."""
        if prefix is None and start is None and end is None:
            raise InvalidArgument("no range was named: give prefix= or start= and end= (start='' for everything)")
        total: int = await self._write(
            DeleteRange(*key_range(prefix, start, end), limit=whole("limit", limit)), timeout
        )
        return total

    # --- several at once ---

    def batch(self) -> WriteBatch:
        """An empty batch: add to it, then `await batch.commit()` does all of it or nothing."""
        return WriteBatch(self.write_batch)

    async def write_batch(
        self, operations: Iterable[Operation], conditions: Iterable[Condition] = (), *, timeout: float | None = None
    ) -> BatchResult:
        """Carry out all operations in this order, or none: if a condition doesn't hold, or a cas among them fails.

        The result is true if it was done; else `failed` is the condition or operation that was not met.
        """
        result: BatchResult = await self._write(Batch(tuple(operations), tuple(conditions)), timeout)
        return result

    # --- a machine of your own ---

    def machine(self, cls: type[StateMachine]) -> MachineProxy:
        """The replicated `cls` as an object to await: `await db.machine(Inventory).reserve("sku", 3)`."""
        return MachineProxy(cls, self.call, self.query)

    async def call(self, method: Callable[..., Any], *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """Carry out a @command of the replicated machine, such as `Inventory.reserve`; what it returned.

        Raises CommandFailed when it raised; the state is as it was before.
        """
        found = marked(method, kind=COMMAND_KIND)
        seconds = self.timeout if timeout is None else seconds_of(timeout)
        return found.result.decode(await self._writer.write(call(method, *args, **kwargs), seconds))

    async def query(
        self,
        method: Callable[..., Any],
        *args: Any,
        consistency: str = LINEARIZABLE,
        replica: str = LEADER,
        max_staleness: float | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Ask a @query of the replicated machine, such as `Inventory.available`; what it returned."""
        found = marked(method, kind=QUERY_KIND)
        where = staleness_of(consistency, replica, max_staleness)
        return found.result.decode(await self._ask(call(method, *args, **kwargs), where, timeout))

    # --- the cluster ---

    async def status(self, *, timeout: float | None = None) -> tuple[NodeStatus, ...]:
        """What every known node says of itself, each within `timeout` (1 second if none is given)."""
        seconds = ASK_SECONDS if timeout is None else seconds_of(timeout)
        asked: dict[str, NodeStatus] = {}
        while missing := [address for address in self._router.endpoints if address not in asked]:
            for status in await asyncio.gather(*(self._status(address, seconds) for address in missing)):
                asked[status.address] = status
        return _once_each(asked.values())

    async def _status(self, address: str, seconds: float) -> NodeStatus:
        try:
            return NodeStatus(address, await self._router.ask(address, seconds))
        except AegisError as error:
            return NodeStatus(address, error=str(error))

    async def close(self) -> None:
        """Close the connections. Calls that wait end: OutcomeUnknown for writes on their way, else Unavailable."""
        await self._replicas.close()
        await self._router.close()
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            await on_close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # --- how it is done ---

    async def _write(self, command: Command, timeout: float | None) -> Any:
        seconds = self.timeout if timeout is None else seconds_of(timeout)
        return decode_result(type(command), await self._writer.write(command, seconds))

    async def _read(self, query: Query, staleness_ms: int | None, timeout: float | None) -> Any:
        return decode_result(type(query), await self._ask(query, staleness_ms, timeout))

    async def _ask(self, query: Any, staleness_ms: int | None, timeout: float | None) -> bytes:
        seconds = self.timeout if timeout is None else seconds_of(timeout)
        if staleness_ms is not None:
            return await self._replicas.read(describe(query), encode_query(query), staleness_ms, seconds)
        asked = self._router.begin(wire.QUERY, query, encode_query(query), seconds)
        self._router.send(asked)
        return await asked.future


def _once_each(found: Iterable[NodeStatus]) -> tuple[NodeStatus, ...]:
    """One line per node, although it may be known by two addresses."""
    by_node: dict[str, NodeStatus] = {}
    for status in found:
        by_node.setdefault(status.node or status.address, status)
    return tuple(sorted(by_node.values(), key=lambda status: status.node or status.address))
