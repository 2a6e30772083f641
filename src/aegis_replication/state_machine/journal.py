"""What did a user's command change, and how is it undone if it raises?

While a command runs, the journal keeps what is needed to take it back, and nothing more: the old value of each key of
a dict attribute that it wrote (or got a mutable value of), and of each other attribute that it wrote (or got, if its
value is mutable). When it returns, what it touched is settled: checked against its annotation and replaced by what
would come back from a snapshot. So a state is always one that can be saved, and a restored replica has the same.
"""

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any

from aegis_replication.state_machine.shapes import Codec

ABSENT = object()


class Mode(Enum):
    """What is running now."""

    NOTHING = 0
    COMMAND = 1
    QUERY = 2


class ReadOnly(TypeError):
    """Something else than a command tried to change the state."""


class Journal:
    """Of one machine: the changes of the command that runs now."""

    __slots__ = ("_attributes", "_dicts", "mode")

    def __init__(self) -> None:
        self.mode = Mode.NOTHING
        # Attributes that changed or may have: how each is put back, and how its new value is settled.
        self._attributes: dict[str, tuple[Callable[[], Any], Callable[[], bool]]] = {}
        # Tracked dicts that hold changes of their own.
        self._dicts: list[TrackedDict] = []

    def require_command(self, what: str) -> None:
        """Raises ReadOnly unless a command is running, which alone may change `what`."""
        if self.mode is Mode.QUERY:
            raise ReadOnly(f"a @query must not change {what}: make it a @command")
        if self.mode is Mode.NOTHING:
            raise ReadOnly(f"{what} is replicated: change it by a @command that is proposed, not on one replica")

    def knows(self, name: str) -> bool:
        return name in self._attributes

    def remember(self, name: str, undo: Callable[[], Any], settle: Callable[[], bool]) -> None:
        """Attribute `name` may change from now on."""
        self._attributes[name] = (undo, settle)

    def remember_dict(self, changing: "TrackedDict") -> None:
        self._dicts.append(changing)

    def commit(self) -> None:
        """Settle all that was touched; raises TypeError, with nothing forgotten, for a value of the wrong type."""
        self._settle()
        self._end()

    def require_unchanged(self, query: str) -> None:
        """Raises ReadOnly, with nothing forgotten, if something that `query` got was changed in place."""
        if self._settle():
            raise ReadOnly(f"{query} is a @query and changed what it got: make it a @command, or change a copy")
        self._end()

    def _settle(self) -> bool:
        """Has anything been changed?"""
        changes = [changed.settle() for changed in self._dicts]
        changes += [settle() for _, settle in self._attributes.values()]
        return any(changes)

    def rollback(self) -> None:
        """Put all that was touched back."""
        for changed in self._dicts:
            changed.undo()
        for undo, _ in self._attributes.values():
            undo()
        self._end()

    def _end(self) -> None:
        for changed in self._dicts:
            changed.saved = {}
        self._dicts.clear()
        self._attributes.clear()
        self.mode = Mode.NOTHING


