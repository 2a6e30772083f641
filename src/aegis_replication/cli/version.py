"""What is running here?"""

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any

from cyclopts import App

from aegis_replication import __version__
from aegis_replication.cli.options import FORMAT, Format, examples
from aegis_replication.cli.output import print_bytes, print_record

app = App(name="version", help_epilogue=examples("aegis version", "aegis version -o json"))

_PARTS = ("msgspec", "xxhash", "uvloop")


@app.default
def version(*, format: Format = FORMAT) -> None:
    """Print versions: aegis, Python, and the parts that matter in a report of trouble."""
    from aegis_replication import log, wire
    from aegis_replication.storage import base as storage

    record: dict[str, Any] = {
        "aegis": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "protocol_lowest": wire.PROTOCOL_LOWEST,
        "protocol_highest": wire.PROTOCOL_HIGHEST,
        "frame_format": log.FORMAT_HIGHEST,
        "directory_format": storage.FORMAT_VERSION,
        **{part: _installed(part) for part in _PARTS},
    }
    if format.output == "table":
        parts = ", ".join(f"{part} {record[part]}" for part in _PARTS if record[part])
        print_bytes(f"aegis {__version__} (Python {record['python']}, {record['system']}, {parts})".encode())
    else:
        print_record(record, format.output)


def _installed(package: str) -> str | None:
    try:
        return version_of(package)
    except PackageNotFoundError:
        return None
