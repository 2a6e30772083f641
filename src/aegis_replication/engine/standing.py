"""Where does a machine stand when its process begins? In memory at the snapshot, on a disk of its own further."""

from collections.abc import Iterable, Iterator

from aegis_replication.errors import StorageError
from aegis_replication.ids import GroupId
from aegis_replication.log import NOTHING, EntryId, RecoveredGroup, SnapshotMeta
from aegis_replication.state_machine.base import DurableMachine, Machine, restoring


def stand(
    machine: Machine, group: GroupId, recovered: RecoveredGroup, snapshot_pieces: Iterable[bytes] | None
) -> EntryId:
    """Bring the machine as far as it gets without entries; the last entry that it shows.

    A machine on its own disk that is behind the snapshot becomes the snapshot: it was cut short while it took one, or
    its disk is an older copy or a new one. Raises StorageError when it is not of this log.
    """
    snapshot = recovered.snapshot
    held = machine.open() if isinstance(machine, DurableMachine) else NOTHING
    if snapshot is not None and held.index < snapshot.index:
        assert snapshot_pieces is not None, f"group {group}: the state of snapshot {snapshot.id} is missing"
        for _ in become(machine, snapshot_pieces, snapshot):
            pass
        return snapshot.id
    if held != NOTHING and (snapshot is None or held != snapshot.id):
        _check_held(group, held, recovered)
    return held


def become(machine: Machine, pieces: Iterable[bytes], meta: SnapshotMeta) -> Iterator[None]:
    """Have the machine become the state of a snapshot, in steps; one on its own disk does it in a single one."""
    if isinstance(machine, DurableMachine):
        machine.restore_at(pieces, meta.id)
        return iter(())
    return restoring(machine, pieces)


def _check_held(group: GroupId, held: EntryId, recovered: RecoveredGroup) -> None:
    """The log must hold the entry that the machine stands at; else entries would be left out, or come twice."""
    base, entries = recovered.base, recovered.entries
    what = f"group {group}: the machine's own state stands at entry {held.term}:{held.index}, and the log"
    advice = (
        "state and log don't belong together. Nothing was changed: put back the other one of the two, or give the node "
        "an empty directory and an empty state under a new name, and let it catch up"
    )
    if held.index < base.index:
        raise StorageError(f"{what} begins after {base.term}:{base.index}: what is between them is lost; {advice}")
    last = entries[-1].id if entries else base
    if held.index > last.index:
        raise StorageError(f"{what} ends at {last.term}:{last.index}: {advice}")
    term = base.term if held.index == base.index else entries[held.index - base.index - 1].term
    if term != held.term:
        raise StorageError(f"{what} has entry {term}:{held.index} there: {advice}")
