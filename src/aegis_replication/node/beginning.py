"""What does a node begin with? What it is told, and what each of its groups finds on its disk."""

from collections.abc import Iterable, Mapping

import msgspec

from aegis_replication.consensus.changes import Introduction
from aegis_replication.consensus.config import RaftConfig
from aegis_replication.consensus.configuration import Configuration
from aegis_replication.engine.replica import Replica
from aegis_replication.engine.spec import GroupSpec
from aegis_replication.errors import WrongIdentity
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.log import NOTHING, HardState, RecoveredGroup
from aegis_replication.state_machine.base import DurableMachine, Machine
from aegis_replication.storage.base import Storage


class NodeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a node is started with, apart from its parts."""

    config: RaftConfig
    cluster: str = "aegis"
    client_address: str = ""
    peer_address: str = ""  # where its peers connect, as they are to know it
    peer_addresses: Mapping[NodeId, str] = {}  # where the others are, for as long as the configuration doesn't say
    remember_events: int = 0  # how many events the story of a broken invariant shows


def group_spec(
    options: NodeOptions, storage: Storage, group: GroupId, machine: Machine, found: RecoveredGroup | None
) -> GroupSpec:
    """What a group's replica starts from, with what was `found` of it on the disk."""
    config = options.config
    recovered = found or RecoveredGroup(HardState(), NOTHING, [])
    pieces: Iterable[bytes] | None = None
    if recovered.snapshot is not None:
        pieces = storage.snapshots.chunks(group, recovered.snapshot.id)
    # Names only: were addresses among them, two spellings of one host would make two different first entries.
    identity = storage.identity
    return GroupSpec(
        config,
        machine,
        recovered,
        bootstrap=None if identity.joins else Configuration(config.voters),
        snapshot_pieces=pieces,
        introduction=Introduction(
            identity.incarnation, options.peer_address, config.priority, format_highest=config.format_highest
        ),
        client_address=options.client_address,
    )


def check_voters(config: RaftConfig, replicas: Iterable[Replica]) -> None:
    """A configuration names the voters of the first start only; after that the disk knows who they are."""
    told = config.voters
    for replica in replicas:
        configuration = replica.raft.configuration
        known, founders = configuration.voters, configuration.founders or configuration.voters
        if configuration.members and told not in (known, founders, (config.node_id,)):
            raise WrongIdentity(
                f"node {config.node_id}: its disk knows {', '.join(known)} as the voters of group {replica.group} (at "
                f"first they were {', '.join(founders)}), its peers say {', '.join(told)}: leave the peers out, since "
                "they count at the first start only, or give the directory that belongs to them"
            )


def close_machines(machines: Iterable[Machine]) -> None:
    """What is kept on disks of their own is let go."""
    for machine in machines:
        if isinstance(machine, DurableMachine):
            machine.close()
