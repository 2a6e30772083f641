"""What is a simulated node made of, and who looks on?"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

from aegis_replication.consensus.config import RaftConfig
from aegis_replication.consensus.configuration import Configuration
from aegis_replication.engine.effects import Effects
from aegis_replication.engine.spec import ReplicaLimits
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.log import NOTHING, HardState, LogWrite, RecoveredGroup, SnapshotMeta
from aegis_replication.simulation.disk import SimulatedDisk
from aegis_replication.state_machine.base import Machine
from aegis_replication.storage.base import Storage

HostState: TypeAlias = Literal["down", "up", "paused", "refused"]
"""`refused`: its disk is damaged, the node said so and did not start."""

CHUNK_BYTES: Final = 120
"""Small, so that a snapshot takes several."""

WALL_EPOCH_MS: Final = 1_700_000_000_000


def empty_group() -> RecoveredGroup:
    """What a disk that knows nothing of a group holds of it."""
    return RecoveredGroup(HardState(), NOTHING, [])


class Watcher(Protocol):
    """Who looks on: the checkers, by way of the cluster. Raises InvariantBroken."""

    def on_recovered(self, host: Any, recovered: Mapping[GroupId, RecoveredGroup]) -> None:
        """A process found this on its disk."""

    def on_effects(self, host: Any, effects: Effects) -> None:
        """These are about to be carried out."""

    def on_durable(self, host: Any, write: LogWrite) -> None:
        """The flush that covers this write is over; the node isn't told yet."""

    def on_snapshot(self, host: Any, group: GroupId, meta: SnapshotMeta) -> None:
        """A whole snapshot, one's own or a leader's, is on disk under its name."""

    def on_turn(self, host: Any) -> None:
        """The engine has handled what came, and nothing of what follows is carried out yet."""


class HostSettings:
    """What a host is made of, apart from its place in the cluster."""

    # fmt: off
    __slots__ = ("aside", "clock_error", "config", "groups", "lease_ms", "limits", "make_machine", "mark_ms",
                 "open_storage", "wall_skew_ms")
    # fmt: on

    def __init__(
        self,
        config: RaftConfig,
        groups: tuple[GroupId, ...],
        make_machine: Callable[[NodeId, GroupId], Machine],
        open_storage: Callable[[SimulatedDisk, NodeId], Storage],
        *,
        aside: bool = False,
        limits: ReplicaLimits | None = None,
    ) -> None:
        self.config = config
        self.groups = groups
        self.make_machine = make_machine
        self.open_storage = open_storage
        # Flush beside the loop instead of in it: other events are handled while a flush is under way.
        self.aside = aside
        self.limits = msgspec.structs.replace(limits or ReplicaLimits(), chunk_bytes=CHUNK_BYTES, restore_pieces=1)
        self.mark_ms = config.heartbeat_interval_ms
        self.wall_skew_ms = 0.0
        self.clock_error = 0.0  # how much too fast or slow the host's clock may run
        self.lease_ms = 0  # of the group's first configuration

    def first_configuration(self, config: RaftConfig) -> Configuration:
        """What a founder begins with."""
        return msgspec.structs.replace(config.configuration(), lease_ms=self.lease_ms)
