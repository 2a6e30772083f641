"""How does a user's own class stand behind a log? Commands with undo, snapshots by annotation."""

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from inspect import getattr_static
from typing import Any, Final, Union

import msgspec

from aegis_replication.errors import IncompatibleVersion, InvalidArgument, ProtocolError, WrongIdentity
from aegis_replication.log import Entry
from aegis_replication.state_machine.base import (
    FAILED,
    INVALID,
    CommandMachine,
    DurableCommandMachine,
    Failure,
    Machine,
)
from aegis_replication.state_machine.commands import join_commands
from aegis_replication.state_machine.durable_sessions import DurableSessionMachine
from aegis_replication.state_machine.journal import Journal, Mode, TrackedDict, TrackedDictOfMutables
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import NOT_THESE_TYPES, STAMP_LOGICAL_BITS, SessionMachine
from aegis_replication.state_machine.shapes import Codec, Unsupported, key_and_value
from aegis_replication.state_machine.user import (
    COMMAND_KIND,
    MARK,
    REPLICATED,
    Method,
    Replicated,
    StateMachine,
    hints_of,
    method_of,
)

FORMAT_VERSION: Final = 1
PIECE_BYTES: Final = 256 * 1024

_ERROR_TEXT_MAX: Final = 1_000
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_ENCODER = msgspec.msgpack.Encoder()


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot's first piece."""

    kind: str
    format_version: int
    clock_ms: int
    index: int
    attributes: tuple[str, ...]


class _Piece(msgspec.Struct, frozen=True, array_like=True):
    """Part of an attribute: some pairs of a tracked dict, or some bytes of another value."""

    attribute: str
    data: bytes


_HEAD_DECODER = msgspec.msgpack.Decoder(_Head)
_PIECE_DECODER = msgspec.msgpack.Decoder(_Piece)


class _Value:
    """An attribute that is encoded as a whole."""

    __slots__ = ("_codec", "watched", "where")

    def __init__(self, hint: Any, where: str) -> None:
        self.where = where
        self._codec = Codec(hint)
        # May it change without being set?
        self.watched = self._codec.shape.mutable

    def settled(self, value: Any, journal: Journal) -> Any:
        return self._codec.settled(value)

    def touch(self, state: dict[str, Any], name: str, journal: Journal) -> None:
        """Keep what puts back the value of `name`, which is about to change."""
        before = state[name]
        if not self.watched:
            journal.remember(name, lambda: state.__setitem__(name, before), lambda: self._settle(state, name, before))
            return
        encoded = self._codec.encode(before)
        journal.remember(
            name,
            lambda: state.__setitem__(name, self._codec.decode(encoded)),
            lambda: self._settle(state, name, before, encoded),
        )

    def _settle(self, state: dict[str, Any], name: str, before: Any, encoded: bytes | None = None) -> bool:
        """Replace a changed value by what would come back from a snapshot; says whether it was changed."""
        value = state[name]
        try:
            if value is before and (encoded is None or self._codec.encode(value) == encoded):
                return False
            state[name] = self._codec.settled(value)
        except TypeError as error:
            raise TypeError(f"{self.where}: {error}") from None
        return True

    def freeze(self, value: Any) -> Iterator[bytes]:
        encoded = self._codec.encode(value)
        return (encoded[first : first + PIECE_BYTES] for first in range(0, len(encoded), PIECE_BYTES))

    def thawed(self, parts: list[bytes], journal: Journal) -> Generator[None, None, Any]:
        yield
        return self._codec.decode(b"".join(parts))


class _Table:
    """A dict attribute: changed, and encoded, key by key."""

    __slots__ = ("_class", "_keys", "_pair", "_pairs", "_values", "watched", "where")

    def __init__(self, key: Any, value: Any, where: str) -> None:
        self.where = where
        self._keys, self._values = Codec(key), Codec(value)
        pair: Any = tuple[key, value]
        self._pair, self._pairs = Codec(pair), Codec(list[pair])
        self._class = TrackedDictOfMutables if self._values.shape.mutable else TrackedDict
        self.watched = False

    def settled(self, value: Any, journal: Journal) -> TrackedDict:
        if not isinstance(value, dict):
            raise TypeError(f"{self.where}: expected a dict, got {type(value).__name__}")
        items: dict[Any, Any] = {}
        try:
            for key, each in dict.items(value):
                items[self._keys.settled(key)] = self._values.settled(each)
        except TypeError as error:
            raise TypeError(f"{self.where}: {error}") from None
        return self._class(items, self.where, self._keys, self._values, journal)

    def touch(self, state: dict[str, Any], name: str, journal: Journal) -> None:
        before = state[name]

        def settle() -> bool:
            if state[name] is before:
                return False
            state[name] = self.settled(state[name], journal)
            return True

        journal.remember(name, lambda: state.__setitem__(name, before), settle)

    def freeze(self, value: TrackedDict) -> Iterator[bytes]:
        parts = self._parts(list(dict.items(value)))
        return iter(list(parts)) if self._values.shape.mutable else parts  # encoded at once if it may change in place

    def _parts(self, pairs: list[tuple[Any, Any]]) -> Iterator[bytes]:
        encoded: list[bytes] = []
        size = 0
        for pair in pairs:
            encoded.append(self._pair.encode(pair))
            size += len(encoded[-1])
            if size >= PIECE_BYTES:
                yield join_commands(encoded)
                encoded, size = [], 0
        if encoded:
            yield join_commands(encoded)

    def thawed(self, parts: list[bytes], journal: Journal) -> Generator[None, None, TrackedDict]:
        items: dict[Any, Any] = {}
        for part in parts:
            items.update(self._pairs.decode(part))
            yield
        return self._class(items, self.where, self._keys, self._values, journal)


