"""Which node keeps which cache entries, what does one more node move, and where do three copies go?

python examples/hash_ring.py
"""

from aegis_replication.hash import HashRing, placement_from_bytes

# A ring of cache servers in three zones; c1 is twice as large as the others.
ring = HashRing(150)
for name, zone, weight in [("a1", "a", 1), ("a2", "a", 1), ("b1", "b", 1), ("b2", "b", 1), ("c1", "c", 2)]:
    ring.add_node(name, labels={"zone": zone}, weight=weight)

for key in ("user:1", "user:2", "user:3"):
    copies = ring.get_nodes(key, 3, spread=("zone",))
    print(f"{key}: primary {copies.primary}, copies on {', '.join(copies[1:])}")

# Before anything is changed: what would a second node in zone c have to receive, and from whom?
larger = ring.copy()
larger.add_node("c2", labels={"zone": "c"}, weight=2)
plan = ring.diff(larger)
print(f"adding c2 moves {plan.moved_fraction:.1%} of the keys (at least {plan.ideal_fraction:.1%} must):")
for source, fraction in sorted(plan.sent.items()):
    print(f"  {fraction:6.1%} from {source}")

# Every process that gets these bytes places every key alike.
twin = placement_from_bytes(larger.to_bytes())
keys = [f"user:{number}" for number in range(10_000)]
print("another process agrees:", twin.get_many(keys) == larger.get_many(keys))
