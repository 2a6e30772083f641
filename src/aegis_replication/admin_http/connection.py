"""What happens on one HTTP connection? Requests in, one answer each, in order, within limits of bytes and time."""

import asyncio
import logging
from email.utils import formatdate
from typing import Final, Protocol

import h11
import msgspec

from aegis_replication.admin_http.answer import Answer, error
from aegis_replication.transport.tcp import Reporter, as_transport, remote_address

_READ_BYTES: Final = 4096
_LINGER_SECONDS: Final = 1.0  # an answer gets lost when its connection is closed on bytes that nobody has read
_LINGER_READS: Final = 16


class Request(msgspec.Struct, frozen=True):
    """What counts of a request."""

    method: str
    path: str
    host: str
    accept: str
    has_body: bool


class HttpLimits(msgspec.Struct, frozen=True):
    """What one caller, and all of them together, may take."""

    connections: int = 64
    surplus: int = 16  # callers above that who are told so at a time; the others are just closed
    head_bytes: int = 8192  # of a request line and its headers
    head_seconds: float = 5.0  # from a connection's begin, or a request's first byte, to the end of its head
    idle_seconds: float = 75.0  # between two requests; whoever scrapes once a minute keeps its connection
    write_seconds: float = 10.0  # until an answer was taken


class Door(Protocol):
    """Whom a connection belongs to."""

    report: Reporter

    @property
    def limits(self) -> HttpLimits:
        """What its callers may take."""

    async def answer(self, request: Request) -> Answer:
        """The answer to one request."""

    def on_refused(self, why: str) -> None:
        """The connection is closed because of it."""

    def on_gone(self, connection: "HttpConnection") -> None:
        """That one is closed."""


class HttpConnection:
    """One caller. `start` makes a task that lives until the connection is closed."""

    __slots__ = ("_door", "_http", "_is_head", "_reader", "_writer", "peer", "task")

    task: asyncio.Task[None]

    def __init__(self, door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._door, self._reader, self._writer = door, reader, writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=door.limits.head_bytes)
        self._is_head = False  # a request for the head of an answer alone is being answered
        self.peer = remote_address(as_transport(writer.transport))
        writer.transport.set_write_buffer_limits(high=0)  # `drain` returns when the system has all of it

    def start(self, refusal: Answer | None) -> None:
        """Answer requests; or give `refusal` and close."""
        self.task = asyncio.get_running_loop().create_task(self._run(refusal))

    async def _run(self, refusal: Answer | None) -> None:
        try:
            if refusal is not None:
                await self._send(refusal)
                await self._linger()
            else:
                await self._serve()
        except (OSError, TimeoutError):
            pass  # it is gone, or takes no answer: said where that was noticed
        finally:
            self._door.on_gone(self)
            self._writer.transport.abort()

    async def _serve(self) -> None:
        """Until the caller or a limit ends it."""
        limits, is_first = self._door.limits, True
        while True:
            try:
                request = await self._next_request(limits.head_seconds if is_first else limits.idle_seconds)
            except TimeoutError:
                if is_first or self._has_begun:
                    self._refuse("late", f"no whole request head within {limits.head_seconds:g} s")
                    await self._give_up(error(408, f"send the whole request head within {limits.head_seconds:g} s"))
                return
            except h11.RemoteProtocolError as nonsense:
                self._refuse("garbage", f"no HTTP/1.1: {nonsense}")
                await self._give_up(self._judge(nonsense))
                return
            if request is None:
                return
            await self._send(await self._door.answer(request))
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                await self._linger()
                return
            self._http.start_next_cycle()
            is_first = self._is_head = False

    @property
    def _has_begun(self) -> bool:
        """Has a request begun that isn't complete?"""
        return bool(self._http.trailing_data[0])

    async def _next_request(self, patience_seconds: float) -> Request | None:
        """The next one, its head complete; None when the caller has left. Raises TimeoutError.

        `patience_seconds` are for its first byte; from then on the head's own time runs.
        """
        until = asyncio.get_running_loop().time() + patience_seconds
        had_begun = False
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                return self._taken(event)
            if event is not h11.NEED_DATA:
                return None
            if self._has_begun and not had_begun:
                had_begun = True
                until = min(until, asyncio.get_running_loop().time() + self._door.limits.head_seconds)
            async with asyncio.timeout_at(until):
                data = await self._reader.read(_READ_BYTES)
            self._http.receive_data(data)
            if not data and not self._has_begun:
                return None

    def _taken(self, event: h11.Request) -> Request:
        """What counts of it, taken out of h11's bytes."""
        headers = {name: value.decode("latin-1") for name, value in event.headers}
        has_body = headers.get(b"content-length", "0") != "0" or b"transfer-encoding" in headers
        if not has_body:
            self._http.next_event()  # its end
        self._is_head = event.method == b"HEAD"
        target = event.target.decode("latin-1")
        if "://" in target:  # as a proxy is asked
            target = "/" + target.partition("://")[2].partition("/")[2]
        return Request(
            event.method.decode("latin-1"),
            target.partition("?")[0],
            headers.get(b"host", ""),
            headers.get(b"accept", ""),
            has_body,
        )

    def _judge(self, nonsense: h11.RemoteProtocolError) -> Answer:
        status = nonsense.error_status_hint
        if status == 431:
            return error(431, f"request line and headers may have {self._door.limits.head_bytes} bytes together")
        return error(status, f"this is no HTTP/1.1 request: {nonsense}")

    def _refuse(self, why: str, text: str) -> None:
        self._door.on_refused(why)
        self._door.report.sometimes(why, f"closed {self.peer}: {text}", logging.INFO)

    async def _give_up(self, answer: Answer) -> None:
        """Say why, as far as the caller can still be told, and close."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._send(answer)
            await self._linger()

    async def _send(self, answer: Answer) -> None:
        """The answer is on its way. Raises TimeoutError when the caller doesn't take it."""
        headers = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *answer.headers,
        ]
        if self._http.their_state is not h11.DONE:  # what it still sends isn't read
            headers.append(("Connection", "close"))
        response = h11.Response(status_code=answer.status, headers=headers)
        packets = [self._http.send(response)]
        if not self._is_head:
            packets.append(self._http.send(h11.Data(data=answer.body)))
        packets.append(self._http.send(h11.EndOfMessage()))
        self._writer.write(b"".join(packets))
        try:
            async with asyncio.timeout(self._door.limits.write_seconds):
                await self._writer.drain()
        except TimeoutError:
            self._refuse("stalled", "it takes no answers")
            raise

    async def _linger(self) -> None:
        """Nothing more will be said; wait until the caller has seen that, for a while and for so many bytes."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                for _ in range(_LINGER_READS):
                    if not await self._reader.read(_READ_BYTES):
                        return
        except TimeoutError:
            pass
