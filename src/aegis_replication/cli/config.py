"""What would a node be told? Show, check or begin a configuration file."""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_bytes, print_json, print_rows, say
from aegis_replication.config.loading import load_config
from aegis_replication.config.settings import Row
from aegis_replication.errors import ConfigError

app = App(name="config", help="Show, check or begin a configuration file.")

File = Annotated[Path | None, Parameter(env_var="AEGIS_CONFIG")]


@app.command(help_epilogue=examples("aegis config show aegis.toml --origin", "aegis config show -o json"))
def show(
    file: File = None, /, *, origin: Annotated[bool, Parameter(negative=())] = False, format: Format = FORMAT
) -> None:
    """Print every setting as a node would take it from FILE, the environment and the defaults.

    Parameters
    ----------
    file
        A configuration file (TOML).
    origin
        Say who set each value.
    """
    rows = load_config(file).rows()
    if format.output == "json":
        print_json(_nested(rows, origin=origin))
        return
    columns = ["key", "value", "unit", *(["origin"] if origin else []), "about"]
    plain = [{**row._asdict(), "value": _toml(row.value) if format.output == "table" else row.value} for row in rows]
    print_rows([{name: row[name] for name in columns} for row in plain], format.output, columns=columns)


@app.command(help_epilogue=examples("aegis config check aegis.toml"))
def check(file: File = None, /) -> None:
    """Say whether a node would start with FILE; exit code 2 and the reason if not.

    Parameters
    ----------
    file
        A configuration file (TOML).
    """
    if file is None:
        raise ConfigError("no configuration file: name one, or set AEGIS_CONFIG")
    settings = load_config(file)
    for note in settings.notes():
        say(f"aegis: {file}: {note}")
    say(f"aegis: {file} is good: node {settings.node_id} of cluster {settings.cluster.name}")


@app.command(help_epilogue=examples("aegis config init > aegis.toml", "aegis config init aegis.toml"))
def init(file: Path | None = None, /) -> None:
    """Write a configuration file with every setting, its default and a line about it; nothing is set yet.

    Parameters
    ----------
    file
        Where to write it (never over an existing file); else standard output.
    """
    text = "\n".join(_template(load_config(environment={}).rows()))
    if file is None:
        print_bytes(text.encode())
        return
    try:
        with file.open("x", encoding="utf-8") as target:
            target.write(text + "\n")
    except FileExistsError:
        raise ConfigError(f"{file} exists: it is not overwritten; give another name") from None
    say(f"aegis: wrote {file}; start a node with it: aegis node start --config {file}")


_EXAMPLES = {
    "cluster.node_id": '"n1"',
    "cluster.peers": '[{id = "n2", address = "127.0.0.1:7491"}, {id = "n3", address = "127.0.0.1:7501"}]',
    "node.advertise": '"127.0.0.1:7480"',
}


def _template(rows: list[Row]) -> Iterator[str]:
    yield "# A node's configuration. Flags go before AEGIS_<SECTION>__<KEY> variables, those before this file."
    yield "# Take the # away from what you change."
    for section, members in groupby(rows, key=lambda row: row.key.partition(".")[0]):
        yield f"\n[{section}]"
        for row in members:
            yield f"# {row.about}{f' ({row.unit})' if row.unit else ''}"
            yield f"# {row.key.partition('.')[2]} = {_EXAMPLES.get(row.key) or _toml(row.value)}"


def _nested(rows: list[Row], *, origin: bool) -> dict[str, Any]:
    """{section: {key: value}}, or with each value's origin beside it."""
    tree: dict[str, Any] = {}
    for row in rows:
        section, _, name = row.key.partition(".")
        shown = {"value": row.value, "unit": row.unit, "origin": row.origin} if origin else row.value
        tree.setdefault(section, {})[name] = shown
    return tree


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        lines = ", ".join(f'{{id = "{peer.id}", address = "{peer.address}"}}' for peer in value)
        return f"[{lines}]"
    return json.dumps(value, ensure_ascii=False)
