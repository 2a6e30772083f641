"""Are the copies equal? Rebuilds each stopped node's state from its directory with the production code."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec

from aegis_replication.errors import StorageError
from aegis_replication.ids import DATA_GROUP, GroupId, LogIndex, NodeId, Term
from aegis_replication.log import NOTHING, HardState, Kind, RecoveredGroup
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine
from aegis_replication.storage.base import Storage
from aegis_replication.storage.directory import DirectoryStorage


class Copies(msgspec.Struct, frozen=True):
    """What the directories hold. `index`: the highest entry that a majority of them has."""

    index: LogIndex
    reached: dict[NodeId, LogIndex]  # up to where each has that majority's entries, at most `index`
    digests: dict[NodeId, str]  # of each one's state there: entries behind it that change nothing don't count

    @property
    def equal(self) -> bool:
        """Is every copy there, and the same?"""
        return len(set(self.digests.values())) == 1


def compare_copies(directories: Mapping[NodeId, Path], *, group: GroupId = DATA_GROUP) -> Copies:
    """Restore each node's snapshot, replay its log, and take the digest of what comes out.

    Raises StorageError for a directory that can't be read or is in use.
    """
    with ExitStack() as stack:
        stores: dict[NodeId, DirectoryStorage] = {}
        for node, path in sorted(directories.items()):
            stores[node] = DirectoryStorage.open(path)
            stack.callback(stores[node].close)
        logs = {node: store.recover().get(group, _EMPTY) for node, store in stores.items()}
        index, holders = _majority(logs)
        reached = {node: index if node in holders else _agreed(log, index, logs, holders) for node, log in logs.items()}
        digests = {node: _digest(stores[node], logs[node], group, reached[node]) for node in logs}
    return Copies(index, reached, digests)


_EMPTY = RecoveredGroup(HardState(), NOTHING, [])


def _majority(logs: Mapping[NodeId, RecoveredGroup]) -> tuple[LogIndex, set[NodeId]]:
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
            if 2 * len(holders) > len(logs):
                return index, holders
    return 0, set()


def _agreed(
    log: RecoveredGroup, index: LogIndex, logs: Mapping[NodeId, RecoveredGroup], holders: set[NodeId]
) -> LogIndex:
    """Up to where `log` is the same as the majority's: logs that have one entry in common are equal below it (§5.3)."""
    for at in range(min(index, _last(log)), log.base.index, -1):
        for holder in holders:
            other = logs[holder]
            if at < other.base.index or _term_at(other, at) == _term_at(log, at):
                return at
    return log.base.index


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
