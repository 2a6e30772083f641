"""Which strategy do these bytes, or this name, stand for?"""

from collections.abc import Iterable

from aegis_replication.errors import CorruptPartitioning, UnknownHashFunction
from aegis_replication.hash.functions import HashFunction
from aegis_replication.partition.calendar import TimeStrategy
from aegis_replication.partition.codec import Payload, decode, encode
from aegis_replication.partition.slots import SlotStrategy
from aegis_replication.partition.strategies import (
    CompositeStrategy,
    HashStrategy,
    ListStrategy,
    RangeStrategy,
    RoundRobinStrategy,
)
from aegis_replication.partition.strategy import Strategy

STRATEGIES: dict[str, type[Strategy]] = {
    kind.NAME: kind
    for kind in (
        HashStrategy,
        RangeStrategy,
        ListStrategy,
        CompositeStrategy,
        TimeStrategy,
        RoundRobinStrategy,
        SlotStrategy,
    )
}


def strategy_from_bytes(encoded: bytes, *, hash_functions: Iterable[HashFunction] = ()) -> Strategy:
    """The strategy that `to_bytes` encoded, alone or in a map; pass hash functions that this package doesn't bring.

    Raises CorruptPartitioning, IncompatibleVersion, UnknownHashFunction.
    """
    return strategy_of(decode(encoded), hash_functions)


def strategy_of(payload: Payload, hash_functions: Iterable[HashFunction]) -> Strategy:
    if (kind := STRATEGIES.get(payload.strategy)) is None:
        raise CorruptPartitioning(f"strategy {payload.strategy!r} is not one of {', '.join(STRATEGIES)}")
    try:
        strategy = kind._from_settings(payload.columns, dict(payload.settings), hash_functions)
    except UnknownHashFunction:
        raise
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise CorruptPartitioning(f"these bytes don't describe a {kind.NAME} strategy: {error}") from error
    if encode(strategy.payload(payload.cuts)) != encode(payload):
        raise CorruptPartitioning(f"these bytes describe a {kind.NAME} strategy, but not as this program writes it")
    return strategy
