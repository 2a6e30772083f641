"""How does a command print? Data on stdout in the form that was asked for, talk on stderr."""

import base64
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

WIDTH_WITHOUT_TERMINAL = 200

Row = Mapping[str, Any]


def say(line: str = "") -> None:
    """Talk, not data."""
    print(line, file=sys.stderr, flush=True)


def print_json(value: Any, *, indent: int = 2) -> None:
    """One JSON value."""
    text = msgspec.json.encode(value)
    if indent:
        text = msgspec.json.format(text, indent=indent)
    _stdout(text + b"\n")


def print_rows(rows: Iterable[Row], output: str, *, columns: Sequence[str], titles: Mapping[str, str] = {}) -> None:
    """Rows as a table of `columns` (with `titles` where the key isn't one), as a JSON array, or as JSON lines."""
    if output == "jsonl":
        for row in rows:
            print_json(row, indent=0)
    elif output == "json":
        print_json(list(rows))
    else:
        _print_table([[_cell(row.get(name)) for name in columns] for row in rows], [titles.get(n, n) for n in columns])


def print_record(record: Row, output: str, *, columns: Sequence[str] = (), titles: Mapping[str, str] = {}) -> None:
    """One object: a table of two columns, or JSON."""
    if output != "table":
        print_json(record, indent=2 if output == "json" else 0)
        return
    names = columns or list(record)
    _print_table([[titles.get(name, name.replace("_", " ")), _cell(record.get(name))] for name in names], None)


def print_bytes(value: bytes) -> None:
    """A value as it is, and a line's end."""
    _stdout(value + b"\n")


def text_or_base64(name: str, value: bytes) -> dict[str, str]:
    """{name: text}, or {name_base64: ...} for bytes that aren't UTF-8."""
    try:
        return {name: value.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def shown(value: bytes, characters_max: int = 80) -> str:
    """Bytes for a table: text where they are text, escaped where not, and not long."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = repr(value)[2:-1]
    text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return str(value)


def _print_table(rows: list[list[str]], titles: Sequence[str] | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=titles is not None, header_style="bold", pad_edge=True)
    numeric = [all(_is_number(row[at]) for row in rows) for at in range(len(rows[0]))] if rows else []
    for at in range(len(titles or (rows[0] if rows else ()))):
        right = titles is not None and bool(numeric) and numeric[at]
        table.add_column(titles[at] if titles else "", justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    sys.stdout.flush()
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    console.print(table)


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(",", "").replace(".", "", 1).isdigit()


def _stdout(data: bytes) -> None:
    """Bytes, also where a test has put a text stream in stdout's place."""
    stream = getattr(sys.stdout, "buffer", None)
    if stream is None:
        sys.stdout.write(data.decode("utf-8", "backslashreplace"))
        return
    sys.stdout.flush()
    stream.write(data)
    stream.flush()
