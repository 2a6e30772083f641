"""What does a client meet? Nodes whose answers a test decides, around one real machine with real sessions."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from aegis_replication import wire
from aegis_replication.client.client import Client
from aegis_replication.errors import LimitExceeded, Unavailable
from aegis_replication.log import Kind, make_entry
from aegis_replication.state_machine.base import Failure, Machine
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine
from aegis_replication.transport.connection import OnLost, OnReplies
from aegis_replication.wire import Request

Answer = tuple[int, Any] | None
"""A reply's status and detail; None: no reply."""


class FakeCluster:
    """Nodes a, b, c; the first one leads. `before` and `after` decide about each request, around its being applied."""

    def __init__(self, *names: str, machine: Machine | None = None) -> None:
        self.machine = machine or SessionMachine(KeyValueMachine())
        self.index = 0
        self.stamp_ms = 1
        self.nodes = {name: FakeNode(self, name) for name in names or ("a", "b", "c")}
        self.leader: str | None = next(iter(self.nodes))
        self.term = 1
        self.requests: list[tuple[str, Request]] = []  # node, and what it got; without questions for the status
        self.asked: list[str] = []  # who was asked for the status
        # Called for each command and query at the leader. ... goes on; anything else is the answer instead.
        self.before: Callable[[Connection, Request], Any] = lambda connection, request: ...
        # Called when it was applied; may swap the answer.
        self.after: Callable[[Connection, Request, Answer], Answer] = lambda connection, request, answer: answer

    async def dial(self, address: str, *, timeout: float, on_replies: OnReplies, on_lost: OnLost) -> "Connection":
        await asyncio.sleep(0)
        node = self.nodes.get(address)
        if node is None or node.trouble is not None:
            raise (node.trouble if node is not None and node.trouble else Unavailable(f"{address} can't be reached"))
        connection = Connection(node, on_replies, on_lost)
        node.connections.append(connection)
        return connection

    def client(self, *endpoints: str, timeout: float = 10.0) -> Client:
        return Client(self, endpoints or [*self.nodes], timeout=timeout)

    def commands(self) -> list[tuple[bytes, int, int, Any]]:
        """Session, sequence, floor and body of every command that came, as often as it came."""
        return [msgspec.msgpack.decode(request.body) for _, request in self.requests if request.kind == wire.COMMAND]

    def writes(self) -> list[tuple[bytes, int, int, Any]]:
        """The same without those that open a session."""
        return [command for command in self.commands() if command[1]]

    def lead(self, name: str | None, *, term: int | None = None) -> None:
        self.leader = name
        self.term = self.term + 1 if term is None else term

    def apply(self, request: Request) -> Answer:
        if request.kind == wire.QUERY:
            return _answer(self.machine.query(request.body))
        if request.kind == wire.READ:
            return _answer(self.machine.query(wire.decode_read(request.body)[1]))
        self.machine.check(request.body)
        self.index += 1
        payload = self.machine.join([request.body])
        entry = make_entry(1, 1, self.index, Kind.COMMANDS, payload, count=1, stamp=self.stamp_ms << 16)
        return _answer(self.machine.apply(entry)[0])


def _answer(result: Any) -> Answer:
    return (result.status, result.detail) if isinstance(result, Failure) else (wire.OK, result)


class FakeNode:
    """One of them."""

    def __init__(self, cluster: FakeCluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.connections: list[Connection] = []
        self.trouble: Exception | None = None  # met by whoever dials
        self.is_deaf = False  # takes everything, answers nothing
        self.hides_leader = False
        self.names: str | None = None  # whom it takes for the leader when there is none
        self.read_refusal: Answer = None  # what it says to reads that any node may answer; None: it answers them
        self.claims: int | None = None  # the term that it says it leads, whoever does

    def drop(self, reason: str = "connection reset") -> None:
        """End all connections."""
        for connection in [*self.connections]:
            connection.lose(reason)

    def crash(self) -> None:
        self.trouble = Unavailable(f"{self.name} can't be reached (Connection refused)")
        self.drop()

    def on_request(self, connection: "Connection", request: Request) -> None:
        cluster = self.cluster
        if request.kind == wire.STATUS:
            cluster.asked.append(self.name)
            if not self.is_deaf:
                connection.answer(request, (wire.OK, self.status()))
            return
        cluster.requests.append((self.name, request))
        if self.is_deaf:
            return
        if request.kind == wire.READ and self.read_refusal is not None:
            connection.answer(request, self.read_refusal)
            return
        if cluster.leader != self.name and request.kind != wire.READ:
            known = None if self.hides_leader else cluster.leader or self.names
            connection.answer(request, (wire.NOT_LEADER, (known, known)))
            return
        answer = cluster.before(connection, request)
        if answer is ...:
            answer = cluster.after(connection, request, cluster.apply(request))
        if answer is not None:
            connection.answer(request, answer)

    def status(self) -> dict[str, Any]:
        cluster = self.cluster
        leader = None if self.hides_leader else cluster.leader
        role = "leader" if cluster.leader == self.name else "follower"
        group = {"role": role, "leader": leader, "term": cluster.term}
        if self.claims is not None:
            group = {"role": "leader", "leader": self.name, "term": self.claims}
        return {
            "node": self.name,
            "addresses": {name: name for name in cluster.nodes if name != self.name},
            "groups": {"1": group},
        }


class Connection:
    """A ClientConnection to one of them; answers come a turn of the loop later."""

    def __init__(self, node: FakeNode, on_replies: OnReplies, on_lost: OnLost) -> None:
        self.hello = wire.Hello("client", 1, 1, node=node.name)
        self.node = node
        self._on_replies, self._on_lost = on_replies, on_lost
        self.is_closed = False

    def send(self, packet: bytes) -> None:
        size, kind, group, number = wire.REQUEST_FRAME.unpack_from(packet)
        if size > self.hello.limits.request_bytes:
            raise LimitExceeded("a request", size, self.hello.limits.request_bytes)
        if not self.is_closed:
            request = Request(kind, group, number, packet[wire.REQUEST_FRAME.size :])
            asyncio.get_running_loop().call_soon(self._arrive, request)

    def _arrive(self, request: Request) -> None:
        if not self.is_closed:
            self.node.on_request(self, request)

    def answer(self, request: Request, answer: tuple[int, Any]) -> None:
        packet = wire.encode_reply(request.request, answer[0], msgspec.msgpack.encode(answer[1]))
        asyncio.get_running_loop().call_soon(self._deliver, packet[4:])

    def _deliver(self, packet: bytes) -> None:
        if not self.is_closed:
            self._on_replies([packet])

    def lose(self, reason: str) -> None:
        if not self.is_closed:
            self.close()
            self._on_lost(reason)

    def close(self) -> None:
        self.is_closed = True
        self.node.connections.remove(self)
