"""What can be asked of a cluster without `await`? The client, for any number of threads.

Written by `make sync` (tools/make_sync.py) from the async twins: change those.
"""

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from aegis_replication.client import batch, client
from aegis_replication.client.arguments import LEADER, LINEARIZABLE, TIMEOUT_SECONDS, Text
from aegis_replication.client.client import Found, NodeStatus
from aegis_replication.loop_thread import LoopThread, background
from aegis_replication.state_machine.commands import BatchResult, Condition, KeyValue, Operation, Page, Swap
from aegis_replication.state_machine.user import StateMachine
from aegis_replication.sync.machines import MachineProxy
from aegis_replication.sync.operations import BackupClient, MembersClient


class WriteBatch:
    """Operations on keys, and conditions under which they happen: all of them at one point in time, or none.

    >>> batch = db.batch().require("a", expect_version=3).put("a", "1").delete("b")  # doctest: +SKIP
    >>> done = batch.commit()  # doctest: +SKIP
    """

    _inner: batch.WriteBatch
    _thread: LoopThread

    @classmethod
    def around(cls, inner: Any, thread: LoopThread) -> Self:
        """The twin of `inner`, which lives on the loop of `thread`."""
        self = cls.__new__(cls)
        self._inner, self._thread = inner, thread
        return self

    def __len__(self) -> int:
        return len(self._inner)

    def require(
        self, key: bytes | str, *, expect: bytes | str | None = None, expect_version: int | None = None
    ) -> Self:
        """Nothing happens unless `key` holds `expect`, or has version `expect_version` (0: is absent)."""
        self._inner.require(key, expect=expect, expect_version=expect_version)
        return self

    def put(self, key: bytes | str, value: bytes | str) -> Self:
        """Set `key` to `value`."""
        self._inner.put(key, value)
        return self

    def delete(self, key: bytes | str) -> Self:
        """Remove `key`."""
        self._inner.delete(key)
        return self

    def increment(self, key: bytes | str, by: int = 1) -> Self:
        """Add `by` to the decimal integer in `key`."""
        self._inner.increment(key, by)
        return self

    def delete_prefix(self, prefix: bytes | str) -> Self:
        """Remove all keys with `prefix`."""
        self._inner.delete_prefix(prefix)
        return self

    def commit(self, *, timeout: float | None = None) -> BatchResult:
        """Do it. The result is true if all was done; `results` has one per operation."""
        return self._thread.call(self._inner.commit(timeout=timeout))


