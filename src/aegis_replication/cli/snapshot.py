"""What does a snapshot hold?"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cyclopts import App

from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_rows, say, shown, text_or_base64
from aegis_replication.errors import InvalidArgument
from aegis_replication.ids import DATA_GROUP
from aegis_replication.state_machine.commands import KEYS_PER_REPLY_MAX, KeyValue, Range, encode_query
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine
from aegis_replication.storage.files import RealFiles
from aegis_replication.storage.inspection import Inspection
from aegis_replication.storage.snapshots import SnapshotReader

app = App(name="snapshot", help="Look into the snapshots of a stopped node.")


@app.command(name="list", help_epilogue=examples("aegis snapshot list ./n1"))
def list_(directory: Path, /, *, format: Format = FORMAT) -> None:
    """Print which snapshots there are, and up to where each one goes.

    Parameters
    ----------
    directory
        The data directory of a node that is not running.
    """
    with Inspection(directory) as inspection:
        rows = [
            {
                "group": each.group,
                "term": each.meta.term,
                "index": each.meta.index,
                "size_bytes": each.size_bytes,
                "pieces": each.piece_count,
                "path": each.path,
            }
            for each in inspection.snapshots()
        ]
    print_rows(rows, format.output, columns=("group", "term", "index", "size_bytes", "pieces", "path"))


@app.command(
    help_epilogue=examples(
        "aegis snapshot dump ./n1 -o jsonl > state.jsonl     # `aegis import` reads it",
        "aegis snapshot dump ./n1/snapshots/1-4-1009.snap",
    )
)
def dump(path: Path, /, *, format: Format = FORMAT) -> None:
    """Print the keys and values of a snapshot, every piece verified. What the log holds after it is not in it.

    Parameters
    ----------
    path
        A snapshot file, or the data directory of a node that is not running: then its newest.
    """
    if path.is_dir():
        with Inspection(path) as inspection:
            found = next((each for each in inspection.snapshots() if each.group == DATA_GROUP), None)
            if found is None:
                raise InvalidArgument(f"{path} has no snapshot yet: all is still in the log (aegis wal dump {path})")
            say(f"aegis: {found.path}: state up to entry {found.meta.index} of term {found.meta.term}")
            _print(inspection.pieces(found), format.output)
    else:
        reader = SnapshotReader(RealFiles(), str(path))
        try:
            _print(reader.pieces(), format.output)
        finally:
            reader.close()


def _print(pieces: Iterable[bytes], output: str) -> None:
    machine = SessionMachine(KeyValueMachine())
    machine.restore(pieces)
    rows: Iterator[dict[str, Any]]
    if output == "table":
        rows = (
            {"key": shown(item.key), "version": item.version, "value": shown(item.value)} for item in _items(machine)
        )
        print_rows(list(rows), output, columns=("key", "version", "value"))
        return
    rows = (
        {**text_or_base64("key", item.key), **text_or_base64("value", item.value), "version": item.version}
        for item in _items(machine)
    )
    print_rows(rows, output, columns=())


def _items(machine: SessionMachine) -> Iterator[KeyValue]:
    start: bytes | None = b""
    while start is not None:
        items, start = machine.query(encode_query(Range(start, None, KEYS_PER_REPLY_MAX)))
        for key, value, version in items:
            yield KeyValue(key, value, version)
