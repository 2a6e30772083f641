"""Which function turns a key into a position? Named ones from libraries, the name travelling with the placement."""

import binascii
import hashlib
from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar

import msgspec
import xxhash

from aegis_replication.errors import InvalidKey, UnknownHashFunction

Key: TypeAlias = str | bytes
Value = TypeVar("Value")

POSITION_BITS = 64
POSITION_COUNT = 1 << POSITION_BITS


class HashFunction(msgspec.Struct, frozen=True):
    """A named function from bytes to a position in [0, 2**64). The same name must mean the same function everywhere."""

    name: str
    digest: Callable[[bytes], int]
    # The same number as eight bytes, the highest first: batches use it, if it is there.
    digest_bytes: Callable[[bytes], bytes] | None = None


def hash_function(choice: str | HashFunction, known: Iterable[HashFunction] = ()) -> HashFunction:
    """The function of that name, looked for in `known` first. Raises UnknownHashFunction."""
    if isinstance(choice, HashFunction):
        return _checked(choice)
    for function in known:
        if function.name == choice:
            return _checked(function)
    if (found := HASH_FUNCTIONS.get(choice)) is None:
        raise UnknownHashFunction(
            f"hash function {choice!r} is not known: use one of {', '.join(HASH_FUNCTIONS)}, or pass a HashFunction"
        )
    return found


def _checked(function: HashFunction) -> HashFunction:
    """The function, if one try gives what it must."""
    given: object = function.digest(b"")
    if not isinstance(given, int) or not 0 <= given < POSITION_COUNT:
        raise UnknownHashFunction(f"hash function {function.name!r} gives {given!r}: it must give an int in [0, 2**64)")
    if function.digest_bytes is not None and function.digest_bytes(b"") != given.to_bytes(8, "big"):
        raise UnknownHashFunction(f"hash function {function.name!r}: digest_bytes differs from digest, big-endian")
    return function


def mix(position: int, seed: int) -> int:
    """A second position, independent of the first, for each seed in [0, 2**64)."""
    return _xxh3(position.to_bytes(8, "little"), seed)


def key_bytes(key: Key) -> bytes:
    """The bytes that are hashed: text as UTF-8. Raises InvalidKey for anything but text and bytes."""
    given: object = key
    if isinstance(given, str):
        try:
            return given.encode()
        except UnicodeEncodeError:
            raise InvalidKey(f"key {key!r} is not valid Unicode text: pass its bytes instead") from None
    if isinstance(given, bytes | bytearray | memoryview):
        return bytes(given)
    raise InvalidKey(f"key {key!r} is of type {type(key).__name__}: give text or bytes")


def map_keys(keys: list[Key], function: Callable[[bytes], Value]) -> list[Value]:
    """`function` of each key's bytes, at the speed of `map` where all are text, or all bytes. Raises InvalidKey."""
    try:
        return list(map(function, map(str.encode, keys)))  # type: ignore[arg-type]  # bytes are why it is tried
    except (TypeError, UnicodeEncodeError):
        return list(map(function, _all_bytes(keys)))


def join_keys(keys: list[Key], function: Callable[[bytes], bytes]) -> bytes:
    """The same, all results one after the other."""
    try:
        return b"".join(map(function, map(str.encode, keys)))  # type: ignore[arg-type]  # bytes are why it is tried
    except (TypeError, UnicodeEncodeError):
        return b"".join(map(function, _all_bytes(keys)))


def _all_bytes(keys: list[Key]) -> Iterable[bytes]:
    if set(map(type, keys)) == {bytes}:
        return keys  # type: ignore[return-value]  # all are bytes
    return map(key_bytes, keys)


_xxh3 = xxhash.xxh3_64_intdigest


def _blake2b_64(key: bytes) -> int:
    return int.from_bytes(_blake2b_64_bytes(key), "big")


def _blake2b_64_bytes(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=8).digest()


def _crc32_mixed(key: bytes) -> int:
    # CRC-32 alone is linear: similar keys land side by side. The mixer spreads its 32 bits over the whole circle.
    return mix(binascii.crc32(key), 0)


HASH_FUNCTIONS: dict[str, HashFunction] = {
    function.name: function
    for function in (
        HashFunction("xxh3_64", _xxh3, xxhash.xxh3_64_digest),
        HashFunction("xxh64", xxhash.xxh64_intdigest, xxhash.xxh64_digest),
        HashFunction("blake2b_64", _blake2b_64, _blake2b_64_bytes),
        HashFunction("crc32_mixed", _crc32_mixed),
    )
}
DEFAULT_HASH_FUNCTION = "xxh3_64"
