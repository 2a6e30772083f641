"""Which write came first, which are siblings, and what does a stamp say after a restart?

python examples/vector_clocks.py
"""

from aegis_replication.errors import ClockSkewError
from aegis_replication.vector_clock import DottedVersionVectorSet, HybridLogicalClock, HybridTimestamp, VectorClock

# Two nodes that have not heard of each other, then one that has.
one, other = VectorClock(), VectorClock()
one.increment("n1")
other.increment("n2")
print("n1 and n2:", one.compare(other).value)
later = one.merged(other).increment("n1")
print("after a merge:", one.compare(later).value)

# Two clients read the same version and write: both values stay, until a third has seen both.
stored = DottedVersionVectorSet.new("draft", "server")
read = stored.join()
stored = stored.update("Ada's", context=read, server="server").update("Bo's", context=read, server="server")
print("siblings:", stored.values())
stored = stored.update("Ada's and Bo's", context=stored.join(), server="server")
print("resolved:", stored.values())

# A clock that follows messages and the wall clock, and is never below its own past.
bounds: list[int] = []
clock = HybridLogicalClock("n1", max_offset_ms=250, persist=bounds.append)
before = clock.update(HybridTimestamp(1_000_100, 0, "n2"), now_ms=1_000_000)
try:
    clock.update(HybridTimestamp(1_005_000, 0, "n3"), now_ms=1_000_001)
except ClockSkewError as error:
    print(error)
restarted = HybridLogicalClock("n1", resume_after_ms=bounds[-1])
print("after a restart it goes on above:", restarted.now(now_ms=1_000_050) > before)
