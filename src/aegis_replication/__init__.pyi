"""The public list, for type checkers; `__init__.py` loads the same names at their first use."""

from aegis_replication import config as config
from aegis_replication import errors as errors
from aegis_replication import log as log
from aegis_replication import raft as raft
from aegis_replication import simulation as simulation
from aegis_replication import state_machine as state_machine
from aegis_replication import storage as storage
from aegis_replication import sync as sync
from aegis_replication import testing as testing
from aegis_replication import transport as transport
from aegis_replication.client.client import Client as Client
from aegis_replication.client.client import NodeStatus as NodeStatus
from aegis_replication.client.client import connect as connect
from aegis_replication.config import NodeConfig as NodeConfig
from aegis_replication.config import load_config as load_config
from aegis_replication.consensus.config import RaftConfig as RaftConfig
from aegis_replication.errors import AegisError as AegisError
from aegis_replication.errors import CommandFailed as CommandFailed
from aegis_replication.errors import ConfigError as ConfigError
from aegis_replication.errors import DeadlineExceeded as DeadlineExceeded
from aegis_replication.errors import InvalidArgument as InvalidArgument
from aegis_replication.errors import InvalidCommand as InvalidCommand
from aegis_replication.errors import LevelNotSupported as LevelNotSupported
from aegis_replication.errors import LimitExceeded as LimitExceeded
from aegis_replication.errors import NotAnInteger as NotAnInteger
from aegis_replication.errors import NotLeader as NotLeader
from aegis_replication.errors import OutcomeUnknown as OutcomeUnknown
from aegis_replication.errors import Overloaded as Overloaded
from aegis_replication.errors import Retryable as Retryable
from aegis_replication.errors import StorageError as StorageError
from aegis_replication.errors import Unavailable as Unavailable
from aegis_replication.local import Database as Database
from aegis_replication.local import LocalCluster as LocalCluster
from aegis_replication.local import open as open
from aegis_replication.raft import RaftNode as RaftNode
from aegis_replication.state_machine.commands import BatchResult as BatchResult
from aegis_replication.state_machine.commands import KeyValue as KeyValue
from aegis_replication.state_machine.commands import Page as Page
from aegis_replication.state_machine.commands import Swap as Swap
from aegis_replication.state_machine.user import StateMachine as StateMachine
from aegis_replication.state_machine.user import command as command
from aegis_replication.state_machine.user import query as query

__version__: str