class TrackedDict(dict[Any, Any]):
    """The dict in a machine's attribute, which says what is about to change; its values can't change in place.

    A key that a command removed before it raised comes back at the dict's end, on every replica alike.
    """

    __slots__ = ("_keys", "_name", "_values", "journal", "saved")

    def __init__(self, items: dict[Any, Any], name: str, keys: Codec, values: Codec, journal: Journal) -> None:
        super().__init__(items)
        self._name, self._keys, self._values, self.journal = name, keys, values, journal
        # What keys held before the running command; ABSENT for none; encoded if the value can change in place.
        self.saved: dict[Any, Any] = {}

    def touch(self, key: Any) -> None:
        """The value of `key` is about to be changed."""
        if self.journal.mode is not Mode.COMMAND:
            self.journal.require_command(self._name)
        self.keep(key)

    def keep(self, key: Any) -> None:
        """Keep what puts back the value of `key`."""
        saved = self.saved
        if not saved:
            self.journal.remember_dict(self)
        if key not in saved:
            saved[key] = self._save(dict.__getitem__(self, key)) if key in self else ABSENT

    def settle(self) -> bool:
        """Replace changed values by what would come back from a snapshot; says whether there were any."""
        changed = False
        for key, saved in self.saved.items():
            if key not in self:  # removed, which only a command can do
                continue
            try:
                if saved is ABSENT:
                    self._check_key(key)
                if self._settle_value(key, saved, dict.__getitem__(self, key)):
                    changed = True
            except TypeError as error:
                raise TypeError(f"{self._name}[{key!r}]: {error}") from None
        return changed

    def _check_key(self, key: Any) -> None:
        settled = self._keys.settled(key)
        if settled != key or type(settled) is not type(key):
            raise TypeError(f"this key would come back as {settled!r}")

    def undo(self) -> None:
        for key, saved in self.saved.items():
            if saved is ABSENT:
                dict.pop(self, key, None)
            else:
                dict.__setitem__(self, key, self._unsave(saved))

    # What is kept of a value: itself, as nothing can change it.

    def _save(self, value: Any) -> Any:
        return value

    def _unsave(self, saved: Any) -> Any:
        return saved

    def _settle_value(self, key: Any, saved: Any, value: Any) -> bool:
        if value is saved:
            return False
        dict.__setitem__(self, key, self._values.settled(value))
        return True

    # --- everything by which a dict can be changed ---

    def __setitem__(self, key: Any, value: Any) -> None:
        self.touch(key)
        dict.__setitem__(self, key, value)

    def __delitem__(self, key: Any) -> None:
        self.touch(key)
        dict.__delitem__(self, key)

    def pop(self, key: Any, *default: Any) -> Any:
        self.touch(key)
        return dict.pop(self, key, *default)

    def popitem(self) -> tuple[Any, Any]:
        for key in reversed(self):
            self.touch(key)
            break
        return dict.popitem(self)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        self.touch(key)
        return dict.setdefault(self, key, default)

    def update(self, *others: Any, **named: Any) -> None:
        for key, value in dict(*others, **named).items():
            self[key] = value

    def __ior__(self, other: Any) -> "TrackedDict":
        self.update(other)
        return self

    def clear(self) -> None:
        for key in dict.__iter__(self):
            self.touch(key)
        dict.clear(self)

    # --- copies are plain dicts ---

    def copy(self) -> dict[Any, Any]:
        return dict(self)

    def __or__(self, other: Any) -> Any:
        return dict(self) | other

    def __ror__(self, other: Any) -> Any:
        return other | dict(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (dict(self),)

    @classmethod
    def fromkeys(cls, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


class TrackedDictOfMutables(TrackedDict):
    """Its values can change in place, so handing one out counts as a change until it is known not to be one.

    `__iter__` is here because C code copies a dict subclass without asking it unless it has one of its own.
    """

    __slots__ = ()

    # What is kept of a value: itself, to know it again, and its bytes.

    def _save(self, value: Any) -> Any:
        return value, self._values.encode(value)

    def _unsave(self, saved: Any) -> Any:
        return self._values.decode(saved[1])

    def _settle_value(self, key: Any, saved: Any, value: Any) -> bool:
        encoded = self._values.encode(value)
        if saved is not ABSENT and value is saved[0] and encoded == saved[1]:
            return False
        dict.__setitem__(self, key, self._values.decode(encoded))
        return True

    def _hand_out(self, key: Any) -> None:
        if self.journal.mode is not Mode.NOTHING:
            self.keep(key)

    def __getitem__(self, key: Any) -> Any:
        if key in self:
            self._hand_out(key)
        return dict.__getitem__(self, key)

    def get(self, key: Any, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401 - this is `get`

    def __iter__(self) -> Iterator[Any]:
        return dict.__iter__(self)

    def values(self) -> Any:
        self._hand_out_all()
        return dict.values(self)

    def items(self) -> Any:
        self._hand_out_all()
        return dict.items(self)

    def _hand_out_all(self) -> None:
        for key in self:
            self._hand_out(key)
