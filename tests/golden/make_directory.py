"""How was the golden data directory of this format made? Run once per format version; what it made is never changed.

python tests/golden/make_directory.py tests/golden/directory-1
python tests/golden/make_directory.py tests/golden/directory-2
python tests/golden/make_directory.py tests/golden/frames-2 2
"""

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from aegis_replication.log import (
    FORMAT_LOWEST,
    Entry,
    HardState,
    Kind,
    LogWrite,
    RecoveredGroup,
    SnapshotMeta,
    make_entry,
)
from aegis_replication.storage.base import Identity
from aegis_replication.storage.directory import DirectoryStorage, write_identity
from aegis_replication.storage.files import RealFiles

IDENTITY = Identity("golden", "n1", 0x0123_4567_89AB_CDEF)
RENEWED = IDENTITY.renewed(0xFEDC_BA98_7654_3210)
SEGMENT_BYTES = 64 * 1024


def main(path: Path, format: int = FORMAT_LOWEST) -> None:
    """Every record type, each kind of entry, a snapshot, a carried vote, and an unfinished last write.

    `format` is that of the frames.
    """

    def entries(group: int, first: int, after: int, term: int) -> tuple[Entry, ...]:
        return frames(group, first, after, term, format)

    storage = DirectoryStorage.open(path, IDENTITY, segment_bytes=SEGMENT_BYTES)
    storage.recover()
    storage.write([LogWrite(7, 1, HardState(4, "n3"), entries(7, 1, 3, 4))], durable=True)
    for first in range(1, 1600, 20):
        storage.write([LogWrite(1, first, HardState(first, "n2"), entries(1, first, first + 20, first))], durable=True)
        if first % 60 == 1:
            save(storage, 1, SnapshotMeta(first, first + 10, (first + 10) << 16, b"configuration", 1))
        while storage.maintain():
            pass
    meta = SnapshotMeta(9, 50, 50 << 16, b"another configuration", 33)
    save(storage, 9, meta, HardState(9), entries(9, 51, 251, 9))
    storage.mark()
    if path.name == "directory-2":
        storage = renew(storage, path)
    expected = {str(group): show(found) for group, found in reread(storage, path).items()}
    storage = DirectoryStorage.open(path, segment_bytes=SEGMENT_BYTES)
    storage.recover()
    end = storage._wal.end
    storage.write([LogWrite(1, 1, entries=entries(1, 1601, 1605, 1600))], durable=True)
    storage.fail("leave the last write as it is: no mark")
    storage.close()
    segment = path / "log" / f"{end >> 32:010}.wal"
    with segment.open("r+b") as file:
        file.seek((end & 0xFFFF_FFFF) + 50)  # the first of its records is torn, the others are whole
        file.write(bytes(30))
    (path / "lock").unlink()
    (path / "log" / "reserve").unlink()  # it is made where it is missing
    (path.parent / f"{path.name}.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


def renew(storage: DirectoryStorage, path: Path) -> DirectoryStorage:
    """As a recovery from a lost majority does; what is written after it carries both."""
    storage.close()
    write_identity(RealFiles(), str(path), RENEWED)
    storage = DirectoryStorage.open(path, segment_bytes=SEGMENT_BYTES)
    storage.recover()
    for first in range(251, 391, 20):
        storage.write([LogWrite(9, first, entries=frames(9, first, first + 20, 10, FORMAT_LOWEST))], durable=True)
        while storage.maintain():
            pass
    storage.mark()
    return storage


def save(
    storage: DirectoryStorage,
    group: int,
    meta: SnapshotMeta,
    hard_state: HardState | None = None,
    following: tuple[Entry, ...] = (),
) -> None:
    writer = storage.snapshots.create(group, meta)
    for piece in (b"first piece", b"second piece of " + str(meta.index).encode()):
        writer.write(piece)
    writer.finish()
    storage.write([LogWrite(group, 1, hard_state, following, 0, meta, hard_state is not None)], durable=True)


def frames(group: int, first: int, after: int, term: int, format: int) -> tuple[Entry, ...]:
    kinds = (Kind.COMMANDS, Kind.NO_OP, Kind.CONFIGURATION, Kind.CONTROL)
    return tuple(
        make_entry(
            group,
            term,
            index,
            kinds[index % 4],
            b"%d:%d;" % (group, index) * (index % 50),
            count=index,
            stamp=index << 16,
            format=format,
        )
        for index in range(first, after)
    )


def reread(storage: DirectoryStorage, path: Path) -> dict[int, RecoveredGroup]:
    storage.close()
    again = DirectoryStorage.open(path, segment_bytes=SEGMENT_BYTES)
    found = again.recover()
    again.close()
    return found


def show(found: RecoveredGroup) -> dict[str, Any]:
    """A group as JSON keeps it."""
    meta = found.snapshot
    return {
        "hard_state": [found.hard_state.term, found.hard_state.voted_for],
        "base": list(found.base),
        "snapshot": meta and [meta.term, meta.index, meta.stamp, meta.configuration.decode(), meta.configuration_index],
        "entries": [
            [entry.term, entry.index, entry.kind, entry.count, entry.stamp, sha256(entry.frame).hexdigest()]
            for entry in found.entries
        ],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
