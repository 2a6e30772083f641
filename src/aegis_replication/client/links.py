"""Which nodes is a client connected to? One link per node in use, made at first use."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from aegis_replication.transport.connection import ClientConnection, OnLost, OnReplies


class Dialer(Protocol):
    """Makes connections to nodes' client doors."""

    async def dial(self, address: str, *, timeout: float, on_replies: OnReplies, on_lost: OnLost) -> ClientConnection:
        """A connection to `address`, handshake done. Raises Unavailable, Refused or ProtocolError."""


class Link:
    """One connection to a node, as the router keeps it."""

    __slots__ = ("address", "asked_at", "connection", "heard_at")

    def __init__(self, address: str, now: float) -> None:
        self.address = address
        self.connection: ClientConnection
        self.heard_at = now  # when anything came from there
        self.asked_at: float | None = None  # when a sign of life was asked for since


class Links:
    """The links of one client. A lost link is made anew at its next use."""

    __slots__ = ("_dialer", "_dialing", "_links", "_on_lost", "_on_replies")

    def __init__(
        self, dialer: Dialer, on_replies: Callable[[Link, Sequence[bytes]], None], on_lost: Callable[[Link, str], None]
    ) -> None:
        self._dialer, self._on_replies, self._on_lost = dialer, on_replies, on_lost
        self._links: dict[str, Link] = {}
        self._dialing: dict[str, asyncio.Task[Link]] = {}

    async def get(self, address: str, timeout: float) -> Link:
        """The link to `address`. Raises what Dialer.dial raises."""
        link = self._links.get(address)
        if link is not None:
            return link
        task = self._dialing.get(address)
        if task is None:
            task = self._dialing[address] = asyncio.get_running_loop().create_task(self._dial(address, timeout))
            task.add_done_callback(look_at)
        return await asyncio.shield(task)  # who waits for it may give up; the link is good for others

    async def _dial(self, address: str, timeout: float) -> Link:
        now = asyncio.get_running_loop().time
        link = Link(address, now())
        try:
            link.connection = await self._dialer.dial(
                address,
                timeout=timeout,
                on_replies=partial(self._on_replies, link),
                on_lost=partial(self._on_lost, link),
            )
        finally:
            del self._dialing[address]
        link.heard_at = now()
        self._links[address] = link
        return link

    def has(self, link: Link) -> bool:
        """Is `link` still the one to its node?"""
        return self._links.get(link.address) is link

    def forget(self, link: Link) -> None:
        """It is lost."""
        if self.has(link):
            del self._links[link.address]

    async def close(self) -> None:
        """Close all."""
        dialing = [*self._dialing.values()]
        for task in dialing:
            task.cancel()
        await asyncio.gather(*dialing, return_exceptions=True)
        links, self._links = self._links, {}
        for link in links.values():
            link.connection.close()


def look_at(future: "asyncio.Future[Any]") -> None:
    """Nobody may wait for it any more: its error isn't worth a warning."""
    if future.done() and not future.cancelled():
        future.exception()
