"""How does one node run as a process? From its flags to its last line. Its siblings are in cli.members."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from aegis_replication.assembly import make_http_door, make_node
from aegis_replication.cli import endings
from aegis_replication.cli.loops import run
from aegis_replication.cli.options import examples
from aegis_replication.cli.output import say
from aegis_replication.config import NodeConfig, load_config
from aegis_replication.errors import ConfigError, DiskFailed, IncompatibleVersion
from aegis_replication.joining import join as join_cluster
from aegis_replication.node import Node
from aegis_replication.observability.logs import LogFormat, LogLevel, configure_logging

app = App(name="node", help="Run a node; see and change who the members are.")
for _name, _text in (
    ("list", "Who the members are, how far each is, and who leads."),
    ("add", "Add a node: a learner first, a voter once it has caught up."),
    ("remove", "Remove a node from the members."),
    ("promote", "Make a learner a voter."),
    ("demote", "Make a voter a learner."),
    ("replace", "Put a new node in the place of a voter, in one change."),
):
    app.command(f"aegis_replication.cli.members:{_name}_app", name=_name, help=_text)

# The replicated state is millions of small objects that live for long: collecting them often costs a third of the
# throughput and frees nothing.
_GC_THRESHOLDS = (50_000, 50, 100)
_SWITCH_SECONDS = 0.0005  # a snapshot's last flush runs in a thread: it must not hold up the loop for 5 ms


@app.command(
    help_epilogue=examples(
        "aegis node start --name n1 --data ./n1",
        "aegis node start --name n1 --data ./n1 --listen 127.0.0.1:7480 \\",
        "    --peers n1=127.0.0.1:7481,n2=127.0.0.1:7491,n3=127.0.0.1:7501",
        "aegis node start --name n4 --data ./n4 --listen 127.0.0.1:7510 --peer-listen 127.0.0.1:7511 \\",
        "    --join 127.0.0.1:7480",
        "aegis node start --config aegis.toml",
    )
)
def start(
    *,
    name: str | None = None,
    data: str | None = None,
    listen: str | None = None,
    peer_listen: str | None = None,
    advertise: str | None = None,
    peer_advertise: str | None = None,
    peers: str | None = None,
    join: str | None = None,
    http: str | None = None,
    learner: Annotated[bool | None, Parameter(negative=())] = None,
    priority: int | None = None,
    cluster: str | None = None,
    config: Annotated[Path | None, Parameter(env_var="AEGIS_CONFIG")] = None,
    loop: Literal["auto", "uvloop", "asyncio"] | None = None,
    insecure: Annotated[bool | None, Parameter(negative=())] = None,
    log_level: LogLevel | None = None,
    log_format: LogFormat | None = None,
) -> int:
    """Run a node until SIGTERM or Ctrl-C; both leave everything acknowledged on disk.

    Flags go before AEGIS_<SECTION>__<KEY> variables, those before the file; `aegis config show --origin` tells who won.

    Parameters
    ----------
    name
        This node's name, such as n1.
    data
        The data directory; made if it isn't there. One process at a time.
    listen
        Where clients connect.
    peer_listen
        Where the other nodes connect; else this node's own line in --peers.
    advertise
        Where clients are told to connect; else as --listen.
    peer_advertise
        Where the other nodes are told to connect; else as --peer-listen.
    peers
        The voters at first start: n1=HOST:PORT,n2=HOST:PORT,... Afterwards the data directory knows them.
    join
        Instead of --peers, a new node's: client addresses of a cluster that is to add it, HOST:PORT,...
    http
        Where probes and Prometheus connect, such as 127.0.0.1:7482; nowhere unless given.
    learner
        With --join: stay a learner, which gets every entry and counts for nothing.
    priority
        Leadership goes to the node with the highest that has caught up; 0: never to this one.
    cluster
        The cluster's name: nodes of another one are refused.
    config
        A configuration file (TOML).
    loop
        The event loop; auto takes uvloop where it is installed.
    insecure
        Allow other than loopback addresses: traffic is not encrypted yet.
    log_level
        How much to tell on stderr; info is one line per change of state.
    log_format
        Lines for people, or one JSON object a line, its fields beside the message.
    """
    if not __debug__:
        raise ConfigError(
            "this Python runs without assertions (-O or PYTHONOPTIMIZE), and they guard your data: start it without"
        )
    settings = load_config(
        config,
        flags={
            "cluster.node_id": name,
            "cluster.name": cluster,
            "cluster.peers": peers,
            "cluster.join": join,
            "raft.priority": priority,
            "node.data": data,
            "node.listen": listen,
            "node.peer_listen": peer_listen,
            "node.advertise": advertise,
            "node.peer_advertise": peer_advertise,
            "node.http": http,
            "node.learner": learner,
            "node.loop": loop,
            "node.log_level": log_level,
            "node.log_format": log_format,
            "node.insecure": insecure,
        },
    )
    configure_logging(sys.stderr, settings.node.log_level, settings.node.log_format)
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.set_threshold(*_GC_THRESHOLDS)
    return run(_serve(settings), settings.node.loop, handles_signals=True)


async def _serve(settings: NodeConfig) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    _stop_on_signals(loop, stop)
    tell = _teller(settings)
    for note in settings.notes():
        tell("", note, level=logging.WARNING)
    node = make_node(settings)
    http = make_http_door(settings, node)
    if http is not None:
        await http.start()
    await node.start()
    gc.collect()
    gc.freeze()  # what was imported and recovered stays: never visit it again
    doors = f"clients {settings.advertise}, peers {settings.peer_listen}" + (f", http {http.address}" if http else "")
    tell(
        node.id,
        f"of cluster {settings.cluster.name} is ready: {doors}, "
        f"data {settings.node.data}, loop {type(loop).__module__.partition('.')[0]}",
    )
    joining = asyncio.ensure_future(_join(node, settings))
    failed = asyncio.ensure_future(node.wait_failed())
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait({failed, stopped, joining}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if joining.done():
        failed.cancel()
        await node.stop()
        if http is not None:
            await http.stop()
        joining.result()  # raises
    joining.cancel()
    for number in _SIGNALS:  # it is stopping: an impatient second signal must not kill it at its very end
        signal.signal(number, signal.SIG_IGN)
    if failed.done():
        reason = failed.result()
        what = "" if isinstance(reason, DiskFailed | IncompatibleVersion) else "a bug of ours, "
        tell(node.id, f"stopped by itself ({what}{type(reason).__name__}): {reason}", level=logging.ERROR)
        return endings.ERROR
    failed.cancel()
    if not await node.drain():
        tell(node.id, "leads still, nobody took over: the others elect a leader when it is gone")
    await node.stop()
    if http is not None:
        await http.stop()
    tell(node.id, "stopped; everything acknowledged is on disk")
    return endings.OK


async def _join(node: Node, settings: NodeConfig) -> None:
    """Become a member, if that is asked for; ends only with an error that no waiting helps against."""
    if settings.cluster.join:
        await join_cluster(node, settings.cluster.join, as_voter=not settings.node.learner)
    await asyncio.Event().wait()


def _teller(settings: NodeConfig) -> Callable[..., None]:
    """What says `text` of `node`: a plain line for people; where machines read, a record like all the others."""

    def as_line(node: str, text: str, *, level: int = logging.INFO) -> None:
        say(f"aegis: {node} {text}" if node else f"aegis: {text}")

    def as_record(node: str, text: str, *, level: int = logging.INFO) -> None:
        logging.getLogger("aegis.node").log(level, "node=%s: %s", node or settings.node_id, text)

    return as_record if settings.node.log_format == "json" else as_line


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _stop_on_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """SIGTERM and Ctrl-C set `stop`. Not by the loop's own handlers: those end with the loop."""
    for number in _SIGNALS:
        signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(stop.set))
