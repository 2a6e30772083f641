"""Do the key-value machine and the sessions do what obvious, slow twins of theirs do, whatever they are asked?"""

import dataclasses
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as some

from aegis_replication.errors import InvalidArgument
from aegis_replication.log import Kind, make_entry
from aegis_replication.state_machine import commands as ask
from aegis_replication.state_machine.base import NOT_AN_INTEGER, REFUSED, SESSION_EXPIRED, Failure
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import WINDOW, SessionMachine
from aegis_replication.state_machine.user import StateMachine, call, command, query
from aegis_replication.state_machine.user_machine import machine_for

# Few keys that sort in interesting ways, and values that often are numbers or meet again.
keys = some.sampled_from([b"", b"\0", b"a", b"a\0", b"ab", b"b", b"\xff", b"\xff\xff"])
values = some.sampled_from([b"", b"0", b"7", b"-3", b"9223372036854775807", b"x"])
versions = some.none() | some.integers(0, 12)
ends = some.none() | keys
comparisons = {"expect": some.none() | values, "expect_version": versions}


def _compares(asked: Any) -> bool:
    return asked.expect is not None or asked.expect_version is not None


operations = some.one_of(
    some.builds(ask.Put, keys, values),
    some.builds(ask.Delete, keys),
    some.builds(ask.Take, keys),
    some.builds(ask.CompareAndSet, keys, some.none() | values, **comparisons).filter(_compares),
    some.builds(ask.Increment, keys, some.integers(-3, 3)),
    some.builds(ask.DeleteRange, keys, ends, some.integers(0, 2)),
)
conditions = some.builds(ask.Condition, keys, **comparisons).filter(_compares)
batches = some.builds(
    ask.Batch,
    some.lists(operations, max_size=4).map(tuple),
    some.lists(conditions, max_size=2).map(tuple),
)
key_value_commands = operations | batches
queries = some.one_of(
    some.builds(ask.Get, keys),
    some.builds(ask.GetMany, some.lists(keys, max_size=4).map(tuple)),
    some.builds(ask.Range, keys, ends, some.integers(1, 4)),
    some.builds(ask.Keys, keys, ends, some.integers(1, 4)),
    some.builds(ask.Count, keys, ends),
    some.just(ask.Stats()),
)


class Twin:
    """A key-value machine over one dict that is copied for every command and sorted for every question."""

    def __init__(self) -> None:
        self.items: dict[bytes, tuple[bytes, int]] = {}
        self.revision = 0
        self.wrote = False

    def do(self, asked: Any) -> Any:
        """The result as a client sees it; "not an integer" for that failure."""
        before, self.wrote = dict(self.items), False
        result = self._do(asked, self.revision + 1)
        if result == "not an integer" or (isinstance(result, ask.BatchResult) and not result.succeeded):
            self.items, self.wrote = before, False
        self.revision += self.wrote
        return result

    def _do(self, asked: Any, version: int) -> Any:
        before = dict(self.items)
        result = self._change(asked, version)
        self.wrote = self.wrote or self.items != before
        return result

    def _change(self, asked: Any, version: int) -> Any:
        match asked:
            case ask.Put(key, value):
                self.items[key] = (value, version)
                return version
            case ask.Delete(key):
                return self.items.pop(key, (b"", 0))[1]
            case ask.Take(key):
                return self.items.pop(key, None)
            case ask.CompareAndSet(key, value):
                if not self._holds(asked):
                    return ask.Swap(False, self.items.get(key, (b"", 0))[1])
                self.items.pop(key, None)
                if value is not None:
                    self.items[key] = (value, version)
                return ask.Swap(True, 0 if value is None else version)
            case ask.Increment(key, by):
                text = self.items.get(key, (b"0", 0))[0]
                if not text.lstrip(b"-").isdigit() or abs(int(text) + by) >= 2**63:
                    return "not an integer"
                self.items[key] = (b"%d" % (int(text) + by), version)
                return int(text) + by
            case ask.DeleteRange(start, end, limit):
                doomed = self._between(start, end)[: limit or None]
                for key in doomed:
                    del self.items[key]
                return len(doomed)
            case ask.Batch(several, wanted):
                return self._batch(several, wanted, version)
        raise AssertionError(asked)

    def _batch(self, several: Any, wanted: Any, version: int) -> Any:
        for position, condition in enumerate(wanted):
            if not self._holds(condition):
                return ask.BatchResult(False, (), position)
        results: list[Any] = []
        for operation in several:
            result = self._do(operation, version)
            if result == "not an integer":
                return result
            if isinstance(result, ask.Swap) and not result.succeeded:
                return ask.BatchResult(False, (), len(wanted) + len(results))
            results.append(result)
        return ask.BatchResult(True, tuple(results))

    def _holds(self, asked: Any) -> bool:
        value, version = self.items.get(asked.key, (None, 0))
        return asked.expect in (None, value) and asked.expect_version in (None, version)

    def _between(self, start: bytes, end: bytes | None) -> list[bytes]:
        return sorted(key for key in self.items if start <= key and (end is None or key < end))

    def answer(self, asked: Any) -> Any:
        match asked:
            case ask.Get(key):
                return self.items.get(key)
            case ask.GetMany(several):
                return [self.items.get(key) for key in several]
            case ask.Count(start, end):
                return len(self._between(start, end))
            case ask.Stats():
                return ask.MachineStats(len(self.items), self.revision)
        found = self._between(asked.start, asked.end)
        cursor = found[asked.limit - 1] + b"\0" if len(found) > asked.limit else None
        page = found[: asked.limit]
        return ([(key, *self.items[key]) for key in page] if isinstance(asked, ask.Range) else page), cursor


