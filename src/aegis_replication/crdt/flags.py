"""Is it on, when one switched it on and another off at once? Flags: enable wins, or disable wins."""

from typing import Any, ClassVar

from aegis_replication.crdt.delta import Delta
from aegis_replication.crdt.kernel import CausalContext
from aegis_replication.crdt.replica import Replica
from aegis_replication.errors import InvalidArgument


class EWFlag(Replica):
    """Off at first. Of an enable and a disable that did not know each other, the enable counts."""

    __slots__ = ()
    NAME: ClassVar[str] = "EWFlag"

    def enable(self, *, context: CausalContext | None = None) -> Delta:
        return self._switch(True, context)

    def disable(self, *, context: CausalContext | None = None) -> Delta:
        """Takes back the enables that were seen."""
        gone = self._observed(self._store, context)
        for dot in gone:
            del self._store[dot]
        return self._emit({}, (), gone)

    def value(self) -> bool:
        return bool(self._store)

    def __bool__(self) -> bool:
        return self.value()

    @staticmethod
    def read_payload(plain: Any) -> bool:
        return read_bool(plain)

    def _switch(self, is_on: bool, context: CausalContext | None) -> Delta:
        gone = self._observed(self._store, context)
        dot = self._mint()
        for each in gone:
            del self._store[each]
        self._store[dot] = is_on
        return self._emit({dot: is_on}, (dot,), gone)


class DWFlag(EWFlag):
    """Off at first. Of an enable and a disable that did not know each other, the disable counts."""

    __slots__ = ()
    NAME: ClassVar[str] = "DWFlag"

    def disable(self, *, context: CausalContext | None = None) -> Delta:
        return self._switch(False, context)

    def value(self) -> bool:
        return bool(self._store) and all(self._store.values())


def read_bool(plain: Any) -> bool:
    if type(plain) is bool:
        return plain
    raise InvalidArgument(f"payload {plain!r}: true or false expected")
