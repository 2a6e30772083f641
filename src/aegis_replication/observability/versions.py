"""What is running here? Versions of this package, of Python, of formats, and of parts that matter in a report."""

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any, Final

from aegis_replication import __version__, log, wire
from aegis_replication.storage.base import FORMAT_VERSION

PARTS: Final = ("msgspec", "xxhash", "uvloop")


def versions() -> dict[str, Any]:
    """One record; None for a part that isn't installed."""
    return {
        "aegis": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "protocol_lowest": wire.PROTOCOL_LOWEST,
        "protocol_highest": wire.PROTOCOL_HIGHEST,
        "frame_format": log.FORMAT_HIGHEST,
        "directory_format": FORMAT_VERSION,
        **{part: _installed(part) for part in PARTS},
    }


def _installed(package: str) -> str | None:
    try:
        return version_of(package)
    except PackageNotFoundError:
        return None
