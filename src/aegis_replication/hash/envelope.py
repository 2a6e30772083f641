"""What stands around every encoded placement and partitioning? Magic, version, a canonical body, and a check sum."""

from typing import Generic, TypeVar

import msgspec
import xxhash

from aegis_replication.errors import AegisError, IncompatibleVersion

_CHECK_BYTES = 8
_encoder = msgspec.msgpack.Encoder(order="deterministic")

Body = TypeVar("Body", bound=msgspec.Struct)


class Envelope(Generic[Body]):
    """How bodies of one type are sealed, and opened again with one typed error for all that can be wrong with them."""

    __slots__ = ("magic", "version", "noun", "corrupt", "_decoder")

    def __init__(self, magic: bytes, version: int, noun: str, body: type[Body], corrupt: type[AegisError]) -> None:
        self.magic = magic
        self.version = version
        # What the bytes are, as messages call it: "an encoded <noun>".
        self.noun = noun
        self.corrupt = corrupt
        self._decoder = msgspec.msgpack.Decoder(body)

    def seal(self, body: Body) -> bytes:
        sealed = self.magic + bytes([self.version]) + _encoder.encode(body)
        return sealed + xxhash.xxh3_64_digest(sealed)

    def open(self, encoded: bytes) -> Body:
        """Raises `corrupt`, or IncompatibleVersion for bytes of a newer program."""
        given: object = encoded
        if not isinstance(given, bytes | bytearray | memoryview):
            raise self.corrupt(f"an encoded {self.noun} is bytes, not {type(given).__name__}")
        encoded = bytes(given)
        if not encoded.startswith(self.magic):
            raise self.corrupt(
                f"these {len(encoded)} bytes don't begin with {self.magic!r}: not an encoded {self.noun}"
            )
        header_bytes = len(self.magic) + 1
        if len(encoded) < header_bytes + _CHECK_BYTES:
            raise self.corrupt(f"an encoded {self.noun} ends after {len(encoded)} bytes: it was cut off")
        # The version first: a later one may check itself in another way.
        if (version := encoded[len(self.magic)]) != self.version:
            raise IncompatibleVersion(
                f"these bytes are a {self.noun} of format version {version}, this program reads version "
                f"{self.version}: upgrade it"
            )
        sealed, check = encoded[:-_CHECK_BYTES], encoded[-_CHECK_BYTES:]
        if xxhash.xxh3_64_digest(sealed) != check:
            raise self.corrupt(f"these {len(encoded)} bytes of a {self.noun} were damaged: their check sum differs")
        try:
            return self._decoder.decode(sealed[header_bytes:])
        except msgspec.MsgspecError as error:
            raise self.corrupt(f"these bytes don't hold a {self.noun}: {error}") from error
