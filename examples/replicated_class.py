"""How does a class of your own become the same on three nodes, and stay so when the leader is killed?

python examples/replicated_class.py
"""

import asyncio

import aegis_replication as aegis


class Inventory(aegis.StateMachine):
    """Annotated attributes are the state; no pickle, no clock, no randomness in it."""

    stock: dict[str, int]

    def __init__(self) -> None:
        self.stock = {}

    @aegis.command
    def receive(self, sku: str, count: int) -> int:
        """Take in `count`; how many there are now."""
        self.stock[sku] = self.stock.get(sku, 0) + count
        return self.stock[sku]

    @aegis.command
    def reserve(self, sku: str, count: int) -> int:
        """Give out `count`; how many are left. If this raises, nothing has changed, on any node."""
        left = self.stock.get(sku, 0) - count
        if left < 0:
            raise ValueError(f"{-left} of {sku} short")
        self.stock[sku] = left
        return left

    @aegis.query
    def available(self, sku: str) -> int:
        """How many there are."""
        return self.stock.get(sku, 0)


async def main() -> None:
    async with aegis.LocalCluster(3, state_machine=Inventory) as cluster:
        shop = cluster.client().machine(Inventory)
        print("received:", await shop.receive("teapot", 10))

        reservations = [asyncio.ensure_future(shop.reserve("teapot", 1)) for _ in range(9)]
        killed = cluster.leader
        if killed is not None:
            await cluster.kill(killed)
        await asyncio.gather(*reservations)

        print("left after the leader was killed:", await shop.available("teapot"))
        try:
            await shop.reserve("teapot", 2)
        except aegis.CommandFailed as error:
            print("refused:", error)


asyncio.run(main())
