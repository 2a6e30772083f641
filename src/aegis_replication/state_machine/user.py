"""How do you write a machine of your own? A class with annotated state, and methods marked @command or @query.

    class Inventory(StateMachine):
        stock: dict[str, int]

        def __init__(self) -> None:
            self.stock = {}

        @command
        def reserve(self, sku: str, count: int) -> bool:
            if self.stock.get(sku, 0) < count:
                return False
            self.stock[sku] -= count
            return True

        @query
        def available(self, sku: str) -> int:
            return self.stock.get(sku, 0)

Replicas agree because each runs the same commands in the same order. So a command may depend on nothing but the state,
its arguments, and `self.clock_ms` and `self.index`: not on time, randomness (pass it in as an argument), files, the
network, globals, `id()`, `hash()`, or the order of a set (use `sorted`).
"""

import copy
import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar, TypeVar, get_origin, get_type_hints

import msgspec

from aegis_replication.errors import InvalidArgument
from aegis_replication.state_machine.journal import Journal, Mode
from aegis_replication.state_machine.shapes import Codec, Unsupported, shape_of

F = TypeVar("F", bound=Callable[..., Any])

MARK = "__aegis_kind__"
COMMAND_KIND, QUERY_KIND = "command", "query"


def command(method: F) -> F:
    """Marks a method that changes the state; it is proposed, and runs on every replica.

    If it raises, the caller gets CommandFailed with the error's type and text, and the state is as it was before.
    """
    setattr(method, MARK, COMMAND_KIND)
    return method


def query(method: F) -> F:
    """Marks a method that only looks; it runs on the replica that answers. An attempt to change something raises."""
    setattr(method, MARK, QUERY_KIND)
    return method


