"""What does a stopped node's data directory hold? Read-only: for `aegis wal`, `aegis snapshot` and comparing copies."""

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Final

import msgspec

from aegis_replication.errors import AegisError, CorruptRecord
from aegis_replication.ids import GroupId, LogIndex, Term
from aegis_replication.log import NOTHING, Entry, HardState, Kind, RecoveredGroup, SnapshotMeta, read_frame_header
from aegis_replication.storage.directory import (
    LOG_NAME,
    SNAPSHOTS_NAME,
    known_identity,
    storage_errors,
    take_lock,
)
from aegis_replication.storage.files import Files, RealFiles
from aegis_replication.storage.records import (
    CARRIED,
    BaseBody,
    FirstBody,
    HardStateBody,
    RecordType,
    checksum_seed,
    show_position,
)
from aegis_replication.storage.recovery import Chain, ChainRecord, decode_record, replay
from aegis_replication.storage.segments import SEGMENT_BYTES, SegmentFiles
from aegis_replication.storage.snapshot_reader import SnapshotReader
from aegis_replication.storage.snapshots import FileSnapshots


class RecordView(msgspec.Struct, frozen=True):
    """One record of the log, for people; fields that a type doesn't have are 0 or empty."""

    position: str  # "segment:offset", as in the segment's file name and byte
    type: str
    group: GroupId = 0
    term: Term = 0
    index: LogIndex = 0
    kind: str = ""  # of an entry
    count: int = 0  # commands of an entry
    bytes: int = 0  # of the whole record
    flushed_before: str = ""
    carried: bool = False
    detail: str = ""


class SnapshotView(msgspec.Struct, frozen=True):
    """A snapshot file, its head and trailer verified."""

    group: GroupId
    path: str
    meta: SnapshotMeta
    size_bytes: int
    piece_count: int


class Finding(msgspec.Struct, frozen=True):
    """Something that isn't as a clean stop leaves it."""

    severity: str  # "damage": must not be; "healed": no longer needed; "torn": an unfinished last write, to be cut off
    path: str
    offset: int
    message: str


TORN: Final = "torn"
DAMAGE: Final = "damage"
HEALED: Final = "healed"


