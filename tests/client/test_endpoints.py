"""Which nodes does an address name, and what is said about one that names none?"""

import pytest

from aegis_replication.client.endpoints import parse_endpoints
from aegis_replication.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("aegis://n1:7480,n2:7480", ("n1:7480", "n2:7480")),
        ("n1:7480,n2:7480", ("n1:7480", "n2:7480")),
        ("aegis://n1", ("n1:7480",)),
        ("aegis://n1/", ("n1:7480",)),
        ("n1, n2:81 ,n1", ("n1:7480", "n2:81")),
        ("[::1]", ("[::1]:7480",)),
        ("aegis://[::1]:99,127.0.0.1", ("[::1]:99", "127.0.0.1:7480")),
    ],
)
def test_scheme_and_port_may_be_left_out(text: str, endpoints: tuple[str, ...]) -> None:
    assert parse_endpoints(text) == endpoints


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names 0 nodes"),
        ("aegis://", "names 0 nodes"),
        ("etcd://n1:2379", "no way to etcd:// yet"),
        ("n1:port", "host:port"),
        ("n1:0", "host:port"),
        ("::1", "host:port"),
        (",".join(f"n{number}" for number in range(65)), "names 65 nodes: give 1 to 64"),
        (7480, "give text such as 'aegis://n1:7480,n2:7480'"),
    ],
)
def test_what_names_no_node_is_refused_with_an_example(text: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        parse_endpoints(text)
