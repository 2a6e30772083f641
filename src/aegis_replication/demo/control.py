"""How does a second terminal find the running demo and talk to it? A lock, a state file and a socket, per user."""

import asyncio
import json
import os
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aegis_replication.errors import AegisError, ConfigError, Unavailable
from aegis_replication.storage.files import RealFiles

_LINE_BYTES_MAX = 64 * 1024
_ASK_SECONDS = 60.0

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def runtime_directory() -> Path:
    """This user's directory for what lives as long as a demo; made with mode 0700.

    Raises ConfigError when somebody else could write to it.
    """
    path = _runtime_path()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_private(path):
        raise ConfigError(f"{path} can be written by others: remove it, or set XDG_RUNTIME_DIR to a directory of yours")
    return path


def _runtime_path() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "aegis-demo" if base else Path(tempfile.gettempdir()) / f"aegis-demo-{os.getuid()}"


def _is_private(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def with_other_demo_nodes(address: str) -> list[str]:
    """`address`, and where the other nodes are of this user's demo if that is the address of one of them."""
    try:
        path = _runtime_path()
        nodes = read_state(path).get("nodes", {}) if _is_private(path) else {}
        addresses = [str(each) for each in nodes.values()]
    except (OSError, AttributeError):  # no demo here, or no such thing on this system
        addresses = []
    return addresses if address in addresses else [address]


class Control:
    """The running demo's side. Takes one line of JSON per connection and answers with one."""

    def __init__(self, directory: Path, handler: Handler) -> None:
        self._directory, self._handler = directory, handler
        self._files = RealFiles()
        self._lock = -1
        self._server: asyncio.Server | None = None

    async def open(self, state: dict[str, Any]) -> None:
        """Take the lock, write `state` and listen. Raises ConfigError when another demo of this user runs."""
        try:
            self._lock = self._files.lock(str(self._directory / "lock"), str(os.getpid()).encode())
        except BlockingIOError:
            running = read_state(self._directory).get("pid", "?")
            raise ConfigError(f"a demo is running already (process {running}): stop it with Ctrl-C there") from None
        path = self._directory / "control"
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._on_connection, str(path), limit=_LINE_BYTES_MAX)
        temporary = self._directory / "state.json.new"
        temporary.write_text(json.dumps({"pid": os.getpid(), **state}) + "\n")
        temporary.replace(self._directory / "state.json")

    async def close(self) -> None:
        """Nobody finds this demo any more."""
        if self._server is not None:
            self._server.close()
            for name in ("state.json", "control"):
                (self._directory / name).unlink(missing_ok=True)
        if self._lock >= 0:
            self._files.close(self._lock)
            self._lock = -1

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await asyncio.wait_for(reader.readline(), timeout=5.0))
            answer = await self._handler(request)
        except AegisError as error:
            answer = {"error": str(error)}
        except (TimeoutError, ValueError, OSError):
            answer = {"error": "one line of JSON was expected"}
        writer.write(json.dumps(answer).encode() + b"\n")
        try:
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except OSError:  # who asked has gone
            pass


def read_state(directory: Path) -> dict[str, Any]:
    """What the running demo wrote about itself; empty when there is nothing."""
    try:
        state = json.loads((directory / "state.json").read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def ask_running(request: dict[str, Any]) -> dict[str, Any]:
    """The running demo's answer. Raises Unavailable when none runs, AegisError with its words when it refuses."""
    path = runtime_directory() / "control"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ASK_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as reader:
                answer = json.loads(reader.readline())
        except (OSError, ValueError):
            raise Unavailable("no demo is running: start one with  aegis demo") from None
    if "error" in answer:
        raise AegisError(answer["error"])
    return dict(answer)
