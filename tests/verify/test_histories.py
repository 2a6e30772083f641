"""Is a recorded history kept and read as it was, and judged as what it says? Known-bad ones must be rejected."""

import json
from pathlib import Path
from typing import Any

import pytest

from aegis_replication.cli.main import main
from aegis_replication.errors import InvalidArgument
from aegis_replication.simulation.checkers import linearizability
from aegis_replication.verify.history import History, Record, load_history
from aegis_replication.verify.judgement import judge


def line(
    op: str, called: int, returned: int | None, result: Any = None, *, client: str = "c1", key: str = "k", **asked: Any
) -> dict[str, Any]:
    """A line of a history file; `returned` None: of unknown outcome."""
    answer = {} if returned is None else {"returned_ns": returned, "result": result}
    outcome = "unknown" if returned is None else "ok"
    return {"client": client, "key": key, "op": op, "called_ns": called, "outcome": outcome, **asked, **answer}


def put(value: str, called: int, returned: int | None, **where: str) -> dict[str, Any]:
    return line("put", called, returned, value=value, **where)


def get(result: str | None, called: int, returned: int, **where: str) -> dict[str, Any]:
    return line("get", called, returned, result, **where)


def increment(total: int | None, called: int, returned: int | None, **where: str) -> dict[str, Any]:
    return line("increment", called, returned, total, by=1, **where)


def cas(expect: str | None, value: str, result: bool, called: int, returned: int, **where: str) -> dict[str, Any]:
    return line("cas", called, returned, result, value=value, expect=expect, **where)


GOOD = {
    "nothing happened": [],
    "one client after the other": [
        put("1", 1, 2),
        get("1", 3, 4, client="c2"),
        cas("1", "2", True, 5, 6),
        cas("1", "3", False, 7, 8),
        increment(3, 9, 10),
        get("3", 11, 12),
        line("delete", 13, 14, True),
        get(None, 15, 16),
    ],
    "a write of unknown outcome took effect later": [put("1", 1, 2), put("2", 3, None), get("1", 4, 5), get("2", 6, 7)],
    "a write of unknown outcome never took effect": [put("1", 1, 2), put("2", 3, None), get("1", 4, 5), get("1", 6, 7)],
    "what failed had no effect": [
        put("1", 1, 2),
        {**put("2", 3, None), "outcome": "failed"},
        get("1", 4, 5),
    ],
    "reads beside a write may see either": [
        put("1", 1, 2),
        put("2", 3, 9),
        get("2", 4, 5, client="c2"),
        get("2", 6, 7, client="c3"),
    ],
}

BAD = {
    "a stale read": [put("1", 1, 2), put("2", 3, 4), get("1", 5, 6, client="c2")],
    "a stale read of a deleted key": [put("1", 1, 2), line("delete", 3, 4, True), get("1", 5, 6)],
    "a lost update": [put("5", 1, 2), increment(6, 3, 6), increment(6, 4, 7, client="c2")],
    "a lost acknowledged write": [put("1", 1, 2), put("2", 3, 4), get("1", 5, 6), get("1", 7, 8)],
    "a write applied twice": [put("5", 1, 2), increment(6, 3, 4), get("7", 5, 6)],
    "a write of unknown outcome applied twice": [put("5", 1, 2), increment(None, 3, None), get("7", 4, 5)],
    "a write of unknown outcome that comes again": [
        put("1", 1, 2),
        put("2", 3, None),
        get("2", 4, 5),
        put("3", 6, 7),
        get("3", 8, 9),
        get("2", 10, 11),
    ],
    "a value that was never written": [put("1", 1, 2), get("2", 3, 4)],
    "a value read before it was written": [get("1", 1, 2), put("1", 3, 4)],
    "a value that surely had no effect": [{**put("1", 1, None), "outcome": "failed"}, get("1", 2, 3)],
    "reads that go back in time": [
        put("1", 1, 2),
        put("2", 3, 20),
        get("2", 4, 5, client="c2"),
        get("1", 6, 7, client="c3"),
    ],
    "one client that reads backwards": [put("1", 1, 2), put("2", 3, None), get("2", 4, 5), get("1", 6, 7)],
    "two winners of one comparison": [
        put("1", 1, 2),
        cas("1", "2", True, 3, 8),
        cas("1", "3", True, 4, 7, client="c2"),
    ],
    "a comparison that must have succeeded": [put("1", 1, 2), cas("1", "2", False, 3, 4)],
    "a comparison with absence that must have failed": [put("1", 1, 2), cas(None, "2", True, 3, 4)],
    "split brain: both sides go on": [
        put("1", 1, 2),
        put("2", 3, 4, client="c1"),
        put("3", 3, 4, client="c2"),
        get("2", 5, 6, client="c1"),
        get("3", 5, 6, client="c2"),
        get("2", 7, 8, client="c1"),
    ],
    "one bad key among good ones": [
        put("1", 1, 2, key="a"),
        get("1", 3, 4, key="a"),
        put("1", 1, 2, key="b"),
        get(None, 3, 4, key="b"),
    ],
}


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path


