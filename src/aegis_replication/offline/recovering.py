"""How does a group go on when a majority of its voters is lost for good? One survivor becomes its only voter.

It gives up what Raft promises: what only the lost voters knew is gone, acknowledged or not. Therefore nothing here
happens by itself, every member that comes later can see that it happened, and the survivor gets a new incarnation, so
that voters who were lost and turn up again don't take it for the member that they knew.
"""

import os
from collections.abc import Iterable
from random import Random

import msgspec

from aegis_replication.consensus.configuration import (
    Configuration,
    Intervention,
    decode_configuration,
    make_configuration,
)
from aegis_replication.errors import ChangeRefused
from aegis_replication.ids import DATA_GROUP, GroupId, LogIndex, NodeId, Term
from aegis_replication.log import EntryId, HardState, Kind, LogWrite, RecoveredGroup, make_entry
from aegis_replication.storage.directory import DirectoryStorage, storage_errors, write_identity
from aegis_replication.storage.files import RealFiles
from aegis_replication.storage.inspection import Inspection


class Survivor(msgspec.Struct, frozen=True):
    """A data directory of which a group could go on. Its field names are API: `aegis cluster recover -o json`."""

    directory: str
    cluster: str
    node: NodeId
    last_term: Term  # of its last entry: the directory with the highest (last_term, last_index) knows most
    last_index: LogIndex
    snapshot_index: LogIndex
    voted_term: Term  # the latest term it has heard of
    voters: tuple[NodeId, ...]  # as it knows them, of both halves while a change was under way

    @property
    def last(self) -> EntryId:
        return EntryId(self.last_term, self.last_index)

    @property
    def lost(self) -> tuple[NodeId, ...]:
        """The other voters."""
        return tuple(voter for voter in self.voters if voter != self.node)


class Recovered(msgspec.Struct, frozen=True):
    """What was done. Its field names are API."""

    directory: str
    cluster: str
    node: NodeId
    term: Term  # of the configuration that was appended
    index: LogIndex
    last_term: Term  # of the last entry that was there before
    last_index: LogIndex
    removed: tuple[NodeId, ...]  # the members that are none any more
    incarnation: str


def look_at(directory: str | os.PathLike[str], group: GroupId = DATA_GROUP) -> Survivor:
    """What a stopped node's directory knows; changes nothing. Raises DirectoryInUse, StorageError or ChangeRefused."""
    with Inspection(directory) as inspection:
        found = inspection.groups().get(group)
        whose = inspection.identity
    configuration = configuration_of(found) if found is not None else Configuration()
    if found is None or not configuration.members:
        raise ChangeRefused(f"{os.fspath(directory)}: node {whose.node} was never a member: it knows of nobody's data")
    last = _last(found)
    return Survivor(
        os.fspath(directory),
        whose.cluster,
        whose.node,
        last.term,
        last.index,
        found.snapshot.index if found.snapshot is not None else 0,
        found.hard_state.term,
        tuple(sorted({*configuration.voters, *configuration.outgoing})),
    )


def best_of(survivors: Iterable[Survivor]) -> Survivor:
    """The one that knows most; what another one knows besides was never committed (§5.4.1)."""
    return max(survivors, key=lambda each: each.last)


def recover_alone(
    directory: str | os.PathLike[str], *, now_ms: int, random: Random, group: GroupId = DATA_GROUP
) -> Recovered:
    """Make the node of this directory the only voter. `now_ms` is Unix time. May be repeated when it was interrupted.

    Raises DirectoryInUse while a node runs on it, ChangeRefused when it is the only voter already, CorruptRecord.
    """
    survivor = look_at(directory, group)
    if survivor.voters == (survivor.node,):
        raise ChangeRefused(f"{survivor.node} is the only voter already: start it")
    storage = DirectoryStorage.open(directory)
    try:
        found = storage.recover()[group]
        old, last = configuration_of(found), _last(found)
        identity = msgspec.structs.replace(
            storage.identity,
            incarnation=random.getrandbits(64),
            first_incarnation=storage.identity.log_incarnation,
            joins=False,
        )
        # The new incarnation comes first: if this ends here, the node is kept out of the old cluster and done anew.
        with storage_errors(storage.path):
            write_identity(RealFiles(), storage.path, identity)
        removed = tuple(sorted(old.members - {survivor.node}))
        configuration = make_configuration(
            (survivor.node,),
            addresses={node: at for node, at in old.addresses.items() if node == survivor.node},
            incarnations={survivor.node: identity.incarnation},
            founders=old.founders or old.voters,
            interventions=(
                *old.interventions,
                Intervention("recovered", survivor.node, now_ms, *last, f"without {', '.join(removed)}"),
            ),
        )
        term = found.hard_state.term + 1  # past every one that this node has heard of
        stamp = _last_stamp(found) + 1
        entry = make_entry(group, term, last.index + 1, Kind.CONFIGURATION, configuration.encode(), stamp=stamp)
        state = HardState(term, survivor.node)
        storage.write([LogWrite(group, 0, hard_state=state, entries=(entry,))], durable=True)
    finally:
        storage.close()
    return Recovered(
        survivor.directory,
        survivor.cluster,
        survivor.node,
        term,
        entry.index,
        last.term,
        last.index,
        removed,
        f"{identity.incarnation:016x}",
    )


def configuration_of(found: RecoveredGroup) -> Configuration:
    """The newest configuration that the disk knows, committed or not."""
    for entry in reversed(found.entries):
        if entry.kind == Kind.CONFIGURATION:
            return decode_configuration(entry.payload)
    return decode_configuration(found.snapshot.configuration) if found.snapshot is not None else Configuration()


def _last(found: RecoveredGroup) -> EntryId:
    last = found.entries[-1].id if found.entries else found.base
    return max(last, found.snapshot.id) if found.snapshot is not None else last


def _last_stamp(found: RecoveredGroup) -> int:
    stamp = found.snapshot.stamp if found.snapshot is not None else 0
    return max(stamp, found.entries[-1].stamp) if found.entries else stamp
