"""What does a replica start from, and how much may it do at once?"""

from collections.abc import Iterable

import msgspec

from aegis_replication.consensus.changes import Introduction
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.consensus.configuration import Configuration
from aegis_replication.log import RecoveredGroup
from aegis_replication.state_machine.base import Machine


class ReplicaLimits(msgspec.Struct, frozen=True):
    """How much may wait, and how much is done at once; the bytes of commands are bounded by RaftConfig."""

    frame_bytes: int = 1024 * 1024  # commands gathered into one entry, at the most (one larger command goes alone)
    frame_commands: int = 4096
    waiting_commands: int = 100_000  # taken and not yet answered; beyond it, and beyond the next two: OVERLOADED
    waiting_reads: int = 100_000
    waiting_read_bytes: int = 16 * 1024 * 1024
    chunk_bytes: int = 240 * 1024  # of a snapshot, in one message: a packet that needs not be cut
    restore_pieces: int = 2  # of a snapshot that takes the machine's place, in one turn
    apply_commands: int = 2000  # applied in one turn; the rest in the next, so that heartbeats never wait long


class GroupSpec(msgspec.Struct):
    """What a replica starts from."""

    config: RaftConfig
    machine: Machine
    recovered: RecoveredGroup
    bootstrap: Configuration | None = None  # the first configuration, for a directory that holds nothing yet
    snapshot_pieces: Iterable[bytes] | None = None  # the machine's state as of recovered.snapshot
    limits: ReplicaLimits = ReplicaLimits()
    introduction: Introduction = Introduction()  # what this node says of itself
    client_address: str = ""  # where its clients connect
