"""How many requests a second does a leader answer? A closed-loop generator: one process, raw sockets, no task per
client.

Run as `python -m aegis_replication.bench.load` with a msgpack LoadPlan on standard input; it prints a msgpack
LoadResult.
Every client has its own connection, session and keys, so the last acknowledged value of each key is known and is read
back at the end.
"""

import gc
import select
import sys
import time
from array import array
from secrets import token_bytes
from struct import Struct as Layout
from typing import Any

import msgspec

from aegis_replication import wire
from aegis_replication.processes import Connection
from aegis_replication.state_machine import commands

_GROUP = 1
_KEY_DIGITS = 12
_REPLY_HEAD_BYTES = 14
_SENTINEL = 0x7A7A7A7A7A7A7A7A  # large enough that msgpack takes 8 bytes for it, as it will for every number put there


class LoadPlan(msgspec.Struct, frozen=True):
    """What to do."""

    address: str  # of the leader
    clients: int = 64
    pipeline: int = 1  # requests in flight per client
    value_bytes: int = 256
    keys: int = 100_000  # in all; each client has its share
    seconds: float = 10.0
    warmup_seconds: float = 1.0
    reads: bool = False


class LoadResult(msgspec.Struct):
    """What came of it; times in seconds, counted only after the warm-up."""

    operations: int = 0
    seconds: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    p999_ms: float = 0.0
    max_ms: float = 0.0
    generator_cpu_s: float = 0.0
    generator_cpu: float = 0.0  # share of one core
    errors: int = 0  # replies that were not OK; the first one's text
    first_error: str = ""
    keys_read_back: int = 0
    keys_wrong: int = 0
    started_at: float = 0.0  # monotonic clock, so that the caller can measure the servers over the same time
    ended_at: float = 0.0


def summarise(result: LoadResult, latencies: "array[float]") -> None:
    """Put the count and the percentiles of `latencies` (seconds) into `result`."""
    ordered = sorted(latencies)
    result.operations = len(ordered)
    if not ordered:
        return

    def at(share: float) -> float:
        return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000.0, 3)

    result.p50_ms, result.p99_ms, result.p999_ms = at(0.50), at(0.99), at(0.999)
    result.max_ms = round(ordered[-1] * 1000.0, 3)


class _Template:
    """A request's bytes with the places of its numbers, so that a request costs a few stores and one send."""

    def __init__(self, plan: LoadPlan, session: bytes) -> None:
        key_mark, value_mark = b"K" * _KEY_DIGITS, b"V" * 8
        if plan.reads:
            body = commands.encode_query(commands.Get(key_mark))
            kind = wire.QUERY
        else:
            value = value_mark + token_bytes(plan.value_bytes - 8)
            body = commands.encode_command(session, _SENTINEL, _SENTINEL, commands.Put(key_mark, value))
            kind = wire.COMMAND
        self.packet = bytearray(wire.encode_request(kind, _GROUP, 0, body))
        self.request_at = self.packet.index(_U64.pack(0), wire.LENGTH.size + 5)
        self.sequence_at = self.packet.find(_U64_BIG.pack(_SENTINEL))
        self.floor_at = self.sequence_at + 9
        self.key_at = self.packet.index(key_mark)
        self.value_at = self.packet.find(value_mark)


_U64 = Layout("<Q")
_U64_BIG = Layout(">Q")


