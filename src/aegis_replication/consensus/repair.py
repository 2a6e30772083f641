"""How does a replica get back what its disk has damaged? (Protocol-aware recovery, Alagappan et al., FAST'18.)

Who each entry is stays known, so the replica votes by its log as ever. It does not stand for election, acknowledges
and applies nothing from the first damaged entry on, and asks the others for exactly those entries. Whoever holds one
whole sends it, in any role and in any term: the same id is the same entry everywhere (Log Matching, §5.3).
"""

from aegis_replication.consensus.damage import has_whole, missing, repair
from aegis_replication.consensus.member import Member
from aegis_replication.consensus.messages import EntriesLacked, EntriesWanted, EntryFound, Message
from aegis_replication.consensus.role import Role
from aegis_replication.ids import LogIndex, NodeId

ASKED_AT_ONCE = 32
"""So many damaged entries are asked for in one message, the first ones."""


class Repair:
    """What one replica has asked for, and who has said that it can't help."""

    __slots__ = ("_asked_ms", "_lacking", "_member")

    def __init__(self, member: Member) -> None:
        self._member = member
        # When all were asked last.
        self._asked_ms = float("-inf")
        # Who doesn't hold which of the missing entries whole, by their last word.
        self._lacking: dict[LogIndex, set[NodeId]] = {}

    @property
    def repaired(self) -> int:
        """How many damaged entries have come back whole."""
        return self._member.repaired

    @property
    def damaged(self) -> int:
        """How many entries aren't whole on this disk yet."""
        return len(self._member.log.lost)

    def ask(self) -> None:
        """Ask everybody again for what is missing, if that was long enough ago; nothing when all is whole."""
        member = self._member
        if member.log.is_damaged and member.now_ms - self._asked_ms >= 2 * member.config.heartbeat_interval_ms:
            self._asked_ms = member.now_ms
            for peer in self._others():
                self.ask_one(peer)

    def ask_one(self, peer: NodeId) -> None:
        """Ask `peer` for what is missing."""
        lost = missing(self._member.log)
        if lost and peer in self._others():
            self._member.send(peer, EntriesWanted(tuple(lost[:ASKED_AT_ONCE])))

    def _others(self) -> list[NodeId]:
        member = self._member
        return sorted({*member.configurations.members, member.leader or member.node} - {member.node})

    def step(self, role: Role, source: NodeId, message: Message) -> None:
        """One of the messages of which a repair is made; the same in every role and term."""
        if isinstance(message, EntriesWanted):
            _send_whole(role, source, message)
        elif isinstance(message, EntriesLacked):
            self._hear(source, message)
        elif isinstance(message, EntryFound) and repair(self._member.log, message.entry):
            self._member.note_repaired(message.entry.index, source)

    def _hear(self, source: NodeId, message: EntriesLacked) -> None:
        """`source` doesn't hold those: go on asking, for others may, and so may it later."""
        lost = missing(self._member.log)
        for entry in message.wanted:
            if entry in lost:
                self._lacking.setdefault(entry.index, set()).add(source)

    def describe(self) -> str:
        """What is damaged, and who is waited for; "" when nothing is."""
        log = self._member.log
        if not log.is_damaged:
            return ""
        lost = missing(log)
        if not lost:
            return "what was damaged on this disk has come whole, and is being written"
        first, more = lost[0].index, f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        said = f"entry {first}{more} is damaged on this disk"
        others, lacking = self._others(), self._lacking.get(first, set())
        if not others:
            return f"{said}, and there is no other member that could hold it"
        if lacking.issuperset(others):
            return f"{said}: waiting for {', '.join(others)}, of which none holds it whole now"
        silent = [other for other in others if other not in lacking]
        without = f"; {', '.join(sorted(lacking))} can't help" if lacking else ""
        return f"{said}: waiting for {', '.join(silent)}{without}"


def _send_whole(role: Role, source: NodeId, message: EntriesWanted) -> None:
    """A member's disk is damaged: send what is whole here of what it misses, as much as fits one append."""
    member = role.member
    log, left_bytes, lacked = member.log, member.config.append_bytes_max, []
    for wanted in message.wanted:
        if not has_whole(log, wanted):
            lacked.append(wanted)
        elif left_bytes > 0:
            entry = log.get(wanted.index)
            left_bytes -= len(entry.frame)
            member.send(source, EntryFound(entry))
    if any(wanted.index < log.first for wanted in lacked):
        role.on_member_behind(source)
    if lacked:
        member.send(source, EntriesLacked(tuple(lacked)))
