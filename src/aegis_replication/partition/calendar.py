"""The strategy by time: rows of one hour, day, week, month or year of the calendar lie together, in order."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar, Self

import msgspec

from aegis_replication.errors import InvalidBoundary, InvalidCount, UnorderableKey
from aegis_replication.hash.functions import HashFunction
from aegis_replication.partition.encoding import KeyValue, encode, encode_microseconds, microseconds, time_of
from aegis_replication.partition.key import PartitionKey, as_key
from aegis_replication.partition.ranges import PartitionRange
from aegis_replication.partition.strategy import AnyKey, Strategy

_SECOND_US = 1_000_000
_HOUR_US = 3_600 * _SECOND_US
_DAY_US = 24 * _HOUR_US
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
# ISO weeks begin on Monday; 1970-01-01 was a Thursday.
_FIRST_MONDAY_DAY = -3
_MONTHS = 12
BUCKETS_MAX = 100_000


class TimeBucket(msgspec.Struct, frozen=True, gc=False):
    """The times [start, end) of one unit; `number` 0 holds 1970-01-01T00:00Z, and numbers below are before it.

    The last bucket before the year 10000 has no end that a datetime could say.
    """

    number: int
    start: datetime
    end: datetime | None


class TimeStrategy(Strategy):
    """Buckets by UTC calendar units, months and years of their true length, or of any fixed length.

    The first column decides. Times have no last bucket, so there is one initial range; `ranges_between` cuts the ones
    that are known to be needed, and others are cut as time goes on.
    """

    __slots__ = ("unit", "_length_us", "_number_of", "_start_of")
    NAME: ClassVar[str] = "time"

    def __init__(self, column: str | Sequence[str] = "time", unit: str | timedelta = "day") -> None:
        """`unit` is hour, day, week, month, year, or a timedelta. Raises InvalidCount."""
        super().__init__(column, [PartitionRange.full()])
        # None: a unit of the calendar.
        self._length_us: int | None = None
        if isinstance(unit, timedelta):
            length_us = self._length_us = unit // timedelta(microseconds=1)
            if length_us <= 0:
                raise InvalidCount(f"a time bucket of {unit} holds nothing: give a positive length")
            self.unit = f"{unit}"
            self._number_of, self._start_of = _fixed(length_us)
        elif unit in _UNITS:
            self.unit = unit
            self._number_of, self._start_of = _UNITS[unit]
        else:
            raise InvalidCount(f"time unit {unit!r} is not known: use {', '.join(_UNITS)}, or a timedelta")

    def bucket_of(self, key: AnyKey) -> TimeBucket:
        """Raises UnorderableKey for a key that doesn't begin with a time."""
        return self.bucket(self._number_of(_time_us(as_key(key))))

    def bucket(self, number: int) -> TimeBucket:
        """The bucket with this number. Raises InvalidCount outside the years 1 to 9999."""
        start, end = self._bounds_us(number)
        return TimeBucket(number, time_of(max(start, _TIME_US_MIN)), time_of(end) if end <= _TIME_US_MAX else None)

    def bucket_range(self, number: int) -> PartitionRange:
        """The tokens of all keys in the bucket with this number. Raises InvalidCount as `bucket` does."""
        start, end = self._bounds_us(number)
        return PartitionRange(encode_microseconds(start), encode_microseconds(end))

    def ranges_between(self, first: datetime, last: datetime) -> tuple[PartitionRange, ...]:
        """All tokens: one range before, one for each bucket from that of `first` to that of `last`, one after.

        Raises InvalidBoundary if there are none or too many.
        """
        low, high = self._number_of(microseconds(first)), self._number_of(microseconds(last))
        if not 0 <= high - low < BUCKETS_MAX:
            raise InvalidBoundary(
                f"from {first.isoformat()} to {last.isoformat()} are {high - low + 1:,} buckets: "
                f"1 to {BUCKETS_MAX:,} are possible"
            )
        cuts = [encode_microseconds(self._start_of(number)) for number in range(low, high + 2)]
        ends: list[bytes | None] = [*cuts, None]
        return tuple(PartitionRange(start, end) for start, end in zip([b"", *cuts], ends))

    def partition_for_key(self, key: AnyKey) -> int:
        """The number of the key's bucket, as there is no fixed number of ranges. Raises UnorderableKey."""
        return self._number_of(_time_us(as_key(key)))

    def _bounds_us(self, number: int) -> tuple[int, int]:
        try:
            start, end = self._start_of(number), self._start_of(number + 1)
        except (OverflowError, ValueError):
            start, end = 0, 0
        if not (start < end and start <= _TIME_US_MAX and end > _TIME_US_MIN):
            raise InvalidCount(f"bucket {number} of unit {self.unit} lies outside the years 1 to 9999")
        return start, end

    def _settings(self) -> dict[str, Any]:
        return {"unit": self.unit if self._length_us is None else self._length_us}

    @classmethod
    def _from_settings(cls, columns: list[str], settings: dict[str, Any], known: Iterable[HashFunction]) -> Self:
        unit = settings.pop("unit")
        return cls(columns, timedelta(microseconds=unit) if isinstance(unit, int) else unit, **settings)

    def _prefix(self, key: PartitionKey) -> bytes:
        return encode_microseconds(self._start_of(self._number_of(_time_us(key))))

    def _scan(self, low: PartitionKey | None, high: PartitionKey | None, cut: PartitionRange) -> list[PartitionRange]:
        # Within a bucket tokens are in key order, and later buckets have higher prefixes: one range is enough.
        start = b"" if low is None else self._prefix(low) + cut.start
        if high is None or cut.end is None:
            return [PartitionRange(start)]
        bucket = self._prefix(high)
        first_time = self.bucket_of(high).start
        least_key = encode((first_time,) if high.is_composite else first_time)
        # A scan that ends with a bucket must not ask the next one.
        return [PartitionRange(start, bucket if cut.end <= least_key else bucket + cut.end)]

    def _scan_prefix(self, values: tuple[KeyValue, ...], cut: PartitionRange) -> list[PartitionRange]:
        assert cut.end is not None, "composite keys have a last possible prefix"
        bucket = self._prefix(PartitionKey(values))
        return [PartitionRange(bucket + cut.start, bucket + cut.end)]


