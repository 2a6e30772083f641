"""Does virtual time keep its order, and does the network do to packets what its weather says, and count it?"""

from collections import Counter

from aegis_replication.simulation import CALM, Weather
from aegis_replication.simulation.clock import Clock
from aegis_replication.simulation.network import Network


class World:
    """A network between any sites, and what has arrived."""

    def __init__(self, weather: Weather = CALM, seed: int = 1) -> None:
        self.clock = Clock(seed)
        self.faults: Counter[str] = Counter()
        self.arrived: list[bytes] = []
        self.network = Network(self.clock, self._arrive, weather=weather, faults=self.faults)

    def _arrive(self, source: str, target: str, packet: bytes) -> None:
        self.arrived.append(packet)

    def carry(self, count: int, source: str = "a", target: str = "b", *, once: bool = False) -> list[bytes]:
        for number in range(count):
            self.network.send(source, target, b"%03d" % number, once=once)
        self.clock.run_until(self.clock.now_ms + 10_000)
        return self.arrived


def test_time_jumps_to_what_comes_next_and_equal_times_keep_their_order() -> None:
    clock = Clock(1)
    seen: list[tuple[str, float]] = []
    for name, when_ms in [("late", 20.0), ("first", 5.0), ("second", 5.0), ("past", -3.0)]:
        clock.at(when_ms, lambda name=name: seen.append((name, clock.now_ms)))

    clock.run_until(100.0)

    assert seen == [("past", 0.0), ("first", 5.0), ("second", 5.0), ("late", 20.0)]
    assert (clock.now_ms, clock.steps) == (100.0, 4)


def test_each_concern_draws_its_own_numbers() -> None:
    clock = Clock(1)
    first = [clock.random("disk").random() for _ in range(3)]

    clock.random("network").random()

    assert [clock.random("disk").random() for _ in range(3)] == first
    assert Clock(2).random("disk").random() != first[0]


def test_a_calm_network_delivers_each_packet_once() -> None:
    world = World()

    assert sorted(world.carry(100)) == [b"%03d" % number for number in range(100)]
    assert not world.faults


def test_packets_overtake_each_other() -> None:
    world = World(Weather(delay_mean_ms=10.0))

    assert world.carry(50) != sorted(world.arrived)


def test_bad_weather_drops_doubles_and_delays_and_counts_each() -> None:
    world = World(Weather(drop=0.2, duplicate=0.3, straggle=0.1))

    arrived = Counter(world.carry(500))

    assert world.faults["message_dropped"] == 500 - len(arrived)
    assert world.faults["message_duplicated"] == sum(count - 1 for count in arrived.values())
    assert world.faults["message_delayed"] > 10


def test_a_connection_doubles_nothing() -> None:
    world = World(Weather(duplicate=1.0))

    assert len(world.carry(20, once=True)) == 20


def test_a_cut_is_one_way_and_takes_what_is_on_its_way() -> None:
    world = World()
    world.network.send("a", "b", b"on its way")
    world.network.cut("a", "b")

    world.carry(5)
    answers = World.carry(world, 5, "b", "a")

    assert len(answers) == 5
    assert world.faults["partition_one_way"] == 6


def test_what_arrives_over_a_link_can_be_kept() -> None:
    world = World()
    kept: list[bytes] = []
    world.network.keep("a", "b", kept)
    world.carry(3)
    world.carry(2, "b", "a")

    world.network.keep_nothing()
    world.carry(3)

    assert sorted(kept) == [b"000", b"001", b"002"]
    assert len(world.arrived) == 8


def test_a_split_stops_both_ways_until_it_heals() -> None:
    world = World()
    world.network.split(["a"], ["b", "c"])
    world.carry(3, "a", "c")
    world.carry(3, "b", "a")
    assert not world.arrived

    world.network.heal()

    assert len(world.carry(3, "a", "c")) == 3
    assert world.faults["partition"] == 6


def test_a_slow_link_is_slow_one_way() -> None:
    world = World()
    world.network.slow("a", "b", 1_000.0)
    world.network.send("a", "b", b"slow")
    world.network.send("b", "a", b"quick")

    world.clock.run_until(400.0)

    assert world.arrived == [b"quick"]
    assert world.faults["message_slowed"] == 1