def seen(result: Any) -> Any:
    """As a client sees it."""
    if type(result) is Failure:
        assert result.status == NOT_AN_INTEGER
        return "not an integer"
    return msgspec.msgpack.decode(msgspec.msgpack.encode(result))


@given(some.lists(key_value_commands | queries, max_size=30))
@settings(max_examples=300)
def test_the_key_value_machine_is_a_dict_with_versions(asked: list[Any]) -> None:
    machine, twin = KeyValueMachine(), Twin()

    for each in asked:
        if type(each) in machine.handlers:
            machine.check(each)
            result, expected = machine.handlers[type(each)](each), twin.do(each)
        else:
            result, expected = machine.query(ask.encode_query(each)), twin.answer(each)
        assert seen(result) == seen(expected), each
        assert machine.revision == twin.revision, each
        assert list(machine._keys) == sorted(machine._items)

    assert machine._items == twin.items
    copy = KeyValueMachine()
    copy.restore(machine.freeze())
    assert list(copy.freeze()) == list(machine.freeze())
    assert copy.query(ask.encode_query(ask.Range())) == machine.query(ask.encode_query(ask.Range()))


# --- hostile bytes ---


@dataclasses.dataclass
class Part:
    name: str
    sizes: list[float]


class Parts(StateMachine):
    """A user's machine with arguments of many types."""

    count: int = 0

    @command
    def add(self, part: Part, by: dict[str, int], tags: set[str], place: tuple[int, bytes] | None = None) -> int:
        self.count += 1
        return self.count

    @query
    def find(self, name: str, limit: int = 5) -> str:
        return name


CODE = [
    *[ask.encode_command(bytes(16), 1, 1, each) for each in (ask.Put(b"a", b"b"), ask.Batch((ask.Increment(b"n"),)))],
    ask.encode_command(bytes(16), 1, 1, call(Parts.add, Part("a", [1.5]), {"a": 1}, {"t"}, (1, b""))),
    *[ask.encode_query(each) for each in (ask.Range(b"a", b"b", 5), ask.GetMany((b"a", b"b")), call(Parts.find, "ä"))],
]


@some.composite
def damaged(draw: some.DrawFn) -> bytes:
    """A message with some bytes replaced, removed or inserted."""
    data = bytearray(draw(some.sampled_from(CODE)))
    for _ in range(draw(some.integers(1, 3))):
        position = draw(some.integers(0, len(data)))
        data[position : position + draw(some.integers(0, 2))] = draw(some.binary(max_size=3))
    return bytes(data)


