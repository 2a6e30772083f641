"""Who connects to a door under test? A caller whose bytes go straight into the protocol: no socket, no real clock."""

import asyncio
import json
from typing import Any

import h11

from aegis_replication.admin_http.door import HttpDoor


class FakeTransport(asyncio.Transport):
    """The connection's other end, in memory. `takes` is False for a caller that reads nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_ended = False
        self.closed = asyncio.Event()
        self.protocol: Any = None
        self.takes = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("10.0.0.9", 1234) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0, "an answer counts as taken only when all of it is"

    def write(self, data: bytes) -> None:
        self.written += data
        if not self.takes:
            self.protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_ended = True

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def abort(self) -> None:
        self.closed.set()

    close = abort


class Caller:
    """One connection to `door`."""

    def __init__(self, door: HttpDoor, *, takes: bool = True) -> None:
        self.transport = FakeTransport()
        self.transport.takes = takes
        self.protocol = self.transport.protocol = door.accept()
        self.protocol.connection_made(self.transport)

    def send(self, data: bytes) -> None:
        self.protocol.data_received(data)

    def leave(self) -> None:
        """Says that nothing more will come."""
        self.protocol.eof_received()

    @property
    def is_closed(self) -> bool:
        return self.transport.is_closing()

    async def closed(self) -> float:
        """Waits until the door has closed the connection; the loop's time then."""
        await self.transport.closed.wait()
        return asyncio.get_running_loop().time()

    async def settle(self) -> None:
        """Lets the door do all that it can do at once."""
        for _ in range(20):
            await asyncio.sleep(0)

    def answers(self, *methods: str) -> list[tuple[int, dict[str, str], bytes]]:
        """What it got so far, taken apart by the rules of HTTP: status, headers, body; for GETs unless said."""
        found, client = [], h11.Connection(h11.CLIENT)
        client.receive_data(bytes(self.transport.written))
        if self.is_closed or self.transport.is_ended:
            client.receive_data(b"")
        for method in methods or ("GET",) * 1000:
            if not client.trailing_data[0]:
                break
            client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
            client.send(h11.EndOfMessage())
            response = client.next_event()
            assert isinstance(response, h11.Response), response
            body = b""
            while isinstance(event := client.next_event(), h11.Data):
                body += event.data
            assert isinstance(event, h11.EndOfMessage), event
            found.append((response.status_code, {k.decode(): v.decode() for k, v in response.headers}, bytes(body)))
            if client.their_state is not h11.DONE:
                break
            client.start_next_cycle()
        return found

    def answer(self, *methods: str) -> tuple[int, dict[str, str], Any]:
        """The one answer that it got, its body out of JSON."""
        [(status, headers, body)] = self.answers(*methods)
        return status, headers, json.loads(body) if body else None


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    """A request as a well-behaved client sends it."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"
