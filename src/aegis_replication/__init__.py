"""The distributed layer of a database: Raft, durable logs, placement, transactions, CRDTs.

The public list. Each name is loaded at its first use, so that importing the package costs next to nothing;
`__init__.pyi` tells type checkers the same.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    # a database: connected to, embedded, or as a cluster in a test
    "connect": "client.client",
    "Client": "client.client",
    "open": "local",
    "Database": "local",
    "LocalCluster": "local",
    # what it takes and answers
    "KeyValue": "state_machine.commands",
    "Page": "state_machine.commands",
    "Swap": "state_machine.commands",
    "BatchResult": "state_machine.commands",
    "NodeStatus": "client.client",
    # a machine of your own
    "StateMachine": "state_machine.user",
    "command": "state_machine.user",
    "query": "state_machine.user",
    # Raft itself
    "RaftConfig": "consensus.config",
    "RaftNode": "raft",
    # where keys live
    "HashRing": "hash",
    "JumpHash": "hash",
    "RendezvousHash": "hash",
    # data that merges without asking, and what came before what
    "GCounter": "crdt",
    "LWWRegister": "crdt",
    "ORSet": "crdt",
    "VectorClock": "vector_clock",
    # a node from a configuration
    "NodeConfig": "config",
    "load_config": "config",
    # what can go wrong
    "AegisError": "errors",
    "InvalidArgument": "errors",
    "ConfigError": "errors",
    "LimitExceeded": "errors",
    "InvalidCommand": "errors",
    "LevelNotSupported": "errors",
    "CommandFailed": "errors",
    "NotAnInteger": "errors",
    "Retryable": "errors",
    "NotLeader": "errors",
    "Overloaded": "errors",
    "Unavailable": "errors",
    "OutcomeUnknown": "errors",
    "DeadlineExceeded": "errors",
    "DiskFull": "errors",
    "StorageError": "errors",
}
_MODULES = (
    "config",
    "crdt",
    "errors",
    "hash",
    "log",
    "partition",
    "raft",
    "simulation",
    "state_machine",
    "storage",
    "sync",
    "testing",
    "transport",
    "vector_clock",
)

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