@given(damaged() | some.binary(max_size=40))
@settings(max_examples=500)
def test_whatever_comes_in_is_a_command_or_an_invalid_one_and_never_another_error(data: bytes) -> None:
    for machine in (SessionMachine(KeyValueMachine()), machine_for(Parts)):
        before = machine.digest()
        machine.query(data)
        assert machine.digest() == before
        try:
            machine.check(data)
        except InvalidArgument:
            continue
        results = machine.apply(make_entry(1, 1, 1, Kind.COMMANDS, machine.join([data]), count=1, stamp=1))
        assert len(results) == 1


# --- sessions ---

names = some.sampled_from([bytes([letter]) * 16 for letter in b"abc"])
sequences = some.integers(1, 12) | some.integers(WINDOW - 2, WINDOW + 12)
opens = some.builds(lambda name: (name, 0, 0, None), names)
writes = some.builds(
    lambda name, sequence, below, by: (name, sequence, max(0, sequence - below), ask.Increment(b"n", by)),
    some.just(ask.NO_SESSION) | names,
    sequences,
    some.integers(-1, 6) | some.just(WINDOW),
    some.integers(1, 3),
)
SESSIONS_MAX, IDLE_MS = 2, 50
REFUSALS = {SESSION_EXPIRED: "expired", REFUSED: "refused"}


class SessionTwin:
    """Every command ever applied, looked through from its beginning for every decision."""

    def __init__(self) -> None:
        self.total = 0
        # Per open session: [stamp of last use, floor, {sequence: result}].
        self.open: dict[bytes, list[Any]] = {}

    def apply(self, stamp: int, batch: list[tuple[Any, ...]]) -> list[Any]:
        for name in [name for name, known in self.open.items() if known[0] < stamp - (IDLE_MS << 16)]:
            del self.open[name]
        return [self._one(stamp, *each) for each in batch]

    def _one(self, stamp: int, name: bytes, sequence: int, floor: int, body: Any) -> Any:
        if name == ask.NO_SESSION:
            self.total += body.by
            return self.total
        if sequence == 0:
            known = self.open.pop(name, [stamp, 0, {}])
            if len(self.open) == SESSIONS_MAX:
                del self.open[next(iter(self.open))]
            self.open[name] = [stamp, *known[1:]]
            return WINDOW
        if name not in self.open:
            return "expired"
        _, lowest, results = self.open[name]
        lowest = max(lowest, floor)
        if sequence < lowest or sequence - lowest >= WINDOW:
            return "refused"
        if sequence not in results:
            self.total += body.by
            results[sequence] = self.total
        del self.open[name]  # so that it comes last: used most recently
        kept = {number: result for number, result in results.items() if number >= lowest}
        self.open[name] = [stamp, lowest, kept]
        return results[sequence]


@given(some.lists(some.tuples(some.integers(0, 30), some.lists(opens | writes, min_size=1, max_size=5)), max_size=25))
@settings(max_examples=300)
def test_sessions_are_what_their_whole_history_says(history: list[tuple[int, list[tuple[Any, ...]]]]) -> None:
    machine, twin = SessionMachine(KeyValueMachine(), sessions_max=SESSIONS_MAX, idle_ms=IDLE_MS), SessionTwin()
    now_ms = 0

    for index, (pause_ms, batch) in enumerate(history, 1):
        now_ms += pause_ms
        stamp = (now_ms << 16) + index
        payload = machine.join([ask.encode_command(*each) for each in batch])
        results = machine.apply(make_entry(1, 1, index, Kind.COMMANDS, payload, count=len(batch), stamp=stamp))
        assert [REFUSALS.get(result.status) if type(result) is Failure else result for result in results] == twin.apply(
            stamp, batch
        )
        if index % 3 == 0:  # a restart changes nothing
            other = SessionMachine(KeyValueMachine(), sessions_max=SESSIONS_MAX, idle_ms=IDLE_MS)
            other.restore(machine.freeze())
            machine = other

    assert {name: (each.used, each.floor, each.results) for name, each in machine._sessions.items()} == {
        name: tuple(known) for name, known in twin.open.items()
    }
    assert list(machine._sessions) == list(twin.open)
