"""Keys and values by hand."""

import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from cyclopts import App, Parameter

from aegis_replication.cli import endings
from aegis_replication.cli.loops import run
from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_bytes, print_record, print_rows, say, shown, text_or_base64
from aegis_replication.cli.target import TARGET, Target
from aegis_replication.client.client import Client
from aegis_replication.errors import InvalidArgument
from aegis_replication.state_machine.commands import KEYS_PER_REPLY_MAX, KeyValue

app = App(name="kv", help="Read and write keys.")

Result = TypeVar("Result")
Text = Annotated[str, Parameter(allow_leading_hyphen=True)]
File = Annotated[Path | None, Parameter(allow_leading_hyphen=True)]  # "-" is standard input


@app.command(
    help_epilogue=examples(
        "aegis kv put hello world", "aegis kv put photo --file photo.jpg", "date | aegis kv put now --file -"
    )
)
def put(
    key: Text,
    value: Text | None = None,
    /,
    *,
    file: File = None,
    target: Target = TARGET,
    format: Format = FORMAT,
) -> None:
    """Set KEY to VALUE; when it returns, the write is on the disks of a majority.

    Parameters
    ----------
    key
        The key; made if it isn't there.
    value
        The new value.
    file
        Take the value from this file instead (- for standard input), byte for byte.
    """
    new = _value(value, file)
    version = _with_client(target, lambda db: db.put(os.fsencode(key), new))
    _print_done({"key": key, "version": version}, format)


@app.command(
    help_epilogue=examples(
        "aegis kv get hello",
        "aegis kv get hello -o json",
        "aegis kv get hello --replica any",
        "aegis kv get hello --max-staleness 5",
    )
)
def get(
    key: Text,
    /,
    *,
    replica: Literal["leader", "any"] = "leader",
    max_staleness: float | None = None,
    target: Target = TARGET,
    format: Format = FORMAT,
) -> int:
    """Print the value of KEY as every acknowledged write left it; exit code 4 when the key isn't there.

    Parameters
    ----------
    key
        The key.
    replica
        Who answers: the leader, or any node once it has asked the leader how far it must know the log.
    max_staleness
        Any node may answer from what it knows, if it lacks nothing acknowledged more than so many seconds ago.
    """
    item = _with_client(target, lambda db: db.get(os.fsencode(key), replica=replica, max_staleness=max_staleness))
    if item is None:
        return _not_there(key)
    if format.output == "table":
        print_bytes(item.value)
    else:
        print_record(_line(os.fsencode(key), item.value, item.version), format.output)
    return endings.OK


@app.command(name="del", help_epilogue=examples("aegis kv del hello"))
def delete(key: Text, /, *, target: Target = TARGET, format: Format = FORMAT) -> int:
    """Remove KEY; exit code 4 when it isn't there.

    Parameters
    ----------
    key
        The key.
    """
    version = _with_client(target, lambda db: db.delete(os.fsencode(key)))
    if not version:
        return _not_there(key)
    _print_done({"key": key, "removed_version": version}, format)
    return endings.OK


@app.command(
    help_epilogue=examples(
        "aegis kv cas counter 2 --expect 1",
        "aegis kv cas config new --expect-version 17",
        "aegis kv cas owner me --absent          # only if the key isn't there",
    )
)
def cas(
    key: Text,
    value: Text | None = None,
    /,
    *,
    expect: str | None = None,
    expect_version: int | None = None,
    absent: Annotated[bool, Parameter(negative=())] = False,
    file: File = None,
    target: Target = TARGET,
    format: Format = FORMAT,
) -> int:
    """Set KEY to VALUE only if it still holds what is expected; exit code 5, and no change, when it doesn't.

    Parameters
    ----------
    key
        The key.
    value
        The new value.
    expect
        The value that it must hold.
    expect_version
        The version that it must have, as `kv get -o json` shows it.
    absent
        It must not be there; the same as --expect-version 0.
    file
        Take the new value from this file instead (- for standard input).
    """
    if absent:
        if expect is not None or expect_version:
            raise InvalidArgument("--absent goes with neither --expect nor --expect-version")
        expect_version = 0
    if expect is None and expect_version is None:
        raise InvalidArgument("nothing is expected: give --expect VALUE, --expect-version N or --absent")
    expected = None if expect is None else os.fsencode(expect)
    new = _value(value, file)
    swap = _with_client(
        target, lambda db: db.cas(os.fsencode(key), new, expect=expected, expect_version=expect_version)
    )
    if not swap.succeeded:
        state = f"its version is {swap.version}" if swap.version else "it isn't there"
        say(f"aegis: key {key!r} is not as expected ({state}); nothing was changed")
        return endings.CONFLICT
    _print_done({"key": key, "version": swap.version}, format)
    return endings.OK


