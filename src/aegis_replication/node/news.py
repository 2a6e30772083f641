"""What does a node tell of itself while it runs? One log line per change of state, to observers too, and counts."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from aegis_replication.engine.effects import ConfigurationChanged, Effects, RoleChanged
from aegis_replication.events import MembersChanged
from aegis_replication.histogram import LONG_SECONDS, Histogram
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.log import SnapshotMeta
from aegis_replication.node.event_streams import EventStreams

log = logging.getLogger("aegis.node")


class News:
    """Tells what changed, once. Nothing here is called per command."""

    # fmt: off
    __slots__ = ("_leaders", "_members", "_node", "elections", "leader_changes", "loop_lag", "observers", "requests",
                 "snapshot_durations", "snapshot_failures", "streams", "written_bytes")
    # fmt: on

    def __init__(self, node: NodeId) -> None:
        self._node = node
        self.observers: list[Callable[[Any], None]] = []
        self.streams = EventStreams()
        # By group: elections that this node has begun, and how often the leader became another one, as far as it saw.
        self.elections: Counter[GroupId] = Counter()
        self.leader_changes: Counter[GroupId] = Counter()
        self._leaders: dict[GroupId, NodeId] = {}
        # By group, what was said of its members last.
        self._members: dict[GroupId, tuple[Any, ...]] = {}
        # Requests of clients, and bytes of entries written to the log; counted per read and per write.
        self.requests = 0
        self.written_bytes = 0
        # By how much each timer was late, in seconds.
        self.loop_lag = Histogram()
        # How long each snapshot of this node's own took, in seconds, and how many came to nothing.
        self.snapshot_durations = Histogram(LONG_SECONDS)
        self.snapshot_failures = 0

    def tell(self, effects: Effects) -> None:
        """What changed in this turn."""
        for change in effects.changes:
            self._on_role(change)
            for observer in self.observers:
                observer(change)
            self.streams.on_role_changed(change)
        for configuration in effects.configurations:
            self._on_configuration(configuration)
        if effects.news:
            self.streams.tell(effects.news)

    def _on_role(self, change: RoleChanged) -> None:
        if change.role == "candidate":
            self.elections[change.group] += 1
        if change.leader is not None and change.leader != self._leaders.get(change.group):
            self.leader_changes[change.group] += 1
            self._leaders[change.group] = change.leader
        log.info(
            "group=%d node=%s term=%d role=%s leader=%s: %s",
            change.group,
            self._node,
            change.term,
            change.role,
            change.leader or "none",
            change.why,
        )

    def _on_configuration(self, change: ConfigurationChanged) -> None:
        members = change.configuration
        named = (members.voters, members.learners, members.outgoing)
        shown = (named, members.lease_ms)
        before = self._members.get(change.group)
        if before == shown:
            return  # an address or a data directory became known
        self._members[change.group] = shown
        if before is not None and before[0] != named:  # what a node begins with is no news for a program
            self.streams.tell([MembersChanged(change.group, change.index, *named)])
        log.info(
            "group=%d node=%s index=%d voters=%s outgoing=%s learners=%s lease_ms=%d: %s",
            change.group,
            self._node,
            change.index,
            ",".join(members.voters),
            ",".join(members.outgoing),
            ",".join(members.learners),
            members.lease_ms,
            "these are the members" if members.members else "waits until a cluster adds it",
        )

    def snapshot(self, what: str, group: GroupId, meta: SnapshotMeta, size_bytes: int) -> None:
        """One is on disk."""
        log.info(
            "group=%d node=%s term=%d index=%d size_bytes=%d: %s",
            group,
            self._node,
            meta.term,
            meta.index,
            size_bytes,
            what,
        )

    def say(self, text: str) -> None:
        """Something about the node as a whole."""
        log.info("node=%s: %s", self._node, text)
