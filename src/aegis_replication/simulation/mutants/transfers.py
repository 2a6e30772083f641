"""Which mistakes can be made with snapshots that are written, sent, received and restored beside the work? (Raft §7)"""

from typing import Any

from aegis_replication.engine.effects import Effects
from aegis_replication.engine.events import ChunkStored
from aegis_replication.engine.replica import Replica
from aegis_replication.engine.snapshot_sending import SnapshotSending, _Transfer
from aegis_replication.ids import GroupId
from aegis_replication.log import SnapshotMeta
from aegis_replication.simulation.mutants.mutant import Mutant, around, instead
from aegis_replication.state_machine.frozen_map import FrozenMap
from aegis_replication.storage.snapshot_arrival import Arrival
from aegis_replication.storage.snapshots import FileSnapshots


def _take_unseen(arrival: Arrival, data: bytes) -> bool:
    arrival.taken += len(data)
    arrival.verified = arrival.taken
    arrival._state = "done"
    return True


def _resume_unread(snapshots: FileSnapshots, group: GroupId, meta: SnapshotMeta, total_bytes: int) -> int:
    coming = snapshots._begin_receiving(group, meta, total_bytes, is_there=True)
    del snapshots._parts[group]
    coming.file.size = min(snapshots._files.size(coming.file.handle), total_bytes)
    coming.arrival.taken = coming.arrival.verified = coming.file.size
    coming.arrival._state = "unread" if coming.file.size < total_bytes else "done"
    return coming.file.size


def _take_after_unread(take: Any, arrival: Arrival, data: bytes) -> bool:
    if arrival._state != "unread":
        return bool(take(arrival, data))
    arrival.taken += len(data)
    arrival.verified = arrival.taken
    arrival._state = "unread" if arrival.taken < arrival._total_bytes else "done"
    return True


def _go_on_with_any(
    receive: Any, snapshots: FileSnapshots, group: GroupId, meta: SnapshotMeta, offset: int, total: int, data: bytes
) -> int:
    coming = snapshots._receiving.get(group)
    if coming is not None and offset:
        coming.meta, coming.total_bytes = meta, total
        coming.arrival._meta, coming.arrival._total_bytes = meta, total
    wanted: int = receive(snapshots, group, meta, offset, total, data)
    return wanted


def _send_all_at_once(sending: SnapshotSending, transfer: _Transfer) -> bool:
    return not transfer.is_reading and not transfer.sent >= transfer.total_bytes > 0


def _applied_at_once(on_chunk_stored: Any, replica: Replica, event: ChunkStored, effects: Effects) -> None:
    on_chunk_stored(replica, event, effects)
    if replica._restoring is not None:
        replica.applied, replica._restoring = replica._restoring[1].index, None


TRANSFERS = (
    Mutant(
        "installed_before_verified",
        "a snapshot is installed as soon as its last byte has come, right or wrong",
        (instead(Arrival, "take", _take_unseen),),
    ),
    Mutant(
        "another_snapshots_chunk",
        "a transfer goes on with the bytes of another snapshot, and only its length is looked at",
        (around(FileSnapshots, "receive", _go_on_with_any), instead(Arrival, "take", _take_unseen)),
    ),
    Mutant(
        "resumed_unread",
        "after a restart a transfer goes on behind what is in the file, whatever that is",
        (instead(FileSnapshots, "resume", _resume_unread), around(Arrival, "take", _take_after_unread)),
    ),
    Mutant(
        "window_not_kept",
        "a leader sends chunks without waiting for any answer",
        (instead(SnapshotSending, "_may_read", _send_all_at_once),),
    ),
    Mutant(
        "applied_before_restored",
        "a replica takes a snapshot for its state before the machine has become it",
        (around(Replica, "on_chunk_stored", _applied_at_once),),
    ),
    Mutant(
        "frozen_state_thaws",
        "a snapshot holds what is written while it is being made",
        (instead(FrozenMap, "keep", lambda frozen, key, is_leaving=False: None),),
    ),
)
