"""Which cluster does a command talk to? Its own file, because the client is not needed by every command."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from aegis_replication.cli.options import COMMON
from aegis_replication.client.client import Client, connect
from aegis_replication.client.endpoints import parse_endpoints
from aegis_replication.demo.control import with_other_demo_nodes
from aegis_replication.errors import InvalidArgument

DEFAULT_ENDPOINTS = "127.0.0.1:7480"


@Parameter(name="*", group=COMMON)
@dataclass(frozen=True)
class Target:
    """Which cluster, and for how long to try."""

    endpoints: Annotated[str, Parameter(env_var="AEGIS_ENDPOINTS")] = DEFAULT_ENDPOINTS
    """Client addresses of some nodes, host:port with commas between; the leader is found from there.

    A running `aegis demo` that has the default address is found with all its nodes."""

    cluster: Annotated[str, Parameter(env_var="AEGIS_CLUSTER")] = ""
    """The cluster's name: nodes of another one are refused. Any, if not given."""

    timeout: Annotated[float, Parameter(env_var="AEGIS_TIMEOUT")] = 5.0
    """Seconds until a request is given up."""

    def addresses(self) -> list[str]:
        """The endpoints one by one, each with its port.

        Raises InvalidArgument when there is none, one isn't an address, or the timeout is no time.
        """
        if not 0 < self.timeout < 1e6:
            raise InvalidArgument(f"--timeout {self.timeout} is not a time in seconds: give more than 0, such as 5")
        addresses = list(parse_endpoints(self.endpoints))
        return with_other_demo_nodes(addresses[0]) if addresses == [DEFAULT_ENDPOINTS] else addresses

    def connect(self) -> Client:
        """A client of that cluster."""
        return connect("aegis://" + ",".join(self.addresses()), cluster=self.cluster, timeout=self.timeout)


# What a command takes when no such flag is given: environment and defaults decide.
TARGET = Target()
