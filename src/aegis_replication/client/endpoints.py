"""Which nodes does an address such as "aegis://n1:7480,n2:7480" name?"""

from typing import Final

from aegis_replication.errors import InvalidArgument
from aegis_replication.transport.tcp import Address, parse_address

SCHEME: Final = "aegis://"
DEFAULT_PORT: Final = 7480
ENDPOINTS_MAX: Final = 64


def parse_endpoints(text: str) -> tuple[str, ...]:
    """The "host:port" of each node named by `text`: with or without the scheme, port 7480 where none is given.

    Raises InvalidArgument for another scheme, an address that isn't one, none at all, or more than 64.
    """
    if not isinstance(text, str):
        raise InvalidArgument(f"addresses {text!r}: give text such as 'aegis://n1:7480,n2:7480'")
    scheme, separator, rest = text.partition("://")
    if separator and scheme != "aegis":
        raise InvalidArgument(f"{text!r}: there is no way to {scheme}:// yet; give aegis://host:port,host:port")
    listed = (rest if separator else text).rstrip("/")
    parts = [part.strip() for part in listed.split(",") if part.strip()]
    if not 1 <= len(parts) <= ENDPOINTS_MAX:
        raise InvalidArgument(f"{text!r} names {len(parts)} nodes: give 1 to {ENDPOINTS_MAX}, as 'n1:7480,n2:7480'")
    return tuple(dict.fromkeys(_endpoint(part, text) for part in parts))


def _endpoint(part: str, text: str) -> str:
    has_port = ":" in part.rpartition("]")[2]
    try:
        address: Address = parse_address(part if has_port else f"{part}:{DEFAULT_PORT}", what="address")
    except ValueError as error:
        raise InvalidArgument(f"{text!r}: {error}") from None
    return str(address)
