"""May one more command be taken? Those that wait for their entry, and how much is under way already."""

from aegis_replication.consensus.node import Raft
from aegis_replication.engine.replies import Caller
from aegis_replication.engine.spec import ReplicaLimits
from aegis_replication.ids import LogIndex

_UNMEASURED = -1


class Intake:
    """The commands of one replica that are in no entry yet, and the bounds on all that a leader has taken.

    What counts is the log itself, not what this office has put into it: a tail that an earlier one left behind takes
    as much memory. A leader's own entries (no-op, configuration) are never refused, or no tail could get smaller.
    """

    __slots__ = ("_limits", "_raft", "_room_bytes", "callers", "commands", "refused", "size_bytes", "taken")

    def __init__(self, raft: Raft, limits: ReplicaLimits) -> None:
        self._raft, self._limits = raft, limits
        self.commands: list[bytes] = []
        self.callers: list[Caller] = []  # who waits for each
        self.size_bytes = 0  # of them
        self.taken = 0  # how many commands have no answer yet: these, and those in entries
        self.refused = 0  # how many found no room
        # How many bytes more fit, as far as was measured since the last `forget_room`.
        self._room_bytes = _UNMEASURED

    def take(self, command: bytes, caller: Caller, applied: LogIndex) -> str:
        """Take a command; or say what there is too much of, and take nothing."""
        if self.taken >= self._limits.waiting_commands:
            return self._refuse(f"{self.taken:,} commands wait already")
        if len(command) > self._room_bytes and (why_not := self._why_no_room(len(command), applied)):
            return self._refuse(why_not)
        self.commands.append(command)
        self.callers.append(caller)
        self.size_bytes += len(command)
        self._room_bytes -= len(command)
        self.taken += 1
        return ""

    def _refuse(self, why_not: str) -> str:
        self.refused += 1
        return f"{why_not}: send again later"

    def forget_room(self) -> None:
        """Entries may have been committed or applied since it was measured."""
        self._room_bytes = _UNMEASURED

    def _why_no_room(self, size_bytes: int, applied: LogIndex) -> str:
        """Measure how much room there is; "" when a command of that size fits, or nothing else is under way."""
        log, config = self._raft.log, self._raft.config
        uncommitted = log.uncommitted_bytes + self.size_bytes
        unapplied = log.bytes_between(applied, log.committed)
        room = min(config.max_uncommitted_bytes - uncommitted, config.max_unapplied_bytes - unapplied)
        self._room_bytes = max(room, _UNMEASURED)
        if size_bytes <= room or not (uncommitted or unapplied):
            return ""
        if config.max_unapplied_bytes - unapplied == room:
            return f"{unapplied:,} bytes of commands are committed and not yet applied, about as many as may be"
        return f"{uncommitted:,} bytes of commands are not yet committed, about as many as may be"

    def next_batch(self) -> tuple[list[bytes], list[Caller]]:
        """The commands of the next entry, at least one, and who waits for each."""
        limits, count, size = self._limits, len(self.commands), self.size_bytes
        if count > limits.frame_commands or (size > limits.frame_bytes and count > 1):
            count, size = self._fit(limits)
        commands, callers = self.commands[:count], self.callers[:count]
        del self.commands[:count], self.callers[:count]
        self.size_bytes -= size
        return commands, callers

    def _fit(self, limits: ReplicaLimits) -> tuple[int, int]:
        """How many of the waiting commands go into one frame, and their bytes."""
        count = size = 0
        for command in self.commands[: limits.frame_commands]:
            if count and size + len(command) > limits.frame_bytes:
                break
            count += 1
            size += len(command)
        return count, size

    def turn_away(self) -> list[Caller]:
        """The commands that are in no entry stay out of the log; who waits for them."""
        callers = self.callers
        self.taken -= len(callers)
        self.commands, self.callers, self.size_bytes = [], [], 0
        return callers
