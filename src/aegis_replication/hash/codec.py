"""How does a placement look as bytes? Magic, version, a msgpack body that is the same on every host, and a check."""

from typing import Any

import msgspec
import xxhash

from aegis_replication.errors import CorruptPlacement, IncompatibleVersion

MAGIC = b"AEGP"
VERSION = 1
_CHECK_BYTES = 8
_HEADER_BYTES = len(MAGIC) + 1


class Payload(msgspec.Struct, frozen=True, array_like=True):
    """What the body holds. Every list has one canonical order, so that equal placements have equal bytes."""

    algorithm: str
    hash_function: str
    parameters: list[tuple[str, int | float]]
    nodes: list[tuple[str, float, list[tuple[str, str]]]]
    history: list[Any]


def encode(payload: Payload) -> bytes:
    body = MAGIC + bytes([VERSION]) + _encoder.encode(payload)
    return body + xxhash.xxh3_64_digest(body)


def decode(encoded: bytes) -> Payload:
    """Raises CorruptPlacement, or IncompatibleVersion for bytes of a newer program."""
    if not isinstance(encoded, bytes | bytearray | memoryview):
        raise CorruptPlacement(f"an encoded placement is bytes, not {type(encoded).__name__}")
    encoded = bytes(encoded)
    if not encoded.startswith(MAGIC):
        raise CorruptPlacement(f"these {len(encoded)} bytes don't begin with {MAGIC!r}: not an encoded placement")
    if len(encoded) < _HEADER_BYTES + _CHECK_BYTES:
        raise CorruptPlacement(f"an encoded placement ends after {len(encoded)} bytes: it was cut off")
    # The version first: a later one may check itself in another way.
    if (version := encoded[len(MAGIC)]) != VERSION:
        raise IncompatibleVersion(
            f"these bytes are a placement of format version {version}, this program reads version {VERSION}: upgrade it"
        )
    body, check = encoded[:-_CHECK_BYTES], encoded[-_CHECK_BYTES:]
    if xxhash.xxh3_64_digest(body) != check:
        raise CorruptPlacement(f"these {len(encoded)} bytes of a placement were damaged: their check sum differs")
    try:
        return _decoder.decode(body[_HEADER_BYTES:])
    except msgspec.MsgspecError as error:
        raise CorruptPlacement(f"these bytes don't hold a placement: {error}") from error


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(Payload)
