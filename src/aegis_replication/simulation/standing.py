"""Where do the nodes of a simulated cluster stand? Who runs, who has caught up, and how to say it."""

from collections.abc import Mapping

from aegis_replication.ids import GroupId, NodeId
from aegis_replication.log import EntryId
from aegis_replication.simulation.host import Host

Hosts = Mapping[NodeId, Host]


def running(hosts: Hosts) -> list[Host]:
    """Those that are up."""
    return [host for host in hosts.values() if host.is_up]


def is_level(hosts: Hosts, group: GroupId) -> bool:
    """Do all members stand at the same entry, with nothing on its way?"""
    rafts = [host.replica(group).raft for host in running(hosts)]
    members = max(rafts, key=lambda raft: raft.log.committed).configuration.members
    replicas = [hosts[name].replica(group) for name in sorted(members)]
    if len({(replica.applied, replica.raft.log.last) for replica in replicas}) > 1:
        return False
    return bool(replicas) and replicas[0].applied == replicas[0].raft.log.last_index


def has_caught_up(hosts: Hosts, group: GroupId, goals: dict[GroupId, EntryId]) -> bool:
    """Does every member show what was the leader's last entry when it was first seen to lead, all changes over?

    Clients may go on asking meanwhile, so there need never be a moment at which nothing is on its way.
    """
    if not all(host.is_up or host.is_retired for host in hosts.values()):
        return False
    leading = [raft for host in running(hosts) if (raft := host.replica(group).raft).is_leader]
    if not leading:
        return False
    leader = max(leading, key=lambda raft: raft.term)
    log, members = leader.log, leader.configuration
    if any(raft is not leader and raft.node in members.members for raft in leading):
        return False  # one that was removed while it stood still may believe so for ever: nobody speaks with it
    if members.is_joint or members.promotions:
        return False
    replicas = [hosts[name].replica(group) for name in members.members]
    goal = goals.get(group)
    if goal is None or log.term_at(goal.index) not in (goal.term, None):
        goals[group] = log.last
        return False
    return log.committed >= goal.index and all(replica.applied >= goal.index for replica in replicas)


def standing(hosts: Hosts, within_ms: float) -> str:
    """Where everybody is, after having had so long to catch up."""
    lines = [f"healed for {within_ms:.0f} ms of virtual time, but:"]
    for name, host in hosts.items():
        if not host.is_up:
            lines.append(f"{name} is {host.state} ({host.damage})")
            continue
        for group, replica in host.engine.replicas.items():
            raft = replica.raft
            lines.append(
                f"{name} group {group}: {raft.role} of term {raft.term}, leader {raft.leader}, last {raft.log.last}, "
                f"committed {raft.log.committed}, applied {replica.applied}, {raft.configuration}"
            )
    return "\n  ".join(lines)
