"""How are values kept under keys? Maps: the last write per key, or a replicated object per key, removed by reset."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from aegis_replication.crdt import kernel
from aegis_replication.crdt.delta import Delta
from aegis_replication.crdt.kernel import CausalContext, Changes, Shape, Store, kind_named
from aegis_replication.crdt.registers import latest_write, next_stamp, plain_write
from aegis_replication.crdt.replica import Replica
from aegis_replication.crdt.values import Key, Stamp, canonical, checked_key, freeze, stamp_of, thaw
from aegis_replication.errors import InvalidArgument
from aegis_replication.vector_clock import Dot
from aegis_replication.vector_clock.codec import count

R = TypeVar("R", bound=Replica)


class LWWMap(Replica):
    """The last write per key counts, removes included; as in LWWRegister a local write is never in vain.

    A remove leaves its stamp behind, so that an older write that comes later does not undo it; `collect` drops it.
    """

    __slots__ = ()
    NAME: ClassVar[str] = "LWWMap"
    SHAPE: ClassVar[Shape] = Shape.MAP

    def set(self, key: Any, value: Any, timestamp: Stamp | None = None) -> Delta:
        if type(key) is not str or not key.isascii():
            key = checked_key(key)
        if type(value) is not str or not value.isascii():
            value = freeze(value)
        stamp = (timestamp, 0) if type(timestamp) is int and 0 <= timestamp < 2**63 else stamp_of(timestamp)
        old = self._store.get(key)
        if old is None:
            dot = self._mint()
            leaf = self._store[key] = {dot: (*stamp, value)}
            return self._emit({key: leaf}, (dot,))
        return self._write(key, old, stamp, (value,))

    def update(self, values: Mapping[Any, Any], timestamp: Stamp | None = None) -> Delta:
        """Sets them all, in one delta: faster than one by one."""
        stamp, store = stamp_of(timestamp), self._store
        kept = {checked_key(key): freeze(value) for key, value in values.items()}
        if not kept:
            return self._emit({}, ())
        actor, number = self._mint(len(kept))
        fragment: Store = {}
        gone: list[Dot] = []
        for offset, (key, value) in enumerate(kept.items()):
            own = stamp
            if key in store:
                own = next_stamp(stamp, latest_write(store[key])[1][:2])
                gone += store[key]
            fragment[key] = {(actor, number + offset): (*own, value)}
        store.update(fragment)
        return self._emit(fragment, [(actor, number + offset) for offset in range(len(kept))], gone)

    def remove(self, key: Any, timestamp: Stamp | None = None) -> Delta:
        """Removes the key; nothing happens if it isn't in."""
        key, stamp = checked_key(key), stamp_of(timestamp)
        old = self._store.get(key)
        if old is None or len(latest_write(old)[1]) == 2:
            return self._emit({}, ())
        return self._write(key, old, stamp, ())

    def get(self, key: Any, default: Any = None) -> Any:
        leaf = self._store.get(checked_key(key))
        write: tuple[Any, ...] = latest_write(leaf)[1] if leaf else ()
        return thaw(write[2]) if len(write) > 2 else default

    def value(self) -> dict[Any, Any]:
        return {key: thaw(write[2]) for key, write in self._writes() if len(write) == 3}

    def keys(self) -> list[Any]:
        """The keys in the order of their bytes."""
        return sorted((key for key, write in self._writes() if len(write) == 3), key=canonical)

    def items(self) -> list[tuple[Any, Any]]:
        return [(key, self.get(key)) for key in self.keys()]

    def __getitem__(self, key: Any) -> Any:
        if key not in self:
            raise KeyError(key)
        return self.get(key)

    def __contains__(self, key: object) -> bool:
        leaf = self._store.get(checked_key(key))
        return leaf is not None and len(latest_write(leaf)[1]) == 3

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys())

    def __len__(self) -> int:
        return sum(len(write) == 3 for _, write in self._writes())

    @classmethod
    def has_content(cls, store: Store) -> bool:
        return any(len(latest_write(leaf)[1]) == 3 for leaf in store.values())

    @staticmethod
    def plain_payload(payload: Any) -> Any:
        return plain_write(payload)

    @staticmethod
    def read_payload(plain: Any) -> tuple[Any, ...]:
        timestamp, logical, *value = plain
        if len(value) > 1:
            raise InvalidArgument(f"write {plain!r}: timestamp, logical tick and at most one value expected")
        return count(timestamp, "timestamp"), count(logical, "logical"), *map(freeze, value)

    @classmethod
    def collect_store(cls, store: Store, cut: CausalContext) -> int:
        """A stable remove goes together with the writes that it beat, all of which every replica has seen."""
        gone_count = 0
        for key, leaf in [*store.items()]:
            dot, write = latest_write(leaf)
            if len(write) == 2 and dot in cut:
                gone_count += len(leaf)
                del store[key]
        return gone_count

    def _writes(self) -> Iterator[tuple[Key, Any]]:
        for key, leaf in self._store.items():
            yield key, latest_write(leaf)[1]

    def _write(self, key: Key, old: Store, wanted: tuple[int, int], value: tuple[Any, ...]) -> Delta:
        stored = next(iter(old.values()))[:2] if len(old) == 1 else latest_write(old)[1][:2]
        dot = self._mint()
        leaf = self._store[key] = {dot: (*next_stamp(wanted, stored), *value)}
        return self._emit({key: leaf}, (dot,), old)


