"""One node at work: the only place where the engine, a disk, a network and a clock meet."""

from aegis_replication.ids import DATA_GROUP as DATA_GROUP
from aegis_replication.node.beginning import NodeOptions as NodeOptions
from aegis_replication.node.node import Node as Node
