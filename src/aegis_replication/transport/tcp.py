"""What do all TCP connections here share? Addresses, socket options, the handshake's checks, framing, quiet logging."""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable, Collection
from ipaddress import ip_address
from typing import Final, NamedTuple, cast

import msgspec

from aegis_replication.errors import ConfigError, LimitExceeded, ProtocolError
from aegis_replication.ids import NodeId
from aegis_replication.wire import (
    HELLO,
    HELLO_BYTES_MAX,
    LENGTH,
    MAGIC,
    Hello,
    choose_version,
    decode_hello,
    encode_hello,
    split_packets,
)

LOG = logging.getLogger("aegis_replication.transport")

HANDSHAKE_SECONDS: Final = 5.0
REFUSAL_CHARACTERS_MAX: Final = 400
REPEAT_SECONDS: Final = 60.0  # an unchanged trouble is said again after this


# --- addresses and sockets ------------------------------------------------------------------------------------------


class Address(NamedTuple):
    """Where to listen or connect."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, what: str, any_port: bool = False) -> Address:
    """`text` ("host:port", "[::1]:port") taken apart; `what` names it in the error.

    Raises ConfigError when it isn't one. Port 0 (the system chooses) only with `any_port`.
    """
    host, colon, port_text = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    port = int(port_text) if port_text.isascii() and port_text.isdecimal() and len(port_text) <= 5 else -1
    if not colon or not host or (":" in host and not bracketed) or not (0 if any_port else 1) <= port <= 65535:
        raise ConfigError(f"{what} = {text!r}: must be host:port, such as '127.0.0.1:7001' or '[::1]:7001'")
    return Address(host, port)


def is_loopback(address: Address) -> bool:
    """Can only programs of this machine connect to what listens there?"""
    if address.host == "localhost":
        return True
    try:
        return ip_address(address.host).is_loopback
    except ValueError:
        return False


async def listen(
    factory: Callable[[], asyncio.Protocol],
    text: str,
    *,
    what: str,
    backlog: int,
    context: ssl.SSLContext | None = None,
) -> tuple[asyncio.Server, str]:
    """A server at `text` and the address that it got. Raises ConfigError when the address can't be had."""
    host, port = parse_address(text, what=what, any_port=True)
    try:
        server = await asyncio.get_running_loop().create_server(factory, host, port, backlog=backlog, ssl=context)
    except OSError as error:
        raise ConfigError(
            f"{what} = {text!r}: cannot listen there ({why_not_connected(error)}): "
            "stop the program that does, or give another port"
        ) from None
    name = server.sockets[0].getsockname()
    return server, str(Address(host, name[1]))


async def wait_set(event: asyncio.Event, seconds: float) -> None:
    """Waits until `event` is set, or for so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def as_transport(transport: asyncio.BaseTransport) -> asyncio.Transport:
    """What a protocol is given, as what it is: uvloop's transports don't inherit from asyncio's."""
    return cast(asyncio.Transport, transport)


def why_not_connected(error: OSError) -> str:
    """The system's words for why a socket couldn't be had, without what asyncio wraps around them."""
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)


def tune_socket(transport: asyncio.Transport, *, dead_seconds: float) -> None:
    """Sends small packets at once, and lets the system give up a connection that nothing comes back on.

    Options that this system doesn't have are left out: then the layers above notice a dead link by its silence.
    """
    connection = transport.get_extra_info("socket")
    if connection is None:
        return
    options = [
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", max(1, int(dead_seconds / 2))),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", max(1, int(dead_seconds / 6))),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", int(dead_seconds * 1000)),
        # Little waits unsent in the kernel, where nothing urgent could overtake it any more.
        (socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", 256 * 1024),
    ]
    for level, name, value in options:
        if (option := getattr(socket, name, None)) is not None:
            try:
                connection.setsockopt(level, option, value)
            except OSError:  # the connection is gone already, or this kind of socket doesn't have it
                return


