"""How does a client talk to one node? One connection: handshake, requests out, replies in, and word of its end."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Final, Protocol

from aegis_replication.errors import LimitExceeded, ProtocolError, Refused, Unavailable
from aegis_replication.transport.tcp import (
    NONSENSE,
    PacketBuffer,
    as_transport,
    parse_address,
    take_hello,
    tune_socket,
    why_not_connected,
)
from aegis_replication.wire import LENGTH, PING, REPLY, Hello, choose_version, encode_hello, encode_request

LOG = logging.getLogger("aegis_replication.transport")

PING_SECONDS: Final = 5.0
SILENT_CHECKS_MAX: Final = 3  # pings without an inbound byte, after which the node is given up
PING_REQUEST: Final = 2**64 - 1  # the request id of pings; requests are numbered from below

_PING_PACKET: Final = encode_request(PING, 0, PING_REQUEST, b"")
_PING_REPLY_START: Final = bytes([REPLY]) + PING_REQUEST.to_bytes(8, "little")
_REPLY_EXTRA_BYTES: Final = 64 * 1024  # what a reply adds to the largest request or value


class ClientConnection(Protocol):
    """What a client holds of a node that it is connected to, whatever lies between them.

    Replies come to `on_replies` as a list of packets without their lengths (`wire.decode_reply` takes one apart), all
    that one read brought at once. `on_lost` is called once with a reason when the connection ends, but not by `close`.
    """

    hello: Hello  # the node's: who it is, and its limits

    def send(self, packet: bytes) -> None:
        """Send one request packet. Raises LimitExceeded above the node's limit; dropped once the connection is lost."""

    def close(self) -> None:
        """End it; nothing is called any more."""


OnReplies = Callable[[list[bytes]], None]
OnLost = Callable[[str], None]


async def connect_tcp(
    address: str,
    hello: Hello,
    *,
    timeout: float,
    on_replies: OnReplies,
    on_lost: OnLost,
    ping_seconds: float = PING_SECONDS,
    context: ssl.SSLContext | None = None,
) -> ClientConnection:
    """A connection to the node whose clients' port is at `address` ("host:port"), handshake done.

    Raises Unavailable when nobody answers there in time, Refused when the node says why not, ProtocolError when what
    answers isn't a node.
    """
    loop = asyncio.get_running_loop()
    host, port = parse_address(address, what="address")
    protocol: TcpClientConnection | None = None
    try:
        async with asyncio.timeout(timeout):
            _, protocol = await loop.create_connection(
                lambda: TcpClientConnection(address, hello, on_replies, on_lost), host, port, ssl=context
            )
            await protocol.wait_shaken()
    except TimeoutError:
        raise Unavailable(f"{address} gave no answer within {timeout:g} s: is a node running there?") from None
    except OSError as error:
        raise Unavailable(
            f"{address} can't be reached ({why_not_connected(error)}): is a node running there?"
        ) from None
    finally:
        if protocol is not None and not protocol.is_up:
            protocol.close()
    protocol.keep_alive(ping_seconds)
    return protocol


