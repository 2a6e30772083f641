"""What goes wrong in a verification, and when? A schedule drawn from the seed before anything starts."""

from collections.abc import Sequence
from random import Random
from typing import Final

import msgspec

from aegis_replication.errors import InvalidArgument

KINDS: Final = ("kill", "pause", "partition", "slow-link", "slow-disk", "full-disk", "clock")

GAP_SECONDS: Final = 1.2  # mean, between the beginnings of two faults
CALM_SECONDS: Final = 1.0  # before the first
SIDEWAYS: Final = ("isolated", "halves", "one-way", "one-way-to-all", "one-link", "ring", "reset", "flapping")
"""Varieties of partition. Links are held, so that nobody is told; only "reset" tells both sides."""


class Fault(msgspec.Struct, frozen=True):
    """One thing that goes wrong. `victim` is drawn, but the leader is struck instead when `hits_leader`."""

    kind: str
    at_s: float  # since the clients began
    lasts_s: float
    victim: int  # number of a node, from 0
    other: int  # another node, where two are needed
    hits_leader: bool
    how: str = ""  # which variety
    amount: float = 0.0  # seconds or factor, as the variety has it


def draw_faults(
    random: Random, kinds: Sequence[str], *, seconds: float, nodes: int, election_timeout_s: float
) -> tuple[Fault, ...]:
    """A schedule for so many seconds; every kind occurs if there is time for it. Raises InvalidArgument."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise InvalidArgument(f"--faults {','.join(unknown)}: no such fault; there are {', '.join(KINDS)}")
    faults: list[Fault] = []
    bag: list[str] = []
    at_s = CALM_SECONDS
    while kinds and at_s < seconds:
        if not bag:
            bag = random.sample(list(kinds), len(kinds))
        faults.append(_draw(random, bag.pop(), at_s, nodes, election_timeout_s))
        at_s += 0.3 + random.expovariate(1.0 / GAP_SECONDS)
    return tuple(faults)


def _draw(random: Random, kind: str, at_s: float, nodes: int, election_timeout_s: float) -> Fault:
    victim = random.randrange(nodes)
    other = (victim + random.randrange(1, nodes)) % nodes if nodes > 1 else victim
    how, amount = "", 0.0
    lasts_s = random.uniform(0.3, 3.0)
    match kind:
        case "kill":
            how = random.choice(("one", "one", "one", "all"))
            lasts_s = random.uniform(0.0, 2.0)
        case "pause":
            lasts_s = election_timeout_s * 20.0 ** random.random()  # 1 to 20 election timeouts
        case "partition":
            how = random.choice(SIDEWAYS)
            amount = election_timeout_s * random.uniform(0.5, 1.5)  # of one state of a flapping link
        case "slow-link":
            how = random.choice(("delay", "throttle"))
            amount = random.choice((20.0, 100.0)) if how == "delay" else random.choice((20_000.0, 125_000.0))
        case "slow-disk":
            how = random.choice(("slow", "stall"))
            amount = random.choice((0.005, 0.05)) if how == "slow" else random.uniform(0.5, 2.0)
        case "full-disk":
            how = random.choice(("growing", "writing"))
        case "clock":
            how = random.choice(("jump", "rate"))
            amount = random.uniform(-3600.0, 3600.0) if how == "jump" else random.choice((0.8, 1.2))
    return Fault(kind, round(at_s, 3), round(lasts_s, 3), victim, other, random.random() < 0.5, how, amount)
