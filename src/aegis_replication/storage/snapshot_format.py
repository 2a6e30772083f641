"""How does a snapshot file look? Its head and the layouts of its parts (docs/data-files.md draws it)."""

from struct import Struct as Layout
from typing import Final
from zlib import crc32

import msgspec

from aegis_replication.errors import WrongIdentity
from aegis_replication.ids import GroupId
from aegis_replication.log import SnapshotMeta

PIECE_BYTES_MAX: Final = 256 * 1024 * 1024
META_BYTES_MAX: Final = 16 * 1024 * 1024
MAGIC: Final = b"AEGISNAP"
FORMAT_VERSION: Final = 1
"""Of a snapshot file, which is also what a follower and a backup get: earlier programs are among them."""

HEAD: Final = Layout("<8sHHII")  # magic, format version, 0, group, bytes of the meta
CHECKSUM: Final = Layout("<I")
PIECE: Final = Layout("<II")  # bytes, checksum; 0 bytes: the trailer begins here
TRAILER: Final = Layout("<IIQQI")  # 0, 0, pieces, their bytes, checksum of head and piece heads; then the trailer's own
TRAILER_BYTES: Final = TRAILER.size + CHECKSUM.size

_ENCODE = msgspec.msgpack.Encoder().encode
_META = msgspec.msgpack.Decoder(SnapshotMeta)


class _Owner(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A head's meta with what follows it there: programs that know only the meta skip the rest."""

    term: int
    index: int
    stamp: int
    configuration: bytes
    configuration_index: int
    cluster: str = ""  # "": written before clusters were named here


_OWNER = msgspec.msgpack.Decoder(_Owner)


def seal(data: bytes) -> bytes:
    """`data` with its checksum behind it."""
    return data + CHECKSUM.pack(crc32(data))


def is_sealed(data: bytes) -> bool:
    """Does `data` end with the checksum of what is before that?"""
    return CHECKSUM.pack(crc32(data[: -CHECKSUM.size])) == data[-CHECKSUM.size :]


def pack_head(group: GroupId, meta: SnapshotMeta, cluster: str) -> bytes:
    """The beginning of a snapshot file."""
    packed = _ENCODE((*msgspec.structs.astuple(meta), cluster))
    return seal(HEAD.pack(MAGIC, FORMAT_VERSION, 0, group, len(packed)) + packed)


def unpack_meta(packed: bytes) -> tuple[SnapshotMeta, str]:
    """A head's meta and its cluster's name. Raises msgspec's errors."""
    return _META.decode(packed), _OWNER.decode(packed).cluster


def check_owner(where: str, *, group: GroupId, cluster: str, found_group: GroupId, found_cluster: str) -> None:
    """Raises WrongIdentity for a snapshot of another group or cluster; an empty name is anybody's."""
    if found_group != group:
        raise WrongIdentity(
            f"{where} holds group {found_group}, not group {group}: nothing was taken from it; put the file that "
            "belongs there in its place"
        )
    if cluster and found_cluster and found_cluster != cluster:
        raise WrongIdentity(
            f"{where} is of cluster {found_cluster!r}, this directory of cluster {cluster!r}: nothing was taken from "
            "it; put the file that belongs there in its place, or restore it as a backup"
        )