class TcpClientConnection(asyncio.Protocol):
    """A connection over TCP. Requests sent in one turn of the loop leave in one write."""

    # fmt: off
    __slots__ = ("hello", "is_up", "_address", "_own", "_on_replies", "_on_lost", "_transport", "_hello_bytes",
                 "_packets", "_reply_bytes_max", "_shaken", "_waiting", "_is_closed", "_silent_checks", "_timer")
    # fmt: on

    hello: Hello
    _transport: asyncio.Transport

    def __init__(self, address: str, own: Hello, on_replies: OnReplies, on_lost: OnLost) -> None:
        self.is_up = False  # handshake done, not yet lost or closed
        self._address = address
        self._own = own
        self._on_replies = on_replies
        self._on_lost = on_lost
        self._hello_bytes = bytearray()
        self._packets = PacketBuffer()
        self._reply_bytes_max = 0
        self._shaken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting: list[bytes] = []  # sent since the last write
        self._is_closed = False
        self._silent_checks = 0
        self._timer: asyncio.TimerHandle | None = None

    async def wait_shaken(self) -> None:
        """Until the handshake is done; raises Refused, ProtocolError or Unavailable."""
        await self._shaken

    def send(self, packet: bytes) -> None:
        """Send one request packet. Raises LimitExceeded above the node's limit; dropped once the connection is lost."""
        if len(packet) - LENGTH.size > self.hello.limits.request_bytes:
            raise LimitExceeded("a request", len(packet) - LENGTH.size, self.hello.limits.request_bytes)
        if not self.is_up:
            return
        waiting = self._waiting
        waiting.append(packet)
        if len(waiting) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def close(self) -> None:
        """End it; nothing is called any more."""
        if self._is_closed:
            return
        self._flush()
        self._end()
        self._transport.close()

    def keep_alive(self, seconds: float) -> None:
        """Check for signs of life at this pace from now on."""
        self._timer = asyncio.get_running_loop().call_later(seconds, self._check_again, seconds)

    def check_alive(self) -> None:
        """One more check: pings a node that was silent since the last one, gives up one that was for several.

        Checks are counted, not time: after a pause of this process the node isn't given up at once.
        """
        if self._silent_checks > SILENT_CHECKS_MAX:
            self._lose(f"{self._address} gives no sign of life")
            return
        if self._silent_checks:
            self._transport.write(_PING_PACKET)
        self._silent_checks += 1

    def _check_again(self, seconds: float) -> None:
        self.check_alive()
        if not self._is_closed:
            self.keep_alive(seconds)

    def _flush(self) -> None:
        waiting = self._waiting
        if waiting and self.is_up:
            self._transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))
        waiting.clear()

    # --- what comes in ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = as_transport(transport)
        tune_socket(transport, dead_seconds=PING_SECONDS * SILENT_CHECKS_MAX)
        transport.write(encode_hello(self._own))

    def data_received(self, data: bytes) -> None:
        if self._is_closed:
            return
        self._silent_checks = 0
        try:
            if not self.is_up:
                self._hello_bytes += data
                if not self._take_handshake():
                    return
                data = bytes(self._hello_bytes)
                self._hello_bytes.clear()
            packets = self._packets.take(data, self._reply_bytes_max)
            if any(packet.startswith(_PING_REPLY_START) for packet in packets[:1] + packets[-1:]):
                packets = [packet for packet in packets if not packet.startswith(_PING_REPLY_START)]
        except NONSENSE as error:
            self._lose(f"{self._address}: {error}", error)
            return
        if packets:
            self._on_replies(packets)

    def _take_handshake(self) -> bool:
        hello = take_hello(self._hello_bytes)
        if hello is None:
            return False
        if hello.refusal:
            raise_later: Exception = Refused(f"{self._address}: {hello.refusal}")
            self._lose(str(raise_later), raise_later)
            return False
        choose_version(self._own, hello)
        limits = hello.limits
        self._reply_bytes_max = max(limits.request_bytes, limits.value_bytes, limits.packet_bytes) + _REPLY_EXTRA_BYTES
        self.hello = hello
        self.is_up = True
        if not self._shaken.done():
            self._shaken.set_result(None)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._lose(f"{self._address} closed the connection" + (f": {error}" if error else ""))

    def _lose(self, reason: str, error: Exception | None = None) -> None:
        if self._is_closed:
            return
        was_up = self.is_up
        self._end()
        self._transport.abort()
        if not self._shaken.done():
            if isinstance(error, LimitExceeded):
                error = ProtocolError(reason)
            self._shaken.set_exception(
                error or Unavailable(f"{reason} before the handshake: try again, or another node")
            )
            self._shaken.exception()  # seen: a caller that was cancelled meanwhile doesn't fetch it
        elif was_up:
            self._on_lost(reason)

    def _end(self) -> None:
        self._is_closed = True
        self.is_up = False
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
