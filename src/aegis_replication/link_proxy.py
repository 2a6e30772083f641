"""How is a network between node processes on one machine broken on purpose? A proxy that every peer connection goes by.

It needs no privileges: nodes are told the proxy's addresses as those of their peers. One listener stands before each
node, and the handshake says who calls, so that all nodes can be given the same list. What it can't do is drop a SYN: a
connection is always taken, and then its bytes, and its end, wait as they would on the far side of a black hole.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final, TypeAlias

from aegis_replication.errors import ProtocolError
from aegis_replication.ids import NodeId
from aegis_replication.transport.tcp import as_transport, listen, parse_address, take_hello, tune_socket

HELD_BYTES_MAX: Final = 1024 * 1024
"""So much of one connection waits in the proxy; then it reads no more, and the sender's socket fills up."""

_DEAD_SECONDS: Final = 60.0

Path: TypeAlias = tuple[NodeId, NodeId]


class LinkProxy:
    """Stands between nodes. A link is the way of bytes from one node to another, whichever of them connected."""

    def __init__(self, targets: Mapping[NodeId, str]) -> None:
        """`targets`: where each node really listens for its peers."""
        self.targets = dict(targets)
        self.addresses: dict[NodeId, str] = {}  # what the nodes are told instead, once started
        self._links = {(a, b): _Link() for a in self.targets for b in self.targets if a != b}
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Listen before each node, on a port that the system chooses."""
        for node in self.targets:
            server, address = await listen(
                partial(_Caller, self, node), "127.0.0.1:0", what="proxy address", backlog=128
            )
            self._servers.append(server)
            self.addresses[node] = address

    async def stop(self) -> None:
        """Close everything."""
        for server in self._servers:
            server.close()
        for link in self._links.values():
            link.reset()
        await asyncio.sleep(0)

    # --- harm ---

    def hold(self, source: NodeId, target: NodeId) -> None:
        """A black hole: nothing from `source` reaches `target`, and neither is told; it comes late, after `heal`."""
        self._link(source, target).hold()

    def cut(self, source: NodeId, target: NodeId) -> None:
        """Connections that carry bytes from `source` to `target` are reset, and new ones too."""
        self._link(source, target).cut()

    def slow(self, source: NodeId, target: NodeId, *, delay_ms: float = 0.0, bytes_per_second: float = 0.0) -> None:
        """Bytes take `delay_ms` longer, and no more than so many go in a second (0: no limit)."""
        self._link(source, target).slow(delay_ms / 1000.0, bytes_per_second)

    def isolate(self, node: NodeId) -> None:
        """Hold every link to and from `node`."""
        for source, target in self._links:
            if node in (source, target):
                self.hold(source, target)

    def heal(self, paths: Iterable[Path] | None = None) -> None:
        """These links, or all of them, are as new, and what they held goes on."""
        for path in self._links if paths is None else paths:
            self._links[path].heal()

    # --- what it shows ---

    @property
    def paths(self) -> list[Path]:
        """Every link as (source, target)."""
        return sorted(self._links)

    def held_bytes(self, source: NodeId, target: NodeId) -> int:
        """How much waits in the proxy on the way from `source` to `target`."""
        return sum(pipe.waiting_bytes for pipe in self._link(source, target).pipes)

    def _link(self, source: NodeId, target: NodeId) -> "_Link":
        link = self._links.get((source, target))
        assert link is not None, f"no link from {source} to {target}: the nodes are {', '.join(self.targets)}"
        return link

    def pipes_between(self, source: NodeId, target: NodeId) -> "tuple[_Pipe, _Pipe] | None":
        """The two ways of a new connection from `source` to `target`; None when it is to be reset."""
        there, back = self._links.get((source, target)), self._links.get((target, source))
        if there is None or back is None or there.is_cut or back.is_cut:
            return None
        return _Pipe(there), _Pipe(back)


class _Link:
    """One direction between two nodes: its state, and the connections that are under it."""

    __slots__ = ("bytes_per_second", "delay_seconds", "free_at", "is_cut", "is_held", "opened", "pipes")

    def __init__(self) -> None:
        self.pipes: set[_Pipe] = set()
        self.is_held = self.is_cut = False
        self.delay_seconds = self.bytes_per_second = 0.0
        self.free_at = 0.0  # when a throttled link has sent what it was given
        self.opened = asyncio.Event()
        self.opened.set()

    @property
    def is_plain(self) -> bool:
        """Do bytes go through at once?"""
        return not (self.is_held or self.delay_seconds or self.bytes_per_second)

    def hold(self) -> None:
        self.is_held = True
        self.opened.clear()

    def cut(self) -> None:
        self.is_cut = True
        self.reset()

    def reset(self) -> None:
        for pipe in [*self.pipes]:
            pipe.reset()

    def slow(self, delay_seconds: float, bytes_per_second: float) -> None:
        self.delay_seconds, self.bytes_per_second = delay_seconds, bytes_per_second

    def heal(self) -> None:
        self.is_held = self.is_cut = False
        self.delay_seconds = self.bytes_per_second = self.free_at = 0.0
        self.opened.set()
        for pipe in [*self.pipes]:
            pipe.hurry()

    def due(self, now: float, size: int) -> float:
        """When the last of `size` bytes that are sent now arrive."""
        if self.bytes_per_second:
            self.free_at = max(self.free_at, now) + size / self.bytes_per_second
            now = self.free_at
        return now + self.delay_seconds


class _Pipe:
    """One connection's bytes in one direction, from a socket that reads to a socket that writes."""

    __slots__ = ("_ended", "_is_full", "_link", "_timer", "_waiting", "other", "sink", "source", "waiting_bytes")

    def __init__(self, link: _Link) -> None:
        self._link = link
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None  # None while the connection to the target isn't there yet
        self.other: _Pipe  # the way back
        # (when due, bytes), in the order they came.
        self._waiting: deque[tuple[float, bytes]] = deque()
        self.waiting_bytes = 0
        self._is_full = False  # the sink takes no more
        self._ended = False  # the source has closed; the sink hears of it behind the last byte
        self._timer: asyncio.TimerHandle | None = None
        link.pipes.add(self)

    def take(self, data: bytes) -> None:
        """The source has sent bytes."""
        link = self._link
        if self.sink is not None and link.is_plain and not self._waiting:
            if not self.sink.is_closing():
                self.sink.write(data)
            return
        self._waiting.append((link.due(_now(), len(data)), data))
        self.waiting_bytes += len(data)
        self.pump()

    def end(self) -> None:
        """The source has closed: a reset and an orderly end look the same behind the proxy."""
        self._ended = True
        self.pump()

    def hurry(self) -> None:
        """The link is as new: what waited is due."""
        self._waiting = deque((0.0, data) for _, data in self._waiting)
        self.pump()

    def pump(self) -> None:
        """What is due goes on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sink = self.sink
        if sink is not None and not self._link.is_held:
            now = _now()
            while self._waiting and self._waiting[0][0] <= now:
                _, data = self._waiting.popleft()
                self.waiting_bytes -= len(data)
                if not sink.is_closing():
                    sink.write(data)
            if self._waiting:
                self._timer = asyncio.get_running_loop().call_at(self._waiting[0][0], self.pump)
            elif self._ended:
                self._link.pipes.discard(self)
                sink.close()
        self._regulate()

    def on_full(self, is_full: bool) -> None:
        """The sink takes no more, or more again."""
        self._is_full = is_full
        self._regulate()

    def _regulate(self) -> None:
        """Read only as fast as can be passed on."""
        if self.source is None or self._ended:
            return
        if self._is_full or self.waiting_bytes >= HELD_BYTES_MAX:
            self.source.pause_reading()
        else:
            self.source.resume_reading()

    def reset(self) -> None:
        """End the connection at both sides now; what waits is lost."""
        for pipe in (self, self.other):
            pipe._link.pipes.discard(pipe)
            pipe._waiting.clear()
            pipe.waiting_bytes = 0
            pipe._ended = True
            if pipe._timer is not None:
                pipe._timer.cancel()
            for transport in (pipe.source, pipe.sink):
                if transport is not None:
                    transport.abort()


class _Side(asyncio.Protocol):
    """A socket of a connection through the proxy: what it reads goes one way, what it writes comes the other."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.reads: _Pipe | None = None
        self.writes: _Pipe | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = as_transport(transport)
        tune_socket(self.transport, dead_seconds=_DEAD_SECONDS)

    def attach(self, reads: _Pipe, writes: _Pipe) -> None:
        """From now on bytes flow."""
        self.reads, self.writes = reads, writes
        reads.source = writes.sink = self.transport
        writes.pump()

    def data_received(self, data: bytes) -> None:
        if self.reads is not None:
            self.reads.take(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.reads is not None:
            self.reads.end()

    def pause_writing(self) -> None:
        if self.writes is not None:
            self.writes.on_full(True)

    def resume_writing(self) -> None:
        if self.writes is not None:
            self.writes.on_full(False)


class _Caller(_Side):
    """A connection that a node made: its handshake says which, then the target is called."""

    def __init__(self, proxy: LinkProxy, target: NodeId) -> None:
        super().__init__()
        self._proxy, self._target = proxy, target
        self._hello = bytearray()
        self._calling: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        if self.reads is not None:
            self.reads.take(data)
            return
        self._hello += data
        try:
            hello = take_hello(bytearray(self._hello))
        except ProtocolError:
            self.transport.abort()
            return
        if hello is None:
            return
        pipes = self._proxy.pipes_between(hello.node, self._target)
        if pipes is None:
            self.transport.abort()
            return
        there, back = pipes
        there.other, back.other = back, there
        self.attach(there, back)
        there.take(bytes(self._hello))
        self._calling = asyncio.get_running_loop().create_task(self._call(there, back))

    async def _call(self, there: _Pipe, back: _Pipe) -> None:
        for pipe in (there, back):  # a connection needs both ways
            await pipe._link.opened.wait()
        host, port = parse_address(self._proxy.targets[self._target], what="target")
        try:
            _, callee = await asyncio.get_running_loop().create_connection(_Side, host, port)
        except OSError:
            there.reset()
            return
        if there not in there._link.pipes:  # reset meanwhile
            callee.transport.abort()
            return
        callee.attach(back, there)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self._calling is not None and self.writes is not None and self.writes.source is None:
            self._calling.cancel()  # the caller gave up before the target was reached
            self.writes.reset()


def _now() -> float:
    return asyncio.get_running_loop().time()
