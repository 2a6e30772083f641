"""What a node is told: `load_config()` reads it, `NodeConfig` holds it."""

from aegis_replication.config.loading import load_config as load_config
from aegis_replication.config.settings import NodeConfig as NodeConfig
from aegis_replication.config.settings import Peer as Peer
