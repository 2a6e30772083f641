"""What does a node tell of itself while it runs? One log line per change of state, to observers too, and counts."""

import logging
from collections.abc import Callable
from typing import Any

from aegis_replication.engine.effects import ConfigurationChanged, Effects, RoleChanged
from aegis_replication.events import MembersChanged
from aegis_replication.ids import GroupId, NodeId
from aegis_replication.log import SnapshotMeta
from aegis_replication.node.event_streams import EventStreams

log = logging.getLogger("aegis.node")


class News:
    """Tells what changed, once. Nothing here is called per command."""

    __slots__ = ("_leaders", "_members", "_node", "elections", "leader_changes", "observers", "streams")

    def __init__(self, node: NodeId) -> None:
        self._node = node
        self.observers: list[Callable[[Any], None]] = []
        self.streams = EventStreams()
        # Elections that this node has begun, and how often a group's leader became another one, as far as it saw.
        self.elections = 0
        self.leader_changes = 0
        self._leaders: dict[GroupId, NodeId] = {}
        # By group, what was said of its members last.
        self._members: dict[GroupId, tuple[Any, ...]] = {}

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
            self.elections += 1
        if change.leader is not None and change.leader != self._leaders.get(change.group):
            self.leader_changes += 1
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
