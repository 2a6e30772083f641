"""Do the voters that a node was told belong to its disk? A configuration names those of the first start only."""

from collections.abc import Mapping

from aegis_replication.engine.replica import Replica
from aegis_replication.errors import WrongIdentity
from aegis_replication.ids import GroupId, NodeId


def check_voters(node: NodeId, told: tuple[NodeId, ...], replicas: Mapping[GroupId, Replica]) -> None:
    """After the first start the disk knows who the voters are. Raises WrongIdentity when it knows others."""
    for group, replica in replicas.items():
        configuration = replica.raft.configuration
        known, founders = configuration.voters, configuration.founders or configuration.voters
        if configuration.members and told not in (known, founders, (node,)):
            raise WrongIdentity(
                f"node {node}: its disk knows {', '.join(known)} as the voters of group {group} (at first they "
                f"were {', '.join(founders)}), its peers say {', '.join(told)}: leave the peers out, since they "
                "count at the first start only, or give the directory that belongs to them"
            )
