"""Which algorithm do these bytes, or this name, stand for?"""

from collections.abc import Iterable
from typing import Any

from aegis_replication.errors import CorruptPlacement
from aegis_replication.hash.anchor import AnchorHash
from aegis_replication.hash.base import PlacementBase
from aegis_replication.hash.bounded_load import BoundedLoad
from aegis_replication.hash.codec import decode
from aegis_replication.hash.functions import HashFunction
from aegis_replication.hash.jump import JumpHash
from aegis_replication.hash.ketama import KetamaRing
from aegis_replication.hash.maglev import MaglevHash
from aegis_replication.hash.multi_probe import MultiProbeHash
from aegis_replication.hash.rendezvous import RendezvousHash
from aegis_replication.hash.ring import HashRing

ALGORITHMS: dict[str, type[PlacementBase[Any]]] = {
    kind.algorithm: kind
    for kind in (
        HashRing,
        KetamaRing,
        JumpHash,
        RendezvousHash,
        MaglevHash,
        AnchorHash,
        MultiProbeHash,
        BoundedLoad,
    )
}


def placement_from_bytes(encoded: bytes, *, hash_functions: Iterable[HashFunction] = ()) -> PlacementBase[Any]:
    """The placement, of whichever algorithm, that `to_bytes` encoded; pass functions that this package doesn't bring.

    Raises CorruptPlacement, IncompatibleVersion, UnknownHashFunction.
    """
    payload = decode(encoded)
    if (kind := ALGORITHMS.get(payload.algorithm)) is None:
        raise CorruptPlacement(f"algorithm {payload.algorithm!r} is not one of {', '.join(ALGORITHMS)}")
    return kind._from_payload(payload, hash_functions)
