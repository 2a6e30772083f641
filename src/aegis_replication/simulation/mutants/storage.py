"""Which mistakes can be made with a log and snapshots on a disk? What is flushed, when, and what is believed."""

from collections.abc import Sequence
from typing import Any

from aegis_replication.errors import DiskFull
from aegis_replication.ids import GroupId
from aegis_replication.simulation.mutants.mutant import Mutant, around, instead
from aegis_replication.storage import records as record_format
from aegis_replication.storage import recovery
from aegis_replication.storage.files import Files
from aegis_replication.storage.live import GroupRecords
from aegis_replication.storage.records import Header, Position
from aegis_replication.storage.recycling import Recycler
from aegis_replication.storage.snapshots import FileSnapshots, _Appending
from aegis_replication.storage.wal import Wal


def _write_plainly(spill: Any, wal: Wal, *, durable: bool) -> None:
    """Everything as if flushed, nothing is."""
    spill(wal, durable=False)
    if durable:
        wal._settle(wal.end)


def _flush_again(spill: Any, wal: Wal, *, durable: bool) -> None:
    """A second flush after a failed one says that all is well: the system takes what it couldn't write for clean."""
    try:
        spill(wal, durable=durable)
    except OSError:
        wal._unflushed.update({segment: wal.end for segment, _, _ in wal._chunks})
        wal._chunks.clear()
        wal._unflushed[wal.current] = wal.end
        wal._sync()


def _take_for_written(spill: Any, wal: Wal, *, durable: bool) -> None:
    """What found no room is forgotten."""
    try:
        spill(wal, durable=durable)
    except DiskFull:
        wal._chunks.clear()
        wal._settle(wal.end)


def _find_no_room(wal: Wal) -> None:
    raise DiskFull("the disk was full once")


def _never_damage(end: Position, leftovers: Sequence[Header]) -> Header | None:
    return None


def _always_damage(end: Position, leftovers: Sequence[Header]) -> Header | None:
    return leftovers[0] if leftovers else None


def _follow_anything(header: Header, previous: int | None) -> bool:
    return True


def _cut_nothing(wal: Wal, chain: recovery.Chain) -> None:
    pass


def _home_anywhere(of_segment: int, of_offset: int, segment: int, offset: int) -> bool:
    return of_offset == offset


def _forget_vote(recycler: Recycler, oldest: int, group: GroupId, records: GroupRecords) -> int:
    position, size = records.hard_place
    state = records.hard_state
    if position >> 32 != oldest or state is None:
        return 0
    live = recycler._wal.live
    live._lose(position, size)
    records.hard_place = (recycler._wal.end, 0)
    return size


def _skip_carrying(
    recycler: Recycler, handle: int, oldest: int, group: GroupId, records: GroupRecords, index: int
) -> int:
    at = index - records.base.index - 1
    if not 0 <= at < len(records.places) or records.places[at] >> 32 != oldest:
        return 0
    recycler._wal.live.move_entry(records, index, recycler._wal.end, records.sizes[at])
    return records.sizes[at]


def _give_free_unflushed(recycler: Recycler, oldest: int) -> None:
    wal = recycler._wal
    wal.segments.give_free(oldest)
    wal.chain.popleft()


class _WithoutDirectorySync:
    """Files whose names are never flushed."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def sync_directory(self, path: str) -> None:
        pass


def _publish_unflushed_name(publish: Any, snapshots: FileSnapshots, *arguments: Any) -> None:
    files = snapshots._files
    snapshots._files = _WithoutDirectorySync(files)
    try:
        publish(snapshots, *arguments)
    finally:
        snapshots._files = files


STORAGE = (
    Mutant("log_not_flushed", "the log is written and not flushed", (around(Wal, "spill", _write_plainly),)),
    Mutant(
        "failed_flush_repeated",
        "a flush that failed is tried again, instead of stopping the node",
        (around(Wal, "spill", _flush_again),),
    ),
    Mutant(
        "written_without_room",
        "what a full disk had no room for counts as written",
        (around(Wal, "spill", _take_for_written),),
    ),
    Mutant(
        "full_for_ever",
        "nobody looks whether a full disk has room again",
        (instead(Wal, "regain", _find_no_room),),
    ),
    Mutant(
        "damage_taken_for_torn",
        "any bad record ends the log, also one that was flushed",
        (instead(recovery, "is_damage", _never_damage),),
    ),
    Mutant(
        "torn_taken_for_damage",
        "a bad record counts as damage as soon as a good one lies behind it",
        (instead(recovery, "is_damage", _always_damage),),
    ),
    Mutant(
        "torn_record_believed",
        "a record counts as soon as its header is whole",
        (instead(recovery, "body_fault", lambda header, data: None),),
    ),
    Mutant(
        "tail_not_cut",
        "what lies behind the log's end after a crash is left in place",
        (instead(Wal, "_cut_tail", _cut_nothing),),
    ),
    Mutant(
        "tail_believed",
        "what lies behind the log's end is left in place, and records don't say which one they were written after",
        (instead(Wal, "_cut_tail", _cut_nothing), instead(recovery, "follows", _follow_anything)),
    ),
    Mutant(
        "old_segment_believed",
        "records of a segment's earlier life are taken for part of the log",
        (instead(record_format, "is_at_home", _home_anywhere), instead(recovery, "follows", _follow_anything)),
    ),
    Mutant(
        "vote_not_carried",
        "a segment is used again although the newest term and vote lie in it",
        (instead(Recycler, "_carry_hard_state", _forget_vote),),
    ),
    Mutant(
        "entries_not_carried",
        "a segment is used again although entries without a snapshot lie in it",
        (instead(Recycler, "_carry_entry", _skip_carrying),),
    ),
    Mutant(
        "freed_before_flush",
        "a segment is used again before what was carried out of it is flushed",
        (instead(Recycler, "_give_free", _give_free_unflushed),),
    ),
    Mutant(
        "snapshot_not_flushed",
        "the log is cut although the snapshot's bytes are not flushed",
        (instead(_Appending, "sync", lambda file: None),),
    ),
    Mutant(
        "snapshot_name_not_flushed",
        "the log is cut although the snapshot's name is not flushed",
        (around(FileSnapshots, "publish", _publish_unflushed_name),),
    ),
)