class _Client:
    """One connection, its session, and what it waits for."""

    __slots__ = (
        "acknowledged",
        "buffer",
        "keys",
        "next_sequence",
        "number",
        "sent_at",
        "socket",
        "template",
        "waiting",
    )

    def __init__(self, number: int, plan: LoadPlan) -> None:
        self.number = number
        session = token_bytes(16)
        connection = Connection(plan.address, timeout=10.0)
        if not plan.reads:
            status, _ = connection.ask(wire.COMMAND, commands.encode_open(session), group=_GROUP)
            if status != wire.OK:
                raise SystemExit(f"{plan.address} opens no session (status {status}): is it the leader?")
        self.socket = connection.socket
        self.socket.setblocking(False)
        self.template = _Template(plan, session)
        share = max(plan.keys // plan.clients, 1)
        self.keys = [f"{number * share + i:0{_KEY_DIGITS}d}".encode() for i in range(share)]
        self.buffer = b""
        self.next_sequence = 1
        self.waiting = 0
        self.sent_at = [0.0] * (plan.pipeline + 1)  # by sequence, modulo what can be in flight
        self.acknowledged: dict[bytes, int] = {}  # key -> the sequence last acknowledged for it, which begins its value


class Load:
    """The generator's loop."""

    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self.clients = [_Client(number, plan) for number in range(plan.clients)]
        self.latencies = array("d")
        self.result = LoadResult()

    def run(self) -> LoadResult:
        """Warm up, measure, drain, read back."""
        plan, result = self.plan, self.result
        gc.collect()
        gc.freeze()
        gc.disable()
        if plan.reads:
            self._fill()
        poll = select.epoll()
        by_descriptor = {client.socket.fileno(): client for client in self.clients}
        for descriptor in by_descriptor:
            poll.register(descriptor, select.EPOLLIN)
        for client in self.clients:
            self._send(client, plan.pipeline)
        start = time.perf_counter() + plan.warmup_seconds
        self._until(poll, by_descriptor, start)
        self.latencies = array("d")
        cpu = time.process_time()
        result.started_at = time.monotonic()
        began = time.perf_counter()
        self._until(poll, by_descriptor, began + plan.seconds)
        result.seconds = time.perf_counter() - began
        result.ended_at = time.monotonic()
        result.generator_cpu_s = time.process_time() - cpu
        result.generator_cpu = result.generator_cpu_s / result.seconds
        summarise(result, self.latencies)
        self._drain(poll, by_descriptor)
        if not plan.reads:
            self._read_back()
        return result

    def _until(self, poll: "select.epoll", clients: dict[int, _Client], until: float) -> None:
        wait, clock = poll.poll, time.perf_counter
        while clock() < until:
            for descriptor, _ in wait(0.5):
                client = clients[descriptor]
                answered = self._receive(client)
                if answered:
                    self._send(client, answered)

    def _send(self, client: _Client, count: int) -> None:
        template = client.template
        packet, keys = template.packet, client.keys
        now = time.perf_counter()
        packets = []
        for _ in range(count):
            sequence = client.next_sequence
            client.next_sequence = sequence + 1
            client.waiting += 1
            key = keys[sequence % len(keys)]
            _U64.pack_into(packet, template.request_at, sequence)
            packet[template.key_at : template.key_at + _KEY_DIGITS] = key
            if not self.plan.reads:
                _U64_BIG.pack_into(packet, template.sequence_at, sequence)
                _U64_BIG.pack_into(packet, template.floor_at, max(sequence - self.plan.pipeline, 0))
                _U64.pack_into(packet, template.value_at, sequence)
            client.sent_at[sequence % len(client.sent_at)] = now
            packets.append(bytes(packet))
        data = packets[0] if count == 1 else b"".join(packets)
        sent = client.socket.send(data)
        if sent != len(data):  # a full socket buffer: rare, and worth waiting for
            client.socket.setblocking(True)
            client.socket.sendall(data[sent:])
            client.socket.setblocking(False)

    def _receive(self, client: _Client) -> int:
        """Take replies; how many there were."""
        data = client.socket.recv(1 << 18)
        if not data:
            raise SystemExit("the node closed a connection under load")
        if client.buffer:
            data = client.buffer + data
        now = time.perf_counter()
        position, end, count = 0, len(data), 0
        slots = len(client.sent_at)
        while end - position >= _REPLY_HEAD_BYTES:
            size, _, sequence, status = wire.REPLY_HEAD.unpack_from(data, position)
            after = position + 4 + size
            if after > end:
                break
            if status != wire.OK:
                self._note_error(status, data[position + _REPLY_HEAD_BYTES : after])
            elif not self.plan.reads:
                client.acknowledged[client.keys[sequence % len(client.keys)]] = sequence
            self.latencies.append(now - client.sent_at[sequence % slots])
            count += 1
            position = after
        client.buffer = data[position:]
        client.waiting -= count
        return count

    def _note_error(self, status: int, body: bytes) -> None:
        if not self.result.errors:
            self.result.first_error = f"status {status}: {msgspec.msgpack.decode(body)}"
        self.result.errors += 1
        if self.result.errors > 100 * self.plan.clients:
            raise SystemExit(f"too many errors; the first one: {self.result.first_error}")

    def _drain(self, poll: "select.epoll", clients: dict[int, _Client]) -> None:
        deadline = time.perf_counter() + 10.0
        while any(client.waiting for client in self.clients) and time.perf_counter() < deadline:
            for descriptor, _ in poll.poll(0.2):
                self._receive(clients[descriptor])

    def _fill(self) -> None:
        """Give every key a value before it is read."""
        value = token_bytes(self.plan.value_bytes)
        with Connection(self.plan.address, timeout=30.0) as connection:
            keys = [key for client in self.clients for key in client.keys]
            for first in range(0, len(keys), 1000):
                writes = [commands.Put(key, value) for key in keys[first : first + 1000]]
                command = commands.encode_command(b"", 1, 1, commands.batch(writes))
                status, answer = connection.ask(wire.COMMAND, command, group=_GROUP)
                if status != wire.OK:
                    raise SystemExit(f"the keys can't be filled: status {status}: {answer}")

    def _read_back(self) -> None:
        """Is every key's last acknowledged value there? (A later one, sent but unanswered, would be right as well.)"""
        with Connection(self.plan.address, timeout=30.0) as connection:
            for client in self.clients:
                wanted = list(client.acknowledged.items())
                for first in range(0, len(wanted), 200):
                    part = wanted[first : first + 200]
                    query = commands.encode_query(commands.GetMany(tuple(key for key, _ in part)))
                    status, answer = connection.ask(wire.QUERY, query, group=_GROUP)
                    if status != wire.OK:
                        raise SystemExit(f"the keys can't be read back: status {status}: {answer}")
                    self._compare(part[: len(answer)], answer, client.next_sequence)

    def _compare(self, part: list[tuple[bytes, int]], answer: list[Any], after: int) -> None:
        for (_, sequence), item in zip(part, answer, strict=True):
            self.result.keys_read_back += 1
            found = int.from_bytes(item[0][:8], "little") if item else -1
            if not sequence <= found < after:
                self.result.keys_wrong += 1


def main() -> None:
    """Read a plan, run it, print the result."""
    plan = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=LoadPlan)
    if plan.value_bytes < 8:
        raise SystemExit("a value of fewer than 8 bytes can't be told from another: use --value-bytes 8 or more")
    sys.stdout.buffer.write(msgspec.msgpack.encode(Load(plan).run()))


if __name__ == "__main__":
    main()
