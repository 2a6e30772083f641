"""How do keys and values get in from files, and out into them?"""

import asyncio
import base64
import binascii
import csv
import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import msgspec
from cyclopts import App, Parameter

from aegis_replication.cli.loops import run
from aegis_replication.cli.options import examples
from aegis_replication.cli.output import say, text_or_base64
from aegis_replication.cli.progress import progress
from aegis_replication.cli.target import TARGET, Target
from aegis_replication.client.client import Client
from aegis_replication.demo.progress import Progress
from aegis_replication.errors import AegisError, InvalidArgument

import_app = App(
    name="import",
    help_epilogue=examples(
        "aegis import people.jsonl",
        "aegis import people.csv",
        "aegis import people.jsonl --from-line 120001   # go on where it stopped",
        "zcat dump.gz | aegis import - --as jsonl",
    ),
)
export_app = App(
    name="export",
    help_epilogue=examples(
        "aegis export all.jsonl", "aegis export users.jsonl --prefix user/", "aegis export | gzip > dump.gz"
    ),
)

_LINE_BYTES_MAX = 32 * 1024 * 1024
_SHOW_SECONDS = 0.1


class BadLine(AegisError):
    """A line of the file isn't a key and a value."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """One key and its value, and where they stand in the file."""

    number: int
    key: bytes
    value: bytes
    read_bytes: int  # of the file so far


@import_app.default
def import_file(
    file: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    form: Annotated[Literal["jsonl", "csv"] | None, Parameter(name="--as")] = None,
    from_line: int = 1,
    in_flight: int = 256,
    target: Target = TARGET,
) -> None:
    """Put every line of FILE; when it ends, all of them are on the disks of a majority.

    JSON lines: {"key": "...", "value": "..."}; bytes that aren't text as "key_base64", "value_base64"; other fields are
    ignored. CSV: the first line names the columns, the same four names. If it stops early, it says from which line to
    go on; putting a line again does no harm.

    Parameters
    ----------
    file
        The file, or - for standard input.
    form
        What the file holds, where its name doesn't end in .jsonl or .csv.
    from_line
        Skip what stands before this line.
    in_flight
        Writes under way at once.
    """
    if from_line < 1:
        raise InvalidArgument(f"--from-line {from_line}: lines are counted from 1")
    if not 1 <= in_flight <= 1000:
        raise InvalidArgument(f"--in-flight {in_flight}: give 1 to 1000")
    chosen = form or file.suffix.removeprefix(".").lower()
    if chosen not in ("jsonl", "csv"):
        raise InvalidArgument(f"{file}: is it jsonl or csv? Say so with --as")
    with ExitStack() as stack:
        source: BinaryIO = sys.stdin.buffer if str(file) == "-" else stack.enter_context(file.open("rb"))
        total = 0 if str(file) == "-" else os.fstat(source.fileno()).st_size
        shown = stack.enter_context(progress())
        lines = read_lines(source, str(file), chosen, from_line)
        job = _Import(lines, shown, total)
        count, seconds = run(job.run(target, in_flight), "auto")
    say(f"imported {count:,} keys in {seconds:.1f} s")


class _Import:
    """Puts line after line, many under way at once, and knows up to where every line was acknowledged."""

    def __init__(self, lines: Iterator[Line], shown: Progress, total_bytes: int) -> None:
        self._lines, self._shown, self._total_bytes = lines, shown, total_bytes
        self._waiting: dict[int, None] = {}  # numbers of lines sent and not yet answered, in order
        self._taken = 0  # number of the last line taken
        self._read_bytes = 0
        self._count = 0

    async def run(self, target: Target, in_flight: int) -> tuple[int, float]:
        """How many lines were put, and the seconds it took. Says from which line to go on when it fails."""
        began = time.monotonic()
        self._shown.begin("importing (bytes)", self._total_bytes)
        showing = asyncio.create_task(self._show())
        try:
            async with target.connect() as database, asyncio.TaskGroup() as putting:
                for _ in range(in_flight):
                    putting.create_task(self._put_each(database))
        except BaseExceptionGroup as group:
            raise self._stopped(group.exceptions[0]) from group.exceptions[0]
        except (KeyboardInterrupt, asyncio.CancelledError):
            say(f"aegis: interrupted; {self._count:,} keys were put: go on with --from-line {self._next_line()}")
            raise
        finally:
            showing.cancel()
        self._shown.update(self._read_bytes)
        self._shown.end()
        return self._count, time.monotonic() - began

    async def _put_each(self, database: Client) -> None:
        for line in self._lines:
            self._taken, self._read_bytes = line.number, line.read_bytes
            self._waiting[line.number] = None
            try:
                await database.put(line.key, line.value)
            except InvalidArgument as error:
                raise BadLine(f"line {line.number}: {error}") from None
            del self._waiting[line.number]
            self._count += 1

    def _next_line(self) -> int:
        """The first line that may not be there."""
        return next(iter(self._waiting), self._taken + 1)

    def _stopped(self, error: BaseException) -> BaseException:
        """`error`, saying where to go on; its kind, and so the exit code, stays."""
        if not isinstance(error, AegisError | OSError | ValueError):
            return error
        say(f"aegis: {self._count:,} keys were put before it stopped: go on with --from-line {self._next_line()}")
        return error

    async def _show(self) -> None:
        while True:
            self._shown.update(self._read_bytes)
            await asyncio.sleep(_SHOW_SECONDS)


# --- reading files --------------------------------------------------------------------------------------------------


def read_lines(source: BinaryIO, name: str, form: str, from_line: int = 1) -> Iterator[Line]:
    """The keys and values of a file. Raises BadLine, naming the file and the line, at the first that isn't one."""
    reader = _read_csv if form == "csv" else _read_jsonl
    for number, read_bytes, fields in reader(source, name, from_line):
        where = f"{name}:{number}"
        yield Line(number, _field(fields, "key", where), _field(fields, "value", where), read_bytes)


