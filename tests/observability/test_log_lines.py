"""Is a log line one line, whatever it holds, and do its fields reach the tools that read JSON?"""

import io
import json
import logging
import sys

import pytest

from aegis_replication.observability.logs import JsonLines, TextLines, printable, split_fields

HOSTILE = "x\n2026-01-01 00:00:00,000 INFO    aegis.node group=1 node=n1 role=leader: forged\r\x1b[2J\u2028\u202e\ud800"


def record(message: str, *arguments: object, exc_info: object = None) -> logging.LogRecord:
    return logging.LogRecord("aegis.node", logging.INFO, "file.py", 1, message, arguments, exc_info)


@pytest.mark.parametrize("formatter", [TextLines(), JsonLines()], ids=["text", "json"])
@pytest.mark.parametrize("place", ["node=n1: closed %s", "node=n1 peer=%s: lost", "%s"])
def test_nothing_that_is_logged_begins_a_second_line(formatter: logging.Formatter, place: str) -> None:
    line = formatter.format(record(place, HOSTILE))

    assert len(line.splitlines()) == 1
    assert line.isprintable()


@pytest.mark.parametrize("formatter", [TextLines(), JsonLines()], ids=["text", "json"])
def test_no_line_of_a_traceback_can_be_taken_for_a_record(formatter: logging.Formatter) -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        lines = formatter.format(record("node=n1: stopped", exc_info=sys.exc_info())).splitlines()

    assert all(line.startswith("  | ") for line in lines[1:])
    assert "ValueError" in "".join(lines)


def test_fields_become_fields_and_the_rest_stays_the_message() -> None:
    message = "group=%d node=%s term=%d role=%s leader=%s: %s"

    said = json.loads(JsonLines().format(record(message, 1, "7", 12, "leader", "7", "won election: 2 of 3 votes")))

    assert said.pop("time").endswith("+00:00")
    assert said == {
        "level": "info",
        "logger": "aegis.node",
        "group": 1,
        "node": "7",
        "term": 12,
        "role": "leader",
        "leader": "7",
        "message": "won election: 2 of 3 votes",
    }


@pytest.mark.parametrize(
    "message",
    [
        "an event without fields",
        "closed 10.0.0.1: role=leader: no field",
        "node=n1",
        "node=n1 level=error: takes the place of the line's own",
        "node=n1 node=n2: said twice",
        "node=n1  role=leader: an empty word",
    ],
)
def test_what_does_not_begin_with_fields_alone_has_none(message: str) -> None:
    assert split_fields(message) == ({}, message)


def test_what_a_stranger_sent_never_becomes_a_field() -> None:
    fields, text = split_fields("node=n1 door=clients: closed role=leader group=7: nonsense")

    assert fields == {"node": "n1", "door": "clients"}
    assert text == "closed role=leader group=7: nonsense"


def test_text_that_is_printable_stays_as_it_is() -> None:
    assert printable("größer: 日本 §5.4") == "größer: 日本 §5.4"
    assert printable("a\tb\nc\x00") == "a\\tb\\nc\\x00"


def test_lines_go_where_they_are_sent() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.Logger("aegis.test")
    logger.addHandler(handler)

    logger.warning("node=%s: %s", "n1", HOSTILE)

    assert [json.loads(line)["node"] for line in stream.getvalue().splitlines()] == ["n1"]
