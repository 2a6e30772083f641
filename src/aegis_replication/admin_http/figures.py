"""What do a node's ports measure? Metrics of what its transports and the HTTP door count anyway."""

from collections.abc import Iterator

from aegis_replication.admin_http.door import HttpDoor
from aegis_replication.observability.metrics import Figure
from aegis_replication.transport.tcp_clients import TcpClientDoor
from aegis_replication.transport.tcp_peers import TcpPeerTransport


def peer_figures(peers: TcpPeerTransport) -> Iterator[Figure]:
    """Packets to the other nodes, and calls of theirs that were ended."""
    seen = peers.statistics()
    for peer, queued_bytes in seen.queued_bytes.items():
        yield Figure("aegis_peer_queued_bytes", queued_bytes, (peer,))
        yield Figure("aegis_peer_packets_sent_total", seen.sent[peer], (peer,))
        for reason in ("unreachable", "full", "too_large"):
            yield Figure("aegis_peer_packets_dropped_total", getattr(seen, f"dropped_{reason}")[peer], (peer, reason))
    for reason in ("refused", "garbage", "late"):
        yield Figure("aegis_peer_connections_closed_total", getattr(seen, reason), (reason,))


def client_figures(door: TcpClientDoor) -> Iterator[Figure]:
    """Connections of clients."""
    seen = door.statistics()
    yield Figure("aegis_door_connections", seen.connections, ("clients",))
    for reason in ("refused", "surplus", "garbage", "late", "stalled"):
        yield Figure("aegis_door_connections_closed_total", getattr(seen, reason), ("clients", reason))


def http_figures(door: HttpDoor) -> Iterator[Figure]:
    """What the door for HTTP has answered, and turned away."""
    yield Figure("aegis_door_connections", len(door.connections), ("http",))
    yield Figure("aegis_door_requests_total", door.requests.total(), ("http",))
    for reason in ("surplus", "garbage", "late", "stalled"):
        yield Figure("aegis_door_connections_closed_total", door.refused[reason], ("http", reason))
    for (path, code), count in sorted(door.requests.items()):
        yield Figure("aegis_http_requests_total", count, (path, str(code)))
