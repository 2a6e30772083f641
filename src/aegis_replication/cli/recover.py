"""What does an operator do when a majority of the voters is lost for good? Look at the survivors, then take one."""

import time
from pathlib import Path
from random import SystemRandom
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from aegis_replication.cli.confirming import confirm
from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_record, print_rows, say
from aegis_replication.errors import InvalidArgument
from aegis_replication.offline.recovering import Survivor, best_of, look_at, recover_alone

app = App(
    name="recover",
    help_epilogue=examples(
        "aegis cluster recover ./n1 ./n2               # which of the survivors knows most?",
        "aegis cluster recover ./n2 --unsafe",
        "aegis node start --name n2 --data ./n2 --peer-listen 127.0.0.1:7491",
        "aegis node start --name n4 --data ./n4 --peer-listen 127.0.0.1:7501 --join 127.0.0.1:7490",
    ),
)

Flag = Annotated[bool, Parameter(negative=())]


@app.default
def recover(*directories: Path, unsafe: Flag = False, yes: Flag = False, format: Format = FORMAT) -> None:
    """Make one survivor the only voter, when a majority of the voters is lost for good. May lose acknowledged writes.

    Without --unsafe it changes nothing and shows what each directory knows: take the one with the highest last term,
    then index. Nodes must not run on them.

    Parameters
    ----------
    directories
        Data directories of stopped nodes of one group; exactly one with --unsafe.
    unsafe
        Do it, on this one directory.
    yes
        Don't ask for the node's name first.
    """
    if not directories or (unsafe and len(directories) != 1):
        raise InvalidArgument("name the data directories to compare, or with --unsafe the one to go on with")
    survivors = [look_at(directory) for directory in directories]
    if len({each.cluster for each in survivors}) > 1:
        raise InvalidArgument(f"directories of several clusters: {', '.join(sorted({e.cluster for e in survivors}))}")
    best = best_of(survivors)
    if not unsafe:
        rows = [{**msgspec.structs.asdict(each), "is_best": each.last == best.last} for each in survivors]
        columns = ("directory", "node", "last_term", "last_index", "snapshot_index", "voters", "is_best")
        print_rows(rows, format.output, columns=columns, titles={"is_best": "best"})
        say(f"aegis: nothing was changed; to go on with {best.node}: aegis cluster recover {best.directory} --unsafe")
        return
    _warn(best)
    confirm(best.node, yes=yes)
    done = recover_alone(directories[0], now_ms=time.time_ns() // 1_000_000, random=SystemRandom())
    if format.output == "table":
        say(
            f"aegis: {done.node} is the only voter since entry {done.index} of term {done.term}; `aegis status` "
            "shows it from now on. Start it, then add nodes with empty directories (--join)"
        )
    else:
        print_record(msgspec.structs.asdict(done), format.output)


def _warn(survivor: Survivor) -> None:
    lost = ", ".join(survivor.lost) or "nobody"
    say(f"aegis: {survivor.node} of cluster {survivor.cluster} knows entries up to {survivor.last_index} of term")
    say(f"  {survivor.last_term}. Whatever only {lost} had after that is lost, also if it was acknowledged. Entries")
    say("  that were never acknowledged may become part of the state. The directories of the lost nodes must never be")
    say("  started again: move them away.")