class Inspection:
    """A data directory held against writers while it is looked at; use it in a `with` block."""

    def __init__(self, path: str | os.PathLike[str], *, files: Files | None = None) -> None:
        """Raises DirectoryInUse while a node runs on it, StorageError when it isn't a data directory."""
        self.path, self._files = os.fspath(path), files or RealFiles()
        self._lock = -1
        with storage_errors(self.path):
            try:
                self._lock = take_lock(self._files, self.path, owner=None)
            except FileNotFoundError:
                pass  # a copy made without its lock file: nobody can be writing to it
        try:
            with storage_errors(self.path):
                self.identity = known_identity(self._files, self.path)
        except BaseException:
            self.close()
            raise
        identity = self.identity
        self._segments = SegmentFiles(self._files, f"{self.path}/{LOG_NAME}", identity, SEGMENT_BYTES)
        self._snapshots = FileSnapshots(self._files, f"{self.path}/{SNAPSHOTS_NAME}")

    def __enter__(self) -> "Inspection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let writers in again."""
        if self._lock >= 0:
            self._files.close(self._lock)
            self._lock = -1

    # --- the log ---

    def _chain(self) -> Chain:
        segments = self._segments.find(read_only=True)
        if not segments:
            raise CorruptRecord(self._segments.path_of(1), 0, "a log with at least one segment", "no such file")
        return Chain(
            segments,
            lambda segment: self._segments.load(segment, read_only=True),
            checksum_seed(self.identity.log_incarnation),
            self._segments.path_of,
        )

    def records(self) -> Iterator[RecordView]:
        """The log's records in order, up to its end or to the first bad one; `verify` says which of the two it is."""
        with storage_errors(self.path):
            for record in self._chain():
                yield view(record)

    def verify(self) -> list[Finding]:
        """Every record, every group and every snapshot read and checked; empty when all is well."""
        findings: list[Finding] = []
        with storage_errors(self.path):
            try:
                self._verify_log(findings)
            except CorruptRecord as error:
                findings.append(
                    Finding(DAMAGE, error.path, error.offset, f"expected {error.expected}, found {error.found}")
                )
            except AegisError as error:
                findings.append(Finding(DAMAGE, self._segments.path, 0, str(error)))
            for name in self._files.list(self._snapshots.path):
                if name.endswith(".snap"):
                    findings.extend(self._verify_snapshot(f"{self._snapshots.path}/{name}"))
        return findings

    def _verify_log(self, findings: list[Finding]) -> None:
        chain = self._chain()
        replayed = replay(chain, self._segments.path_of)
        replayed.check_whole(self._segments.path_of)
        lost = {
            (self._segments.path_of(position >> 32), position & 0xFFFF_FFFF): f"entry {index} of group {group}"
            for group, records in replayed.groups.items()
            for index, position in records.damaged.items()
        }
        for each in (*self._segments.damage.values(), *chain.damage):
            severity, what = DAMAGE, "what was there is known, and put back at the next start"
            if not each.is_whole:
                severity, what = HEALED, "the entry stands whole further on, or isn't needed any more"
            if (entry := lost.get((each.path, each.offset))) is not None:
                severity, what = DAMAGE, f"{entry} is known and not whole: the node asks the other members for it"
            findings.append(
                Finding(severity, each.path, each.offset, f"expected {each.expected}, found {each.found}; {what}")
            )
        if chain.leftovers:
            path, offset = self._segments.path_of(chain.end >> 32), chain.end & 0xFFFF_FFFF
            text = f"the log ends here; {len(chain.leftovers)} records of unfinished writes lie behind it"
            findings.append(Finding(TORN, path, offset, text))

    def _verify_snapshot(self, path: str) -> Iterator[Finding]:
        try:
            reader = SnapshotReader(self._files, path)
            try:
                for _ in reader.pieces():
                    pass
            finally:
                reader.close()
        except CorruptRecord as error:
            yield Finding(DAMAGE, path, error.offset, f"expected {error.expected}, found {error.found}")
        except AegisError as error:
            yield Finding(DAMAGE, path, 0, str(error))

    # --- groups ---

    def groups(self) -> dict[GroupId, RecoveredGroup]:
        """What a node that starts on it would begin with. Raises CorruptRecord when part of that is damaged."""
        found: dict[GroupId, RecoveredGroup] = {}
        with storage_errors(self.path):
            replayed = replay(self._chain(), self._segments.path_of)
            replayed.check_whole(self._segments.path_of)
            newest = self._snapshots.find()
            for group, records in sorted(replayed.groups.items()):
                for index, position in sorted(records.damaged.items()):
                    path, offset = self._segments.path_of(position >> 32), position & 0xFFFF_FFFF
                    raise CorruptRecord(path, offset, f"entry {index} of group {group}, whole", "a damaged payload")
                found[group] = records.as_group()
                found[group].snapshot = newest.get(group)
            for group, meta in sorted(newest.items()):  # named, and then the node went down before the log said so
                held = found.setdefault(group, RecoveredGroup(HardState(), NOTHING, [], meta))
                if held.hard_state.term < meta.term:
                    held.hard_state = HardState(meta.term)
        return found

    # --- snapshots ---

    def snapshots(self) -> list[SnapshotView]:
        """The newest snapshot of each group; raises CorruptRecord when its head is damaged."""
        views = []
        with storage_errors(self.path):
            for group, meta in sorted(self._snapshots.find().items()):
                reader = SnapshotReader(self._files, self._snapshots.path_of(group, meta.id))
                reader.close()
                views.append(SnapshotView(group, reader.path, meta, reader.size, reader.piece_count))
        return views

    def pieces(self, snapshot: SnapshotView) -> Iterator[bytes]:
        """The machine's pieces of a snapshot, verified as they are read."""
        return self._snapshots.chunks(snapshot.group, snapshot.meta.id)


def view(record: ChainRecord) -> RecordView:
    """A record for people."""
    header, value = record.header, decode_record(record)
    shown = RecordView(
        position=show_position(record.position),
        type=RecordType(header.type).name.lower(),
        bytes=record.size,
        flushed_before=show_position(header.flushed_before),
        carried=bool(header.flags & CARRIED),
    )
    replace = msgspec.structs.replace
    if isinstance(value, Entry):
        group, kind = read_frame_header(value.frame).group, Kind(value.kind).name.lower()
        shown = replace(shown, group=group, term=value.term, index=value.index, kind=kind, count=value.count)
        return replace(shown, detail="its payload is damaged") if record.is_damaged else shown
    if isinstance(value, HardStateBody):
        return replace(shown, group=value.group, term=value.term, detail=f"voted for {value.voted_for or 'nobody'}")
    if isinstance(value, BaseBody):
        detail = f"snapshot {value.snapshot.term}:{value.snapshot.index}" if value.snapshot else "no snapshot"
        detail += ", all before it is gone" if value.reset else ""
        return replace(shown, group=value.group, term=value.term, index=value.index, detail=detail)
    if isinstance(value, FirstBody):
        return replace(shown, detail=f"the log begins with segment {value.segment}")
    return shown
