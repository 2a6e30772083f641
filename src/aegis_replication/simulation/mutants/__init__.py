"""Which mistakes must a simulated run find? Known bugs, built from outside into production code that has no switch."""

from aegis_replication.errors import InvalidArgument
from aegis_replication.simulation.mutants.consensus import CONSENSUS
from aegis_replication.simulation.mutants.machine import MACHINE
from aegis_replication.simulation.mutants.members import MEMBERS
from aegis_replication.simulation.mutants.mutant import Mutant
from aegis_replication.simulation.mutants.offline import OFFLINE
from aegis_replication.simulation.mutants.own_state import OWN_STATE
from aegis_replication.simulation.mutants.pressure import PRESSURE
from aegis_replication.simulation.mutants.reads import READS
from aegis_replication.simulation.mutants.storage import STORAGE
from aegis_replication.simulation.mutants.transfers import TRANSFERS

__all__ = ["MUTANTS", "Mutant", "find"]

MUTANTS: tuple[Mutant, ...] = (
    *CONSENSUS,
    *MEMBERS,
    *MACHINE,
    *READS,
    *STORAGE,
    *PRESSURE,
    *OWN_STATE,
    *OFFLINE,
    *TRANSFERS,
)


def find(name: str) -> Mutant:
    """The mutant of that name. Raises InvalidArgument, naming them all."""
    for mutant in MUTANTS:
        if mutant.name == name:
            return mutant
    raise InvalidArgument(f"there is no mutant {name!r}: choose one of {', '.join(each.name for each in MUTANTS)}")
