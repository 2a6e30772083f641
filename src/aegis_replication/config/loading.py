"""Where does a node's configuration come from, and is it any good? Flags over environment over file over defaults."""

import os
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

import msgspec

from aegis_replication.config.settings import ALIASES, DEFAULT, SECTIONS, NodeConfig, exposed, settings, unit_of
from aegis_replication.errors import ConfigError
from aegis_replication.ids import NodeId, node_id
from aegis_replication.transport.tcp import parse_address

ENVIRONMENT_PREFIX: Final = "AEGIS_"


def load_config(
    path: str | Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> NodeConfig:
    """The configuration of file `path`, overridden by AEGIS_<SECTION>__<KEY> variables, overridden by `flags`.

    `flags` maps "section.key" to a value, or to text that holds one; a value of None means "not given".
    Raises ConfigError for an unreadable file, an unknown key, a wrong type or a value out of range, naming who set it,
    the key, the value, the unit and a good value.
    """
    given: dict[str, _Given] = {}
    for source in (
        _from_file(path) if path is not None else (),
        _from_environment(os.environ if environment is None else environment),
        _from_flags(flags or {}),
    ):
        for key, setting in source:
            given[_known(key, setting.origin)] = setting
    return _checked(given)


# --- where values come from -----------------------------------------------------------------------------------------


class _Given(NamedTuple):
    value: Any
    origin: str
    is_text: bool = False  # numbers and lists are read out of it


def _from_file(path: str | Path) -> Iterator[tuple[str, _Given]]:
    origin = f"file {path}"
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration ({error.strerror}): give another --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    for section, table in tables.items():
        if section not in SECTIONS:
            raise ConfigError(f"{path}: {section}: {_unknown(section, SECTIONS)}")
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {section} = {table!r}: must be a table, written as [{section}]")
        for name, value in table.items():
            yield f"{section}.{name}", _Given(value, origin)


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    for variable, text in sorted(environment.items()):
        section, separator, name = variable.removeprefix(ENVIRONMENT_PREFIX).partition("__")
        if variable.startswith(ENVIRONMENT_PREFIX) and separator:
            yield f"{section}.{name}".lower(), _Given(text, f"environment {variable}", is_text=True)


def _from_flags(flags: Mapping[str, Any]) -> Iterator[tuple[str, _Given]]:
    for key, value in flags.items():
        if value is not None:
            yield key, _Given(value, "flag", is_text=isinstance(value, str))


def _known(key: str, origin: str) -> str:
    key = ALIASES.get(key, key)
    names = {known for known, _, _, _ in settings()}
    if key not in names:
        raise ConfigError(f"{_place(origin)}{key}: {_unknown(key, {*names, *ALIASES})}")
    return key


def _unknown(name: str, known: Mapping[str, Any] | set[str]) -> str:
    near = get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    if near:
        return f"unknown; did you mean {near[0]}?"
    return f"unknown; known are {', '.join(sorted(known))}"


def _place(origin: str) -> str:
    kind, _, name = origin.partition(" ")
    return "" if kind in (DEFAULT, "flag") else f"{name}: "


# --- whether they are any good --------------------------------------------------------------------------------------


def _checked(given: Mapping[str, _Given]) -> NodeConfig:
    sections: dict[str, Any] = {}
    for section, shape in SECTIONS.items():
        values = {}
        for field in msgspec.structs.fields(shape):
            setting = given.get(f"{section}.{field.name}")
            if setting is not None:
                values[field.name] = _converted(f"{section}.{field.name}", field, setting)
        sections[section] = shape(**values)
    config = NodeConfig(**sections, origins={key: setting.origin for key, setting in given.items()})
    _check_names(config)
    _check_values(config)
    return config


def _converted(key: str, field: Any, setting: _Given) -> Any:
    value: Any = setting.value
    if key == "cluster.peers":
        value = [*_peers_of_text(value)] if setting.is_text else _ids_as_text(value)
    elif key == "cluster.join" and setting.is_text:
        value = [part.strip() for part in value.split(",") if part.strip()]
    elif key == "cluster.node_id" and type(value) is int:
        value = str(value)
    try:
        return msgspec.convert(value, field.type, strict=not setting.is_text)
    except msgspec.ValidationError as error:
        meta = field.type.__metadata__[0]
        good = (meta.examples or [repr(field.default)])[0]
        unit = unit_of(meta)
        choices = get_args(get_args(field.type)[0]) if isinstance(field.default, str) else ()
        expected = f"must be one of {', '.join(map(repr, choices))}" if choices else str(error)
        raise ConfigError(
            f"{_place(setting.origin)}{key} = {setting.value!r}{' ' + unit if unit else ''}: {expected} "
            f"({meta.description}); try {good}"
        ) from None


def _peers_of_text(text: str) -> Iterator[dict[str, str]]:
    """n2=127.0.0.1:7491,n3=127.0.0.1:7501, as flags and environment write it."""
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, address = part.partition("=")
        yield {"id": name.strip(), "address": address.strip()}


def _ids_as_text(peers: Any) -> Any:
    if not isinstance(peers, list):
        return peers
    return [
        {**peer, "id": str(peer["id"])} if isinstance(peer, dict) and type(peer.get("id")) is int else peer
        for peer in peers
    ]


def _check_names(config: NodeConfig) -> None:
    """Ids are names, each once; addresses are addresses."""
    cluster = config.cluster
    where = _place(config.origin("cluster.peers"))
    if cluster.peers and not cluster.node_id:
        raise ConfigError(f"{where}cluster.node_id is missing beside cluster.peers: say which of the nodes this is")
    seen: set[NodeId] = set()
    for peer in cluster.peers:
        if peer.id in seen:
            raise ConfigError(f"{where}cluster.peers names {peer.id!r} twice: give every node an id of its own")
        seen.add(_name(peer.id, "cluster.peers"))
        parse_address(peer.address, what=f"{where}cluster.peers: address of {peer.id}")
    where = _place(config.origin("cluster.join"))
    for address in cluster.join:
        parse_address(address, what=f"{where}cluster.join")
    if cluster.join and cluster.peers:
        raise ConfigError(
            f"{where}cluster.join beside cluster.peers: a node either begins a cluster with its peers or joins "
            "one that is there; leave one of them out"
        )
    host = parse_address(config.peer_advertise, what="node.peer_listen").host if config.peer_advertise else ""
    if host in ("0.0.0.0", "::") and (cluster.join or cluster.peers):
        raise ConfigError(
            f"node.peer_listen = {config.peer_advertise!r}: the others can't connect to that: say where they can with "
            "--peer-advertise (node.peer_advertise), such as '10.0.0.4:7481'"
        )
    if cluster.join and not cluster.node_id:
        raise ConfigError(f"{where}cluster.node_id is missing beside cluster.join: give the new node a name of its own")
    if cluster.node_id:
        _name(cluster.node_id, "cluster.node_id")
    for key in ("node.listen", "node.peer_listen", "node.advertise", "node.peer_advertise", "node.http"):
        address = getattr(config.node, key.partition(".")[2])
        if address:
            may_choose = not key.endswith("advertise")  # port 0: the system chooses
            parse_address(address, what=f"{_place(config.origin(key))}{key}", any_port=may_choose)


def _name(value: str, key: str) -> NodeId:
    try:
        return node_id(value)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None


def _check_values(config: NodeConfig) -> None:
    """What one key says must fit the others, and what this version can do."""
    raft = config.raft
    where = _place(config.origin("raft.election_timeout_min"))
    if raft.election_timeout_min <= raft.heartbeat_interval:
        raise ConfigError(
            f"{where}raft.election_timeout_min = {raft.election_timeout_min}: must exceed heartbeat_interval "
            f"({raft.heartbeat_interval} ms), by far; try {3 * raft.heartbeat_interval}"
        )
    if raft.election_timeout_max <= raft.election_timeout_min:
        raise ConfigError(
            f"{_place(config.origin('raft.election_timeout_max'))}raft.election_timeout_max = "
            f"{raft.election_timeout_max}: must exceed election_timeout_min ({raft.election_timeout_min} ms), so that "
            f"votes don't split; try {2 * raft.election_timeout_min}"
        )
    level = config.replication.consistency_level
    if level != "quorum":
        raise ConfigError(
            f"{_place(config.origin('replication.consistency_level'))}replication.consistency_level = {level!r}: "
            'not supported yet; what works is "quorum": a write counts when a majority has it on disk'
        )
    open_to_others = exposed(config)
    if open_to_others and not config.node.insecure:
        key, address = open_to_others[0]
        raise ConfigError(
            f"{_place(config.origin(key))}{key} = {address!r}: other machines can connect there, and traffic is not "
            "encrypted yet; use 127.0.0.1, or say --insecure (node.insecure = true) in a network you trust"
        )
