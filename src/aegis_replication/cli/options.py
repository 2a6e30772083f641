"""Which flags do many commands share, and where do their values come from when no flag is given?"""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from aegis_replication.client.endpoints import parse_endpoints
from aegis_replication.errors import InvalidArgument

DEFAULT_ENDPOINTS = "127.0.0.1:7480"

_GROUP = Group("Common options", sort_key=90)


@Parameter(name="*", group=_GROUP)
@dataclass(frozen=True)
class Format:
    """How to print."""

    output: Annotated[
        Literal["table", "json", "jsonl"], Parameter(name=["--output", "-o"], env_var="AEGIS_OUTPUT", negative=())
    ] = "table"
    """How to print: for people, one JSON value, or one JSON object a line."""


@Parameter(name="*", group=_GROUP)
@dataclass(frozen=True)
class Target:
    """Which cluster, and for how long to try."""

    endpoints: Annotated[str, Parameter(env_var="AEGIS_ENDPOINTS")] = DEFAULT_ENDPOINTS
    """Client addresses of some nodes, host:port with commas between; the leader is found from there."""

    timeout: Annotated[float, Parameter(env_var="AEGIS_TIMEOUT")] = 5.0
    """Seconds until a request is given up."""

    def addresses(self) -> list[str]:
        """The endpoints one by one, each with its port.

        Raises InvalidArgument when there is none, one isn't an address, or the timeout is no time.
        """
        if not 0 < self.timeout < 1e6:
            raise InvalidArgument(f"--timeout {self.timeout} is not a time in seconds: give more than 0, such as 5")
        return list(parse_endpoints(self.endpoints))

    def url(self) -> str:
        """The endpoints as connect() takes them."""
        return "aegis://" + ",".join(self.addresses())


# What commands take when no such flag is given: environment and defaults decide.
FORMAT = Format()
TARGET = Target()


def examples(*lines: str) -> str:
    """The end of a command's --help."""
    return "\n".join(["Examples:", "", *(f"  {line}" for line in lines)])
