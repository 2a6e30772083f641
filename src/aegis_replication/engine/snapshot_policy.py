"""When is a snapshot due, and how much of the log stays behind it? (Raft §7)"""

from typing import Final

from aegis_replication.consensus.config import RaftConfig
from aegis_replication.consensus.leader import Leader
from aegis_replication.consensus.node import Raft
from aegis_replication.ids import LogIndex, NodeId

HELD_LOG_FACTOR: Final = 8
"""Times snapshot_log_bytes: the log that is kept for followers that are catching up, and no more."""


def is_due(config: RaftConfig, *, commands: int, size_bytes: int, snapshot_bytes: int, is_sending: bool) -> bool:
    """Has enough come since the last snapshot, and is it worth writing the whole state again?

    The second condition keeps the cost of snapshots below that of the log itself: none is taken before the log has
    grown to twice the last one's size, up to four times snapshot_log_bytes. While the last one is being sent, its
    successor would have it sent from the start again: it waits, for as long as the log it would set free is bearable.
    """
    if commands < config.snapshot_threshold and size_bytes < config.snapshot_log_bytes:
        return False
    if is_sending and size_bytes < HELD_LOG_FACTOR * config.snapshot_log_bytes:
        return False
    return size_bytes >= min(2 * snapshot_bytes, 4 * config.snapshot_log_bytes)


def first_to_keep(raft: Raft, index: LogIndex) -> LogIndex:
    """Where the log begins that is kept behind a snapshot at `index`: bounded in entries and bytes.

    On a leader, what a follower still needs that is there and behind stays too: else it would need this snapshot next,
    and the same again when it had that.
    """
    log, config = raft.log, raft.config
    first, size = index + 1, 0
    while first > log.first and index + 1 - first < config.trailing_entries:
        size += len(log.get(first - 1).frame)
        if size > config.trailing_bytes:
            break
        first -= 1
    if log.held_bytes <= HELD_LOG_FACTOR * config.snapshot_log_bytes:
        wanted = [match + 1 for match in heard_matches(raft).values() if match + 1 >= log.first]
        first = min([first, *wanted])
    return first


def heard_matches(raft: Raft) -> dict[NodeId, LogIndex]:
    """On a leader: how far each follower is that was heard lately."""
    role = raft.current_role
    return role.heard_matches() if isinstance(role, Leader) else {}