class UserMachine:
    """Runs a StateMachine's commands; the CommandMachine for SessionMachine."""

    __slots__ = ("_attributes", "_beginning", "_journal", "_queries", "_query", "handlers", "kind", "machine")

    def __init__(self, machine: StateMachine) -> None:
        self.kind = type(machine).__name__
        self.machine = machine
        if REPLICATED in machine.__dict__:
            raise InvalidArgument(f"this {self.kind} is replicated already: give each node an instance of its own")
        self._journal = Journal()
        self._attributes = _attributes(machine)
        for name, attribute in self._attributes.items():
            if name not in machine.__dict__:
                raise InvalidArgument(f"{attribute.where} has no value: set it in __init__ or in the class body")
            try:
                machine.__dict__[name] = attribute.settled(machine.__dict__[name], self._journal)
            except TypeError as error:
                raise InvalidArgument(
                    f"{attribute.where} begins with a value that is not of its type: {error}"
                ) from None
        # What an attribute that a snapshot doesn't have yet begins with.
        self._beginning = {name: list(each.freeze(machine.__dict__[name])) for name, each in self._attributes.items()}
        handlers: dict[type, Callable[[Any], Any]] = {}
        self._queries: dict[type, Callable[[Any], Any]] = {}
        for name, method in _methods(type(machine)).items():
            bound = getattr(machine, name)
            if method.kind == COMMAND_KIND:
                handlers[method.arguments] = self._command_handler(bound, method)
            else:
                self._queries[method.arguments] = self._query_handler(bound, method)
        self.handlers: Mapping[type, Callable[[Any], Any]] = handlers
        if not handlers:
            raise InvalidArgument(f"{self.kind} has no @command: nothing could ever change its state")
        self._query: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Union[(*self._queries, None)])
        watched = frozenset(name for name, each in self._attributes.items() if each.watched)
        machine.__dict__[REPLICATED] = Replicated(self._journal, watched, self._on_touch)

    def _on_touch(self, name: str) -> None:
        if not self._journal.knows(name):
            self._attributes[name].touch(self.machine.__dict__, name, self._journal)

    # --- commands ---

    def begin(self, entry: Entry) -> None:
        self.machine.__dict__["clock_ms"] = entry.stamp >> STAMP_LOGICAL_BITS
        self.machine.__dict__["index"] = entry.index

    def check(self, command: Any) -> None:
        pass  # decoding has checked the types; sizes are bounded by the frame

    def _command_handler(self, bound: Callable[..., Any], method: Method) -> Callable[[Any], Any]:
        journal, answer, values_of = self._journal, method.result.answer, msgspec.structs.astuple

        def handle(call: Any) -> Any:
            journal.mode = Mode.COMMAND
            try:
                result = answer(bound(*values_of(call)))
                journal.commit()  # after the result is copied: it may be part of what is settled now
            except MemoryError:
                raise  # this node's own trouble, unknown to the others: it must stop, not answer
            except (Exception, SystemExit) as error:
                journal.rollback()
                return _failure(error)
            return result

        return handle

    # --- queries ---

    def query(self, query: bytes) -> Any:
        try:
            asked = self._query.decode(query)
        except NOT_THESE_TYPES as error:
            return Failure(INVALID, f"not a query of {self.kind}: {error}")
        handler = self._queries.get(type(asked))
        return handler(asked) if handler is not None else Failure(INVALID, f"not a query of {self.kind}: nil")

    def _query_handler(self, bound: Callable[..., Any], method: Method) -> Callable[[Any], Any]:
        journal, answer, values_of = self._journal, method.result.answer, msgspec.structs.astuple

        def handle(call: Any) -> Any:
            journal.mode = Mode.QUERY
            try:
                result = answer(bound(*values_of(call)))
                journal.require_unchanged(method.name)
            except (Exception, SystemExit) as error:
                journal.rollback()
                return _failure(error)
            return result

        return handle

    # --- snapshots ---

    def freeze(self) -> Iterator[bytes]:
        machine = self.machine
        head = _Head(self.kind, FORMAT_VERSION, machine.clock_ms, machine.index, tuple(self._attributes))
        frozen = [(name, each.freeze(machine.__dict__[name])) for name, each in self._attributes.items()]
        return _pieces(head, frozen)

    def restore(self, pieces: Iterable[bytes]) -> None:
        for _ in self.restoring(pieces):
            pass

    def restoring(self, pieces: Iterable[bytes]) -> Iterator[None]:
        stream = iter(pieces)
        head = _HEAD_DECODER.decode(next(stream, b""))
        if head.kind != self.kind:
            raise WrongIdentity(f"a snapshot of {head.kind}, for {self.kind}: start this node with the former")
        if head.format_version != FORMAT_VERSION:
            raise IncompatibleVersion(f"a state of format {head.format_version}: this program knows {FORMAT_VERSION}")
        if unknown := sorted(set(head.attributes) - set(self._attributes)):
            raise IncompatibleVersion(
                f"a snapshot of {self.kind} holds {', '.join(unknown)}: this class doesn't have it"
            )
        parts: dict[str, list[bytes]] = {name: [] for name in head.attributes}
        for piece in map(_PIECE_DECODER.decode, stream):
            if piece.attribute not in parts:
                raise ProtocolError(
                    f"a snapshot of {self.kind} has a piece of {piece.attribute!r}, which it doesn't name"
                )
            parts[piece.attribute].append(piece.data)
            yield
        state: dict[str, Any] = {}
        try:
            for name, each in self._attributes.items():
                state[name] = yield from each.thawed(parts.get(name, self._beginning[name]), self._journal)
        except TypeError as error:
            raise ProtocolError(f"a snapshot of {self.kind} isn't of this class's types: {error}") from None
        self.machine.__dict__.update(state, clock_ms=head.clock_ms, index=head.index)


