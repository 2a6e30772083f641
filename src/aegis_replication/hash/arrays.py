"""How do batches get faster with numpy? Same answers, bit for bit; without numpy nothing here is used."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any


def _import_numpy() -> Any:
    try:
        return import_module("numpy")
    except ImportError:
        return None


numpy: Any = _import_numpy()

# Below this many keys, numpy's fixed costs outweigh its speed.
BATCH_MIN = 128
# Arrays of this many positions stay in the processor's cache.
BATCH_CHUNK = 8_192

_JUMP_MULTIPLIER = 2862933555777941757


def positions_array(digests: bytes) -> Any:
    """An array of uint64 from eight bytes for each, the highest first."""
    return numpy.frombuffer(digests, dtype=">u8").astype(numpy.uint64)


class RingArrays:
    """A ring's points and slot table as arrays."""

    __slots__ = ("_points", "_owners", "_table", "_is_mixed", "_shift")

    def __init__(self, points: Sequence[int], owners: Sequence[str], table: Sequence[str], shift: int) -> None:
        self._points = numpy.array(points, dtype=numpy.uint64)
        # The first owner again, for positions beyond the last point.
        self._owners = numpy.array([*owners, owners[0]], dtype=object)
        self._table = numpy.array(table, dtype=object)
        self._is_mixed = numpy.array([not owner for owner in table], dtype=bool)
        self._shift = numpy.uint64(shift)

    def locate(self, positions: Any) -> list[str]:
        """The owner of each position in an array of uint64."""
        slots = (positions >> self._shift).astype(numpy.intp)
        owners = self._table.take(slots)
        mixed = numpy.flatnonzero(self._is_mixed.take(slots))
        if len(mixed):
            owners[mixed] = self._owners.take(self._points.searchsorted(positions.take(mixed)))
        located: list[str] = owners.tolist()
        return located


def jump_array(positions: Any, bucket_count: int) -> Any:
    """The buckets, as an array of int64, of an array of uint64 positions."""
    buckets = numpy.empty(len(positions), dtype=numpy.int64)
    for start in range(0, len(positions), BATCH_CHUNK):
        after = start + BATCH_CHUNK
        _jump_chunk(positions[start:after], bucket_count, buckets[start:after])
    return buckets


def _jump_chunk(positions: Any, bucket_count: int, buckets: Any) -> None:
    """One round of the loop for all that still jump; who lands beyond the last bucket drops out."""
    still = numpy.arange(len(positions))
    state = positions.copy()
    bucket = numpy.zeros(len(positions), dtype=numpy.float64)
    while True:
        state *= numpy.uint64(_JUMP_MULTIPLIER)
        state += numpy.uint64(1)
        steps = (state >> numpy.uint64(33)).astype(numpy.float64)
        steps += 1.0
        # The same operations in the same order as for a single key: the same bits come out.
        numpy.divide(2147483648.0, steps, out=steps)
        steps *= bucket + 1.0
        numpy.floor(steps, out=steps)
        goes_on = steps < bucket_count
        buckets[still[~goes_on]] = bucket[~goes_on]
        if not goes_on.any():
            return
        still, state, bucket = still[goes_on], state[goes_on], steps[goes_on]
