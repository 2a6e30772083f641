"""How fast is the client library? Closed-loop tasks over one real client: what a program of users would see.

Run as `python -m aegis_replication.bench.api_load` with a msgpack LoadPlan on standard input; it prints a msgpack
LoadResult, as the generator that speaks the wire itself does.
"""

import asyncio
import gc
import sys
import time
from array import array
from importlib import import_module
from importlib.util import find_spec
from secrets import token_bytes

import msgspec

from aegis_replication.bench.load import LoadPlan, LoadResult, summarise
from aegis_replication.client.client import Client, connect


class ApiLoad:
    """`clients` tasks that share one Client; each has its own keys, so their last values are known."""

    def __init__(self, plan: LoadPlan, client: Client) -> None:
        self.plan, self.client = plan, client
        self.latencies = array("d")
        self.acknowledged: dict[str, bytes] = {}
        self.stopping = False

    async def run(self) -> LoadResult:
        """Warm up, measure, drain, read back."""
        plan, result = self.plan, LoadResult()
        tasks = [asyncio.create_task(self._work(number)) for number in range(plan.clients)]
        await asyncio.sleep(plan.warmup_seconds)
        self.latencies = array("d")
        cpu, began = time.process_time(), time.perf_counter()
        result.started_at = time.monotonic()
        await asyncio.sleep(plan.seconds)
        result.seconds = time.perf_counter() - began
        result.ended_at = time.monotonic()
        result.generator_cpu_s = time.process_time() - cpu
        result.generator_cpu = result.generator_cpu_s / result.seconds
        summarise(result, self.latencies)
        self.stopping = True
        await asyncio.gather(*tasks)
        await self._read_back(result)
        return result

    async def _work(self, number: int) -> None:
        plan, client, clock = self.plan, self.client, time.perf_counter
        share = max(plan.keys // plan.clients, 1)
        keys = [f"{number * share + i:012d}" for i in range(share)]
        tail = token_bytes(plan.value_bytes - 8)
        count = 0
        while not self.stopping:
            key = keys[count % share]
            count += 1
            started = clock()
            if plan.reads:
                await client.get(key)
            else:
                value = count.to_bytes(8, "little") + tail
                await client.put(key, value)
                self.acknowledged[key] = value
            self.latencies.append(clock() - started)

    async def _read_back(self, result: LoadResult) -> None:
        keys = list(self.acknowledged)
        for first in range(0, len(keys), 200):
            part = keys[first : first + 200]
            for key, item in zip(part, await self.client.get_many(part), strict=True):
                result.keys_read_back += 1
                if item is None or item.value != self.acknowledged[key]:
                    result.keys_wrong += 1


async def _run(plan: LoadPlan) -> LoadResult:
    async with connect(plan.address) as client:
        gc.collect()
        gc.freeze()
        gc.disable()
        return await ApiLoad(plan, client).run()


def main() -> None:
    """Read a plan, run it, print the result."""
    plan = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=LoadPlan)
    run = import_module("uvloop").run if find_spec("uvloop") is not None else asyncio.run
    sys.stdout.buffer.write(msgspec.msgpack.encode(run(_run(plan))))


if __name__ == "__main__":
    main()
