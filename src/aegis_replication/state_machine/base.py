"""What must a replicated machine be able to do? The contract between a replica and whatever it replicates."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from aegis_replication.log import Entry


class Failure(NamedTuple):
    """A command's or query's result that is an error: the reply status of `wire` and what the client is told."""

    status: int
    detail: Any  # anything msgpack can hold


class Machine(Protocol):
    """A deterministic machine behind one group's log. No clock, no randomness, no I/O: everything comes from the entry."""

    def check(self, command: bytes) -> None:
        """Is this a well-formed command within the limits? Raises InvalidCommand or LimitExceeded. Doesn't look at state."""

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
        """Become the state that `freeze` wrote; what was here before is gone."""

    def digest(self) -> str:
        """A short hexadecimal digest of the state: equal states, equal digests."""