def _time_us(key: PartitionKey) -> int:
    if not isinstance(key.first, datetime):
        raise UnorderableKey(f"key {key.value!r} doesn't begin with a time: give a datetime with a zone")
    return microseconds(key.first)


def _fixed(length_us: int, offset_us: int = 0) -> tuple[Callable[[int], int], Callable[[int], int]]:
    # Floor division, so that times before 1970 fall into the bucket that began before them.
    return (lambda time_us: (time_us - offset_us) // length_us), (lambda number: number * length_us + offset_us)


def _month_number(time_us: int) -> int:
    time = time_of(time_us)
    return (time.year - 1970) * _MONTHS + time.month - 1


def _month_start(number: int) -> int:
    years, months = divmod(number, _MONTHS)
    return _year_start_day(1970 + years, months + 1) * _DAY_US


def _year_number(time_us: int) -> int:
    return time_of(time_us).year - 1970


def _year_start(number: int) -> int:
    return _year_start_day(1970 + number, 1) * _DAY_US


def _year_start_day(year: int, month: int) -> int:
    """Days from 1970-01-01 to the first of a month, also for the month after the last one that a date can say."""
    if (year, month) == (10_000, 1):
        return date.max.toordinal() + 1 - _EPOCH_ORDINAL
    return date(year, month, 1).toordinal() - _EPOCH_ORDINAL


_UNITS: dict[str, tuple[Callable[[int], int], Callable[[int], int]]] = {
    "hour": _fixed(_HOUR_US),
    "day": _fixed(_DAY_US),
    "week": _fixed(7 * _DAY_US, _FIRST_MONDAY_DAY * _DAY_US),
    "month": (_month_number, _month_start),
    "year": (_year_number, _year_start),
}
_TIME_US_MIN = microseconds(datetime.min.replace(tzinfo=UTC))
_TIME_US_MAX = microseconds(datetime.max.replace(tzinfo=UTC))