@pytest.mark.parametrize("name", GOOD)
def test_what_could_have_happened_is_accepted(tmp_path: Path, name: str) -> None:
    history = load_history(write(tmp_path / "history.jsonl", GOOD[name]))

    judgement = judge(history)

    assert judgement.linearizable is True, judgement.why


@pytest.mark.parametrize("name", BAD)
def test_what_could_not_have_happened_is_rejected(tmp_path: Path, name: str) -> None:
    history = load_history(write(tmp_path / "history.jsonl", BAD[name]))

    judgement = judge(history)

    assert judgement.linearizable is False
    assert "no order of the requests explains" in judgement.why


def test_check_exits_with_1_and_names_the_answer_that_nothing_explains(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = write(tmp_path / "bad.jsonl", BAD["a stale read"])

    code = main(["verify", "--check", str(path), "-o", "json"])

    out, err = capfdbinary.readouterr()
    assert code == 1
    assert json.loads(out)["linearizable"] is False
    assert b"'k'" in err
    assert b"not linearizable" in err


def test_check_exits_with_0_for_a_good_one(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    path = write(tmp_path / "good.jsonl", GOOD["one client after the other"])

    code = main(["verify", "--check", str(path), "-o", "json"])

    figures = json.loads(capfdbinary.readouterr()[0])
    assert code == 0
    assert (figures["operations"], figures["ok"], figures["linearizable"]) == (8, 8, True)


def test_one_that_has_too_many_orders_is_undecided_and_exits_with_1(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linearizability, "CONFIGURATIONS_MAX", 20)
    unknown = [{**increment(None, at, None), "by": 2**at} for at in range(1, 12)]
    path = write(tmp_path / "hopeless.jsonl", [*unknown, get("4095", 100, 101)])

    code = main(["verify", "--check", str(path), "-o", "json"])

    out, err = capfdbinary.readouterr()
    assert code == 1
    assert json.loads(out)["linearizable"] is None
    assert b"undecided" in err


GOOD_LINE = put("1", 1, 2)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ("not json", "not a request"),
        ("[]", "not a request"),
        ('{"client": "c1"}', "key"),
        (json.dumps({**GOOD_LINE, "op": "swap"}), "op"),
        (json.dumps({**GOOD_LINE, "colour": "red"}), "colour"),
        (json.dumps({**GOOD_LINE, "called_ns": "soon"}), "called_ns"),
        (json.dumps({**GOOD_LINE, "value": None}), "a put without `value`"),
        (json.dumps({**GOOD_LINE, "by": 2}), "a put with `by`"),
        (json.dumps({**GOOD_LINE, "returned_ns": None}), "without `returned_ns`"),
        (json.dumps({**GOOD_LINE, "returned_ns": 0}), "before it was called"),
        (json.dumps({**get("1", 1, 2), "result": 5}), "a get whose `result` is 5"),
        (json.dumps({**increment(1, 1, 2), "result": True}), "no number"),
        (json.dumps({**cas("1", "2", True, 1, 2), "result": None}), "a cas whose `result` is None"),
        (json.dumps({**GOOD_LINE, "outcome": "unknown"}), "an answer to a request whose outcome is unknown"),
    ],
)
def test_a_bad_line_gets_one_error_that_names_it(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], bad: str, named: str
) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(json.dumps(GOOD_LINE) + "\n\n" + bad + "\n")

    code = main(["verify", "--check", str(path)])

    err = capfdbinary.readouterr()[1].decode()
    assert code == 2
    assert f"{path}:3: " in err
    assert named in err
    assert len(err.splitlines()) == 1


def test_no_such_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="No such file"):
        load_history(tmp_path / "none.jsonl")


def test_a_history_reads_back_as_it_was_written(tmp_path: Path) -> None:
    records = [
        Record("c1", "r0", "put", 10, "ok", 20, value="1"),
        Record("c2", "r0", "cas", 11, "ok", 30, value="2", expect=None, result=True),
        Record("c2", "r0", "cas", 31, "unknown", value="3", expect="2"),
        Record("c1", "r1", "increment", 12, "ok", 13, by=1, result=1),
        Record("c3", "r0", "get", 40, "ok", 41, result="ümlaut"),
        Record("c3", "r0", "delete", 42, "failed"),
    ]

    History(records).save(tmp_path / "history.jsonl")

    assert load_history(tmp_path / "history.jsonl").records == records
    assert [path.name for path in tmp_path.iterdir()] == ["history.jsonl"]


def test_the_longest_stall_is_between_two_answers() -> None:
    records = [Record("c1", "k", "get", 0, "ok", at * 1_000_000) for at in (1, 2, 702, 703)]

    stall = History([*records, Record("c1", "k", "put", 9, "unknown", value="1")]).longest_stall_ms()

    assert stall == 700.0
