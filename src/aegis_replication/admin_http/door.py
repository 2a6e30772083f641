"""Where do probes connect, and how many of them at once? Listening, counting, and one answer in a turn of the loop."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Final

from aegis_replication.admin_http.answer import Answer, Page, error
from aegis_replication.admin_http.connection import HttpConnection, HttpLimits, Request
from aegis_replication.ids import NodeId
from aegis_replication.transport.tcp import Address, Reporter, is_loopback, listen, parse_address

log = logging.getLogger("aegis.node")


_NO_PAGES: Final[Mapping[str, Page]] = {}
_LIMITS: Final = HttpLimits()


class HttpDoor:
    """A node's port for HTTP: `pages` by path, for GET and HEAD.

    While it listens on loopback, only requests for this machine's own names are answered: a page in a browser may have
    its own name point here, and would read the answers.
    """

    def __init__(
        self, node: NodeId, pages: Mapping[str, Page] = _NO_PAGES, *, listen: str, limits: HttpLimits = _LIMITS
    ) -> None:
        self.node, self.pages, self.limits = node, pages, limits
        self.address = listen  # where it really listens, once started
        self.connections: set[HttpConnection] = set()
        self.requests: Counter[tuple[str, int]] = Counter()  # by path ("other" for one that isn't here) and status
        self.refused: Counter[str] = Counter()  # connections closed because of: garbage, late, stalled, surplus
        self._failed: set[str] = set()  # pages that have, and were told of
        self.report: Reporter
        self._is_private = is_loopback(parse_address(listen, what="node.http", any_port=True))
        self._server: asyncio.Server | None = None
        self._turn: asyncio.Lock

    async def start(self) -> None:
        """Listen. Raises ConfigError when the address can't be had."""
        self.open()
        self._server, self.address = await listen(self.accept, self.address, what="node.http", backlog=128)

    def open(self) -> None:
        """Be ready to answer."""
        self.report = Reporter(f"node={self.node} door=http", asyncio.get_running_loop().time)
        self._turn = asyncio.Lock()

    async def stop(self) -> None:
        """Close everything at once: nobody who asks here has anything to lose."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = [connection.task for connection in self.connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def accept(self) -> asyncio.Protocol:
        """What the loop makes of a new connection."""
        reader = asyncio.StreamReader(limit=self.limits.head_bytes)
        return asyncio.StreamReaderProtocol(reader, self._on_connected)

    def _on_connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = HttpConnection(self, reader, writer)
        surplus = len(self.connections) - self.limits.connections
        if surplus >= 0:
            self.on_refused("surplus")
            self.report.on_change("surplus", f"turned {connection.peer} away: {len(self.connections)} connections")
        if surplus >= self.limits.surplus:
            writer.transport.abort()
            return
        self.connections.add(connection)
        if surplus >= 0:
            why = f"{self.node} has {self.limits.connections} connections here, its limit: close some, or come later"
            connection.start(error(503, why, ("Retry-After", "5")))
        else:
            connection.start(None)

    def on_refused(self, why: str) -> None:
        """A connection is closed because of that."""
        self.refused[why] += 1

    def on_gone(self, connection: HttpConnection) -> None:
        """It is closed."""
        self.connections.discard(connection)

    async def answer(self, request: Request) -> Answer:
        """The answer to one request, made in a turn of the loop of its own: the node's turns come between them."""
        async with self._turn:
            await asyncio.sleep(0)
            answer = self._answer(request)
        self.requests[request.path if request.path in self.pages else "other", answer.status] += 1
        return answer

    def _answer(self, request: Request) -> Answer:
        if request.method not in ("GET", "HEAD"):
            return error(405, "everything here is read-only: use GET or HEAD", ("Allow", "GET, HEAD"))
        if request.has_body:
            return error(413, "no page here takes a body: leave it out")
        if self._is_private and not _is_own_name(request.host):
            return error(421, "this port is for this machine only: ask for it as localhost or by its address")
        page = self.pages.get(request.path)
        if page is None:
            return error(404, f"there is no such page; there are {', '.join(self.pages)}")
        try:
            return page(request.accept)
        except Exception:  # a bug of ours, on a page: the node itself has nothing to do with it
            if request.path not in self._failed:  # once is enough to find it
                self._failed.add(request.path)
                log.exception("node=%s door=http: the page %s failed", self.node, request.path)
            return error(500, "this page failed; the node's log says why")


def _is_own_name(host: str) -> bool:
    """Does the Host header name this machine? Clients of HTTP/1.0 may send none."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdigit():
        name = host
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    return not name or is_loopback(Address(name.lower(), 0))
