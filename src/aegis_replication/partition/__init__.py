"""Which rows lie together? Keys with one order, and strategies that map them to ranges; see docs/partition.md."""

from aegis_replication.partition.calendar import TimeBucket, TimeStrategy
from aegis_replication.partition.encoding import KeyValue
from aegis_replication.partition.key import KeyExtractor, PartitionKey
from aegis_replication.partition.map import PartitionMap
from aegis_replication.partition.ranges import PartitionRange
from aegis_replication.partition.registry import strategy_from_bytes
from aegis_replication.partition.slots import SLOT_COUNT, SlotStrategy, hash_tag, slot_of
from aegis_replication.partition.strategies import (
    CompositeStrategy,
    HashStrategy,
    ListStrategy,
    RangeStrategy,
    RoundRobinStrategy,
)
from aegis_replication.partition.strategy import Strategy

# The original's name.
PartitionStrategy = Strategy

__all__ = [
    "PartitionKey",
    "KeyValue",
    "KeyExtractor",
    "Strategy",
    "strategy_from_bytes",
    "HashStrategy",
    "RangeStrategy",
    "ListStrategy",
    "CompositeStrategy",
    "TimeStrategy",
    "TimeBucket",
    "RoundRobinStrategy",
    "SlotStrategy",
    "SLOT_COUNT",
    "slot_of",
    "hash_tag",
    "PartitionRange",
    "PartitionMap",
    "PartitionStrategy",
]