def remote_address(transport: asyncio.Transport) -> str:
    """Who is on the other side, for log lines and counts per address; "?" when it's gone already."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) and name else "?"


def descriptors_max() -> int:
    """How many files and sockets this process may have open; a large number where the system doesn't say."""
    try:
        import resource  # not on Windows
    except ImportError:
        return 1 << 20
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


# --- the handshake --------------------------------------------------------------------------------------------------

_HELLO_HEAD: Final = bytes([HELLO]) + MAGIC


def take_hello(buffer: bytearray) -> Hello | None:
    """The handshake at the buffer's start, removed from there; None while it isn't complete.

    Raises ProtocolError at the first byte that no handshake has.
    """
    if len(buffer) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack_from(buffer)
    seen = bytes(buffer[LENGTH.size : LENGTH.size + len(_HELLO_HEAD)])
    if not len(_HELLO_HEAD) < size <= HELLO_BYTES_MAX or not _HELLO_HEAD.startswith(seen[: len(_HELLO_HEAD)]):
        raise ProtocolError(f"the first packet is not an aegis handshake: it begins with {shown(bytes(buffer[:16]))}")
    after = LENGTH.size + size
    if len(buffer) < after:
        return None
    hello = decode_hello(buffer[LENGTH.size], bytes(buffer[LENGTH.size + 1 : after]))
    del buffer[:after]
    return hello


def check_own(own: Hello) -> Hello:
    """`own` as it came. Raises ConfigError when no other side would take it."""
    if len(encode_hello(own)) > HELLO_BYTES_MAX - 4 * REFUSAL_CHARACTERS_MAX:
        raise ConfigError(f"cluster = {shown(own.cluster)}: too long to tell in a handshake; a short name will do")
    return own


def encode_refusal(own: Hello, reason: str) -> bytes:
    """The handshake that says why there will be no connection."""
    return encode_hello(msgspec.structs.replace(own, refusal=reason[:REFUSAL_CHARACTERS_MAX]))


def why_not_peer(own: Hello, theirs: Hello) -> str:
    """Why `theirs`, who called the peers' port of `own`, gets no connection, whoever the members are; "" when it does.

    Told to the caller.
    """
    if theirs.role == "client":
        there = f"connect to {own.client_address}" if own.client_address else "have a port of their own"
        return f"this is {own.node}'s port for peers: clients {there}"
    if theirs.role != "peer":
        return f"role {shown(theirs.role)} is unknown here: this is {own.node}'s port for peers"
    if theirs.cluster != own.cluster:
        return _wrong_cluster(own, theirs)
    if theirs.target != own.node:
        return f"you reached {own.node}, not {shown(theirs.target)}: check its address in your list of peers"
    if theirs.node == own.node:
        return f"two nodes are called {own.node}: give one of them another id"
    if theirs.limits.packet_bytes < HELLO_BYTES_MAX:
        return f"packets of {theirs.limits.packet_bytes} bytes at most: too small for a peer"
    return _version_trouble(own, theirs)


def why_not_listed(own: Hello, theirs: Hello, peers: Collection[NodeId]) -> str:
    """Why `theirs` isn't one of `peers`; "" when it is."""
    if theirs.node in peers:
        return ""
    known = ", ".join(sorted(peers)) or "nobody"
    return f"{shown(theirs.node)} is not a member that {own.node} knows ({known}): check peers on both nodes"


def why_not_client(own: Hello, theirs: Hello, peer_address: str) -> str:
    """Why `theirs`, who called the clients' port of `own`, gets no connection; "" when it does. Told to the caller."""
    if theirs.role == "peer":
        there = f"connect to {peer_address}" if peer_address else "have a port of their own"
        return f"this is {own.node}'s port for clients: peers {there}"
    if theirs.role != "client":
        return f"role {shown(theirs.role)} is unknown here: this is {own.node}'s port for clients"
    if theirs.cluster and theirs.cluster != own.cluster:
        return _wrong_cluster(own, theirs)
    if theirs.target and theirs.target != own.node:
        return f"you reached {own.node}, not {shown(theirs.target)}: check the address that you have for it"
    return _version_trouble(own, theirs)


