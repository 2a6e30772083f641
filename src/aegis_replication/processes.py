"""How does a program run a cluster of node processes on this machine? Start, kill and ask them; for demo and bench.

Everything here blocks: it belongs into scripts and command lines, not into an event loop.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from aegis_replication import wire
from aegis_replication.errors import AegisError, ProtocolError, Refused, Unavailable
from aegis_replication.ids import NodeId

_LOOPBACK = "127.0.0.1"


class Connection:
    """A blocking connection to a node's client port, one request at a time: for tools and tests."""

    def __init__(self, address: str, *, timeout: float = 5.0, cluster: str = "") -> None:
        host, _, port = address.rpartition(":")
        try:
            self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=timeout)
        except OSError as error:
            raise Unavailable(f"no node answers at {address} ({error}): is it running there?") from None
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        self._request = 0
        hello = wire.Hello("client", wire.PROTOCOL_LOWEST, wire.PROTOCOL_HIGHEST, cluster)
        try:
            self.socket.sendall(wire.encode_hello(hello))
            packet = self._packet()
            self.hello = wire.decode_hello(packet[0], packet[1:])
            if self.hello.refusal:
                raise Refused(f"{address} refused: {self.hello.refusal}")
        except OSError as error:
            self.close()
            raise Unavailable(f"the node at {address} hung up ({error})") from None
        except AegisError:
            self.close()
            raise

    def _packet(self) -> bytes:
        while True:
            packets, taken = wire.split_packets(self._received, wire.Limits().packet_bytes)
            if packets:  # one request at a time: at most one packet is under way
                del self._received[:taken]
                return packets[0]
            try:
                data = self.socket.recv(1 << 16)
            except OSError as error:
                raise Unavailable(f"the node fell silent ({error})") from None
            if not data:
                raise Unavailable("the node closed the connection")
            self._received += data

    def ask(self, kind: int, body: bytes = b"", *, group: int = 1) -> tuple[int, Any]:
        """Send one request and wait: the reply's status and its decoded body."""
        self._request += 1
        self.socket.sendall(wire.encode_request(kind, group, self._request, body))
        while True:
            request, status, reply = wire.decode_reply(self._packet())
            if request == self._request:
                return status, msgspec.msgpack.decode(reply)

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ask_status(address: str, *, timeout: float = 2.0) -> dict[str, Any]:
    """A node's own view of itself. Raises Unavailable when nobody answers."""
    with Connection(address, timeout=timeout) as connection:
        status, answer = connection.ask(wire.STATUS)
    if status != wire.OK or not isinstance(answer, dict):
        raise ProtocolError(f"{address} answered status {status} to a status request")
    return answer


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((_LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]


class NodeProcess:
    """One node as an operating-system process with a directory of its own."""

    def __init__(
        self,
        node: NodeId,
        directory: Path,
        *,
        client_address: str,
        peer_address: str,
        peers: Mapping[NodeId, str],
        join: str = "",
        http_address: str = "",
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        launcher: Sequence[str] = (),
    ) -> None:
        self.node, self.directory = node, directory
        self.client_address, self.peer_address = client_address, peer_address
        self.peers = dict(peers)
        self.join = join  # client addresses of the cluster that it is to be added to, instead of peers
        self.http_address = http_address  # of its door for probes; "": it has none
        self.options = list(options)
        self.environment = dict(environment or {})
        self.launcher = list(launcher) or [sys.executable, "-m", "aegis_replication.cli.main"]
        self.process: subprocess.Popen[bytes] | None = None
        self.log_path = directory.with_name(directory.name + ".log")

    def command(self) -> list[str]:
        """The command line that runs this node."""
        peers = ",".join(f"{node}={address}" for node, address in sorted(self.peers.items()))
        return [
            *self.launcher,
            *("node", "start", "--name", self.node, "--data", str(self.directory)),
            *("--listen", self.client_address, "--peer-listen", self.peer_address),
            *(("--join", self.join) if self.join else ("--peers", peers)),
            *(("--http", self.http_address) if self.http_address else ()),
            *self.options,
        ]

    def start(self) -> None:
        """Start it; `wait_answers` tells when it serves."""
        assert self.process is None or self.process.poll() is not None, f"{self.node} runs already"
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,  # a Ctrl-C in the terminal is the caller's to handle
            )

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.node} was never started"
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Has it been started and not ended?"""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def terminate(self, timeout: float = 20.0) -> int:
        """Ask it to stop (SIGTERM) and wait; its exit code. A node that doesn't stop in time is killed."""
        return self._end(signal.SIGTERM, timeout)

    def _end(self, number: signal.Signals, timeout: float = 20.0) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def last_words(self, lines: int = 5) -> str:
        """The end of its log, for an error message."""
        try:
            text = self.log_path.read_text(errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.splitlines()[-lines:]) or "(an empty log)"

    def cpu_seconds(self) -> float:
        """User and system time that the process has used (Linux)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class LocalProcesses:
    """A cluster of node processes on loopback, each with its directory under `directory`.

    `ports`: for clients and peers, by turns; `http_ports`: one for each node's door for probes, or none.
    """

    def __init__(
        self,
        directory: Path,
        *,
        count: int = 3,
        ports: Sequence[int] = (),
        http_ports: Sequence[int] = (),
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        launcher: Sequence[str] = (),
    ) -> None:
        names = [f"n{number}" for number in range(1, count + 1)]
        chosen = list(ports) or free_ports(2 * count)
        clients = {name: f"{_LOOPBACK}:{chosen[2 * i]}" for i, name in enumerate(names)}
        peers = {name: f"{_LOOPBACK}:{chosen[2 * i + 1]}" for i, name in enumerate(names)}
        doors = {name: f"{_LOOPBACK}:{port}" for name, port in zip(names, http_ports)}
        self.directory = directory
        self.nodes = {
            name: NodeProcess(
                name,
                directory / name,
                client_address=clients[name],
                peer_address=peers[name],
                peers=peers,
                http_address=doors.get(name, ""),
                options=options,
                environment=environment,
                launcher=launcher,
            )
            for name in names
        }

    @property
    def endpoints(self) -> str:
        """All client addresses, as connect() takes them."""
        return ",".join(node.client_address for node in self.nodes.values())

    def add(self, name: NodeId) -> NodeProcess:
        """One more node, not started yet, that will ask those that run now to add it."""
        client, peer = free_ports(2)
        any_node = next(iter(self.nodes.values()))
        node = self.nodes[name] = NodeProcess(
            name,
            self.directory / name,
            client_address=f"{_LOOPBACK}:{client}",
            peer_address=f"{_LOOPBACK}:{peer}",
            peers={},
            join=",".join(each.client_address for each in self.nodes.values() if each.is_running),
            options=any_node.options,
            environment=any_node.environment,
            launcher=any_node.launcher,
        )
        return node

    def forget(self, name: NodeId) -> None:
        """End a node that is no member any more, and start it never again."""
        self.nodes.pop(name).kill()

    def start(self) -> None:
        """Start every node that doesn't run."""
        for node in self.nodes.values():
            if not node.is_running:
                node.start()

    def status(
        self, asked: Iterable[NodeId] | None = None, *, timeout: float = 2.0
    ) -> dict[NodeId, dict[str, Any] | None]:
        """What each node, or each of those `asked`, says of itself; None for one that doesn't answer in `timeout`."""
        answers: dict[NodeId, dict[str, Any] | None] = {}
        for name in self.nodes if asked is None else asked:
            node = self.nodes[name]
            try:
                answers[name] = ask_status(node.client_address, timeout=timeout) if node.is_running else None
            except AegisError:
                answers[name] = None
        return answers

    def leader(self, *, timeout: float = 2.0) -> NodeId | None:
        """The node that leads in the highest term, as the nodes themselves say, each within `timeout`."""
        best: tuple[int, NodeId] | None = None
        for name, answer in self.status(timeout=timeout).items():
            group = answer["groups"]["1"] if answer else None
            if group and group["role"] == "leader" and (best is None or group["term"] > best[0]):
                best = (group["term"], name)
        return best[1] if best else None

    def wait_leader(self, *, timeout: float = 30.0) -> NodeId:
        """Wait until some node leads. Raises Unavailable, with the nodes' last words, when none does in time."""
        for _ in _until(timeout):
            leader = self.leader()
            if leader is not None:
                return leader
            ended = [node for node in self.nodes.values() if node.process is not None and not node.is_running]
            if len(ended) == len(self.nodes):
                break
        words = "\n".join(f"{name}: {node.last_words()}" for name, node in self.nodes.items())
        raise Unavailable(f"no leader within {timeout:.0f} s; the nodes' last words:\n{words}")

    def wait_caught_up(self, *, timeout: float = 60.0) -> None:
        """Wait until every running node has applied what its leader has committed."""
        positions: list[str] = []
        for _ in _until(timeout):
            answers = {name: answer for name, answer in self.status().items() if self.nodes[name].is_running}
            groups = {name: answer["groups"]["1"] for name, answer in answers.items() if answer}
            positions = [f"{name} {group['applied_index']}/{group['last_index']}" for name, group in groups.items()]
            leaders = [group for group in groups.values() if group["role"] == "leader"]
            if leaders and len(groups) == len(answers):
                target = max(group["last_index"] for group in leaders)
                if all(group["applied_index"] == target == group["last_index"] for group in groups.values()):
                    return
        raise Unavailable(f"the nodes are not level after {timeout:.0f} s: {', '.join(positions)}")

    def kill_all(self) -> None:
        """kill -9 to all of them, the signals sent before any is waited for."""
        for node in self.nodes.values():
            if node.process is not None and node.is_running:
                node.process.send_signal(signal.SIGKILL)
        for node in self.nodes.values():
            node.kill()

    def stop(self) -> dict[NodeId, int]:
        """SIGTERM to all, and wait; exit codes."""
        for node in self.nodes.values():
            if node.process is not None and node.is_running:
                node.process.send_signal(signal.SIGTERM)
        return {name: node.terminate() for name, node in self.nodes.items()}

    def __enter__(self) -> "LocalProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()


def _until(timeout: float, pause: float = 0.02) -> Iterator[None]:
    """Turn after turn with a short pause between, until `timeout` seconds are over."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        yield
        time.sleep(pause)
