"""Which writes of a key are siblings, exactly? Dotted version vector sets (Almeida et al. 2014)."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from aegis_replication.errors import InvalidArgument
from aegis_replication.vector_clock.clock import VectorClock
from aegis_replication.vector_clock.codec import actor_id, count, from_json, pack, to_json, unpack
from aegis_replication.vector_clock.values import BYTES, JSON, Carrier, carried


class DottedVersionVectorSet:
    """An immutable set of sibling values, kept by servers, with all that was ever written before or beside them.

    A read hands out `values()` and `join()`; a write brings that context back, replaces what the context covers and
    stands beside the rest. Two clients of one server are never taken for one (no false order), and what was not seen
    is never dropped.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[str, tuple[int, Sequence[Any]]] | None = None) -> None:
        # Server -> (highest count, its surviving values, newest first). Value i has the dot (server, highest - i).
        self._entries: dict[str, tuple[int, tuple[Any, ...]]] = {
            actor_id(server): (count(highest, least=1), tuple(values))
            for server, (highest, values) in (entries or {}).items()
        }
        for server, (highest, values) in self._entries.items():
            count(highest - len(values), f"events of {server!r} before its {len(values)} values")

    @classmethod
    def new(cls, value: Any, server: str) -> Self:
        """The first write of a key, by `server`."""
        return cls({server: (1, (value,))})

    def update(self, value: Any, *, context: VectorClock, server: str) -> "DottedVersionVectorSet":
        """After a write at `server` by a client that had read `context`."""
        entries = self._discarding(context)
        highest, values = entries.get(server, (0, ()))
        entries[server] = (highest + 1, (value, *values))
        return DottedVersionVectorSet(entries)

    def discard(self, context: VectorClock) -> "DottedVersionVectorSet":
        """After a delete by a client that had read `context`: the covered values go, siblings stay."""
        return DottedVersionVectorSet(self._discarding(context))

    def sync(self, *others: "DottedVersionVectorSet") -> "DottedVersionVectorSet":
        """What all of them know together: the merge, in any order."""
        entries = dict(self._entries)
        for other in others:
            for server, theirs in other._entries.items():
                entries[server] = _merged(entries.get(server, (0, ())), theirs)
        return DottedVersionVectorSet(entries)

    merge = sync

    def join(self) -> VectorClock:
        """The context of a read: all events that are known, dropped ones included."""
        return VectorClock({server: highest for server, (highest, _) in self._entries.items()})

    def values(self) -> list[Any]:
        """The siblings, by server and newest first."""
        return [value for server in sorted(self._entries) for value in self._entries[server][1]]

    def less(self, other: "DottedVersionVectorSet") -> bool:
        """Does `other` know all that this one knows, and more?"""
        return self != other and self.sync(other) == other

    def dominates(self, other: "DottedVersionVectorSet") -> bool:
        return other.less(self)

    def reconcile(self, winner: Callable[[list[Any]], Any], *, server: str) -> "DottedVersionVectorSet":
        """One value made of all siblings, as a new write at `server` that has read them."""
        return self.update(winner(self.values()), context=self.join(), server=server)

    def last_write(self, key: Callable[[Any], Any], *, server: str) -> "DottedVersionVectorSet":
        """The sibling with the highest `key`, as a new write at `server` that has read them all."""
        return self.reconcile(lambda values: max(values, key=key), server=server)

    @property
    def ids(self) -> list[str]:
        return sorted(self._entries)

    @property
    def size(self) -> int:
        """How many siblings."""
        return sum(len(values) for _, values in self._entries.values())

    def to_bytes(self) -> bytes:
        """The same for equal sets of equal types. UnencodableValue: a value that can't come back as it is."""
        return pack("DottedVersionVectorSet", self._body(BYTES))

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Self:
        return unpack("DottedVersionVectorSet", encoded, lambda body: cls._from_body(body, BYTES))

    def to_json(self) -> str:
        """UnencodableValue: JSON has no word for (part of) a value."""
        return to_json(self._body(JSON))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return from_json("DottedVersionVectorSet", text, lambda body: cls._from_body(body, JSON))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DottedVersionVectorSet) and self._entries == other._entries

    def __hash__(self) -> int:
        return hash(self.join())  # the values may be lists

    def __repr__(self) -> str:
        return f"DottedVersionVectorSet({dict(sorted(self._entries.items()))!r})"

    def _body(self, carrier: Carrier) -> list[Any]:
        places = itertools.count()
        return [
            [server, highest, [carried(value, carrier, f"values()[{next(places)}]") for value in values]]
            for server, (highest, values) in sorted(self._entries.items())
        ]

    @classmethod
    def _from_body(cls, body: Any, carrier: Carrier) -> Self:
        entries = {}
        for server, highest, values in body:
            if type(values) is not list or server in entries:
                raise InvalidArgument(f"server {server!r}: its highest count and a list of values expected, once")
            entries[server] = highest, [carried(value, carrier, f"a value of {server!r}") for value in values]
        return cls(entries)

    def _discarding(self, context: VectorClock) -> dict[str, tuple[int, tuple[Any, ...]]]:
        """The entries after all that `context` covers is gone; what it knows beyond is known from now on."""
        entries = dict(self._entries)
        for server in context:
            entries[server] = _merged(entries.get(server, (0, ())), (context.get(server), ()))
        return entries


def _merged(one: tuple[int, tuple[Any, ...]], other: tuple[int, tuple[Any, ...]]) -> tuple[int, tuple[Any, ...]]:
    """Keeps a value that both have, or that one has and the other never knew: each is one stretch of counts."""
    (highest, values), (lower, lower_values) = (one, other) if one[0] >= other[0] else (other, one)
    # The lower side has dropped everything up to here, so of the higher side's values only those above survive.
    dropped = lower - len(lower_values)
    return highest, values[: max(0, min(len(values), highest - dropped))]