@app.command(help_epilogue=examples("aegis kv incr visits", "aegis kv incr stock --by -3"))
def incr(
    key: Text,
    /,
    *,
    by: Annotated[int, Parameter(allow_leading_hyphen=True)] = 1,
    target: Target = TARGET,
    format: Format = FORMAT,
) -> None:
    """Add to the number in KEY (0 when it isn't there) and print the sum.

    Parameters
    ----------
    key
        The key.
    by
        How much to add.
    """
    total = _with_client(target, lambda db: db.increment(os.fsencode(key), by))
    if format.output == "table":
        print_bytes(str(total).encode())
    else:
        print_record({"key": key, "value": total}, format.output)


@app.command(
    name="list",
    help_epilogue=examples(
        "aegis kv list",
        "aegis kv list user/ --limit 20",
        "aegis kv list user/ --limit 20 --after user/0019",
        "aegis kv list --start a --end b --keys-only -o jsonl",
    ),
)
def list_(
    prefix: Text = "",
    /,
    *,
    start: str | None = None,
    end: str | None = None,
    after: str | None = None,
    limit: int = 1000,
    keys_only: Annotated[bool, Parameter(negative=())] = False,
    target: Target = TARGET,
    format: Format = FORMAT,
) -> None:
    """Print keys and values in the order of their bytes.

    Parameters
    ----------
    prefix
        Only keys that begin with this.
    start
        Begin at this key.
    end
        End before this key.
    after
        Begin behind this key: the last one of the part before.
    limit
        At most so many.
    keys_only
        Leave the values out.
    """
    if prefix and (start is not None or end is not None):
        raise InvalidArgument("PREFIX goes with neither --start nor --end")
    if limit < 1:
        raise InvalidArgument(f"--limit {limit}: give 1 or more")
    items, more = _with_client(target, lambda db: _read_range(db, prefix, start, end, after, limit))
    if format.output == "table":
        rows = [{"key": shown(item.key), "version": item.version, "value": shown(item.value)} for item in items]
        print_rows(rows, "table", columns=["key"] if keys_only else ["key", "version", "value"])
    else:
        lines = [_line(item.key, None if keys_only else item.value, item.version) for item in items]
        print_rows(lines, format.output, columns=[])
    if more:
        say(f"aegis: there is more: --after {os.fsdecode(items[-1].key)!r}, or a higher --limit")


async def _read_range(
    db: Client, prefix: str, start: str | None, end: str | None, after: str | None, limit: int
) -> tuple[list[KeyValue], bool]:
    """Up to `limit` keys of the range, and whether there is more."""
    items: list[KeyValue] = []
    cursor = None if after is None else os.fsencode(after) + b"\0"
    while True:
        page = await db.list(
            prefix=os.fsencode(prefix) if prefix else None,
            start=None if start is None else os.fsencode(start),
            end=None if end is None else os.fsencode(end),
            limit=min(limit - len(items), KEYS_PER_REPLY_MAX),
            cursor=cursor,
        )
        items += page.items
        cursor = page.cursor
        if cursor is None or len(items) >= limit:
            return items, cursor is not None


def _with_client(target: Target, use: Callable[[Client], Coroutine[Any, Any, Result]]) -> Result:
    async def main() -> Result:
        async with target.connect() as database:
            return await use(database)

    return run(main())


def _value(value: str | None, file: Path | None) -> bytes:
    if (value is None) == (file is None):
        raise InvalidArgument("give the value either as VALUE or with --file")
    if file is None:
        return os.fsencode(value or "")
    if str(file) == "-":
        return sys.stdin.buffer.read()
    return file.read_bytes()


def _not_there(key: str) -> int:
    say(f"aegis: key {key!r} is not there")
    return endings.NOT_FOUND


def _line(key: bytes, value: bytes | None, version: int) -> dict[str, Any]:
    return {
        **text_or_base64("key", key),
        **({} if value is None else text_or_base64("value", value)),
        "version": version,
    }


def _print_done(record: dict[str, Any], format: Format) -> None:
    """A person sees that it worked by the silence; a script gets the version."""
    if format.output != "table":
        line = text_or_base64("key", os.fsencode(record["key"]))
        print_record({**line, **{name: value for name, value in record.items() if name != "key"}}, format.output)
