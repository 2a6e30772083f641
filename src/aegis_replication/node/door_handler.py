"""By which of its doors did a request come? A node learns it from the connection's number."""

from collections.abc import Sequence
from typing import Protocol

from aegis_replication import wire


class TakesRequests(Protocol):
    """A node, as far as its doors are concerned."""

    def on_requests(self, connection: int, requests: Sequence[wire.Request]) -> None:
        """What one read brought from a client."""


class DoorHandler:
    """One of `count` doors, the one at `position`: connection c of it is number c * count + position to the node."""

    __slots__ = ("_count", "_node", "_position")

    def __init__(self, node: TakesRequests, position: int, count: int) -> None:
        self._node, self._position, self._count = node, position, count

    def on_requests(self, connection: int, requests: Sequence[wire.Request]) -> None:
        """What one read brought from a client of this door."""
        self._node.on_requests(connection * self._count + self._position, requests)

    def on_client_gone(self, connection: int) -> None:
        """Replies to it are dropped by the door."""
