"""Jump consistent hash (Lamping and Veach 2014): no table, perfect balance, but only the newest node can leave."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from aegis_replication.errors import NotSupported
from aegis_replication.hash.arrays import BATCH_MIN, jump_array, numpy, positions_array
from aegis_replication.hash.base import PlacementBase, Snapshot
from aegis_replication.hash.checks import checked_count, checked_u64
from aegis_replication.hash.functions import (
    DEFAULT_HASH_FUNCTION,
    POSITION_COUNT,
    HashFunction,
    Key,
    join_keys,
    key_bytes,
    map_keys,
    mix,
)
from aegis_replication.hash.functions import (
    hash_function as named_hash_function,
)
from aegis_replication.hash.model import Node

BUCKETS_MAX = 1 << 31
_MULTIPLIER = 2862933555777941757
_MASK = POSITION_COUNT - 1


class JumpHash(PlacementBase[list[str]]):
    """`JumpHash.hash(key, n)` gives a bucket in [0, n); `JumpHash(n)` is the same as an object, with named nodes.

    Growing from n to n + 1 buckets moves 1 / (n + 1) of the keys, all of them to the new bucket. With numpy installed
    the batch forms are some ten times faster and give the same answers.
    """

    __slots__ = ()

    algorithm = "jump"

    def __init__(
        self,
        buckets: int | None = None,
        *,
        nodes: Iterable[str | Node] = (),
        hash_function: str | HashFunction = DEFAULT_HASH_FUNCTION,
    ) -> None:
        """`buckets` nodes named "0", "1", ..., or these `nodes` in this order. Raises InvalidCount for none or less."""
        if buckets is not None:
            nodes = (*map(str, range(checked_count("buckets", buckets, 1, BUCKETS_MAX))), *nodes)
        super().__init__(nodes, hash_function)

    @staticmethod
    def hash(key: Key | int, n: int, *, hash_function: str | HashFunction = DEFAULT_HASH_FUNCTION) -> int:
        """The bucket of `key` among `n`; an int is taken as the 64-bit position itself. Raises InvalidCount."""
        bucket_count = checked_count("n", n, 1, BUCKETS_MAX)
        if isinstance(key, int):
            return jump(checked_u64("key", key), bucket_count)
        return jump(named_hash_function(hash_function).digest(key_bytes(key)), bucket_count)

    def bucket(self, key: Key) -> int:
        """The key's bucket in [0, node_count). Raises EmptyPlacement, InvalidKey."""
        return jump(self.key_position(key), len(self._view()))

    def bucket_u64(self, position: int) -> int:
        """The bucket of an unsigned 64-bit number (the published algorithm). Raises EmptyPlacement, InvalidCount."""
        return jump(checked_u64("position", position), len(self._view()))

    def bucket_many(self, keys: Iterable[Key]) -> list[int]:
        """`[bucket(key) for key in keys]`, faster."""
        return self._buckets(list(keys), len(self._view()))

    def get_many(self, keys: Iterable[Key]) -> list[str]:
        """`[get_node(key) for key in keys]`, all from one state, faster."""
        names = self._view()
        return list(map(names.__getitem__, self._buckets(list(keys), len(names))))

    def _buckets(self, keys: list[Key], bucket_count: int) -> list[int]:
        digest_bytes = self._function.digest_bytes
        if numpy is None or digest_bytes is None or len(keys) < BATCH_MIN:
            return [jump(position, bucket_count) for position in map_keys(keys, self._digest)]
        buckets: list[int] = jump_array(positions_array(join_keys(keys, digest_bytes)), bucket_count).tolist()
        return buckets

    def _build(self, snapshot: Snapshot[list[str]]) -> list[str]:
        return list(snapshot.nodes)

    def _node_at(self, view: list[str], position: int) -> str:
        return view[jump(position, len(view))]

    def _order_at(self, view: list[str], position: int) -> Iterator[str]:
        for bucket in distinct_buckets(lambda seeded: jump(seeded, len(view)), position, range(len(view))):
            yield view[bucket]

    def _steps(self, view: list[str], position: int) -> Iterator[str]:
        trail = [str(bucket) for bucket in _trail(position, len(view))]
        yield f"with {len(view)} buckets it has jumped {' -> '.join(trail)}"

    def _canonical_nodes(self, nodes: Mapping[str, Node]) -> Iterable[Node]:
        return nodes.values()  # their order is the placement

    def _history_removed(self, nodes: dict[str, Node], history: Any, removed: Node) -> Any:
        newest = next(reversed(self._snapshot.nodes))
        if removed.id != newest:
            raise NotSupported(
                f"jump hash can only remove its newest node, {newest!r}, not {removed.id!r}: use AnchorHash, which "
                "removes any at about the same cost"
            )
        return None


def jump(position: int, bucket_count: int) -> int:
    """The published loop, on floats exactly as there: it jumps from bucket to bucket until beyond the last."""
    bucket, candidate = -1, 0
    while candidate < bucket_count:
        bucket = candidate
        position = (position * _MULTIPLIER + 1) & _MASK
        candidate = int((bucket + 1) * (2147483648.0 / ((position >> 33) + 1)))
    return bucket


def _trail(position: int, bucket_count: int) -> Iterator[int]:
    """Every bucket that `jump` passes through, the last one being its answer."""
    candidate = 0
    while candidate < bucket_count:
        yield candidate
        position = (position * _MULTIPLIER + 1) & _MASK
        candidate = int((candidate + 1) * (2147483648.0 / ((position >> 33) + 1)))


def distinct_buckets(lookup: Callable[[int], int], position: int, fallback: Iterable[int]) -> Iterator[int]:
    """Each bucket once: the position's own, then those of positions derived from it, as a backup order.

    A derived lookup changes no more than a first one when nodes change, so replicas move as little as primaries.
    """
    every = list(fallback)
    bucket = lookup(position)
    seen = {bucket}
    yield bucket
    # The last few of many buckets would need many draws: they follow in order instead.
    for seed in range(1, 4 * len(every) + 32):
        if len(seen) == len(every):
            return
        bucket = lookup(mix(position, seed))
        if bucket not in seen:
            seen.add(bucket)
            yield bucket
    for bucket in every:
        if bucket not in seen:
            yield bucket
