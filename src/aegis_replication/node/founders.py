"""Does the list of peers that a node is started with fit what its disk knows?"""

from collections.abc import Mapping

from aegis_replication.consensus.config import RaftConfig
from aegis_replication.engine.replica import Replica
from aegis_replication.errors import WrongIdentity
from aegis_replication.ids import GroupId


def check_voters(config: RaftConfig, replicas: Mapping[GroupId, Replica]) -> None:
    """A configuration names the voters of the first start only; after that the disk knows who they are.

    Raises WrongIdentity.
    """
    told = config.voters
    for group, replica in replicas.items():
        configuration = replica.raft.configuration
        known, founders = configuration.voters, configuration.founders or configuration.voters
        if configuration.members and told not in (known, founders, (config.node_id,)):
            raise WrongIdentity(
                f"node {config.node_id}: its disk knows {', '.join(known)} as the voters of group {group} (at first "
                f"they were {', '.join(founders)}), its peers say {', '.join(told)}: leave the peers out, since they "
                "count at the first start only, or give the directory that belongs to them"
            )
