"""When do two simulated nodes speak with each other? What each says of itself, as in the handshakes of real ones."""

from aegis_replication.consensus.changes import Introduction
from aegis_replication.engine.events import PeerSeen
from aegis_replication.simulation.host import Host
from aegis_replication.simulation.host_settings import client_address, peer_address


def introduction(host: Host) -> Introduction:
    """What it says of itself."""
    index = host.engine.configuration_index if host.is_up else 0
    settings = host.settings
    return Introduction(settings.incarnation, peer_address(host.node), settings.config.priority, index)


def why_not(one: Host, other: Host) -> str:
    """Why one of the two refuses a connection with the other; "" when neither does. Who is down can't."""
    for host, peer in ((one, other), (other, one)):
        if host.is_up and (reason := host.engine.why_not(peer.node, introduction(peer))):
            return reason
    return ""


def meet(host: Host, other: Host) -> None:
    """`host` has a connection with `other`; told once for each process and each disk of the other."""
    now = (other.settings.incarnation, other.life)
    if host.is_up and host.met.get(other.node) != now:
        host.met[other.node] = now
        host.tell(PeerSeen(other.node, client_address(other.node), introduction(other)))
