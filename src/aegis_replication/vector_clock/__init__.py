"""What came before what? Logical clocks of all families, useful alone. The public list."""

from aegis_replication.vector_clock.clock import Ordering, VectorClock
from aegis_replication.vector_clock.dotted import DottedVersionVectorSet
from aegis_replication.vector_clock.hybrid import HybridLogicalClock, HybridTimestamp
from aegis_replication.vector_clock.interval_tree import IntervalTreeClock
from aegis_replication.vector_clock.lamport import LamportClock, LamportTimestamp
from aegis_replication.vector_clock.version_vector import Dot, VersionVector
from aegis_replication.vector_clock.versioned import VersionedValue

# The original's names.
HybridClock = HybridLogicalClock
DottedVersionVector = DottedVersionVectorSet
VectorClockOrdering = Ordering

__all__ = [
    "VectorClock",
    "Ordering",
    "VersionVector",
    "Dot",
    "DottedVersionVectorSet",
    "LamportClock",
    "LamportTimestamp",
    "HybridLogicalClock",
    "HybridTimestamp",
    "IntervalTreeClock",
    "VersionedValue",
    "HybridClock",
    "DottedVersionVector",
    "VectorClockOrdering",
]
