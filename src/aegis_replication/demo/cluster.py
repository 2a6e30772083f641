"""Where does a demo's cluster live? Its directory, and ports near the usual ones that nobody uses."""

import json
import socket
from importlib.util import find_spec
from pathlib import Path

from aegis_replication.errors import ConfigError, InvalidArgument
from aegis_replication.processes import LocalProcesses

FIRST_PORT = 7480
_STEP = 10  # between nodes: clients at 7480, 7490, 7500; peers one above, probes two
_HTTP = 2
_BLOCK = 100
_PORTS_FILE = "ports.json"


def demo_cluster(directory: Path, *, nodes: int, loop: str = "auto", http: bool = False) -> LocalProcesses:
    """The processes of a demo, not started; a directory that held one before gives it its ports again.

    With `http` each has a door for probes, too.

    Raises ConfigError when those are in use, or the directory holds something else.
    """
    if nodes not in (1, 3, 5, 7):
        raise InvalidArgument(f"--nodes {nodes}: give 1, 3, 5 or 7, since an even node more adds no safety")
    ports = _remembered_ports(directory, nodes) or _choose_ports(nodes)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _PORTS_FILE).write_text(json.dumps(ports) + "\n")
    return LocalProcesses(
        directory,
        count=nodes,
        ports=ports,
        http_ports=[port + _HTTP for port in ports[::2]] if http else (),
        options=("--loop", loop, "--cluster", "demo"),
    )


def can_serve_http() -> bool:
    """Is what a door for probes needs installed?"""
    return all(find_spec(package) is not None for package in ("h11", "prometheus_client"))


def is_empty(directory: Path) -> bool:
    """Is nothing there yet?"""
    return not directory.exists() or (directory.is_dir() and not any(directory.iterdir()))


def _remembered_ports(directory: Path, nodes: int) -> list[int]:
    if is_empty(directory):
        return []
    try:
        ports = json.loads((directory / _PORTS_FILE).read_text())
        if not isinstance(ports, list) or not all(isinstance(port, int) for port in ports):
            raise ValueError("not a list of ports")
    except (OSError, ValueError):
        raise ConfigError(f"--data {directory}: not empty, and not a demo's: give a new directory") from None
    if len(ports) != 2 * nodes:
        raise ConfigError(f"--data {directory} holds a demo of {len(ports) // 2} nodes: give --nodes {len(ports) // 2}")
    for port in ports:
        if not _is_free(port):
            raise ConfigError(
                f"--data {directory}: its nodes have port {port}, which is in use: stop what runs there, or give "
                "another directory"
            )
    return ports


def _choose_ports(nodes: int) -> list[int]:
    for first in range(FIRST_PORT, FIRST_PORT + 20 * _BLOCK, _BLOCK):
        ports = [first + _STEP * node + which for node in range(nodes) for which in (0, 1)]
        if all(map(_is_free, [*ports, *(port + _HTTP for port in ports[::2])])):
            return ports
    raise ConfigError(f"no free ports between {FIRST_PORT} and {FIRST_PORT + 20 * _BLOCK}: stop what runs there")


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a server does: closed connections don't count
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
