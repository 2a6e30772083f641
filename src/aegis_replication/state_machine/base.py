"""What must a replicated machine be able to do? The contract between a replica and whatever it replicates."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from aegis_replication.log import Entry, EntryId

# The statuses of `wire` that a machine itself answers with (equal there; a test holds the two together).
INVALID: Final = 3
FAILED: Final = 4
SESSION_EXPIRED: Final = 5
NOT_AN_INTEGER: Final = 8
REFUSED: Final = 9


class Failure(NamedTuple):
    """A command's or query's result that is an error: the reply status of `wire` and what the client is told."""

    status: int
    detail: Any  # anything msgpack can hold


class Machine(Protocol):
    """A deterministic machine behind one group's log. No clock, no randomness, no I/O:
    everything comes from the entry.
    """

    def check(self, command: bytes) -> None:
        """Is this a well-formed command within the limits? Raises InvalidCommand or LimitExceeded. Doesn't
        look at state.
        """

    def join(self, commands: Sequence[bytes]) -> bytes:
        """The payload of one entry that holds these checked commands, in this order."""

    def apply(self, entry: Entry) -> Sequence[Any]:
        """Carry out an entry of commands; one result per command, in order: a msgpack-able value or a Failure."""

    def query(self, query: bytes) -> Any:
        """Answer a read: a msgpack-able value or a Failure; never changes anything."""

    def freeze(self) -> Iterator[bytes]:
        """A consistent copy of the state as of now, as bounded pieces that are made as they are pulled.

        Equal states give equal pieces, on every node and under every PYTHONHASHSEED.
        """

    def restore(self, pieces: Iterable[bytes]) -> None:
        """Become the state that `freeze` wrote; what was here before is gone. See `restoring`, below, too."""

    def digest(self) -> str:
        """A short hexadecimal digest of the state: equal states, equal digests."""


@runtime_checkable
class DurableMachine(Machine, Protocol):
    """A Machine whose state is on a disk of its own, with the position in the log that it stands at.

    After a restart it is given only the entries behind that position. Whatever it forgot since its last `sync` it is
    given once more, so what it has forgotten must be everything after some entry, effects and position together.
    """

    def open(self) -> EntryId:
        """Be as the disk says, once, before anything else; the last entry that is in it (NOTHING: it is new)."""

    def sync(self, position: EntryId) -> None:
        """What was applied is durable when this returns; up to `position` no further command came."""

    def restore_at(self, pieces: Iterable[bytes], position: EntryId) -> None:
        """As `restore`, and stand at `position`: durable, and all at once, when this returns."""

    def close(self) -> None:
        """Let the disk go; nothing more will be asked."""


class CommandMachine(Protocol):
    """What SessionMachine wraps: a machine that knows its commands as types and nothing of entries,
    clients or retries.
    """

    kind: str
    """Names the machine in its snapshots: the state of another kind is refused."""

    handlers: Mapping[type, Callable[[Any], Any]]
    """One per command type (a tagged msgspec Struct), looked up once per command: carries it out, returns its result.

    A Failure as result means that nothing was changed; one of status REFUSED isn't remembered for the client's retry.
    """

    def begin(self, entry: Entry) -> None:
        """The commands handled from now on are of this entry: its stamp is their clock."""

    def check(self, command: Any) -> None:
        """Raises InvalidCommand or LimitExceeded for a command that is out of bounds. Doesn't look at state."""

    def query(self, query: bytes) -> Any:
        """As Machine."""

    def freeze(self) -> Iterator[bytes]:
        """As Machine."""

    def restore(self, pieces: Iterable[bytes]) -> None:
        """As Machine; if it raises, the state is as it was."""


SessionRows = Mapping[bytes, bytes | None]
"""What is to be kept of clients' sessions: by name, opaque bytes, or None where nothing is kept any more."""


class DurableCommandMachine(Protocol):
    """As CommandMachine, but it keeps its state on a disk of its own (SQLite, LMDB, files): what a program writes.

    Handlers change the state within one transaction for each entry, from `begin` to `commit`. The sessions of clients
    are part of the state, or a command that a client sends again after a restart would be carried out twice.
    """

    kind: str
    """As CommandMachine."""

    handlers: Mapping[type, Callable[[Any], Any]]
    """As CommandMachine: a Failure as result means that nothing was changed."""

    def check(self, command: Any) -> None:
        """As CommandMachine."""

    def query(self, query: bytes) -> Any:
        """As Machine."""

    def freeze(self) -> Iterator[bytes]:
        """As Machine, without the sessions: it shows the state as of this call, while later entries change that."""

    def open(self) -> tuple[int, int]:
        """Make the state ready: term and index that were committed or synced last; (0, 0) for a new one.

        Raises StorageError when the state can't be used.
        """

    def sessions(self) -> Iterable[tuple[bytes, bytes]]:
        """The rows that `commit` was given and that are kept."""

    def begin(self, entry: Entry) -> None:
        """The commands handled from now on are of this entry: its stamp is their clock."""

    def commit(self, term: int, index: int, rows: SessionRows) -> None:
        """Keep what the handlers did since `begin`, these rows, and this position, as one.

        A crash later may undo it, but only as a whole, and only together with all that was committed after it.
        """

    def sync(self, term: int, index: int) -> None:
        """Make all that was committed durable, and keep this position, which has no further effects."""

    def restore_at(self, pieces: Iterable[bytes], term: int, index: int, rows: SessionRows) -> None:
        """Be what `freeze` wrote, with these rows alone and at this position: durable and as one.

        If it raises, or the process ends meanwhile, the state is as it was.
        """

    def close(self) -> None:
        """Let the disk go."""


def restoring(machine: Machine | CommandMachine, pieces: Iterable[bytes]) -> Iterator[None]:
    """Restore in steps of one piece, so that others get their turn between them: the new state is there after the last.

    Until then the machine shows its former state. It must have a method of this name for that; one that hasn't, since
    its state is small, is restored in a single step.
    """
    steps: Callable[[Iterable[bytes]], Iterator[None]] | None = getattr(machine, "restoring", None)
    if steps is None:
        machine.restore(pieces)
        return iter(())
    return steps(pieces)
