"""Ketama, as libketama and memcached's clients place keys: MD5, 32-bit points, 160 of them for an average server."""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from math import floor
from typing import Any, Self

from aegis_replication.errors import CorruptPlacement
from aegis_replication.hash.functions import HashFunction
from aegis_replication.hash.model import Node
from aegis_replication.hash.ring import PointRing

# Each MD5 gives four points.
_HASHES_PER_NODE = 40.0
_FOUR_POINTS = struct.Struct("<4I")
_FLOAT32 = struct.Struct("<f")


class KetamaRing(PointRing):
    """A ring that agrees, point by point, with libketama; for sharing memcached servers with other clients.

    A node's number of points depends on the weights of all, so that unequal weights move a little more than the
    minimum when nodes come and go. Its hash is MD5, which is no protection against chosen keys.
    """

    __slots__ = ()

    algorithm = "ketama"
    accepts_weights = True
    position_bits = 32

    def __init__(self, *, nodes: Iterable[str | Node] = ()) -> None:
        super().__init__(nodes, KETAMA_MD5)

    def _points_of(self, nodes: dict[str, Node]) -> Iterator[tuple[int, str, int]]:
        total = sum(node.weight for node in nodes.values())
        for node in nodes.values():
            # In libketama the fraction is a C float, and so is what goes into floorf.
            fraction = _float32(node.weight / total)
            hash_count = floor(_float32(fraction * _HASHES_PER_NODE * len(nodes)))
            # libketama leaves out a server lighter than a fortieth of the average; a node here always has a point.
            for index in range(max(1, hash_count)):
                digest = hashlib.md5(f"{node.id}-{index}".encode(), usedforsecurity=False).digest()
                for part, point in enumerate(_FOUR_POINTS.unpack(digest)):
                    yield point, node.id, 4 * index + part

    @classmethod
    def _function_named(cls, name: str, known: Iterable[HashFunction]) -> HashFunction:
        if name != KETAMA_MD5.name:
            raise CorruptPlacement(f"a ketama ring hashes with {KETAMA_MD5.name}, these bytes say {name!r}")
        return KETAMA_MD5

    @classmethod
    def _made(cls, parameters: dict[str, Any], function: HashFunction) -> Self:
        return cls(**parameters)


def _float32(value: float) -> float:
    (rounded,) = _FLOAT32.unpack(_FLOAT32.pack(value))
    return float(rounded)


def _ketama_md5(key: bytes) -> int:
    return int.from_bytes(hashlib.md5(key, usedforsecurity=False).digest()[:4], "little")


KETAMA_MD5 = HashFunction("ketama_md5", _ketama_md5)
