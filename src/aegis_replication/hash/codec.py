"""How does a placement look as bytes? The same on every host for equal placements."""

from typing import Any

import msgspec

from aegis_replication.errors import CorruptPlacement
from aegis_replication.hash.envelope import Envelope

MAGIC = b"AEGP"
VERSION = 1


class Payload(msgspec.Struct, frozen=True, array_like=True):
    """What the body holds. Every list has one canonical order, so that equal placements have equal bytes."""

    algorithm: str
    hash_function: str
    parameters: list[tuple[str, int | float]]
    nodes: list[tuple[str, float, list[tuple[str, str]]]]
    history: list[Any]


_envelope = Envelope(MAGIC, VERSION, "placement", Payload, CorruptPlacement)


def encode(payload: Payload) -> bytes:
    return _envelope.seal(payload)


def decode(encoded: bytes) -> Payload:
    """Raises CorruptPlacement, or IncompatibleVersion for bytes of a newer program."""
    return _envelope.open(encoded)
