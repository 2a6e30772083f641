"""Are the copies equal? Rebuilds each stopped node's state from its directory with the production code."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from aegis_replication.errors import StorageError
from aegis_replication.ids import GroupId, LogIndex, NodeId, Term
from aegis_replication.log import Kind, RecoveredGroup
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine
from aegis_replication.storage.base import Storage
from aegis_replication.storage.directory import DirectoryStorage


class Copies(msgspec.Struct, frozen=True):
    """What the directories hold. `index`: the highest entry that a majority of them has."""

    index: LogIndex
    last: dict[NodeId, LogIndex]
    digests: dict[NodeId, str]  # of the state at `index`, of those that have it
    behind: tuple[NodeId, ...]  # the others

    @property
    def equal(self) -> bool:
        """Is every copy there, and the same?"""
        return not self.behind and len(set(self.digests.values())) == 1


def compare_copies(directories: Mapping[NodeId, Path], *, group: GroupId = 1) -> Copies:
    """Restore each node's snapshot, replay its log, and take the digest of what comes out.

    Raises StorageError for a directory that can't be read or is in use.
    """
    stores = {node: DirectoryStorage.open(path) for node, path in directories.items()}
    try:
        logs = {node: store.recover().get(group) for node, store in stores.items()}
        held = {node: log for node, log in logs.items() if log is not None}
        index, holders = _majority(held, len(directories))
        digests = {node: _digest(stores[node], held[node], group, index) for node in sorted(holders)}
    finally:
        for store in stores.values():
            store.close()
    last = {node: _last(held[node]) if node in held else 0 for node in sorted(directories)}
    return Copies(index, last, digests, tuple(sorted(set(directories) - holders)))


def _majority(logs: Mapping[NodeId, RecoveredGroup], count: int) -> tuple[LogIndex, set[NodeId]]:
    """The highest index at which a majority has the same entry, and who has it."""
    for index in range(max(map(_last, logs.values()), default=0), 0, -1):
        by_term: dict[Term, set[NodeId]] = {}
        compacted: set[NodeId] = set()  # committed there, so it is the entry that a majority has
        for node, log in logs.items():
            if index < log.base.index:
                compacted.add(node)
            elif index <= _last(log):
                by_term.setdefault(_term_at(log, index), set()).add(node)
        for holders in [nodes | compacted for nodes in by_term.values()] or [compacted]:
            if 2 * len(holders) > count:
                return index, holders
    return 0, set()


def _last(log: RecoveredGroup) -> LogIndex:
    return log.base.index + len(log.entries)


def _term_at(log: RecoveredGroup, index: LogIndex) -> Term:
    return log.base.term if index == log.base.index else log.entries[index - log.base.index - 1].term


def _digest(store: Storage, log: RecoveredGroup, group: GroupId, index: LogIndex) -> str:
    machine = SessionMachine(KeyValueMachine())
    applied = 0
    if log.snapshot is not None:
        if log.snapshot.index > index:
            raise StorageError(
                f"{store.identity.node}'s snapshot is at {log.snapshot.index}, past the last entry of a majority"
                f" ({index}): the other directories are older than it"
            )
        machine.restore(store.snapshots.chunks(group, log.snapshot.id))
        applied = log.snapshot.index
    for entry in log.entries:
        if applied < entry.index <= index and entry.kind == Kind.COMMANDS:
            machine.apply(entry)
    return machine.digest()