def _read_jsonl(source: BinaryIO, name: str, from_line: int) -> Iterator[tuple[int, int, dict[str, Any]]]:
    decode = msgspec.json.Decoder().decode
    read_bytes = number = 0
    while text := source.readline(_LINE_BYTES_MAX + 1):
        number += 1
        read_bytes += len(text)
        if len(text) > _LINE_BYTES_MAX:
            raise BadLine(f"{name}:{number}: a line of more than {_LINE_BYTES_MAX:,} bytes: is this JSON lines?")
        if number < from_line or not text.strip():
            continue
        try:
            fields = decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadLine(f"{name}:{number}: not JSON ({error})") from None
        if not isinstance(fields, dict):
            raise BadLine(f'{name}:{number}: not an object: write {{"key": "...", "value": "..."}}')
        yield number, read_bytes, fields


def _read_csv(source: BinaryIO, name: str, from_line: int) -> Iterator[tuple[int, int, dict[str, Any]]]:
    text = io.TextIOWrapper(source, encoding="utf-8-sig", newline="")
    csv.field_size_limit(_LINE_BYTES_MAX)
    rows = csv.reader(text, strict=True)
    columns: list[str] = []
    read_bytes = number = 0
    try:
        for row in rows:
            number, before = rows.line_num, number
            read_bytes += sum(map(len, row)) + len(row) + 1  # about: decoding hides the exact place
            if not row:
                continue
            if not columns:
                columns = row
                _check_columns(columns, name)
                continue
            if before + 1 < from_line:
                continue
            if len(row) != len(columns):
                raise BadLine(f"{name}:{before + 1}: {len(row)} fields where the first line names {len(columns)}")
            yield before + 1, read_bytes, dict(zip(columns, row, strict=True))
    except csv.Error as error:
        raise BadLine(f"{name}:{rows.line_num}: not CSV ({error})") from None
    except UnicodeDecodeError as error:
        raise BadLine(f"{name}: after line {rows.line_num}: not UTF-8 ({error.reason}): use value_base64") from None
    finally:
        text.detach()  # the file belongs to the caller
    if not columns:
        raise BadLine(f"{name}: empty: the first line must name the columns, such as key,value")


def _check_columns(columns: list[str], name: str) -> None:
    for wanted in ("key", "value"):
        if wanted not in columns and f"{wanted}_base64" not in columns:
            raise BadLine(f"{name}:1: no column {wanted} (or {wanted}_base64) among {', '.join(columns)}")


def _field(fields: dict[str, Any], name: str, where: str) -> bytes:
    value = fields.get(name)
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    encoded = fields.get(f"{name}_base64")
    if value is not None or not isinstance(encoded, str):
        found = "is missing" if value is None and encoded is None else "is not text"
        raise BadLine(f"{where}: {name} {found}: give {name} as text, or {name}_base64")
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise BadLine(f"{where}: {name}_base64 is not base64 ({error})") from None


# --- writing files --------------------------------------------------------------------------------------------------


@export_app.default
def export_file(
    file: Path | None = None,
    /,
    *,
    prefix: str = "",
    force: Annotated[bool, Parameter(negative=())] = False,
    target: Target = TARGET,
) -> None:
    """Write every key and value as JSON lines that `aegis import` reads back.

    Each part of the file holds what every acknowledged write left there when it was read; writes that go on meanwhile
    may or may not be in it.

    Parameters
    ----------
    file
        Where to write it, whole or not at all; else standard output.
    prefix
        Only keys that begin with this.
    force
        Write over an existing file.
    """
    if file is not None and file.exists() and not force:
        raise InvalidArgument(f"{file} exists: give another name, or --force")
    with progress() as shown:
        if file is None:
            count = run(_export(sys.stdout.buffer, prefix, target, shown), "auto")
            sys.stdout.buffer.flush()
        else:
            temporary = file.with_name(file.name + ".part")
            try:
                with temporary.open("wb") as sink:
                    count = run(_export(sink, prefix, target, shown), "auto")
                    sink.flush()
                    os.fsync(sink.fileno())
                temporary.replace(file)
            finally:
                temporary.unlink(missing_ok=True)
    say(f"exported {count:,} keys")


async def _export(sink: BinaryIO, prefix: str, target: Target, shown: Progress) -> int:
    encode = msgspec.json.Encoder().encode
    chosen = os.fsencode(prefix) if prefix else None
    count = 0
    async with target.connect() as database:
        shown.begin("exporting", await database.count(prefix=chosen))
        async for item in database.scan(prefix=chosen):
            sink.write(encode({**text_or_base64("key", item.key), **text_or_base64("value", item.value)}) + b"\n")
            count += 1
            if count % 1000 == 0:
                shown.update(count)
        shown.update(count)
        shown.end()
    return count
