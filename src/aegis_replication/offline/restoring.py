"""How does a new cluster begin from a backup? One node's directory with the state in it; all others join that node."""

import os
from collections.abc import Callable
from random import Random
from typing import TypeAlias

import msgspec

from aegis_replication.consensus.configuration import Intervention, decode_configuration, make_configuration
from aegis_replication.errors import AegisError, InvalidArgument, StorageError, WrongIdentity
from aegis_replication.ids import NodeId, node_id
from aegis_replication.log import SnapshotMeta
from aegis_replication.storage.backup_file import BackupHead, BackupReader
from aegis_replication.storage.base import Identity
from aegis_replication.storage.directory import create_from_snapshots, read_identity
from aegis_replication.storage.files import RealFiles
from aegis_replication.storage.snapshots import FileSnapshots

OnProgress: TypeAlias = Callable[[int, int], None]
"""Told how many pieces are written, and of how many."""

_ALWAYS_THERE = frozenset(("lost+found",))  # a file system of its own has it


class Restored(msgspec.Struct, frozen=True):
    """A directory that a node can be started on."""

    directory: str
    cluster: str
    node: NodeId
    incarnation: int
    backup: BackupHead


def restore(
    path: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    cluster: str,
    node: NodeId,
    now_ms: int,
    random: Random,
    same_cluster: bool = False,
    on_progress: OnProgress | None = None,
) -> Restored:
    """Make `directory` the data of `node`, the only voter of a new cluster, with the state of the backup at `path`.

    The sessions of clients come along: a command that was applied before the backup is still applied once. Leases are
    off, members and their addresses are forgotten. The name `cluster` must be a new one, since nodes of the old cluster
    would take this one for theirs, unless `same_cluster` says that they are gone for good. `now_ms` is Unix time.
    Raises StorageError when something is in `directory`, CorruptRecord when the backup is damaged, WrongIdentity.
    """
    root, name = os.fspath(directory), node_id(node)
    if not cluster:
        raise InvalidArgument("cluster = '': give the new cluster a name, such as 'orders-restored'")
    _check_empty(root)
    with BackupReader(os.fspath(path)) as backup:
        if cluster == backup.head.cluster and not same_cluster:
            raise WrongIdentity(
                f"{backup.path} is from cluster {cluster}: nodes of it that are alive would take this one for theirs. "
                "Give the new cluster another name, or say that the old one is gone for good (--same-cluster)"
            )
        for _ in backup.pieces():  # all of it is read before anything is made
            pass
        identity = Identity(cluster, name, random.getrandbits(64))
        meta = _founding(backup, identity, now_ms)

        def fill(snapshots: FileSnapshots) -> None:
            writer = snapshots.create(backup.head.group, meta)
            try:
                for count, piece in enumerate(backup.pieces(), 1):
                    writer.write(piece)
                    if on_progress is not None:
                        on_progress(count, backup.piece_count)
                writer.finish()
            except BaseException:
                writer.abort()
                raise

        create_from_snapshots(root, identity, fill)
        return Restored(root, cluster, name, identity.incarnation, backup.head)


def _founding(backup: BackupReader, identity: Identity, now_ms: int) -> SnapshotMeta:
    """The snapshot's head with one voter, and a note of where it came from."""
    old = decode_configuration(backup.meta.configuration)
    head = backup.head
    configuration = make_configuration(
        (identity.node,),
        incarnations={identity.node: identity.incarnation},
        interventions=(
            *old.interventions,
            Intervention("restored", identity.node, now_ms, head.term, head.index, f"from cluster {head.cluster}"),
        ),
    )
    return msgspec.structs.replace(
        backup.meta, configuration=configuration.encode(), configuration_index=backup.meta.index
    )


def _check_empty(root: str) -> None:
    """Raises StorageError, saying what is there, unless `root` is an empty directory or none."""
    try:
        names = sorted(set(os.listdir(root)) - _ALWAYS_THERE)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{root}: {error.strerror}: name an empty directory") from None
    if not names:
        return
    try:
        identity = read_identity(RealFiles(), root)
    except (AegisError, OSError):
        identity = None
    if identity is not None:
        what = f"node {identity.node} of cluster {identity.cluster}"
        raise StorageError(
            f"{root} holds the data of {what}: a backup is never restored over it. Name an empty directory; if its "
            "data is no longer wanted, stop that node and move the directory away"
        )
    raise StorageError(
        f"{root} is not empty ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''}) and no node's data: perhaps "
        "a restore did not end there. Remove it, or name an empty directory"
    )
