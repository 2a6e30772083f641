"""Which knobs does a replica have, in which unit, and what are good values? (Raft §5.6, §9.3.)"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeAlias

from aegis_replication.consensus.configuration import Configuration, make_configuration
from aegis_replication.errors import ConfigError, InvalidArgument
from aegis_replication.ids import NodeId, node_id
from aegis_replication.log import FORMAT_HIGHEST, FORMAT_LOWEST

Duration: TypeAlias = float | timedelta
"""Milliseconds, or a timedelta."""

MEBIBYTE = 1024 * 1024


class RaftConfig:
    """One replica's settings. Immutable; `replace` and the `with_...` methods return a changed copy.

    >>> RaftConfig(node_id=1, peers=[2, 3], election_timeout=(150, 300), heartbeat_interval=50).voters
    ('1', '2', '3')

    `peers` is a list of ids, or a mapping of ids to "host:port"; it may name this node too. An election timeout given
    as one number T stands for T to 2 T. Raises ConfigError for a value that can't work.
    """

    __slots__ = (
        "node_id",
        "peers",  # the other voters, sorted
        "addresses",  # "host:port" of each node that was given with one
        "election_timeout_min_ms",
        "election_timeout_max_ms",
        "heartbeat_interval_ms",
        "max_entries_per_request",  # commands in one append of several entries; one entry always goes
        "append_bytes_max",  # one append, unless a single entry is larger
        "inflight_bytes_max",  # sent to one follower and not yet acknowledged
        "max_uncommitted_bytes",  # a leader refuses commands beyond: taken, and not known to be on a majority
        "max_unapplied_bytes",  # or beyond this: committed, and not carried out yet
        "snapshot_threshold",  # commands applied since the last snapshot, or ...
        "snapshot_log_bytes",  # ... bytes in the log since then, whichever comes first
        "snapshot_bytes_per_second",  # sent to followers, all together; 0: as fast as they take it
        "trailing_entries",  # kept in the log below a snapshot, for followers a little behind, or ...
        "trailing_bytes",  # ... as many as fit here, whichever is less
        "pre_vote",  # ask whether an election could be won before starting one (thesis §9.6)
        "priority",  # leadership goes to the highest that has caught up; 0: this node never stands for election
        "check_quorum",  # a leader that hears no majority steps down, and voters stick to a leader they hear (§6)
        "format_highest",  # formats above this one are not used, so that an older program can still take over
    )

    node_id: NodeId
    peers: tuple[NodeId, ...]
    addresses: dict[NodeId, str]
    election_timeout_min_ms: float
    election_timeout_max_ms: float
    heartbeat_interval_ms: float
    max_entries_per_request: int
    append_bytes_max: int
    inflight_bytes_max: int
    max_uncommitted_bytes: int
    max_unapplied_bytes: int
    snapshot_threshold: int
    snapshot_log_bytes: int
    snapshot_bytes_per_second: int
    trailing_entries: int
    trailing_bytes: int
    pre_vote: bool
    check_quorum: bool
    priority: int
    format_highest: int

    def __init__(
        self,
        node_id: int | str = 1,
        peers: Iterable[int | str] | Mapping[int, str] | Mapping[str, str] | Mapping[int | str, str] = (),
        *,
        election_timeout: Duration | tuple[Duration, Duration] | None = None,
        election_timeout_min: Duration | None = None,
        election_timeout_max: Duration | None = None,
        heartbeat_interval: Duration = 50,
        max_entries_per_request: int = 100,
        append_bytes_max: int = MEBIBYTE,
        inflight_bytes_max: int | None = None,
        max_uncommitted_bytes: int = 64 * MEBIBYTE,
        max_unapplied_bytes: int = 64 * MEBIBYTE,
        snapshot_threshold: int = 10_000,
        snapshot_log_bytes: int = 64 * MEBIBYTE,
        snapshot_bytes_per_second: int = 64 * MEBIBYTE,
        trailing_entries: int = 1_000,
        trailing_bytes: int = 16 * MEBIBYTE,
        pre_vote: bool = True,
        check_quorum: bool = True,
        priority: int = 1,
        format_highest: int = FORMAT_HIGHEST,
    ) -> None:
        own = _name("node_id", node_id)
        others, addresses = _peers(peers)
        heartbeat = _milliseconds("heartbeat_interval", heartbeat_interval, 50)
        low, high = _election_timeout(election_timeout, election_timeout_min, election_timeout_max)
        if low <= heartbeat:
            raise ConfigError(
                f"election_timeout_min = {low:g} ms: must exceed heartbeat_interval ({heartbeat:g} ms); "
                f"try {3 * heartbeat:g}"
            )
        if high < low:
            raise ConfigError(
                f"election_timeout_max = {high:g} ms: must be at least election_timeout_min ({low:g} ms); "
                f"try {2 * low:g}"
            )
        append = _count("append_bytes_max", append_bytes_max, "bytes", MEBIBYTE)
        inflight = 2 * append if inflight_bytes_max is None else inflight_bytes_max
        values: dict[str, Any] = {
            "node_id": own,
            "peers": tuple(sorted(others - {own})),
            "addresses": addresses,
            "election_timeout_min_ms": low,
            "election_timeout_max_ms": high,
            "heartbeat_interval_ms": heartbeat,
            "max_entries_per_request": _count("max_entries_per_request", max_entries_per_request, "commands", 100),
            "append_bytes_max": append,
            "inflight_bytes_max": _count("inflight_bytes_max", inflight, "bytes", 2 * MEBIBYTE),
            "max_uncommitted_bytes": _count("max_uncommitted_bytes", max_uncommitted_bytes, "bytes", 64 * MEBIBYTE),
            "max_unapplied_bytes": _count("max_unapplied_bytes", max_unapplied_bytes, "bytes", 64 * MEBIBYTE),
            "snapshot_threshold": _count("snapshot_threshold", snapshot_threshold, "commands", 10_000),
            "snapshot_log_bytes": _count("snapshot_log_bytes", snapshot_log_bytes, "bytes", 64 * MEBIBYTE),
            "snapshot_bytes_per_second": _count(
                "snapshot_bytes_per_second", snapshot_bytes_per_second, "bytes a second", 64 * MEBIBYTE, least=0
            ),
            "trailing_entries": _count("trailing_entries", trailing_entries, "entries", 1_000, least=0),
            "trailing_bytes": _count("trailing_bytes", trailing_bytes, "bytes", 16 * MEBIBYTE, least=0),
            "pre_vote": _switch("pre_vote", pre_vote),
            "check_quorum": _switch("check_quorum", check_quorum),
            "priority": _count("priority", priority, "points", 1, least=0),
            "format_highest": _format(format_highest),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def voters(self) -> tuple[NodeId, ...]:
        """This node and its peers, sorted."""
        return tuple(sorted((self.node_id, *self.peers)))

    def configuration(self) -> Configuration:
        """The first configuration of a new group with these members."""
        return make_configuration(self.voters, addresses=self.addresses)

    def replace(self, **changes: Any) -> "RaftConfig":
        """A copy with these arguments of the constructor changed; validated as a new one is."""
        return RaftConfig(**{**self._arguments(), **changes})

    def with_election_timeout(
        self, least: Duration | tuple[Duration, Duration], most: Duration | None = None
    ) -> "RaftConfig":
        """A copy with this election timeout: one duration T (T to 2 T), a pair, or two durations."""
        if most is None:
            return self.replace(election_timeout=least, election_timeout_min=None, election_timeout_max=None)
        return self.replace(election_timeout=None, election_timeout_min=least, election_timeout_max=most)

    def with_heartbeat_interval(self, interval: Duration) -> "RaftConfig":
        """A copy with this heartbeat interval."""
        return self.replace(heartbeat_interval=interval)

    def _arguments(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__}
        addresses = values.pop("addresses")
        if addresses:
            values["peers"] = {peer: addresses.get(peer, "") for peer in (*self.peers, *addresses)}
        for name in ("election_timeout_min", "election_timeout_max", "heartbeat_interval"):
            values[name] = values.pop(f"{name}_ms")
        return values

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a RaftConfig doesn't change: use replace({name}=...) for a changed copy")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RaftConfig):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RaftConfig({', '.join(f'{name}={value!r}' for name, value in self._arguments().items())})"


def _name(key: str, value: int | str) -> NodeId:
    try:
        return node_id(value)
    except InvalidArgument as error:
        raise ConfigError(f"{key} = {value!r}: {error}") from None


def _peers(peers: Any) -> tuple[set[NodeId], dict[NodeId, str]]:
    if isinstance(peers, str | bytes) or not isinstance(peers, Iterable):
        raise ConfigError(f"peers = {peers!r}: must be a list of ids or a mapping of ids to 'host:port'; try [2, 3]")
    if not isinstance(peers, Mapping):
        return {_name("peers", peer) for peer in peers}, {}
    addresses = {}
    for peer, address in peers.items():
        if not isinstance(address, str):
            raise ConfigError(f"peers[{peer!r}] = {address!r}: must be an address; try '127.0.0.1:7101'")
        addresses[_name("peers", peer)] = address
    return set(addresses), {peer: address for peer, address in sorted(addresses.items()) if address}


def _election_timeout(both: Any, least: Duration | None, most: Duration | None) -> tuple[float, float]:
    """The bounds in ms of what the three arguments say together; a named bound goes before `both`."""
    low: Duration
    high: Duration
    if both is None:
        low = 150 if least is None else least
        high = (300 if least is None else 2 * _milliseconds("election_timeout_min", low, 150)) if most is None else most
    elif isinstance(both, tuple | list):
        if len(both) != 2:
            raise ConfigError(f"election_timeout = {both!r}: must be one duration or (min, max) in ms; try (150, 300)")
        low, high = both
    else:
        low = both
        high = 2 * _milliseconds("election_timeout", both, 150)
    low = low if least is None else least
    high = high if most is None else most
    return _milliseconds("election_timeout_min", low, 150), _milliseconds("election_timeout_max", high, 300)


def _milliseconds(key: str, value: Any, good: float) -> float:
    if isinstance(value, timedelta):
        value = value / timedelta(milliseconds=1)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{key} = {value!r}: must be a number of milliseconds or a timedelta; try {good:g}")
    if not 0 < value <= 86_400_000:
        raise ConfigError(f"{key} = {value!r} ms: must be more than 0 and at most a day; try {good:g}")
    return float(value)


def _count(key: str, value: Any, unit: str, good: int, *, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{key} = {value!r}: must be a whole number of {unit}; try {good}")
    if value < least:
        raise ConfigError(f"{key} = {value} {unit}: must be at least {least}; try {good}")
    return value


def _format(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not FORMAT_LOWEST <= value <= FORMAT_HIGHEST:
        known = f"this program knows formats {FORMAT_LOWEST} to {FORMAT_HIGHEST}"
        raise ConfigError(f"format_highest = {value!r}: {known}; try {FORMAT_HIGHEST}")
    return value


def _switch(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key} = {value!r}: must be true or false; try true")
    return value
