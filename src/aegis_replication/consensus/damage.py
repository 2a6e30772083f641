"""Which entries of a log are damaged on this disk, and what has become of them? (FAST'18)

`ReplicatedLog.lost` says by index: MISSING, HERE, or the number of the write that makes the entry whole again.
"""

from aegis_replication.ids import LogIndex
from aegis_replication.log import FRAME_HEADER_BYTES, HERE, MISSING, Entry, EntryId, ReplicatedLog


def missing(log: ReplicatedLog) -> list[EntryId]:
    """The damaged entries that nobody has sent yet."""
    return [log.get(index).id for index, write in log.lost.items() if write == MISSING]


def covered(log: ReplicatedLog, index: LogIndex) -> LogIndex:
    """The last damaged entry that a snapshot at `index` stands for; 0 when there is none."""
    return max((lost for lost in log.lost if lost <= index), default=0)


def has_whole(log: ReplicatedLog, entry: EntryId) -> bool:
    """Is this entry held, and not damaged?"""
    is_held = log.first <= entry.index <= log.last_index and log.term_at(entry.index) == entry.term
    return is_held and log.lost.get(entry.index) != MISSING


def repair(log: ReplicatedLog, entry: Entry) -> bool:
    """Put a damaged entry's whole self in its place; False when it isn't the one that is missing.

    The head has been proved right, and says term, index, length and checksum: whatever has the same is the same.
    """
    if log.lost.get(entry.index) != MISSING:
        return False
    if entry.frame[:FRAME_HEADER_BYTES] != log.get(entry.index).frame[:FRAME_HEADER_BYTES]:
        return False
    log.put_whole(entry)
    return True


def take_repairs(log: ReplicatedLog, number: int) -> tuple[Entry, ...]:
    """What came and wasn't handed out yet, to be written as part of write `number`."""
    repaired = [index for index, write in log.lost.items() if write == HERE]
    log.lost.update(dict.fromkeys(repaired, number))
    return tuple(log.get(index) for index in repaired)
