"""How does a replica begin, with what its disk holds? (Raft Figure 2, "Persistent state"; §7.)"""

from random import Random

from aegis_replication.consensus.config import RaftConfig
from aegis_replication.consensus.configuration import Configuration, ConfigurationStack, decode_configuration
from aegis_replication.consensus.damage import covered, missing
from aegis_replication.consensus.member import Member
from aegis_replication.errors import StorageError
from aegis_replication.ids import GroupId, LogIndex, NodeId
from aegis_replication.log import NOTHING, EntryId, HardState, Kind, RecoveredGroup, ReplicatedLog


def is_new(recovered: RecoveredGroup) -> bool:
    """Has this disk never held an entry? Its first write may have been torn between term 1 and the first entry."""
    is_empty = not recovered.entries and recovered.snapshot is None and recovered.base == NOTHING
    return is_empty and recovered.hard_state in (HardState(), HardState(1))


def is_unused(recovered: RecoveredGroup) -> bool:
    """Does this disk hold nothing but what every founder makes for itself, if that?"""
    return recovered.snapshot is None and recovered.base == NOTHING and len(recovered.entries) <= 1


def recover(
    node: NodeId,
    group: GroupId,
    config: RaftConfig,
    recovered: RecoveredGroup,
    random: Random,
    now_ms: float,
    applied: LogIndex = 0,
) -> Member:
    """The state on all servers as the disk holds it.

    What was committed is known up to the snapshot, or to what a machine on its own disk has applied.
    """
    snapshot = recovered.snapshot
    stack = ConfigurationStack()
    base_stamp = 0
    if snapshot is not None:
        at = EntryId(snapshot.term, snapshot.configuration_index)
        stack = ConfigurationStack(at, decode_configuration(snapshot.configuration))
        base_stamp = snapshot.stamp if recovered.base == snapshot.id else 0
    log = ReplicatedLog(group, recovered.base, recovered.entries, base_stamp=base_stamp)
    log.lose(recovered.damaged)
    if recovered.hard_state.term < log.last.term:
        raise StorageError(
            f"group {group}: the log ends with an entry of term {log.last.term}, the recorded term is "
            f"{recovered.hard_state.term}: term and log don't belong together. Restore this node from a backup"
        )
    is_reset = False
    if snapshot is not None and snapshot.index > log.base.index:
        is_reset = log.term_at(snapshot.index) != snapshot.term
        if is_reset:  # it was named just before a crash, and the log was to start over from it
            log.reset(snapshot.id, snapshot.stamp)
        else:
            log.commit_to(snapshot.index)
    elif recovered.base.index > (0 if snapshot is None else snapshot.index):
        held = "no snapshot holds" if snapshot is None else f"the snapshot, which ends at {snapshot.index}, lacks"
        raise StorageError(
            f"group {group}: the log starts after {recovered.base.index} and {held} what was before. "
            "Restore this node from a backup"
        )
    for entry in log.since(log.first, bytes_max=2**63):
        if entry.kind == Kind.CONFIGURATION and entry.index > stack.index:
            stack.push(entry.id, decode_configuration(entry.payload))
    last_covered = covered(log, log.committed)
    is_covered = last_covered > log.base.index
    if is_covered:
        log.compact(last_covered)  # the snapshot holds what it did, and nobody needs it otherwise
    if applied > log.committed:
        log.commit_to(applied)
        stack.forget_before(applied)
    member = Member(node, group, config, random, now_ms, hard_state=recovered.hard_state, log=log, configurations=stack)
    for configuration in stack.held:
        member.check_format(configuration)
    if snapshot is not None and (is_reset or is_covered):
        member.keep_snapshot(snapshot, log.first, reset=is_reset)
    if log.is_damaged:
        lost = missing(log)
        ids = ", ".join(f"{each.term}:{each.index}" for each in lost[:5])
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        member.changed(f"entries {ids}{more} are damaged on this disk: asking the others, not standing for election")
    return member


def make_first_entry(member: Member, configuration: Configuration) -> None:
    """The first entry of a new group, made by every node for itself."""
    if member.term == 0:
        member.enter_term(1)
    entry = member.log.append_new(1, int(Kind.CONFIGURATION), configuration.encode(), stamp=1)
    member.configurations.push(entry.id, configuration)