class ORMap(Replica):
    """A replicated object per key, maps included. Removing a key resets what is in it, as far as it was seen.

    So what is written beside a remove stays, alone. A key is there as long as there is something to see in it. Objects
    of two types under one key are two fields, so a change of type can't spoil a merge.
    """

    __slots__ = ("_views",)
    NAME: ClassVar[str] = "ORMap"
    SHAPE: ClassVar[Shape] = Shape.FIELDS

    def at(self, key: Any, kind: type[R]) -> R:
        """The object of that type under `key`, to read and to change; its changes return the whole map's deltas."""
        if not getattr(kind, "NAME", "") or not kind.IS_RESETTABLE:
            raise InvalidArgument(
                f"{getattr(kind, '__name__', kind)} can't stand in a map, since removing a key resets it: for counters "
                "take ResettableCounter, for sets ORSet"
            )
        field = (kind.NAME, checked_key(key))
        view = self._views.get(field)
        if view is None:
            view = self._views[field] = kind.__new__(kind)
            view._actor = self._actor
            view._begin(self._store.setdefault(field, {}), self._context, self._stable, None)
            view._rounds, view._parent, view._field = self._rounds, self, field
        assert isinstance(view, kind), f"the view of {field} is a {type(view).__name__}"
        return view

    def get(self, key: Any, kind: type[Replica], default: Any = None) -> Any:
        """The plain value under `key`, if something of that type is in it."""
        field = (kind.NAME, checked_key(key))
        return self.at(key, kind).value() if self._has(field) else default

    def remove(self, key: Any, kind: type[Replica] | None = None, *, context: CausalContext | None = None) -> Delta:
        """Resets what is under `key` (of one type, or of all), as far as it was seen or read."""
        key = checked_key(key)
        if context is not None:
            self._check_read(context)
        fields = [field for field in self._store if field[1] == key and (kind is None or field[0] == kind.NAME)]
        gone: list[Dot] = []
        for field in fields:
            gone += _reset(kind_named(field[0]), self._store[field], context)
            if field in self._views:
                self._views[field]._forget_caches()
        return self._emit({field: {} for field in fields}, (), gone)

    def value(self) -> dict[Any, Any]:
        """Key -> plain value. A key with objects of several types has a dict: type's name -> value."""
        result: dict[Any, Any] = {}
        for key in self.keys():
            kinds = self.kinds(key)
            values = {kind.NAME: self._value((kind.NAME, key)) for kind in kinds}
            result[key] = values if len(kinds) > 1 else values[kinds[0].NAME]
        return result

    def keys(self) -> list[Any]:
        """The keys in the order of their bytes."""
        return sorted({field[1] for field in self._store if self._has(field)}, key=canonical)

    def kinds(self, key: Any) -> list[type[Replica]]:
        """The types of what is under `key`, by name."""
        key = checked_key(key)
        found = sorted(field[0] for field in self._store if field[1] == key and self._has(field))
        return [kind for name in found if issubclass(kind := kind_named(name), Replica)]

    def __contains__(self, key: object) -> bool:
        return bool(self.kinds(key))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    @classmethod
    def has_content(cls, store: Store) -> bool:
        return any(kind_named(field[0]).has_content(child) for field, child in store.items())

    @classmethod
    def collect_store(cls, store: Store, cut: CausalContext) -> int:
        return sum(kind_named(field[0]).collect_store(child, cut) for field, child in store.items())

    def collect(self, cut: CausalContext) -> int:
        gone = super().collect(cut)
        self._prune()
        return gone

    def _prune(self) -> None:
        """Drops empty fields that nobody holds."""
        for field, child in [*self._store.items()]:
            if field not in self._views and kernel.is_empty(kind_named(field[0]), child):
                del self._store[field]

    def _begin(self, store: Store, context: CausalContext, stable: CausalContext, settings: Any) -> None:
        super()._begin(store, context, stable, settings)
        # Field -> its object, made when it is first asked for and kept, so that all hold the same.
        self._views: dict[Any, Replica] = {}

    def _has(self, field: Any) -> bool:
        return field in self._store and kind_named(field[0]).has_content(self._store[field])

    def _value(self, field: Any) -> Any:
        kind = kind_named(field[0])
        assert issubclass(kind, Replica), f"{kind.NAME} has no value"
        return self.at(field[1], kind).value()

    def _keys(self, found: Changes) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(field[1] for field in found))

    def _forget_caches(self) -> None:
        for view in self._views.values():
            view._forget_caches()

    def _notify_merged(self, found: Changes, other: "Replica | Delta") -> None:
        super()._notify_merged(found, other)
        for field, below in found.items():
            if field in self._views:
                self._views[field]._notify_merged(below, other)


def _reset(kind: type[kernel.Kind], store: Store, context: CausalContext | None) -> list[Dot]:
    """Takes the observed dots out of the store, in place."""
    gone = [
        (actor, number + offset)
        for (actor, number), extent in kernel.entries(kind, store)
        if actor and (context is None or (actor, number) in context)
        for offset in range(extent)
    ]
    if context is None:
        kernel.cleared(kind, store)
    else:
        found = kernel.changes(kind, store, kernel.CausalContext(), {}, kernel.CausalContext.of(gone))
        kernel.apply(kind, store, found)
    return gone
