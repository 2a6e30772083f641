"""How does a partitioning look as bytes? The strategy and its settings, and the ranges if they were split since."""

from typing import Any

import msgspec

from aegis_replication.errors import CorruptPartitioning
from aegis_replication.hash.envelope import Envelope

MAGIC = b"AEGS"
VERSION = 1


class Payload(msgspec.Struct, frozen=True, array_like=True):
    """What the body holds. Keys are in their own encoding, so a body says the same on every host."""

    strategy: str
    columns: list[str]
    # By name, sorted: what the strategy was made with beside its columns.
    settings: list[tuple[str, Any]]
    # Where the ranges after the first begin. None: a strategy alone.
    cuts: list[bytes] | None


_envelope = Envelope(MAGIC, VERSION, "partitioning", Payload, CorruptPartitioning)


def encode(payload: Payload) -> bytes:
    return _envelope.seal(payload)


def decode(encoded: bytes) -> Payload:
    """Raises CorruptPartitioning, or IncompatibleVersion for bytes of a newer program."""
    return _envelope.open(encoded)
