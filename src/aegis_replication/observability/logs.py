"""How does a node's log line reach an operator's tools? One line per record, as text or as JSON, that nobody can forge.

A message of ours begins with its fields, `group=1 node=n1 term=7 role=leader: won election with 2 of 3 votes`, up to
the first ": ". What a stranger sent (an address, a name) stands behind that at the most, and as JSON it stays there.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

_OWN: Final = ("time", "level", "logger", "message", "exception")  # of every line: no field may take their place
_NUMBERS: Final = frozenset(("group", "term", "index", "size_bytes", "lease_ms", "elapsed_ms"))


def configure_logging(stream: TextIO, level: LogLevel, log_format: LogFormat) -> None:
    """Send this process's log lines to `stream`, from `level` up."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines())
    logging.basicConfig(handlers=[handler], level=level.upper())


class TextLines(logging.Formatter):
    """One line for people: time, level, logger, message. A traceback follows on lines that begin with "  | "."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, whatever its text holds, and the traceback's lines."""
        message = printable(record.getMessage())
        line = f"{self.formatTime(record)} {record.levelname:<7} {record.name} {message}"
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join(f"\n  | {printable(each)}" for each in trace.split("\n"))
        return line


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, the message's own fields, and the rest of the message."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of ASCII, whatever its text holds."""
        fields, message = split_fields(record.getMessage())
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **fields,
            "message": message,
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=True, separators=(",", ":"))


def split_fields(message: str) -> tuple[dict[str, str | int], str]:
    """The fields that a message begins with, and its text; no fields unless all before the first ": " is fields."""
    head, colon, text = message.partition(": ")
    fields: dict[str, str | int] = {}
    for word in head.split(" "):
        name, equals, value = word.partition("=")
        if not (colon and equals and name.isidentifier()) or name in _OWN or name in fields:
            return {}, message
        fields[name] = int(value) if name in _NUMBERS and value.isascii() and value.isdigit() else value
    return fields, text


def printable(text: str) -> str:
    """`text` with all that could end a line, move a cursor or turn the direction of reading written as an escape."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode("ascii") for each in text
    )
