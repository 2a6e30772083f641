"""Could one register per key, asked one request at a time, have given these answers? (Wing and Gong 1993; Lowe 2017.)

Linearizability is local: a history is linearizable if each key's part of it is, so keys are checked one by one. Within
a key the search is Lowe's just-in-time one: walk through calls and returns in real-time order and keep every
configuration (state, operations already placed though not yet returned) that explains the answers so far. Equal
configurations are one (the memo). An operation is placed only when some return needs it.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

UNKNOWN: Final = "unknown"
"""The result of an operation whose client never learned it: it took effect at any time after its call, or never."""

FOREVER: Final = 2**62

CONFIGURATIONS_MAX: Final = 4_000
"""So many are tried for one answer ..."""

WORK_MAX: Final = 50_000_000
"""... and so many for all answers of one key; beyond either nothing is said about the history."""

Configuration: TypeAlias = tuple[Any, int]


class Operation(msgspec.Struct, frozen=True):
    """One client's request and answer. `called` and `returned` are positions in the run, `result` what it was told."""

    client: str
    key: str
    action: tuple[Any, ...]  # ("get",), ("put", value), ("cas", new, expected), ("increment", by), ("delete",) ...
    called: int
    returned: int = FOREVER
    result: Any = UNKNOWN

    def __str__(self) -> str:
        until = "..." if self.returned == FOREVER else self.returned
        return f"[{self.called}, {until}] {self.client} {self.action[0]}{self.action[1:]} -> {self.result!r}"


class Anomaly(NamedTuple):
    """Why a history isn't linearizable: no order explains `operation`'s answer together with all before it."""

    key: str
    operation: Operation
    possible: list[Hashable]  # the values that the key could have had just before this answer
    recent: list[Operation]  # what happened to the key around it

    def __str__(self) -> str:
        lines = [f"key {self.key!r}: no order of the requests explains {self.operation}"]
        lines.append(f"  before it the key could have been: {', '.join(map(repr, self.possible[:8]))}")
        lines.extend(f"    {operation}" for operation in self.recent)
        return "\n".join(lines)


class Undecided(Exception):
    """The history has too many orders to try: nothing is said about it."""


def step(state: Any, action: tuple[Any, ...]) -> tuple[Any, Any]:
    """The register itself: the state after `action`, and its answer."""
    match action:
        case ("get",):
            return state, state
        case ("put", value):
            return value, True
        case ("delete",):
            return None, state is not None
        case ("take",):
            return None, state
        case ("clear",):
            return None, True
        case ("cas", new, expected):
            return (new, True) if state == expected else (state, False)
        case ("increment", by):
            try:
                number = int(state or b"0")
            except ValueError:
                return state, "not an integer"
            return b"%d" % (number + by), number + by
    raise AssertionError(f"a register knows no {action[0]!r}")


def check(history: Iterable[Operation]) -> Anomaly | None:
    """The first anomaly of the keys in order, or None for a linearizable history. Raises Undecided if hopeless."""
    by_key: dict[str, list[Operation]] = {}
    for operation in history:
        by_key.setdefault(operation.key, []).append(operation)
    for key in sorted(by_key):
        anomaly = check_key(by_key[key])
        if anomaly is not None:
            return anomaly
    return None


def check_key(operations: Sequence[Operation]) -> Anomaly | None:
    """As `check`, for the operations of one key."""
    # Reads without an answer say nothing; every other one may matter even if nobody heard of it.
    operations = [op for op in operations if op.returned != FOREVER or op.action[0] != "get"]
    moments = sorted(
        [(op.called, 0, number) for number, op in enumerate(operations)]
        + [(op.returned, 1, number) for number, op in enumerate(operations) if op.returned != FOREVER]
    )
    unanswered = sum(1 << number for number, op in enumerate(operations) if op.returned == FOREVER)
    open_: list[int] = []  # called, and not yet returned
    # State and the set of open operations that it includes, as bits by operation number.
    configurations: set[Configuration] = {(None, 0)}
    work = 0
    for _, is_return, number in moments:
        if not is_return:
            open_.append(number)
            continue
        following, tried = _place(configurations, number, open_, operations, unanswered)
        work += tried
        if work > WORK_MAX:
            raise Undecided(f"key {operations[number].key!r}: more than {WORK_MAX:,} configurations in all")
        if not following:
            return _explain(operations, number, configurations)
        open_.remove(number)
        configurations = following
    return None


def _place(
    configurations: set[Configuration], wanted: int, open_: list[int], operations: Sequence[Operation], unanswered: int
) -> tuple[set[Configuration], int]:
    """Every configuration in which `wanted` has had its effect, its bit taken out: it is past for all others now.

    Also how many were tried.
    """
    bit = 1 << wanted
    placed: set[Configuration] = set()
    tried = _Memo(unanswered)
    todo = deque(
        configuration for configuration in sorted(configurations, key=_included) if tried.is_news(configuration)
    )
    while todo:
        state, included = todo.popleft()
        if included & bit:
            placed.add((state, included & ~bit))
            continue
        offered: set[tuple[Any, ...]] = set()
        for number in open_:
            if included >> number & 1:
                continue
            operation = operations[number]
            if operation.returned == FOREVER:
                if operation.action in offered:
                    continue  # an equal one was called earlier: whatever this one could do, that one can
                offered.add(operation.action)
            after, answer = step(state, operation.action)
            if operation.returned != FOREVER and answer != operation.result:
                continue
            configuration = (after, included | 1 << number)
            if tried.is_news(configuration):
                todo.append(configuration)
        if tried.count > CONFIGURATIONS_MAX:
            raise Undecided(f"key {operations[wanted].key!r}: more than {CONFIGURATIONS_MAX:,} configurations")
    return placed, tried.count


def _included(configuration: Configuration) -> int:
    return configuration[1].bit_count()


class _Memo:
    """Which configurations were met already, or better ones.

    An operation that never returns may take effect at any time, so it stays open for ever: n of them could mean 2^n
    configurations. But one that has spent fewer of them can do whatever an otherwise equal one can.
    """

    __slots__ = ("_least", "_unanswered", "count")

    def __init__(self, unanswered: int) -> None:
        self._unanswered = unanswered
        self._least: dict[Configuration, list[int]] = {}
        self.count = 0

    def is_news(self, configuration: Configuration) -> bool:
        """Remember `configuration`; False if it is no better than one met before."""
        state, included = configuration
        spent = included & self._unanswered
        least = self._least.setdefault((state, included & ~self._unanswered), [])
        if any(less & spent == less for less in least):
            return False
        least.append(spent)
        self.count += 1
        return True


def _explain(operations: Sequence[Operation], number: int, configurations: set[Configuration]) -> Anomaly:
    culprit = operations[number]
    possible = sorted({state for state, _ in configurations}, key=repr)
    around = [op for op in operations if op.called <= culprit.returned and op.returned >= culprit.called]
    before = sorted((op for op in operations if op.returned < culprit.called), key=lambda op: op.returned)[-6:]
    return Anomaly(culprit.key, culprit, possible, before + [op for op in around if op is not culprit])
