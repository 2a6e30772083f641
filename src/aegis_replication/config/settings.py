"""What can a node be told? Every setting with its default, unit and bounds, and the configuration made of them."""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from aegis_replication.consensus.config import RaftConfig
from aegis_replication.ids import NodeId
from aegis_replication.log import FORMAT_HIGHEST
from aegis_replication.transport.tcp import is_loopback, parse_address
from aegis_replication.wire import Limits

CLIENT_PORT: Final = 7480
PEER_PORT: Final = 7481
DEFAULT: Final = "default"

# --- the settings, one line each ------------------------------------------------------------------------------------


def _unit(unit: str, about: str, **bounds: Any) -> Meta:
    return Meta(description=about, extra={"unit": unit}, **bounds)


def _about(about: str, **bounds: Any) -> Meta:
    return Meta(description=about, **bounds)


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of the file."""


class Peer(msgspec.Struct, frozen=True, gc=False):
    """Another voter: its id, and where its peers connect."""

    id: NodeId
    address: str


class ClusterSection(_Section, frozen=True):
    """[cluster]: who this node is, and with whom it starts."""

    node_id: Annotated[str, _about("this node's name", examples=["n1"])] = ""
    name: Annotated[str, _about("the cluster's name: nodes of another one are refused", min_length=1)] = "aegis"
    peers: Annotated[
        tuple[Peer, ...],
        _about("the voters at first start", examples=["[{id = 'n2', address = '127.0.0.1:7491'}]"]),
    ] = ()
    join: Annotated[
        tuple[str, ...],
        _about("client addresses of a cluster to join, instead of peers", examples=["['127.0.0.1:7480']"]),
    ] = ()


class NodeSection(_Section, frozen=True):
    """[node]: what belongs to this process."""

    data: Annotated[str, _about("the data directory", min_length=1)] = "aegis-data"
    listen: Annotated[str, _about("where clients connect")] = f"127.0.0.1:{CLIENT_PORT}"
    peer_listen: Annotated[str, _about("where the other nodes connect")] = f"127.0.0.1:{PEER_PORT}"
    advertise: Annotated[str, _about("where clients are told to connect; empty: as `listen`")] = ""
    peer_advertise: Annotated[str, _about("where the others are told to connect; empty: as `peer_listen`")] = ""
    http: Annotated[
        str, _about("where probes and Prometheus connect; empty: nowhere", examples=["'127.0.0.1:7482'"])
    ] = ""
    learner: Annotated[bool, _about("join as a learner, for good, and not as a voter")] = False
    loop: Annotated[
        Literal["auto", "uvloop", "asyncio"], _about("the event loop; auto: uvloop where it is installed")
    ] = "auto"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _about("how much to tell on standard error")] = (
        "info"
    )
    log_format: Annotated[Literal["text", "json"], _about("log lines for people, or one JSON object a line")] = "text"
    insecure: Annotated[bool, _about("allow other than loopback addresses without encryption")] = False


class ReplicationSection(_Section, frozen=True):
    """[replication]: how many copies, and when a write counts."""

    replication_factor: Annotated[int, _unit("replicas", "copies of each shard", ge=1, le=99)] = 3
    consistency_level: Annotated[Literal["one", "quorum", "all"], _about("who must have a write")] = "quorum"


class RaftSection(_Section, frozen=True):
    """[raft]: timing and batching; equal on all nodes."""

    election_timeout_min: Annotated[int, _unit("ms", "shortest silence before an election", ge=2, le=600_000)] = 150
    election_timeout_max: Annotated[int, _unit("ms", "longest silence before an election", ge=2, le=600_000)] = 300
    heartbeat_interval: Annotated[int, _unit("ms", "how often an idle leader is heard", ge=1, le=60_000)] = 50
    max_entries_per_request: Annotated[int, _unit("commands", "commands in one append, about", ge=1)] = 100
    priority: Annotated[
        int, _unit("points", "leadership goes to the highest; 0: never to this node", ge=0, le=1000)
    ] = 1
    # A leader refuses commands beyond either; one at a time always goes.
    max_uncommitted_bytes: Annotated[
        int, _unit("bytes", "commands taken and not yet on a majority", ge=1024 * 1024)
    ] = 64 * 1024 * 1024
    max_unapplied_bytes: Annotated[
        int, _unit("bytes", "commands committed and not yet carried out", ge=1024 * 1024)
    ] = 64 * 1024 * 1024
    # A node goes by bytes; a count that strikes first is for machines with few, small, expensive commands.
    snapshot_threshold: Annotated[int, _unit("commands", "commands applied between snapshots", ge=1)] = 1_000_000
    snapshot_log_bytes: Annotated[int, _unit("bytes", "log written between snapshots", ge=65_536)] = 64 * 1024 * 1024
    format_highest: Annotated[
        int, _about("newer formats are not used, so that an older program can come back", ge=1, le=FORMAT_HIGHEST)
    ] = FORMAT_HIGHEST
    snapshot_bytes_per_second: Annotated[
        int, _unit("bytes/s", "snapshots sent to other nodes, all together; 0: no limit", ge=0)
    ] = 64 * 1024 * 1024


class ShardingSection(_Section, frozen=True):
    """[sharding]: how data is spread."""

    strategy: Annotated[Literal["hash", "range"], _about("how keys find their shard")] = "hash"
    shard_count: Annotated[int, _unit("shards", "shards at first start", ge=1, le=65_536)] = 16
    auto_rebalance: Annotated[bool, _about("move shards by themselves")] = True


class LimitsSection(_Section, frozen=True):
    """[limits]: how large things may be."""

    value_bytes: Annotated[int, _unit("bytes", "the largest value", ge=1024, le=8 * 1024 * 1024)] = 1024 * 1024


SECTIONS: Final[dict[str, type[_Section]]] = {
    "cluster": ClusterSection,
    "node": NodeSection,
    "replication": ReplicationSection,
    "raft": RaftSection,
    "sharding": ShardingSection,
    "limits": LimitsSection,
}

ALIASES: Final = {
    "raft.election_timeout_min_ms": "raft.election_timeout_min",
    "raft.election_timeout_max_ms": "raft.election_timeout_max",
    "raft.heartbeat_interval_ms": "raft.heartbeat_interval",
}


def settings() -> Iterator[tuple[str, str, str, Meta]]:
    """Every key, its section, its name in it, and what is said about it."""
    for section, shape in SECTIONS.items():
        for field in msgspec.structs.fields(shape):
            yield f"{section}.{field.name}", section, field.name, field.type.__metadata__[0]


def unit_of(meta: Meta) -> str:
    unit: str = (meta.extra or {}).get("unit", "")
    return unit


# --- the whole ------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One setting as `aegis config show --origin` prints it."""

    key: str
    value: Any
    unit: str
    origin: str
    about: str


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A checked configuration; `origins` says by whom each key was set ("default" where nobody did)."""

    cluster: ClusterSection = ClusterSection()
    node: NodeSection = NodeSection()
    replication: ReplicationSection = ReplicationSection()
    raft: RaftSection = RaftSection()
    sharding: ShardingSection = ShardingSection()
    limits: LimitsSection = LimitsSection()
    origins: dict[str, str] = {}

    @property
    def node_id(self) -> NodeId:
        """This node's name; "n1" when it is alone and nobody said."""
        return self.cluster.node_id or "n1"

    @property
    def peers(self) -> dict[NodeId, str]:
        """The other voters and where their peers connect."""
        return {peer.id: peer.address for peer in self.cluster.peers if peer.id != self.node_id}

    @property
    def peer_listen(self) -> str:
        """Where the other nodes connect: as set, or this node's own line among `peers`."""
        if self.origin("node.peer_listen") == DEFAULT:
            for peer in self.cluster.peers:
                if peer.id == self.node_id:
                    return peer.address
        return self.node.peer_listen

    @property
    def peer_advertise(self) -> str:
        """Where the others are told to connect: as set, or this node's own line among `peers`, or where it listens."""
        own = [peer.address for peer in self.cluster.peers if peer.id == self.node_id]
        told = self.node.peer_advertise or (own[0] if own else self.peer_listen)
        return "" if parse_address(told, what="peer address", any_port=True).port == 0 else told

    @property
    def advertise(self) -> str:
        """Where clients are told to connect."""
        return self.node.advertise or self.node.listen

    def raft_config(self) -> RaftConfig:
        """What the consensus of this node is made with."""
        raft = self.raft
        return RaftConfig(
            node_id=self.node_id,
            peers=self.peers,
            election_timeout=(raft.election_timeout_min, raft.election_timeout_max),
            heartbeat_interval=raft.heartbeat_interval,
            max_entries_per_request=raft.max_entries_per_request,
            max_uncommitted_bytes=raft.max_uncommitted_bytes,
            max_unapplied_bytes=raft.max_unapplied_bytes,
            snapshot_threshold=raft.snapshot_threshold,
            snapshot_log_bytes=raft.snapshot_log_bytes,
            snapshot_bytes_per_second=raft.snapshot_bytes_per_second,
            priority=raft.priority,
            format_highest=raft.format_highest,
        )

    def wire_limits(self) -> Limits:
        """The packets' limits that follow from the largest value."""
        value = self.limits.value_bytes
        least = Limits()
        return Limits(
            value_bytes=value,
            request_bytes=max(least.request_bytes, 2 * value),
            frame_bytes=max(least.frame_bytes, 4 * value),
            packet_bytes=max(least.packet_bytes, 6 * value),
        )

    def origin(self, key: str) -> str:
        """Who set `key` ("raft.heartbeat_interval"): "default", "file PATH", "environment NAME" or "flag"."""
        return self.origins.get(key, DEFAULT)

    def rows(self) -> list[Row]:
        """Every setting with its value, unit and origin, in the order of the file."""
        return [
            Row(key, getattr(getattr(self, section), name), unit_of(meta), self.origin(key), meta.description or "")
            for key, section, name, meta in settings()
        ]

    def notes(self) -> list[str]:
        """What an operator should know about this configuration: one line each, for the log and the status."""
        lines = []
        without_effect = [
            key for key in self.origins if key.startswith("sharding.") or key == "replication.replication_factor"
        ]
        if without_effect:
            lines.append(f"no effect yet: {', '.join(sorted(without_effect))} (one shard, all of it on every node)")
        open_to_others = [(key, address) for key, address in exposed(self) if key != "node.http"]
        if ("node.http", self.node.http) in exposed(self):
            lines.append(
                f"insecure: node.http = {self.node.http}: anybody who can connect there can see how this node and its "
                "cluster are doing, though no keys or values; the answers are not encrypted"
            )
        if open_to_others:
            lines.append(
                "insecure: "
                + ", ".join(f"{key} = {address}" for key, address in open_to_others)
                + ": anybody who can connect "
                "there can read and write everything; traffic is not encrypted"
            )
        return lines


def exposed(config: NodeConfig) -> list[tuple[str, str]]:
    """Which settings reach beyond this machine."""
    listed = [
        ("node.listen", config.node.listen),
        ("node.peer_listen", config.peer_listen),
        ("node.advertise", config.node.advertise),
        ("node.peer_advertise", config.node.peer_advertise),
        ("node.http", config.node.http),
        *(("cluster.peers", address) for address in config.peers.values()),
    ]
    return [
        (key, address)
        for key, address in listed
        if address and not is_loopback(parse_address(address, what=key, any_port=True))
    ]
