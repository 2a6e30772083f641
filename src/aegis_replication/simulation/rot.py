"""What of a disk turns bad while nobody looks? Bits of one node's files, or entries on one node or on two of them."""

from collections.abc import Callable, Sequence
from random import Random

from aegis_replication.consensus.quorum import is_supported
from aegis_replication.ids import GroupId, LogIndex, NodeId
from aegis_replication.log import FRAME_HEADER_BYTES, Kind
from aegis_replication.simulation.cluster import Cluster
from aegis_replication.simulation.disk import ROOT
from aegis_replication.simulation.host import Host
from aegis_replication.storage.directory import DirectoryStorage
from aegis_replication.storage.records import HEADER_BYTES

_LOG, _SNAPSHOTS = f"{ROOT}/data/log", f"{ROOT}/data/snapshots"


class Rot:
    """Damages the disks of nodes that are down; never so that nobody holds whole what must come back."""

    __slots__ = ("_cluster", "_random", "struck")

    def __init__(self, cluster: Cluster, random: Random) -> None:
        self._cluster, self._random = cluster, random
        # Whose disks are damaged, as far as is known; while there are any, no others are.
        self.struck: set[NodeId] = set()

    def damage(self) -> None:
        """What was flushed a while ago turns bad while the node is down: a bit, or every third byte.

        It must notice, or not need it.
        """
        hosts = self._choose(1)
        if not hosts:
            return
        host = hosts[0]
        # In the log only what a later record covers: damage of the very last flush can't be told from a torn write.
        places = [(place.path, place.offset, place.length) for place in host.disk.old_places(_LOG)[-60:]]
        self._crash(host)
        if self._random.random() < 0.4:
            files = host.disk.durable_files(_SNAPSHOTS)
            places = [(path, 0, size) for path, size in files.items() if path.endswith(".snap") and size]
        if places:
            self.struck.add(host.node)
            path, first, length = self._random.choice(places)
            at = first + self._random.randrange(length)
            self._cluster.faults["bit_flip"] += host.disk.flip(path, at, self._random.randrange(8))
            if self._random.random() < 0.3:  # the whole of it, so that nothing tells what it was
                for at in range(first, first + length, 3):
                    host.disk.flip(path, at, self._random.randrange(8))

    def rot(self) -> None:
        """Entries lose their payload, on one node, or often the same entry on two."""
        for count in (2, 2, 2, 1, 1, 1) if self._random.random() < 0.6 else (1, 1, 1):
            if hosts := self._choose(count):
                break
        else:
            return
        group = self._random.choice(sorted(hosts[0].engine.replicas))
        wanted: LogIndex = 0
        for host in hosts:
            entries = self._entries(host, group)
            if not entries:
                continue
            if wanted not in entries or self._random.random() < 0.3:
                wanted = self._random.choice(sorted(entries)[-20:])
            self._spoil(host, entries, {wanted, *self._random.choices(sorted(entries), k=self._random.choice((0, 2)))})
        struck = len(self.struck)
        self._cluster.faults["rot_one"] += struck == 1
        self._cluster.faults["rot_two"] += struck == 2

    def rot_tail(self, host: Host, *, is_wanted: bool) -> None:
        """What `host` holds and nobody has committed turns bad; its place may be another entry's by now."""
        if not is_wanted and self._random.random() < 0.5:
            return
        if not host.is_up or not self._may_strike([host]):
            return
        for group, replica in host.engine.replicas.items():
            committed = replica.raft.log.committed
            entries = {index: at for index, at in self._entries(host, group).items() if index > committed}
            if entries:
                self._spoil(host, entries, {*self._random.choices(sorted(entries), k=2)})
                self._cluster.faults["rot_tail"] += 1
                return

    @property
    def is_free(self) -> bool:
        """Is every disk whole again, as far as its node knows?"""
        for node in sorted(self.struck):
            host = self._cluster.hosts[node]
            if host.is_up and not any(each.raft.log.is_damaged for each in host.engine.replicas.values()):
                self.struck.discard(node)
        return not self.struck

    # --- where ---

    def _choose(self, count: int) -> list[Host]:
        """So many nodes whose disks may be damaged now; none when that can't be."""
        up = [host for host in self._cluster.hosts.values() if host.is_up]
        hosts = self._random.sample(up, min(count, len(up)))
        return hosts if self._may_strike(hosts) else []

    def _may_strike(self, hosts: Sequence[Host]) -> bool:
        """Would those with whole disks lead without these, and hold all that these may have to ask for?"""
        if not hosts or not self.is_free:
            return False
        names = {host.node for host in hosts}
        others = [
            host
            for host in self._cluster.hosts.values()
            if host.is_up and host.node not in names and host.settings.config.priority > 0
        ]
        return all(self._can_spare(group, hosts, others) for group in self._cluster.watch.groups)

    def _can_spare(self, group: GroupId, hosts: Sequence[Host], others: Sequence[Host]) -> bool:
        """Are the others a majority, or is one of them as far, by what is flushed there, as any of these?"""
        rafts = [host.replica(group).raft for host in (*hosts, *others)]
        newest = max(rafts, key=lambda raft: raft.configuration_index).configuration
        whole = [host.node for host in others]
        if newest.is_joint or any(host.node not in newest.voters for host in hosts):
            return False
        if is_supported(newest.voters, newest.outgoing, whole):
            return True
        last = max(host.replica(group).raft.log.last for host in hosts)
        shadows = [self._cluster.watch.durability.shadow(node, group) for node in whole if node in newest.voters]
        return any(shadow.terms and (shadow.terms[-1], shadow.last_index) >= last for shadow in shadows)

    def _entries(self, host: Host, group: GroupId) -> dict[LogIndex, tuple[str, int, int]]:
        """Where the payloads of entries lie that a later record covers: index -> (path, offset, bytes)."""
        assert isinstance(host.storage, DirectoryStorage), f"{host.node} keeps its log elsewhere"
        wal, log = host.storage._wal, host.replica(group).raft.log
        records = wal.live.of(group)
        old = [(write.path, write.offset, write.offset + write.length) for write in host.disk.old_places(_LOG)]
        found = {}
        for number, place in enumerate(records.places):
            index = records.base.index + 1 + number
            if not log.first <= index <= log.last_index or log.get(index).kind != Kind.COMMANDS:
                continue
            path, offset = wal.segments.path_of(place >> 32), (place & 0xFFFF_FFFF) + HEADER_BYTES + FRAME_HEADER_BYTES
            length = len(log.get(index).payload)
            if any(path == of and start <= offset and offset + length <= after for of, start, after in old):
                found[index] = (path, offset, length)
        return found

    def _spoil(self, host: Host, entries: dict[LogIndex, tuple[str, int, int]], indexes: set[LogIndex]) -> None:
        self._crash(host)
        self.struck.add(host.node)
        for index in sorted(indexes):
            path, offset, length = entries[index]
            for _ in range(self._random.choice((1, 3))):
                host.disk.flip(path, offset + self._random.randrange(length), self._random.randrange(8))

    def _crash(self, host: Host) -> None:
        self._cluster.crash(host.node, losing=self._random.choice(("nothing", "some")))


STRIKES: dict[str, Callable[[Rot], None]] = {"damage": Rot.damage, "rot": Rot.rot}
