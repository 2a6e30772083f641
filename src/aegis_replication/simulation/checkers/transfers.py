"""What must hold of snapshots on their way, and when they have come?"""

from typing import Any

from aegis_replication.consensus.messages import InstallSnapshot, Message
from aegis_replication.engine.replica import Replica
from aegis_replication.engine.snapshot_sending import WINDOW_CHUNKS
from aegis_replication.errors import CorruptRecord, InvariantBroken
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.log import SnapshotMeta


def check_named(host: Any, group: GroupId, meta: SnapshotMeta) -> None:
    """A snapshot has its name only when every byte of it is right: nobody looks again before it is needed."""
    found = host.storage.snapshots.newest(group)
    if found is not None and found.index > meta.index:
        return  # a leader's came while this one was written, and has taken its place already
    if found != meta:
        raise InvariantBroken("named snapshots are whole", f"{host.node} named {meta.id} and has {found}")
    try:
        for _ in host.storage.snapshots.chunks(group, meta.id):
            pass
    except CorruptRecord as error:
        raise InvariantBroken("named snapshots are whole", f"{host.node}: {error}") from error


def check_sent(node: NodeId, target: NodeId, message: Message, replica: Replica, chunk_bytes: int) -> None:
    """A follower, and the network to it, never has to bear more than a window of chunks."""
    if isinstance(message, InstallSnapshot):
        in_flight = replica.sending.in_flight_bytes(target)
        if in_flight > WINDOW_CHUNKS * chunk_bytes:
            raise InvariantBroken("chunks within the window", f"{node} has {in_flight} bytes on the way to {target}")
