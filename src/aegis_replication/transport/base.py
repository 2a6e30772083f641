"""What does a node need of its network? The contract that memory and TCP transports keep."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from aegis_replication.ids import NodeId
from aegis_replication.wire import Hello, Request


class PeerHandler(Protocol):
    """What a node offers to its peer transport. Called on the node's own loop."""

    def on_peer_packet(self, source: NodeId, kind: int, body: bytes) -> None:
        """A packet came; `source` is who the connection's handshake proved it to be."""

    def why_not_peer(self, hello: Hello) -> str | None:
        """Why the node that sent this handshake gets no connection, "" when it does; None: let the list of peers say.

        Asked in both directions, when it calls and when it is called, before anything else is taken from it.
        """

    def on_peer_heard(self, hello: Hello) -> None:
        """A peer that was called has said who it is, and that it gives this node no connection."""

    def on_peer_met(self, hello: Hello) -> None:
        """A peer has called: packets may come from it; whether it can be reached is another matter."""

    def on_peer_up(self, hello: Hello) -> None:
        """A peer can be reached; `hello.node` is its id."""

    def on_peer_down(self, peer: NodeId) -> None:
        """A peer's connection ended; packets sent before may be lost."""


class PeerTransport(Protocol):
    """Packets to and from the other nodes: unreliable, unordered between bulk and urgent, never corrupt."""

    async def start(self, handler: PeerHandler) -> None:
        """Listen, and keep trying to reach every peer (backoff with jitter, capped)."""

    def set_peers(self, peers: Mapping[NodeId, str], *, configuration: int = 0, has_log: bool = False) -> None:
        """Who the peers are from now on, and where ("" where that isn't known); one that is gone is cut off.

        `configuration` and `has_log` are told in handshakes: how new what this node knows of its group's members is,
        and whether it holds more than what every founder makes for itself.
        """

    def send(self, target: NodeId, packet: bytes, *, bulk: bool) -> None:
        """Hand over one packet (length first). Dropped when the peer can't be reached or too much waits already.

        It is on its way when this returns, unless the peer's socket is full: nothing waits for the turn's end.

        Bulk packets keep their order among themselves and may be overtaken by the others.
        """

    def connected(self) -> set[NodeId]:
        """Who can be reached now."""

    async def stop(self) -> None:
        """Close everything."""


class ClientHandler(Protocol):
    """What a node offers to its clients' door. Called on the node's own loop."""

    def on_requests(self, connection: int, requests: Sequence[Request]) -> None:
        """All requests that one read brought. Each is answered once: until then it counts as in flight."""

    def on_client_gone(self, connection: int) -> None:
        """Nobody waits for this connection's replies any more."""


class ClientDoor(Protocol):
    """Where clients connect."""

    async def start(self, handler: ClientHandler) -> None:
        """Listen."""

    def reply(self, connection: int, packets: bytes) -> None:
        """Send whole reply packets to a client; dropped when it is gone.

        The caller joins them: one write per connection per turn.
        """

    async def stop(self) -> None:
        """Close everything."""
