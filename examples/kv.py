"""What does a program say to a cluster? Keys, conditions, ranges, and batches that happen as a whole.

python examples/kv.py                          a cluster of its own, in memory
python examples/kv.py aegis://127.0.0.1:7480   yours, such as the one that `aegis demo` starts
"""

import asyncio
import sys

import aegis_replication as aegis


async def tour(db: aegis.Client) -> None:
    """Everything here is linearizable, and safe to retry: the client does so until its timeout."""
    await db.delete_range(prefix="tour/")

    version = await db.put("tour/greeting", "hello")
    swapped = await db.cas("tour/greeting", "hello, world", expect_version=version)
    print("swapped:", bool(swapped), "and again:", bool(await db.cas("tour/greeting", "bye", expect="hello")))

    totals = await asyncio.gather(*(db.increment("tour/visits") for _ in range(100)))  # all on their way at once
    print("visits:", max(totals))

    batch = db.batch().require("tour/visits", expect="100").put("tour/report", "a hundred").delete("tour/visits")
    print("batch:", bool(await batch.commit()))

    async for item in db.scan(prefix="tour/"):
        print(item.key.decode(), "=", item.value.decode())


async def main() -> None:
    if len(sys.argv) > 1:
        async with aegis.connect(sys.argv[1]) as db:
            await tour(db)
    else:
        async with aegis.LocalCluster(3) as cluster:
            await tour(cluster.client())


asyncio.run(main())
