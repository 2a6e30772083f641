"""Which of several writes counts? Registers: the last one, all concurrent ones, the highest or the lowest."""

import math
from typing import Any, ClassVar, Self

from aegis_replication.crdt.delta import Delta
from aegis_replication.crdt.kernel import ANCHOR, CausalContext, Store
from aegis_replication.crdt.replica import Replica
from aegis_replication.crdt.values import Stamp, canonical, freeze, plain, stamp_of, thaw
from aegis_replication.errors import InvalidArgument
from aegis_replication.vector_clock import Dot
from aegis_replication.vector_clock.codec import count


class LWWRegister(Replica):
    """The last write counts: by timestamp, then a counter within it, then actor, dot and the value's bytes.

    A local write always counts: if its timestamp isn't above the stored one (a slow clock, two writes in one tick),
    it takes the stored one's next logical tick. Without an actor it works too, and then two writes with one
    timestamp are decided by their bytes.
    """

    __slots__ = ()
    NAME: ClassVar[str] = "LWWRegister"

    @classmethod
    def with_value(cls, value: Any, timestamp: Stamp, actor: str | int | None = None) -> Self:
        register = cls(actor)
        register.set(value, timestamp)
        return register

    def set(self, value: Any, timestamp: Stamp | None = None) -> Delta:
        """Sets the value; never in vain. Without a timestamp: just after the stored one."""
        kept = freeze(value)
        return self._write((*next_stamp(stamp_of(timestamp), self._stamp()), kept))

    def set_if_newer(self, value: Any, timestamp: Stamp) -> Delta:
        """Sets the value with exactly this timestamp, unless the stored one is as new: for writes made elsewhere."""
        kept, stamp = freeze(value), stamp_of(timestamp)
        if self.is_set and stamp <= self._stamp():
            return self._emit({}, ())
        return self._write((*stamp, kept))

    def value(self) -> Any:
        """The value; None before the first write."""
        return thaw(latest_write(self._store)[1][2]) if self._store else None

    @property
    def is_set(self) -> bool:
        return bool(self._store)

    @property
    def timestamp(self) -> int | None:
        """The timestamp of the value, as it was given."""
        return self._stamp()[0] if self._store else None

    @classmethod
    def resolve(cls, dot: Dot, mine: Any, theirs: Any) -> Any:
        if dot == ANCHOR:
            return max(mine, theirs, key=lambda write: (write[:2], canonical(write[2])))
        return super().resolve(dot, mine, theirs)

    @staticmethod
    def plain_payload(payload: Any) -> Any:
        return plain_write(payload)

    @staticmethod
    def read_payload(plain: Any) -> tuple[Any, ...]:
        timestamp, logical, value = plain
        return count(timestamp, "timestamp"), count(logical, "logical"), freeze(value)

    def _stamp(self) -> tuple[int, int]:
        """The stored stamp; below every other if there is none."""
        return latest_write(self._store)[1][:2] if self._store else (-1, 0)

    def _write(self, write: tuple[int, int, Any]) -> Delta:
        dot = ANCHOR if self._actor is None else self._mint()
        gone = [each for each in self._store if each != ANCHOR]
        for each in gone:
            del self._store[each]
        self._store[dot] = write
        return self._emit({dot: write}, (dot,) if dot != ANCHOR else (), gone)


class MVRegister(Replica):
    """Concurrent writes all stay, until a write that has seen them replaces them."""

    __slots__ = ()
    NAME: ClassVar[str] = "MVRegister"

    def set(self, value: Any, *, context: CausalContext | None = None) -> Delta:
        """Replaces what was seen here; with a read context, what that client had read."""
        kept = freeze(value)
        return self._put(kept, self._observed(self._store, context))

    def clear(self, *, context: CausalContext | None = None) -> Delta:
        return self._take(self._observed(self._store, context))

    def value(self) -> list[Any]:
        """The concurrent values, equal ones once, in the order of their bytes."""
        return [thaw(kept) for _, kept in sorted({canonical(kept): kept for kept in self._store.values()}.items())]

    def get(self) -> list[Any]:
        return self.value()

    @property
    def has_conflict(self) -> bool:
        return self.value_count > 1

    @property
    def value_count(self) -> int:
        return len(self.value())

    @staticmethod
    def plain_payload(payload: Any) -> Any:
        return plain(payload)

    @staticmethod
    def read_payload(plain: Any) -> Any:
        return freeze(plain)


class MaxRegister(Replica):
    """The highest number that anyone has set."""

    __slots__ = ()
    NAME: ClassVar[str] = "MaxRegister"

    def set(self, value: int | float) -> Delta:
        """Takes the number, if it is beyond the one that is kept."""
        kept = _number(value)
        if self._store and self._best(kept, self._kept()) == self._kept():
            return self._emit({}, ())
        return self._put(kept, [*self._store])

    def value(self) -> int | float | None:
        """None before the first number."""
        return self._kept() if self._store else None

    @staticmethod
    def read_payload(plain: Any) -> int | float:
        return _number(plain)

    @staticmethod
    def _best(*kept: int | float) -> int | float:
        return max(kept, key=_rank)

    def _kept(self) -> int | float:
        return self._best(*self._store.values())


class MinRegister(MaxRegister):
    """The lowest number that anyone has set."""

    __slots__ = ()
    NAME: ClassVar[str] = "MinRegister"

    @staticmethod
    def _best(*kept: int | float) -> int | float:
        return min(kept, key=_rank)


# --- last write wins: also used by LWWMap ----------------------------------------------------------------------------


def next_stamp(wanted: tuple[int, int], stored: tuple[int, int]) -> tuple[int, int]:
    """`wanted`, or the next logical tick of the stored stamp if that is as late: a local write is never lost."""
    return wanted if wanted > stored else (stored[0], stored[1] + 1)


def latest_write(leaf: Store) -> tuple[Dot, Any]:
    """The write that counts, with its dot. The dot settles equal stamps, the same way on every replica."""
    return max(leaf.items(), key=lambda item: (item[1][:2], item[0]))


def plain_write(write: Any) -> Any:
    return [*write[:2], plain(write[2])] if len(write) > 2 else [*write]


def _number(value: Any) -> int | float:
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    if type(value) is float and math.isfinite(value):
        return value + 0.0
    raise InvalidArgument(f"{value!r}: give a whole number of 64 bits or a finite float")


def _rank(number: int | float) -> tuple[int | float, bool]:
    return number, type(number) is float  # 1 and 1.0 are equal, and their bytes are not
