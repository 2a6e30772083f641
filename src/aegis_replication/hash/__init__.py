"""Where does a key live? One `Placement` protocol over eight consistent-hashing algorithms; docs/hash.md shows them."""

from aegis_replication.hash.anchor import AnchorHash
from aegis_replication.hash.bounded_load import BoundedLoad
from aegis_replication.hash.functions import HASH_FUNCTIONS, HashFunction, Key
from aegis_replication.hash.jump import JumpHash
from aegis_replication.hash.ketama import KetamaRing
from aegis_replication.hash.maglev import MaglevHash
from aegis_replication.hash.model import (
    Explanation,
    Move,
    MovementPlan,
    Node,
    NodeShare,
    Placement,
    PlacementStats,
    PositionRange,
    Replicas,
    Unmet,
)
from aegis_replication.hash.multi_probe import MultiProbeHash
from aegis_replication.hash.registry import ALGORITHMS, placement_from_bytes
from aegis_replication.hash.rendezvous import RendezvousHash
from aegis_replication.hash.ring import HashRing, VirtualNode

# Shorter names, and those of the original.
ConsistentHash = Placement
Maglev = MaglevHash
MultiProbe = MultiProbeHash
Rendezvous = RendezvousHash

__all__ = [
    "Placement",
    "HashRing",
    "KetamaRing",
    "JumpHash",
    "RendezvousHash",
    "MaglevHash",
    "AnchorHash",
    "MultiProbeHash",
    "BoundedLoad",
    "placement_from_bytes",
    "ALGORITHMS",
    "Node",
    "Replicas",
    "Unmet",
    "MovementPlan",
    "Move",
    "PositionRange",
    "PlacementStats",
    "NodeShare",
    "Explanation",
    "VirtualNode",
    "HashFunction",
    "HASH_FUNCTIONS",
    "Key",
    "ConsistentHash",
    "Maglev",
    "MultiProbe",
    "Rendezvous",
]
