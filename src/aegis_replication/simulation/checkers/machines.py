"""Does every replica's machine do the same, and the right thing? Results, digests and sessions, entry by entry."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from zlib import crc32

import msgspec

from aegis_replication.errors import InvariantBroken
from aegis_replication.ids import GroupId, LogIndex, NodeId
from aegis_replication.log import Entry, EntryId
from aegis_replication.simulation.checkers.model import Answer, KeyValueModel, SessionModel, plain
from aegis_replication.state_machine.base import DurableMachine, Machine, restoring

_encode = msgspec.msgpack.Encoder().encode

DIGEST_EVERY = 16  # entries; a digest costs as much as the whole state


class MachineChecker:
    """What all machines of one group did, seen by the ones that came first, and what its model says to it."""

    __slots__ = ("acknowledged", "digests", "group", "last_checked", "model", "results")

    def __init__(self, group: GroupId, model: SessionModel) -> None:
        self.group = group
        self.model = model
        # Per applied entry: checksum of its results, and the digest of the state after it where one was taken.
        self.results: dict[LogIndex, int] = {}
        self.digests: dict[LogIndex, tuple[str, NodeId]] = {}
        self.last_checked: LogIndex = 0
        # Highest entry whose effect some client was told of. What is read from now on must include it.
        self.acknowledged: LogIndex = 0

    def _broken(self, invariant: str, detail: str) -> InvariantBroken:
        return InvariantBroken(invariant, f"group {self.group}: {detail}")

    def on_applied(self, node: NodeId, entry: Entry, results: Sequence[Any], machine: Machine) -> None:
        """Equal entries give equal results and states on every node; the first to apply one is held to the model."""
        index = entry.index
        found = crc32(_encode(results))
        known = self.results.setdefault(index, found)
        if known != found:
            raise self._broken(
                "machines agree", f"{node} answers entry {entry.term}:{index} differently: {list(results)!r:.300}"
            )
        if index > self.last_checked:
            self.last_checked = index
            expected = self.model.apply(entry)
            answers = [plain(result) for result in results]
            if answers != expected:
                raise self._broken(
                    self.model.promise,
                    f"{node} answers entry {entry.term}:{index} with {answers!r:.300}, right were {expected!r:.300}",
                )
        if not index % DIGEST_EVERY:
            self.compare(node, index, machine.digest())

    def compare(self, node: NodeId, index: LogIndex, digest: str) -> None:
        """Equal applied indexes, equal states."""
        known, first = self.digests.setdefault(index, (digest, node))
        if known != digest:
            raise self._broken("machines agree", f"{node} has state {digest} after entry {index}, {first} had {known}")

    def on_acknowledged(self, session: bytes, sequence: int, answer: Answer, committed: LogIndex) -> None:
        """A client may be told only what the committed log made of its command."""
        index, expected = self.model.answers.get((session, sequence), (0, None))
        if not index or index > committed:
            raise self._broken(
                "no acknowledged write lost",
                f"command {sequence} of session {session.hex()[:8]} is acknowledged, but in no committed entry",
            )
        if answer != expected:
            raise self._broken(
                "no acknowledged write lost",
                f"command {sequence} of session {session.hex()[:8]} is answered {answer!r:.200}, entry {index} made it "
                f"{expected!r:.200}",
            )
        self.acknowledged = max(self.acknowledged, index)

    def on_page(
        self, items: dict[bytes, tuple[bytes, int]], keys: Iterable[bytes], since: LogIndex, until: LogIndex
    ) -> None:
        """A list shows one state of all its keys together, no older than what was acknowledged at its call."""
        model, keys = self.model, sorted(keys)
        assert isinstance(model, KeyValueModel), f"lists of keys, for a {type(model).__name__}"
        for index in range(until, since - 1, -1):
            if all(model.at(index, key) == items.get(key) for key in keys):
                return
        raise self._broken(
            "lists show one state", f"no state between entries {since} and {until} is {items!r:.400} on keys {keys}"
        )


class WatchedMachine:
    """A machine as its replica sees it, with the checker looking on."""

    __slots__ = ("_checker", "_node", "applied", "inner")

    def __init__(self, inner: Machine, node: NodeId, checker: MachineChecker) -> None:
        self.inner = inner
        self._node = node
        self._checker = checker
        self.applied: LogIndex = 0

    def check(self, command: bytes) -> None:
        self.inner.check(command)

    def join(self, commands: Sequence[bytes]) -> bytes:
        return self.inner.join(commands)

    def apply(self, entry: Entry) -> Sequence[Any]:
        results = self.inner.apply(entry)
        self.applied = entry.index
        self._checker.on_applied(self._node, entry, results, self.inner)
        return results

    def query(self, query: bytes) -> Any:
        return self.inner.query(query)

    def freeze(self) -> Iterator[bytes]:
        return self.inner.freeze()

    def restore(self, pieces: Iterable[bytes]) -> None:
        self.inner.restore(pieces)

    def restoring(self, pieces: Iterable[bytes]) -> Iterator[None]:
        return restoring(self.inner, pieces)

    def digest(self) -> str:
        return self.inner.digest()


class WatchedDurableMachine(WatchedMachine):
    """A machine on a disk of its own, likewise."""

    __slots__ = ()

    inner: DurableMachine

    def __init__(self, inner: DurableMachine, node: NodeId, checker: MachineChecker) -> None:
        super().__init__(inner, node, checker)

    def open(self) -> EntryId:
        position = self.inner.open()
        self.applied = position.index
        return position

    def sync(self, position: EntryId) -> None:
        self.inner.sync(position)

    def restore_at(self, pieces: Iterable[bytes], position: EntryId) -> None:
        self.inner.restore_at(pieces, position)

    def close(self) -> None:
        self.inner.close()
