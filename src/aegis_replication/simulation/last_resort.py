"""What if a majority is lost for good? At the end of some runs one survivor goes on alone, with what it knows."""

from random import Random

from aegis_replication.consensus.configuration import Configuration
from aegis_replication.errors import ChangeRefused, InvariantBroken
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.log import LogWrite, RecoveredGroup
from aegis_replication.offline import recovering
from aegis_replication.simulation.cluster import GROUP, Cluster
from aegis_replication.simulation.disk import ROOT, PowerCut
from aegis_replication.simulation.host_settings import WALL_EPOCH_MS
from aegis_replication.simulation.subject import Workload
from aegis_replication.simulation.workload import Ask
from aegis_replication.storage.directory import read_identity
from aegis_replication.storage.inspection import Inspection

COUNTED = ("majority_lost",)

_DIRECTORY = f"{ROOT}/data"


def is_tried(groups: int, random: Random) -> bool:
    """Does this run end that way?"""
    return groups == 1 and random.random() < 0.12


def lose_majority(cluster: Cluster, workload: Workload, random: Random) -> None:
    """All power is cut, all voters but one never come back, and that one is made the only voter.

    All replicas stand at the same entry before, so that it must know all that was acknowledged. Raises InvariantBroken.
    """
    leader = cluster.leader()
    configuration = cluster.hosts[leader].replica(GROUP).raft.configuration
    # Priority 0 means never to lead, and a survivor of that kind keeps to it.
    able = [node for node in configuration.voters if cluster.hosts[node].settings.config.priority > 0]
    if len(configuration.voters) < 2 or configuration.is_joint or not able:
        return
    survivor = random.choice(able)
    before = [_answer(cluster, asked) for asked in workload.read_all()]
    cluster.faults["majority_lost"] += 1
    for name in cluster.nodes:
        if name == survivor:
            cluster.crash(name, losing="unsynced")
        else:
            cluster.retire(name)
    _recover(cluster, survivor, random)
    cluster.start(survivor)
    cluster.wait_until(lambda: _leads(cluster, survivor), "survivor that leads alone")
    _check(cluster, survivor, before, workload)


def _answer(cluster: Cluster, asked: Ask) -> object:
    return cluster.ask(asked)


def _recover(cluster: Cluster, survivor: NodeId, random: Random) -> None:
    """What `aegis cluster recover --unsafe` does, again after each power cut in the middle of it."""
    # What a power cut left there is held to what was flushed; then nothing but the tool writes.
    cluster.watch.on_recovered(cluster.hosts[survivor], _groups(cluster, survivor))
    host, now_ms = cluster.hosts[survivor], WALL_EPOCH_MS + int(cluster.clock.now_ms)
    segment_bytes = cluster.segment_bytes
    for attempt in range(4):
        host.disk.cut_at = host.disk.calls + random.randint(1, 12) if attempt < 3 else 0
        try:
            recovering.recover_alone(
                _DIRECTORY, now_ms=now_ms, random=random, files=host.disk, segment_bytes=segment_bytes
            )
            break
        except PowerCut:
            cluster.trace.note(survivor, "loses its power while it is recovered")
            host.disk.cut_power("some")
        except ChangeRefused:
            break  # it was done when the power went
    host.disk.cut_power("unsynced")
    identity = read_identity(host.disk, _DIRECTORY)
    assert identity is not None, f"{survivor} has lost its identity"
    host.incarnation = identity.incarnation
    # From here on its disk is held to all of that, and one entry and term more.
    found = _groups(cluster, survivor)[GROUP]
    shadow = cluster.watch.durability.shadow(survivor, GROUP)
    shadow.write(LogWrite(GROUP, 1, hard_state=found.hard_state, entries=tuple(found.entries[-1:])))
    shadow.settle(1)


def _groups(cluster: Cluster, survivor: NodeId) -> dict[GroupId, RecoveredGroup]:
    with Inspection(_DIRECTORY, files=cluster.hosts[survivor].disk) as inspection:
        return inspection.groups()


def _leads(cluster: Cluster, survivor: NodeId) -> bool:
    host = cluster.hosts[survivor]
    return host.is_up and host.replica(GROUP).raft.is_leader and _configuration(cluster, survivor).voters == (survivor,)


def _configuration(cluster: Cluster, node: NodeId) -> Configuration:
    return cluster.hosts[node].replica(GROUP).raft.configuration


def _check(cluster: Cluster, survivor: NodeId, before: list[object], workload: Workload) -> None:
    after = [_answer(cluster, asked) for asked in workload.read_all()]
    if after != before:
        raise InvariantBroken(
            "a survivor knows what it knew", f"{survivor}, made the only voter, answers {after!r}, before {before!r}"
        )
    told = [each.what for each in _configuration(cluster, survivor).interventions]
    if told[-1:] != ["recovered"]:
        raise InvariantBroken("an intervention is never forgotten", f"{survivor} leads alone and tells of {told}")
