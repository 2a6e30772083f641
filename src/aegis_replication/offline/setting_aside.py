"""What if a node can't know any more what it promised? Its files are kept aside, and it comes back as a wiped one.

Nothing is deleted, and nothing decides by itself: the node that starts on the empty directory has another incarnation,
so that the others don't listen to it until an operator has removed the old one and added it anew.
"""

import os

import msgspec

from aegis_replication.errors import StorageError
from aegis_replication.ids import NodeId
from aegis_replication.storage.directory import (
    IDENTITY_NAME,
    LOG_NAME,
    SNAPSHOTS_NAME,
    read_identity,
    storage_errors,
    take_lock,
)
from aegis_replication.storage.files import Files, RealFiles

ASIDE_NAME = "set-aside-"


class SetAside(msgspec.Struct, frozen=True):
    """What was done. Its field names are API: `aegis wal set-aside -o json`."""

    directory: str
    cluster: str
    node: NodeId
    kept_in: str  # where the files go
    moved: tuple[str, ...]  # the files that this call moves


def set_aside(
    directory: str | os.PathLike[str], stamp: str, *, is_to_change: bool, files: Files | None = None
) -> SetAside:
    """Move all that a stopped node knows into `set-aside-STAMP` beside it; without `is_to_change` only look.

    The identity goes last: until then no node starts there, and the same call again ends what was begun. Raises
    DirectoryInUse while a node runs on it, StorageError when it isn't the data directory of a node.
    """
    root, files = os.fspath(directory), files or RealFiles()
    with storage_errors(root):
        names = files.list(root)
        if IDENTITY_NAME not in names:
            raise StorageError(f"{root} holds no identity: it isn't the data directory of a node, or was set aside")
        lock = take_lock(files, root, owner=str(os.getpid()).encode())
        try:
            whose = _name_of(files, root)
            parts = [name for name in (LOG_NAME, SNAPSHOTS_NAME) if name in names]
            aside = f"{root}/{_begun(files, root, names) or ASIDE_NAME + stamp}"
            # The log's oldest segment first: a log without it is refused, whatever of the rest has moved.
            left = [f"{part}/{name}" for part in parts for name in sorted(files.list(f"{root}/{part}"))]
            left.append(IDENTITY_NAME)
            if is_to_change:
                for made in (aside, *(f"{aside}/{part}" for part in parts)):
                    files.make_directory(made)
                    files.sync_directory(made.rpartition("/")[0])
                for name in left:
                    _move(files, f"{root}/{name}", f"{aside}/{name}")
        finally:
            files.close(lock)
    return SetAside(root, *whose, aside, tuple(left))


def _move(files: Files, source: str, target: str) -> None:
    files.rename(source, target)
    files.sync_directory(target.rpartition("/")[0])
    files.sync_directory(source.rpartition("/")[0])


def _name_of(files: Files, root: str) -> tuple[str, NodeId]:
    """Cluster and node; "?" where the identity file itself is damaged."""
    try:
        found = read_identity(files, root)
    except StorageError:
        found = None
    return (found.cluster, found.node) if found is not None else ("?", "?")


def _begun(files: Files, root: str, names: list[str]) -> str | None:
    """Where an earlier call, that was cut short, has moved a part: it lacks the identity."""
    for name in reversed(names):
        if name.startswith(ASIDE_NAME) and IDENTITY_NAME not in files.list(f"{root}/{name}"):
            return name
    return None