def _wrong_cluster(own: Hello, theirs: Hello) -> str:
    return (
        f"you reached {own.node} of cluster {shown(own.cluster)}, you belong to {shown(theirs.cluster)}: "
        "check the address and the cluster's name"
    )


def _version_trouble(own: Hello, theirs: Hello) -> str:
    try:
        choose_version(theirs, own)  # told to the caller, so "here" is the caller's side
    except ProtocolError as error:
        return str(error)
    return ""


def shown(value: str | bytes, length_max: int = 64) -> str:
    """A stranger's text or bytes, fit for a log line: quoted, escaped and not long."""
    quoted = ascii(value[:length_max])
    return quoted + "..." if len(value) > length_max else quoted


# --- framing --------------------------------------------------------------------------------------------------------


class PacketBuffer:
    """Bytes that came, cut into whole packets. A length is checked before anything is stored for it."""

    __slots__ = ("_rest", "_needed")

    def __init__(self) -> None:
        self._rest = bytearray()  # the start of a packet that isn't complete yet
        self._needed = 0  # how long `_rest` must be before another look is worth it

    def take(self, data: bytes, limit: int) -> list[bytes]:
        """The packets (kind and body) that `data` completes; raises LimitExceeded for a length of 0 or over `limit`."""
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._needed:
                return []
            data = bytes(rest)
        packets, used = split_packets(data, limit)
        self._rest = rest = bytearray(memoryview(data)[used:])
        self._needed = LENGTH.size + LENGTH.unpack_from(rest)[0] if len(rest) >= LENGTH.size else LENGTH.size
        return packets

    def is_partial(self) -> bool:
        """Has a packet begun that isn't complete?"""
        return bool(self._rest)


NONSENSE: Final = (ProtocolError, LimitExceeded)
"""What a stranger's bytes may raise while they are taken apart: the connection is closed, counted and reported."""


# --- log lines that strangers can cause -----------------------------------------------------------------------------


class Reporter:
    """Log lines about others' mistakes: one per change and at most one a second per subject; the rest are counted.

    Subjects are few (peers known by name, "strangers", ...): one is never made of what a stranger sent.
    """

    __slots__ = ("_prefix", "_clock", "_last", "_withheld")

    def __init__(self, prefix: str, clock: Callable[[], float]) -> None:
        self._prefix = prefix  # the fields of every line, such as "node=n1"
        self._clock = clock  # seconds, monotonic
        self._last: dict[str, tuple[str, float]] = {}  # subject -> what was said last, and when
        self._withheld: dict[str, int] = {}  # subject -> lines not said since

    def say(self, text: str, level: int = logging.INFO) -> None:
        """A change of state that happens seldom by itself."""
        LOG.log(level, "%s%s", self._prefix, _after_fields(text))

    def on_change(self, subject: str, text: str, level: int = logging.WARNING) -> None:
        """Say `text` unless it's what was said last about `subject`."""
        said, when = self._last.get(subject, ("", -REPEAT_SECONDS))
        if text != said or self._clock() - when >= REPEAT_SECONDS:
            self.sometimes(subject, text, level)

    def sometimes(self, subject: str, text: str, level: int = logging.WARNING) -> None:
        """Say `text` unless something was said about `subject` within the last second."""
        now = self._clock()
        if now - self._last.get(subject, ("", -REPEAT_SECONDS))[1] < 1.0:
            self._withheld[subject] = self._withheld.get(subject, 0) + 1
            return
        self._last[subject] = (text, now)
        withheld = self._withheld.pop(subject, 0)
        more = f" (and {withheld} more)" if withheld else ""
        LOG.log(level, "%s%s%s", self._prefix, _after_fields(text), more)

    def settled(self, subject: str) -> None:
        """The trouble with `subject` is over: the next one is news again."""
        self._last.pop(subject, None)
        self._withheld.pop(subject, None)


def _after_fields(text: str) -> str:
    """`text` as it stands behind other fields: a field of its own joins them, and the first ": " ends them."""
    return f" {text}" if text.startswith("peer=") else f": {text}"
