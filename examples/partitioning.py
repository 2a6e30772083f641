"""How do orders of many customers spread over partitions, and which ones does a query have to ask?

python examples/partitioning.py
"""

from collections import Counter
from datetime import UTC, datetime, timedelta

from aegis_replication.partition import CompositeStrategy, KeyExtractor, PartitionMap, TimeStrategy

start = datetime(2026, 1, 1, tzinfo=UTC)
orders = [
    {"customer": f"customer-{number % 100}", "at": start + timedelta(hours=number), "total": number}
    for number in range(2_000)
]

# Customers spread by hash; the orders of one of them lie together, sorted by time.
strategy = CompositeStrategy("customer", "at", partitions=8)
parts = PartitionMap(strategy)
by_customer = KeyExtractor(strategy.columns)
filled = Counter(parts.partition_for_key(by_customer.require(order)) for order in orders)
print("orders per partition:", [filled[index] for index in range(len(parts))])

# A query about one customer asks one partition, a query about a day asks all.
day = start + timedelta(days=7)
print("orders of customer-7:", parts.partitions_for_prefix("customer-7"))
print("of them on one day:  ", parts.partitions_for_scan(("customer-7", day), ("customer-7", day + timedelta(days=1))))
print("orders without more: ", parts.partitions_for_scan())

# The fullest partition is split; every other one stays as it is.
fullest = max(filled, key=lambda index: filled[index])
parts = parts.split_evenly(fullest)
print(f"after splitting partition {fullest}:", len(parts), "partitions")

# The same rows by calendar month instead: a query about a day asks one partition.
months = TimeStrategy(["at", "customer"], unit="month")
parts = PartitionMap(months, months.ranges_between(start, start + timedelta(days=80)))
key = KeyExtractor(months.columns)
print(
    "orders per month:", dict(sorted(Counter(parts.partition_for_key(key.require(order)) for order in orders).items()))
)
print("orders of one day:", parts.partitions_for_scan((day,), (day + timedelta(days=1),)))
