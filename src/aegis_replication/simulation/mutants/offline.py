"""Which mistakes can be made when one survivor is made the only voter?"""

from typing import Any

from aegis_replication.consensus.configuration import Configuration
from aegis_replication.log import NOTHING, EntryId, RecoveredGroup
from aegis_replication.offline import recovering
from aegis_replication.simulation.mutants.mutant import Mutant, around, instead


def _last_of_snapshot(found: RecoveredGroup) -> EntryId:
    return found.snapshot.id if found.snapshot is not None else NOTHING


def _without_note(make: Any, *arguments: Any, interventions: Any, **options: Any) -> Configuration:
    configuration: Configuration = make(*arguments, **options)
    return configuration


OFFLINE = (
    Mutant(
        "survivors_tail_overwritten",
        "the entry that makes a survivor the only voter takes the place of what it knows beyond its snapshot",
        (instead(recovering, "_last", _last_of_snapshot),),
    ),
    Mutant(
        "intervention_not_noted",
        "that a survivor was made the only voter is written nowhere",
        (around(recovering, "make_configuration", _without_note),),
    ),
)