class Client(MembersClient, BackupClient):
    """A cluster's keys and values, to be used by any number of threads at a time.

    Keys and values are bytes, or text that is stored as UTF-8. Every call takes `timeout=` in seconds. What a call may
    raise: OutcomeUnknown when a write was sent and no answer came in time (it may have been, or still be, applied);
    Unavailable when nobody leads or can be reached (it had no effect); DeadlineExceeded for a read without an answer;
    InvalidArgument (InvalidCommand, LimitExceeded) for one that the cluster will never take.
    """

    _inner: client.Client
    _thread: LoopThread

    @classmethod
    def around(cls, inner: Any, thread: LoopThread) -> Self:
        """The twin of `inner`, which lives on the loop of `thread`."""
        self = cls.__new__(cls)
        self._inner, self._thread = inner, thread
        return self

    def put(self, key: Text, value: Text, *, timeout: float | None = None) -> int:
        """Set `key` to `value`; the key's new version."""
        return self._thread.call(self._inner.put(key, value, timeout=timeout))

    def get(
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
        return self._thread.call(
            self._inner.get(key, consistency=consistency, replica=replica, max_staleness=max_staleness, timeout=timeout)
        )

    def get_many(
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
        return self._thread.call(
            self._inner.get_many(
                keys, consistency=consistency, replica=replica, max_staleness=max_staleness, timeout=timeout
            )
        )

    def delete(self, key: Text, *, timeout: float | None = None) -> int:
        """Remove `key`; the version it had, 0 if there was none."""
        return self._thread.call(self._inner.delete(key, timeout=timeout))

    def take(self, key: Text, *, timeout: float | None = None) -> KeyValue | None:
        """Remove `key` and give back what it held; None when it was absent."""
        return self._thread.call(self._inner.take(key, timeout=timeout))

    def cas(
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
        return self._thread.call(
            self._inner.cas(key, new, expect=expect, expect_version=expect_version, timeout=timeout)
        )

    def increment(self, key: Text, by: int = 1, *, timeout: float | None = None) -> int:
        """Add `by` to the decimal integer in `key` (absent: 0); the sum.

        Raises NotAnInteger when the key holds anything else, or the sum leaves 64 bits.
        """
        return self._thread.call(self._inner.increment(key, by, timeout=timeout))

    def list(
        self,
        *,
        prefix: Text | None = None,
        start: Text | None = None,
        end: Text | None = None,
        limit: int = 1000,
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
        return self._thread.call(
            self._inner.list(
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
        )

    def scan(
        self,
        *,
        prefix: Text | None = None,
        start: Text | None = None,
        end: Text | None = None,
        limit: int = 1000,
        consistency: str = LINEARIZABLE,
        replica: str = LEADER,
        max_staleness: float | None = None,
        timeout: float | None = None,
    ) -> Iterator[KeyValue]:
        """Every key and value of the range in order, fetched in pages of `limit`; `timeout` is for each page.

        Keys written meanwhile appear if they lie behind the page that was fetched last.
        """
        return self._thread.each(
            self._inner.scan(
                prefix=prefix,
                start=start,
                end=end,
                limit=limit,
                consistency=consistency,
                replica=replica,
                max_staleness=max_staleness,
                timeout=timeout,
            )
        )

    def count(
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
        return self._thread.call(
            self._inner.count(
                prefix=prefix,
                start=start,
                end=end,
                consistency=consistency,
                replica=replica,
                max_staleness=max_staleness,
                timeout=timeout,
            )
        )

    def delete_range(
        self,
        *,
        prefix: Text | None = None,
        start: Text | None = None,
        end: Text | None = None,
        limit: int = 0,
        timeout: float | None = None,
    ) -> int:
        """Remove the keys with `prefix`, or of [start, end), at most `limit` from the front (0: all); how many."""
        return self._thread.call(
            self._inner.delete_range(prefix=prefix, start=start, end=end, limit=limit, timeout=timeout)
        )

    def batch(self) -> WriteBatch:
        """An empty batch: add to it, then `batch.commit()` does all of it or nothing."""
        return WriteBatch.around(self._inner.batch(), self._thread)

    def write_batch(
        self, operations: Iterable[Operation], conditions: Iterable[Condition] = (), *, timeout: float | None = None
    ) -> BatchResult:
        """Carry out all operations in this order, or none: if a condition doesn't hold, or a cas among them fails.

        The result is true if it was done; else `failed` is the condition or operation that was not met.
        """
        return self._thread.call(self._inner.write_batch(operations, conditions, timeout=timeout))

    def machine(self, cls: type[StateMachine]) -> MachineProxy:
        """The replicated `cls` as an object to call: `db.machine(Inventory).reserve("sku", 3)`."""
        return MachineProxy.around(self._inner.machine(cls), self._thread)

    def call(self, method: Callable[..., Any], *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """Carry out a @command of the replicated machine, such as `Inventory.reserve`; what it returned.

        Raises CommandFailed when it raised; the state is as it was before.
        """
        return self._thread.call(self._inner.call(method, *args, timeout=timeout, **kwargs))

    def query(
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
        return self._thread.call(
            self._inner.query(
                method,
                *args,
                consistency=consistency,
                replica=replica,
                max_staleness=max_staleness,
                timeout=timeout,
                **kwargs,
            )
        )

    def status(self, *, timeout: float | None = None) -> tuple[NodeStatus, ...]:
        """What every known node says of itself, each within `timeout` (1 second if none is given)."""
        return self._thread.call(self._inner.status(timeout=timeout))

    def close(self) -> None:
        """Close the connections. Calls that wait end: OutcomeUnknown for writes on their way, else Unavailable."""
        self._thread.call(self._inner.close())

    def __enter__(self) -> Self:
        self._thread.call(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.call(self._inner.__aexit__(kind, error, traceback))


def connect(addresses: str, *, cluster: str = "", timeout: float = TIMEOUT_SECONDS) -> Client:
    """A client of the cluster whose nodes are at `addresses`, such as "aegis://n1:7480,n2:7480".

    One address is enough, several survive the loss of one. Nothing is sent before the first call. With `cluster`, nodes
    of another name are refused. `timeout` is what calls take that name none, in seconds.
    """
    return Client.around(client.connect(addresses, cluster=cluster, timeout=timeout), background())
