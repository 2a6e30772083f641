"""Which mistakes can be made with a machine that keeps its state on a disk of its own? (etcd's post-mortem of 3.5)"""

from collections.abc import Sequence
from typing import Any

from aegis_replication.engine import replica
from aegis_replication.engine.standing import stand
from aegis_replication.ids import SessionId
from aegis_replication.log import NOTHING, Entry, EntryId, RecoveredGroup
from aegis_replication.simulation.mutants.mutant import Mutant, Patch, around
from aegis_replication.state_machine.base import DurableMachine
from aegis_replication.state_machine.durable_sessions import DurableSessionMachine


def _stand_at_snapshot(machine: Any, group: int, recovered: RecoveredGroup, pieces: Any) -> EntryId:
    held = stand(machine, group, recovered, pieces)
    if isinstance(machine, DurableMachine):
        return recovered.snapshot.id if recovered.snapshot is not None else NOTHING
    return held


def _move_position_first(apply: Any, machine: DurableSessionMachine, entry: Entry) -> Sequence[Any]:
    machine.own.commit(entry.term, entry.index, {})
    results: Sequence[Any] = apply(machine, entry)
    return results


def _no_rows(changed_rows: Any, machine: DurableSessionMachine, stamp: int) -> dict[SessionId, bytes | None]:
    return {}


OWN_STATE = (
    Mutant(
        "own_position_ignored",
        "after a restart a machine on a disk of its own gets everything since the snapshot, whatever it has already",
        (Patch(replica, "stand", lambda original: _stand_at_snapshot),),
    ),
    Mutant(
        "position_before_effects",
        "a machine's position is on its disk before the effects of the entry there",
        (around(DurableSessionMachine, "apply", _move_position_first),),
    ),
    Mutant(
        "sessions_not_with_state",
        "a machine on a disk of its own keeps its effects and position, and not the sessions",
        (around(DurableSessionMachine, "_changed_rows", _no_rows),),
    ),
)
