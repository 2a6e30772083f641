"""What does a snapshot hold?"""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
from cyclopts import App

from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_record, print_rows, say, shown, text_or_base64
from aegis_replication.consensus.configuration import decode_configuration
from aegis_replication.errors import InvalidArgument
from aegis_replication.ids import DATA_GROUP
from aegis_replication.log import SnapshotMeta
from aegis_replication.state_machine.commands import KEYS_PER_REPLY_MAX, Count, KeyValue, Range, encode_query
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine, machine_of
from aegis_replication.storage.backup_file import BackupReader, is_backup
from aegis_replication.storage.files import RealFiles
from aegis_replication.storage.inspection import Inspection
from aegis_replication.storage.snapshot_reader import SnapshotReader

app = App(name="snapshot", help="Look into the snapshots of a stopped node and into backups; restore a backup.")
app.command("aegis_replication.cli.backup:save_app", name="save", help="The same as `aegis backup`.")
app.command("aegis_replication.cli.backup:restore_app", name="restore", help="Found a new cluster from a backup.")


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


@app.command(help_epilogue=examples("aegis snapshot inspect orders.backup", "aegis snapshot inspect ./n1 -o json"))
def inspect(path: Path, /, *, format: Format = FORMAT) -> None:
    """Print what is in a backup or snapshot, every piece verified; exit code 1 when it is damaged.

    Parameters
    ----------
    path
        A backup, a snapshot file, or the data directory of a node that is not running: then its newest.
    """
    if path.is_dir():
        with Inspection(path) as inspection:
            found = next((each for each in inspection.snapshots() if each.group == DATA_GROUP), None)
            if found is None:
                raise InvalidArgument(f"{path} has no snapshot yet: all is still in the log (aegis wal dump {path})")
            whose = {"cluster": inspection.identity.cluster, "node": inspection.identity.node}
            facts = _facts(found.path, found.group, found.meta, inspection.pieces(found), found.piece_count)
            print_record({"type": "snapshot", **whose, "size_bytes": found.size_bytes, **facts}, format.output)
    elif is_backup(path):
        with BackupReader(str(path)) as backup:
            head = msgspec.structs.asdict(backup.head)
            facts = _facts(path, backup.head.group, backup.meta, backup.pieces(), backup.piece_count)
            print_record({"type": "backup", "size_bytes": backup.size, **head, **facts}, format.output)
    else:
        reader = SnapshotReader(RealFiles(), str(path))
        try:
            facts = _facts(path, reader.group, reader.meta, reader.pieces(), reader.piece_count)
            print_record({"type": "snapshot", "size_bytes": reader.size, **facts}, format.output)
        finally:
            reader.close()


def _facts(
    path: Path | str, group: int, meta: SnapshotMeta, pieces: Iterator[bytes], piece_count: int
) -> dict[str, Any]:
    """What all kinds of snapshots have; reads all of it."""
    configuration = decode_configuration(meta.configuration)
    first = next(pieces, b"")
    machine, sessions = machine_of(first)
    keys: int | None = None
    if machine == KeyValueMachine().kind:
        restored = SessionMachine(KeyValueMachine())
        restored.restore(chain((first,), pieces))
        keys = restored.query(encode_query(Count()))
    else:
        for _ in pieces:
            pass
    return {
        "path": str(path),
        "group": group,
        "term": meta.term,
        "index": meta.index,
        "stamp_unix_ms": meta.stamp >> 16,
        "voters": list(configuration.voters),
        "learners": list(configuration.learners),
        "configuration_index": meta.configuration_index,
        "interventions": [f"{each.what} on {each.node}, {each.detail}" for each in configuration.interventions],
        "machine": machine,
        "sessions": sessions,
        "keys": keys,
        "pieces": piece_count,
    }


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
