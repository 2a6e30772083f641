"""What is a run made of? A plan drawn from its seed: the cluster, its settings, its clients, and what may go wrong."""

from random import Random
from typing import Any, Final

import msgspec

from aegis_replication.consensus.config import RaftConfig
from aegis_replication.ids import NodeId
from aegis_replication.simulation.network import Weather

KINDS: Final = (
    "crash",
    "kill",
    "crash_all",
    "crash_in_call",
    "crash_loop",
    "restart",
    "pause",
    "partition",
    "isolate",
    "lonely_leader",
    "one_way",
    "ring",
    "flap",
    "slow_link",
    "storm",
    "stranger",
    "slow_disk",
    "crash_while_flushing",
    "failing_disk",
    "full_disk",
    "damage",
    "garbage",
    "clock_jump",
    "client_crash",
)
"""What the nemesis can do. What it causes is counted by its effect: a partition by the packets that it stopped."""

HEAVY: Final = frozenset(("lonely_leader", "crash_while_flushing"))
"""These meet the most rules at once, and strike more often."""

COUNTED: Final = (
    "message_dropped",
    "message_duplicated",
    "message_delayed",
    "message_slowed",
    "partition",
    "partition_one_way",
    "partition_ring",
    "link_flapping",
    "lonely_leader",
    "stranger",
    "crash",
    "crash_all",
    "crash_in_call",
    "crash_loop",
    "crash_while_flushing",
    "kill",
    "restart",
    "pause",
    "unsynced_lost",
    "flush_slow",
    "flush_failed",
    "disk_full",
    "disk_regained",
    "bit_flip",
    "damage_refused",
    "garbage_behind_tail",
    "clock_jump",
    "client_crash",
)
"""Every kind of fault that a report counts; each must happen in a hundred seeds."""


class Plan(msgspec.Struct, frozen=True):
    """What one run is made of. Each seed draws its own, so that some faults meet undisturbed by others."""

    nodes: int
    groups: int
    clients: int
    client_depth: int
    pause_ms: float  # between a client's requests
    duration_ms: float  # of the part with faults
    gap_ms: float  # mean, between faults
    kinds: tuple[str, ...]  # which faults this run has
    flush_aside: bool
    sessions_max: int
    idle_ms: int
    weather: Weather
    flush_ms: float
    segment_bytes: int
    is_uniform: bool  # all writes have the same length
    frame_commands: int  # how many commands go into one entry at the most
    skew: float  # part of the requests that all go to one group
    without_session: float  # part of the commands that clients send outside of any session
    raft: dict[str, Any]  # arguments of RaftConfig
    priorities: dict[NodeId, int] = {}
    is_about_beginnings: bool = False  # see `about_beginnings`

    def config(self) -> RaftConfig:
        """The replicas' settings."""
        return RaftConfig(**self.raft)


def draw_plan(random: Random) -> Plan:
    """A plan; the ranges are what a cluster of this kind must survive."""
    timeout_ms = random.choice((100, 150, 150, 250))
    raft: dict[str, Any] = {
        "election_timeout": (timeout_ms, 2 * timeout_ms),
        "heartbeat_interval": timeout_ms / 3,
        "snapshot_threshold": random.choice((12, 30, 80)),
        "trailing_entries": random.choice((0, 3, 20)),
        "append_bytes_max": random.choice((300, 2000, 65536)),
        "max_entries_per_request": random.choice((4, 100)),
        "pre_vote": random.random() < 0.85,
        "check_quorum": random.random() < 0.75,
    }
    clients = random.randint(3, 6)
    is_rough = random.random() < 0.5
    is_uniform = random.random() < 0.25
    return Plan(
        nodes=random.choice((3, 3, 3, 3, 3, 5, 5, 4, 4, 2)),
        groups=random.choice((1, 1, 2)),
        skew=random.choice((0.0, 0.95)),
        is_uniform=is_uniform,
        frame_commands=1 if is_uniform else random.choice((1, 3, 4096)),
        clients=clients,
        client_depth=random.choice((1, 2, 3)),
        pause_ms=random.choice((15.0, 30.0, 60.0)),
        duration_ms=random.uniform(3500.0, 7000.0),
        gap_ms=random.choice((80.0, 150.0, 400.0)),
        kinds=tuple(kind for kind in KINDS if random.random() < 0.6) or KINDS,
        flush_aside=random.random() < 0.5,
        sessions_max=random.choice((clients - 1, clients + 2, 10_000)),
        idle_ms=random.choice((1500, 3_600_000)),
        weather=Weather(
            delay_mean_ms=random.choice((0.5, 2.0, 10.0)),
            drop=random.choice((0.0, 0.01, 0.1)) if is_rough else 0.0,
            duplicate=random.choice((0.0, 0.05, 0.3)) if is_rough else 0.0,
            straggle=random.choice((0.0, 0.01, 0.05)) if is_rough else 0.0,
        ),
        flush_ms=random.choice((0.2, 1.0, 4.0)),
        segment_bytes=random.choice((16 * 1024, 16 * 1024, 64 * 1024)),
        without_session=random.choice((0.0, 0.2, 0.6)),
        raft=raft,
    )


def about_beginnings(plan: Plan, random: Random) -> Plan:
    """`plan`, or one in which it is the beginning of a write that a power cut takes.

    Without it the write seems never to have been. What is left must not come back when the beginning is written once
    more, byte for byte: a leader that sends entries one by one does that. Nothing else happens, or it would be rare.
    """
    if random.random() >= 0.2:
        return plan
    return msgspec.structs.replace(
        plan,
        kinds=("crash_while_flushing",),
        duration_ms=3000.0,
        frame_commands=1,
        pause_ms=15.0,
        weather=Weather(delay_mean_ms=0.2),
        raft={**plan.raft, "append_bytes_max": 300, "max_entries_per_request": 1},
        is_about_beginnings=True,
    )
