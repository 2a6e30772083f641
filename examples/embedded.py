"""How does a program keep a durable database inside itself, without another service?

python examples/embedded.py [DIRECTORY]
"""

import asyncio
import sys
import tempfile
import time

import aegis_replication as aegis


async def main(directory: str) -> None:
    # own_thread: the node has a loop of its own, so that work on this one never looks like a dead leader to its peers.
    async with aegis.open(directory, own_thread=True) as db:
        print("starts so far:", await db.increment("starts"))
        time.sleep(0.5)  # noqa: ASYNC251 - a careless program; the node doesn't mind
        await db.put("last", "saved")

    async with aegis.open(directory) as db:
        last = await db.get("last")
        print("after a restart:", last.value if last else None)
        print("starts so far:", await db.increment("starts"))


if len(sys.argv) > 1:
    asyncio.run(main(sys.argv[1]))
else:
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(main(made))
