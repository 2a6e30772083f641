"""How does a cluster's state get into a file, and from there into a new cluster?"""

import time
from pathlib import Path
from random import SystemRandom
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from aegis_replication.cli.loops import run
from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_record, say
from aegis_replication.cli.progress import follow, progress
from aegis_replication.cli.target import TARGET, Target
from aegis_replication.client.backup import BACKUP_SECONDS
from aegis_replication.demo.progress import Progress
from aegis_replication.offline.restoring import restore as restore_backup
from aegis_replication.storage.backup_file import BackupHead

backup_app = App(
    name="backup",
    help_epilogue=examples("aegis backup orders.backup", "aegis backup orders.backup --force -o json"),
)
save_app = App(name="save", help_epilogue=examples("aegis snapshot save orders.backup"))
restore_app = App(
    name="restore",
    help_epilogue=examples(
        "aegis snapshot restore orders.backup --data ./r1 --name r1 --cluster orders-restored",
        "aegis node start --name r1 --data ./r1 --cluster orders-restored --peer-listen 127.0.0.1:7481",
        "aegis node start --name r2 --data ./r2 --cluster orders-restored --listen 127.0.0.1:7490 \\",
        "    --peer-listen 127.0.0.1:7491 --join 127.0.0.1:7480",
    ),
)


@save_app.default
@backup_app.default
def backup(
    file: Path,
    /,
    *,
    force: Annotated[bool, Parameter(negative=())] = False,
    within: float = BACKUP_SECONDS,
    target: Target = TARGET,
    format: Format = FORMAT,
) -> None:
    """Write the state of a running cluster to FILE: all that was acknowledged before, of one moment, checksummed.

    The leader saves a snapshot, and it is fetched at the pace of this side; the cluster goes on meanwhile. FILE appears
    when it is complete and verified.

    Parameters
    ----------
    file
        Where to write it.
    force
        Write over an existing file.
    within
        Seconds for all of it.
    """

    async def main(shown: Progress) -> BackupHead:
        told = follow(shown, "backing up, bytes")
        async with target.connect() as database:
            head = await database.backup(file, overwrite=force, on_progress=told, timeout=within)
        shown.end()
        return head

    with progress() as shown:
        head = run(main(shown))
    if format.output == "table":
        say(f"aegis: {file}: cluster {head.cluster} up to entry {head.index} of term {head.term}, by {head.node}")
    else:
        print_record({"path": file, **msgspec.structs.asdict(head)}, format.output)


@restore_app.default
def restore(
    file: Path,
    /,
    *,
    data: Path,
    name: str,
    cluster: str,
    same_cluster: Annotated[bool, Parameter(negative=())] = False,
    format: Format = FORMAT,
) -> None:
    """Found a new cluster from a backup: the data directory of its first node; the others join it.

    Nothing is ever restored over existing data. Clients' sessions come along, members and leases don't.

    Parameters
    ----------
    file
        A backup made by `aegis backup`.
    data
        The first node's data directory: empty, or not there yet.
    name
        The first node's name.
    cluster
        The new cluster's name.
    same_cluster
        Let it have the name of the cluster that was backed up, whose nodes are all gone for good.
    """
    with progress() as shown:
        restored = restore_backup(
            file,
            data,
            cluster=cluster,
            node=name,
            now_ms=time.time_ns() // 1_000_000,
            random=SystemRandom(),
            same_cluster=same_cluster,
            on_progress=follow(shown, "restoring, pieces"),
        )
        shown.end()
    if format.output == "table":
        say(
            f"aegis: {data}: node {restored.node} of the new cluster {restored.cluster}, with entry "
            f"{restored.backup.index} of {restored.backup.cluster}. Start it without --peers, the others with --join"
        )
    else:
        record = {**msgspec.structs.asdict(restored), "incarnation": f"{restored.incarnation:016x}"}
        print_record(record, format.output)
