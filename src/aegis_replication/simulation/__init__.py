"""A whole cluster in one thread on virtual time: the production engine and log under a bad network, disk and fate."""

from aegis_replication.simulation.cluster import Cluster
from aegis_replication.simulation.disk import DiskSpeed
from aegis_replication.simulation.mutants import MUTANTS, Mutant
from aegis_replication.simulation.network import CALM, Weather
from aegis_replication.simulation.run import (
    Recording,
    Report,
    Violation,
    load_recording,
    replay,
    run,
    run_many,
    save_recording,
)

__all__ = [
    "Cluster",
    "Weather",
    "CALM",
    "DiskSpeed",
    "run",
    "run_many",
    "Report",
    "Violation",
    "save_recording",
    "load_recording",
    "replay",
    "Recording",
    "MUTANTS",
    "Mutant",
]