def _pieces(head: _Head, frozen: list[tuple[str, Iterator[bytes]]]) -> Iterator[bytes]:
    yield _ENCODER.encode(head)
    for name, parts in frozen:
        for part in parts:
            yield _ENCODER.encode(_Piece(name, part))


def _failure(error: BaseException) -> Failure:
    text = _ADDRESS.sub("", str(error))[:_ERROR_TEXT_MAX]  # an address would differ between replicas
    return Failure(FAILED, [type(error).__name__, text.encode(errors="replace").decode()])


def _attributes(machine: StateMachine) -> dict[str, "_Value | _Table"]:
    """Each attribute's way to bytes, in alphabetical order; raises InvalidArgument, naming it, if it has none."""
    owner = type(machine).__qualname__
    hints = hints_of(type(machine), owner)
    found: dict[str, _Value | _Table] = {}
    for name in sorted(machine._aegis_attributes):
        where, hint = f"{owner}.{name}", hints[name]
        try:
            pair = key_and_value(hint)
            found[name] = _Table(*pair, where) if pair else _Value(hint, where)
        except Unsupported as error:
            raise InvalidArgument(f"{where} {error}") from None
    return found


def _methods(cls: type) -> dict[str, Method]:
    """The marked methods by name."""
    found: dict[str, Method] = {}
    for name in dir(cls):
        function = getattr_static(cls, name)
        if callable(function) and hasattr(function, MARK):
            found[name] = method_of(function)
    return found


def machine_for(machine: Any = None) -> Machine:
    """What a node replicates, from what its user gave.

    None is a key-value store; a StateMachine (or its class), another CommandMachine, or a DurableCommandMachine is
    wrapped with sessions; a whole Machine is taken as it is. Raises InvalidArgument for anything else.
    """
    if isinstance(machine, type) and issubclass(machine, StateMachine):
        machine = machine()
    if machine is None:
        return SessionMachine(KeyValueMachine())
    if isinstance(machine, StateMachine):
        return SessionMachine(UserMachine(machine))
    if hasattr(machine, "handlers") and hasattr(machine, "commit"):
        own: DurableCommandMachine = machine
        return DurableSessionMachine(own)
    if hasattr(machine, "handlers"):
        inner: CommandMachine = machine
        return SessionMachine(inner)
    if hasattr(machine, "apply") and hasattr(machine, "freeze"):
        whole: Machine = machine
        return whole
    raise InvalidArgument(
        f"{machine!r} is no state machine: derive from StateMachine, or leave it out for a key-value store"
    )
