"""Does the checker accept what could have happened, and reject what could not?"""

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_replication.simulation.checkers.linearizability import (
    FOREVER,
    UNKNOWN,
    Operation,
    Undecided,
    check,
    check_key,
    step,
)


def operation(
    client: str, action: tuple[Any, ...], called: int, returned: int = FOREVER, result: Any = UNKNOWN
) -> Operation:
    return Operation(client, "k", action, called, returned, result)


GOOD = {
    "one after the other": [
        operation("1", ("put", b"a"), 1, 2, True),
        operation("1", ("get",), 3, 4, b"a"),
        operation("1", ("delete",), 5, 6, True),
        operation("2", ("get",), 7, 8, None),
    ],
    "a read beside a write may see either": [
        operation("1", ("put", b"a"), 1, 2, True),
        operation("1", ("put", b"b"), 3, 8, True),
        operation("2", ("get",), 4, 5, b"a"),
        operation("3", ("get",), 6, 7, b"b"),
    ],
    "a write without an answer may take effect late": [
        operation("1", ("put", b"a"), 1),
        operation("2", ("get",), 2, 3, None),
        operation("2", ("get",), 4, 5, b"a"),
    ],
    "a write without an answer may never take effect": [
        operation("1", ("put", b"a"), 1),
        operation("2", ("get",), 2, 3, None),
        operation("2", ("cas", b"b", None), 4, 5, True),
        operation("2", ("get",), 6, 7, b"b"),
    ],
    "two increments at once see each other in some order": [
        operation("1", ("increment", 1), 1, 4, 2),
        operation("2", ("increment", 1), 2, 3, 1),
        operation("1", ("get",), 5, 6, b"2"),
    ],
}

BAD = {
    "a stale read": [
        operation("1", ("put", b"a"), 1, 2, True),
        operation("1", ("put", b"b"), 3, 4, True),
        operation("2", ("get",), 5, 6, b"a"),
    ],
    "a lost write": [
        operation("1", ("put", b"a"), 1, 2, True),
        operation("2", ("get",), 3, 4, None),
    ],
    "a read that goes back in time": [
        operation("1", ("put", b"a"), 1, 2, True),
        operation("1", ("put", b"b"), 3, 10, True),
        operation("2", ("get",), 4, 5, b"b"),
        operation("3", ("get",), 6, 7, b"a"),
    ],
    "an increment counted twice": [
        operation("1", ("increment", 1), 1, 2, 1),
        operation("2", ("get",), 3, 4, b"2"),
    ],
    "an unanswered increment counted twice": [
        operation("1", ("increment", 1), 1),
        operation("2", ("get",), 2, 3, b"2"),
    ],
    "two winners of one comparison": [
        operation("1", ("put", b"a"), 1, 2, True),
        operation("1", ("cas", b"b", b"a"), 3, 6, True),
        operation("2", ("cas", b"c", b"a"), 4, 5, True),
    ],
    "a value nobody wrote": [
        operation("1", ("put", b"a"), 1, 2, True),
        operation("2", ("get",), 3, 4, b"z"),
    ],
    "an unanswered write seen, unseen and seen": [
        operation("1", ("put", b"a"), 1, 2, True),
        operation("2", ("put", b"b"), 3),
        operation("3", ("get",), 4, 5, b"b"),
        operation("3", ("get",), 6, 7, b"a"),
        operation("3", ("get",), 8, 9, b"b"),
    ],
    "a write seen before it was asked for": [
        operation("2", ("get",), 1, 2, b"a"),
        operation("1", ("put", b"a"), 3, 4, True),
    ],
    "a deletion undone": [
        operation("1", ("put", b"a"), 1, 2, True),
        operation("2", ("delete",), 3, 4, True),
        operation("3", ("get",), 5, 6, b"a"),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_possible_history_is_accepted(name: str) -> None:
    assert check(GOOD[name]) is None


@pytest.mark.parametrize("name", BAD)
def test_an_impossible_history_is_rejected(name: str) -> None:
    assert check(BAD[name]) is not None


def test_an_anomaly_names_the_key_the_answer_and_what_was_possible() -> None:
    anomaly = check(BAD["a stale read"])

    assert "key 'k'" in str(anomaly)
    assert "get() -> b'a'" in str(anomaly)
    assert "could have been: b'b'" in str(anomaly)


def test_keys_are_independent() -> None:
    history = [
        Operation("1", "x", ("put", b"1"), 1, 2, True),
        Operation("1", "y", ("get",), 3, 4, None),
        Operation("1", "x", ("get",), 5, 6, b"1"),
    ]

    assert check(history) is None


def test_many_unanswered_writes_do_not_hide_an_anomaly_nor_take_for_ever() -> None:
    unanswered = [operation(f"u{number}", ("put", b"u%d" % number), number) for number in range(30)]
    answered = [operation("1", ("put", b"a"), 100, 101, True), operation("1", ("get",), 102, 103, b"nobody wrote this")]

    assert check(unanswered + answered[:1]) is None
    assert check(unanswered + answered) is not None


def test_many_equal_increments_without_answers_can_be_told_apart_from_one_too_many() -> None:
    unanswered = [operation(f"u{number}", ("increment", 1), number) for number in range(40)]
    reads = [operation("1", ("get",), 100 + 2 * at, 101 + 2 * at, b"%d" % at) for at in range(1, 42)]

    assert check(unanswered + reads[:40]) is None
    assert check(unanswered + reads) is not None


def test_a_history_with_too_many_orders_is_undecided() -> None:
    unanswered = [operation(f"u{number}", ("increment", 2**number), number) for number in range(20)]
    answered = [operation("1", ("get",), 100, 101, b"nobody can add up to this")]

    with pytest.raises(Undecided, match="configurations"):
        check(unanswered + answered)


ACTIONS = st.one_of(
    st.tuples(st.just("get")),
    st.tuples(st.just("put"), st.sampled_from([b"1", b"2"])),
    st.tuples(st.just("cas"), st.sampled_from([b"1", b"2"]), st.sampled_from([None, b"1", b"2"])),
    st.tuples(st.just("increment"), st.just(1)),
    st.tuples(st.just("delete")),
)
RESULTS = st.sampled_from([None, True, False, b"1", b"2", 1, 2, 3])


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    count = draw(st.integers(1, 5))
    moments = draw(st.permutations(range(2 * count)))
    found = []
    for number in range(count):
        called, returned = sorted(moments[2 * number : 2 * number + 2])
        action = draw(ACTIONS)
        if draw(st.integers(0, 4)) == 0:
            found.append(operation(str(number), action, called))
            continue
        plausible = [True] if action[0] == "put" else None
        result = True if plausible else draw(RESULTS)
        found.append(operation(str(number), action, called, returned, result))
    return found


def possible_slowly(history: list[Operation]) -> bool:
    """The definition itself: some order of all answered and some unanswered operations explains every answer."""
    for order in permutations(history):
        for kept in range(len(order), -1, -1):
            chosen = order[:kept]
            if any(op.returned != FOREVER for op in order[kept:]):
                break
            if any(late.returned < early.called for at, early in enumerate(chosen) for late in chosen[at + 1 :]):
                continue
            state: Any = None
            for op in chosen:
                state, answer = step(state, op.action)
                if op.returned != FOREVER and answer != op.result:
                    break
            else:
                return True
    return False


@given(histories())
def test_the_checker_agrees_with_the_definition(history: list[Operation]) -> None:
    assert (check_key(history) is None) == possible_slowly(history)
