"""What must a replicated machine be able to do? The contract between a replica and whatever it replicates."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from aegis_replication.log import Entry

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
