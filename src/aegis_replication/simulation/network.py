"""What becomes of a packet on its way? A network that drops, delays, duplicates, reorders, cuts and slows, by seed."""

from collections import Counter
from collections.abc import Callable, Iterable
from random import Random

import msgspec

from aegis_replication.simulation.clock import Clock


class Weather(msgspec.Struct, frozen=True, gc=False):
    """How good or bad the network is as a whole; links can be cut or slow besides."""

    delay_min_ms: float = 0.3
    delay_mean_ms: float = 1.5  # on top of the least one, exponential: so packets overtake each other
    drop: float = 0.0  # part of the packets that never arrive
    duplicate: float = 0.0  # part that arrives twice
    straggle: float = 0.0  # part that arrives much later, when its sender may long have changed its mind
    straggle_max_ms: float = 1500.0


CALM = Weather()


class Network:
    """Carries packets between sites (nodes and clients) at virtual time."""

    __slots__ = ("weather", "faults", "spoil", "_clock", "_random", "_deliver", "_cut", "_extra_ms", "_keep")

    def __init__(
        self, clock: Clock, deliver: Callable[[str, str, bytes], None], *, weather: Weather = CALM, faults: Counter[str]
    ) -> None:
        self.weather = weather
        # Counts each fault that really hit a packet; shared with the whole run.
        self.faults = faults
        # What bytes turn on their way; None: none.
        self.spoil: Callable[[bytes], bytes] | None = None
        self._clock = clock
        self._random: Random = clock.random("network")
        self._deliver = deliver
        # Ordered pairs (source, target) that nothing passes; one-way cuts are one pair.
        self._cut: dict[tuple[str, str], str] = {}
        # Ordered pairs that take this much longer.
        self._extra_ms: dict[tuple[str, str], float] = {}
        # Where packets that arrive over a link are noted.
        self._keep: dict[tuple[str, str], list[bytes]] = {}

    def send(self, source: str, target: str, packet: bytes, *, once: bool = False) -> None:
        """Put one packet on its way, twice or never if the weather is bad; `once` never twice (one TCP connection)."""
        link = (source, target)
        if link in self._cut:
            self.faults[self._cut[link]] += 1
            return
        if self.spoil is not None:
            packet = self.spoil(packet)
        weather, draw = self.weather, self._random.random
        if weather.drop and draw() < weather.drop:
            self.faults["message_dropped"] += 1
            return
        if weather.duplicate and not once and draw() < weather.duplicate:
            self.faults["message_duplicated"] += 1
            self._clock.after(self._delay_ms(link), self._arrive, source, target, packet)
        self._clock.after(self._delay_ms(link), self._arrive, source, target, packet)

    def _delay_ms(self, link: tuple[str, str]) -> float:
        weather, random = self.weather, self._random
        delay_ms = weather.delay_min_ms + random.expovariate(1.0) * weather.delay_mean_ms
        if weather.straggle and random.random() < weather.straggle:
            self.faults["message_delayed"] += 1
            delay_ms += random.random() * weather.straggle_max_ms
        extra_ms = self._extra_ms.get(link)
        if extra_ms:
            self.faults["message_slowed"] += 1
            delay_ms += extra_ms * (0.5 + random.random())
        return delay_ms

    def _arrive(self, source: str, target: str, packet: bytes) -> None:
        # A cut also takes what was on its way, as a broken connection does.
        if (source, target) in self._cut:
            self.faults[self._cut[source, target]] += 1
            return
        if (source, target) in self._keep:
            self._keep[source, target].append(packet)
        self._deliver(source, target, packet)

    # --- what can be done to links ---

    def cut(self, source: str, target: str, *, kind: str = "partition_one_way") -> None:
        """Nothing passes from `source` to `target` any more; the other way stays as it is."""
        self._cut[source, target] = kind

    def mend(self, source: str, target: str) -> None:
        """The link from `source` to `target` carries packets again."""
        self._cut.pop((source, target), None)

    def split(self, one: Iterable[str], other: Iterable[str]) -> None:
        """Nothing passes between the two sides, either way."""
        sides = list(one), list(other)
        for left in sides[0]:
            for right in sides[1]:
                self.cut(left, right, kind="partition")
                self.cut(right, left, kind="partition")

    def slow(self, source: str, target: str, extra_ms: float) -> None:
        """Packets from `source` to `target` take about `extra_ms` longer."""
        self._extra_ms[source, target] = extra_ms

    def keep(self, source: str, target: str, kept: list[bytes]) -> None:
        """Note in `kept` what arrives over this link from now on."""
        self._keep[source, target] = kept

    def keep_nothing(self) -> None:
        self._keep.clear()

    def is_cut(self, source: str, target: str) -> bool:
        return (source, target) in self._cut

    def heal(self) -> None:
        """Every link is whole and as fast as the others; the weather stays."""
        self._cut.clear()
        self._extra_ms.clear()