class StateMachine:
    """The base of your own machine.

    State is what the class annotates, with types that msgspec can encode: numbers, text, bytes, dates, enums, lists,
    tuples, sets, dicts, dataclasses, msgspec.Struct. A value in the class body is its beginning; what `__init__` sets
    comes after. Any other attribute is refused, as it would be gone after a snapshot.

    What a command costs beside its own work: a few microseconds for each key of a dict attribute that it touches, and
    one encoding of every other changeable attribute (a list, a set, an object) that it touches, as a whole. So keep
    what grows in a dict attribute. Values don't keep their identity from one command to the next: hold no references
    outside the state, and put no object in two places.
    """

    _aegis_attributes: ClassVar[tuple[str, ...]] = ()

    clock_ms: int = 0
    """The time of the running command in ms since 1970, by the leader's clock: equal on every replica, never falls."""

    index: int = 0
    """The position in the log of the running command's entry; commands of one batch share it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__slots__" in cls.__dict__:
            raise InvalidArgument(
                f"{cls.__qualname__} has __slots__: leave them out, its annotations say what is state"
            )
        own = [name for name, hint in inspect.get_annotations(cls).items() if not _is_class_variable(hint)]
        if taken := {"clock_ms", "index"}.intersection(own):
            raise InvalidArgument(f"{cls.__qualname__}.{taken.pop()} is what every machine has: choose another name")
        own += [name for name in cls._aegis_attributes if name in cls.__dict__ and name not in own]
        for name in own:
            setattr(cls, name, _Attribute(name, cls.__dict__.get(name, _NOTHING)))
        cls._aegis_attributes = tuple(dict.fromkeys((*cls._aegis_attributes, *own)))

    def __new__(cls, *args: Any, **kwargs: Any) -> "StateMachine":
        machine = super().__new__(cls)
        for name in cls._aegis_attributes:
            if (default := inspect.getattr_static(cls, name).default) is not _NOTHING:
                machine.__dict__[name] = copy.deepcopy(default)
        return machine

    def __setattr__(self, name: str, value: Any) -> None:
        on_class = inspect.getattr_static(type(self), name, None)
        # A test of the class may set the last two.
        if not (hasattr(on_class, "__set__") or name in ("clock_ms", "index")):
            owner = type(self).__qualname__
            raise InvalidArgument(
                f"{owner}.{name} is not annotated, so no snapshot would hold it: add `{name}: <type>`"
            )
        object.__setattr__(self, name, value)


_NOTHING: Any = object()


def _is_class_variable(hint: Any) -> bool:
    if isinstance(hint, str):
        return hint.replace("typing.", "").startswith("ClassVar")
    return hint is ClassVar or get_origin(hint) is ClassVar


class _Attribute:
    """One annotated attribute; tells the journal of the machine that is replicated (if this one is) what is touched."""

    __slots__ = ("default", "name")

    def __init__(self, name: str, default: Any) -> None:
        self.name, self.default = name, default

    def __get__(self, machine: StateMachine | None, owner: type) -> Any:
        if machine is None:
            return self
        try:
            value = machine.__dict__[self.name]
        except KeyError:
            raise AttributeError(f"{owner.__qualname__}.{self.name} has no value yet: set it in __init__") from None
        replicated: Replicated | None = machine.__dict__.get(REPLICATED)
        if replicated is not None and self.name in replicated.watched and replicated.journal.mode is not Mode.NOTHING:
            replicated.on_touch(self.name)
        return value

    def __set__(self, machine: StateMachine, value: Any) -> None:
        replicated: Replicated | None = machine.__dict__.get(REPLICATED)
        if replicated is not None:
            replicated.journal.require_command(f"{type(machine).__qualname__}.{self.name}")
            replicated.on_touch(self.name)
        machine.__dict__[self.name] = value

    def __delete__(self, machine: StateMachine) -> None:
        raise AttributeError(f"{type(machine).__qualname__}.{self.name} is state and can't be deleted: give it a value")


REPLICATED = "_aegis_replicated"


class Replicated:
    """What an instance has once it stands behind a log: its journal, and which attributes a read may change."""

    __slots__ = ("journal", "on_touch", "watched")

    def __init__(self, journal: Journal, watched: frozenset[str], on_touch: Callable[[str], None]) -> None:
        self.journal, self.watched, self.on_touch = journal, watched, on_touch


# --- methods as messages --------------------------------------------------------------------------------------------


class Method:
    """A marked method: its arguments as a tagged array, its result by its annotation."""

    __slots__ = ("arguments", "kind", "name", "result", "signature")

    def __init__(self, function: Callable[..., Any]) -> None:
        kind = getattr(function, MARK, None)
        if kind is None:
            raise InvalidArgument(f"{function.__qualname__} is neither a @command nor a @query")
        self.kind: str = kind
        self.name = function.__name__
        where = function.__qualname__
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise InvalidArgument(f"{where} is async or a generator: a replicated method runs to its end at once")
        hints = hints_of(function, where)
        self.signature = inspect.signature(function)
        fields = [_field(where, each, hints) for each in list(self.signature.parameters.values())[1:]]
        if "return" not in hints:
            raise InvalidArgument(f"{where} doesn't say what it returns: add `-> None` or the type")
        self.result = _codec(hints["return"], f"{where}: its result")
        # A message of its own per method: the array [name, arguments...].
        self.arguments: type[msgspec.Struct] = msgspec.defstruct(
            self.name, fields, tag=self.name, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True
        )


@cache
def method_of(function: Callable[..., Any]) -> Method:
    """The message form of a marked function; raises InvalidArgument, naming what to change, if it can't have one."""
    return Method(function)


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> msgspec.Struct:
    """The command or query that calls `function` (as in `Inventory.reserve`), to be proposed or asked.

    Raises InvalidArgument when the arguments don't fit its signature; their types are checked by the node.
    """
    method = method_of(getattr(function, "__func__", function))
    try:
        bound = method.signature.bind(None, *args, **kwargs)
    except TypeError as error:
        raise InvalidArgument(f"{method.name}: {error}") from None
    bound.apply_defaults()
    return method.arguments(*bound.args[1:])


def decode_answer(function: Callable[..., Any], body: bytes) -> Any:
    """The result of `function` from the body of an OK reply, as its annotation says."""
    return method_of(getattr(function, "__func__", function)).result.decode(body)


def hints_of(annotated: Any, where: str) -> dict[str, Any]:
    """The annotations, resolved; raises InvalidArgument for one that can't be."""
    try:
        return get_type_hints(annotated, include_extras=True)
    except NameError as error:
        raise InvalidArgument(f"{where}: {error}; define the types it uses at the top of its module") from None


def _field(where: str, parameter: inspect.Parameter, hints: dict[str, Any]) -> Any:
    name = parameter.name
    if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
        raise InvalidArgument(f"{where}: parameter {name} is variable or keyword-only: make it an ordinary one")
    if name not in hints:
        raise InvalidArgument(f"{where}: parameter {name} has no type: annotate it")
    try:
        shape_of(hints[name])
    except Unsupported as error:
        raise InvalidArgument(f"{where}: parameter {name} {error}") from None
    if parameter.default is parameter.empty:
        return name, hints[name]
    default = parameter.default
    return name, hints[name], msgspec.field(default_factory=lambda: copy.deepcopy(default))


def _codec(hint: Any, what: str) -> Codec:
    try:
        return Codec(hint)
    except Unsupported as error:
        raise InvalidArgument(f"{what} {error}") from None
