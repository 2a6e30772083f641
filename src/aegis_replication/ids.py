"""What do nodes, groups, terms and positions call themselves? Names for plain values, checked at the border."""

import re
from typing import TypeAlias

from aegis_replication.errors import InvalidArgument

NodeId: TypeAlias = str
"""A node's name, chosen by its operator: 1 to 64 letters, digits, dots, dashes or underscores."""

GroupId: TypeAlias = int
"""Which Raft group: replicas that share one log. An unsigned 32-bit number."""

DATA_GROUP: GroupId = 1
"""The group of user data; 0 is reserved for the cluster's own catalog."""

Term: TypeAlias = int
LogIndex: TypeAlias = int
"""The position of an entry in a group's log. The first entry is 1; 0 is "before everything"."""

SessionId: TypeAlias = bytes
"""16 random bytes that name a client's session, or none (b"") for a command that must not be retried."""

_NODE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


def node_id(value: int | str) -> NodeId:
    """`value` as a node's name; whole numbers are accepted and become their decimal text.

    Raises InvalidArgument for anything that isn't 1 to 64 letters, digits, dots, dashes or underscores.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidArgument(
            f"node id {value!r} is a {type(value).__name__}: give a name such as 'n1', or a whole number"
        )
    name = str(value)
    if not _NODE_ID.fullmatch(name):
        raise InvalidArgument(
            f"node id {name!r} is not a name: use 1 to 64 letters, digits, '.', '-' or '_', such as 'n1'"
        )
    return name
