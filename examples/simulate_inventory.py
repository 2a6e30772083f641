"""Would a machine of your own survive crashes, partitions and torn disks, and be the same on every node?

python examples/simulate_inventory.py
aegis simulate --machine examples.simulate_inventory:Inventory --seeds 100
"""

import aegis_replication as aegis
from aegis_replication.simulation import Cluster, run_many


class Inventory(aegis.StateMachine):
    """Requests are drawn from these signatures; see docs/testing.md for how to bring your own."""

    stock: dict[str, int]
    reserved: dict[str, int]

    def __init__(self) -> None:
        self.stock = {}
        self.reserved = {}

    @aegis.command
    def receive(self, sku: str, count: int) -> int:
        """Take in `count`; how many there are now."""
        if count < 0:
            raise ValueError("only whole parcels come in")
        self.stock[sku] = self.stock.get(sku, 0) + count
        return self.stock[sku]

    @aegis.command
    def reserve(self, sku: str, count: int) -> int:
        """Set `count` aside; how many are left. If this raises, nothing has changed, on any node."""
        left = self.stock.get(sku, 0) - count
        if count < 0 or left < 0:
            raise ValueError(f"not {count} of {sku}")
        self.stock[sku] = left
        self.reserved[sku] = self.reserved.get(sku, 0) + count
        return left

    @aegis.query
    def available(self, sku: str) -> int:
        """How many there are."""
        return self.stock.get(sku, 0)


def tell_a_story() -> None:
    """One cluster, in your hands."""
    cluster = Cluster(3, seed=7, machine=Inventory)
    cluster.call(Inventory.receive, "teapot", 10)
    print("reserved 3, left:", cluster.call(Inventory.reserve, "teapot", 3))

    cluster.crash(cluster.leader(), losing="unsynced")  # its power goes, and with it all that was not flushed

    print("left after the leader's crash:", cluster.call(Inventory.available, "teapot"))


def play_many(seeds: int) -> None:
    """Many clusters, in the hands of fate; each seed twice, under two hash seeds."""
    report = run_many(range(seeds), machine=f"{__file__}:Inventory")
    print("seeds:", report.seeds)
    print("promises broken:", len(report.failures))
    for failure in report.failures:
        print(failure)


if __name__ == "__main__":
    tell_a_story()
    play_many(6)
