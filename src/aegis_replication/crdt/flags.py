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
        return self._put(True, self._observed(self._store, context))

    def disable(self, *, context: CausalContext | None = None) -> Delta:
        """Takes back the enables that were seen."""
        return self._take(self._observed(self._store, context))

    def value(self) -> bool:
        return bool(self._store)

    def __bool__(self) -> bool:
        return self.value()

    @staticmethod
    def read_payload(plain: Any) -> bool:
        return read_bool(plain)


class DWFlag(EWFlag):
    """Off at first. Of an enable and a disable that did not know each other, the disable counts."""

    __slots__ = ()
    NAME: ClassVar[str] = "DWFlag"

    def disable(self, *, context: CausalContext | None = None) -> Delta:
        return self._put(False, self._observed(self._store, context))

    def value(self) -> bool:
        return bool(self._store) and all(self._store.values())


def read_bool(plain: Any) -> bool:
    if type(plain) is bool:
        return plain
    raise InvalidArgument(f"payload {plain!r}: true or false expected")
