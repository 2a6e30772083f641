"""How do replies reach their clients? One write per connection and turn."""

from collections.abc import Sequence

from aegis_replication.transport.base import ClientDoor


def reply_all(doors: Sequence[ClientDoor], replies: Sequence[tuple[int, bytes]]) -> None:
    """Hand each connection its packets, joined. node.door_handler says how a connection's number names its door."""
    count = len(doors)
    if len(replies) == 1:
        connection, packet = replies[0]
        doors[connection % count].reply(connection // count, packet)
        return
    joined: dict[int, list[bytes]] = {}
    for connection, packet in replies:
        if connection in joined:
            joined[connection].append(packet)
        else:
            joined[connection] = [packet]
    for connection, packets in joined.items():
        packet = packets[0] if len(packets) == 1 else b"".join(packets)
        doors[connection % count].reply(connection // count, packet)
