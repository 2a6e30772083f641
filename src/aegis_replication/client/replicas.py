"""Which node answers a read that any may answer? One that this client sticks to, until it doesn't answer.

Its connections are its own, so that reads at followers never stand in line with writes.
"""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Final

from aegis_replication import wire
from aegis_replication.client.calls import final_error, reply_text
from aegis_replication.client.links import Dialer, Link, Links
from aegis_replication.errors import (
    AegisError,
    DeadlineExceeded,
    Overloaded,
    ProtocolError,
    Refused,
    Unavailable,
)
from aegis_replication.ids import GroupId

READS_MAX: Final = 100_000
"""So many reads may wait in one client; the next is refused with Overloaded."""

DIAL_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 0.5  # for an answer, before another replica is asked as well
PAUSE_SECONDS: Final = 0.02  # the first; longer each time, up to 8 of them

Answer = tuple[int, bytes]  # status and body


class Replicas:
    """Asks replicas, one after another, until one can answer."""

    def __init__(self, dialer: Dialer, endpoints: list[str], group: GroupId, random: Random) -> None:
        self._endpoints = endpoints  # shared: grows as nodes become known
        self._group = group
        self._random = random
        self._links = Links(dialer, self._on_replies, self._on_lost)
        self._waiting: dict[int, tuple[Link, asyncio.Future[Answer]]] = {}
        self._next_number = 1
        self._chosen = ""  # which endpoint is asked until it doesn't answer
        self._is_closed = False

    async def read(self, what: str, query: bytes, staleness_ms: int, timeout: float) -> bytes:
        """The answer to `query`. Raises DeadlineExceeded, Unavailable, Overloaded, or what the machine answered."""
        if len(self._waiting) >= READS_MAX:
            raise Overloaded(f"{READS_MAX:,} reads wait in this client already: send again later")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        body = wire.encode_read(staleness_ms, query)
        trouble, attempts, was_sent = "nobody was asked yet", 0, False
        while (left := deadline - loop.time()) > 0:
            if self._is_closed:
                raise Unavailable("this client is closed: make a new one")
            address = self._choose()
            try:
                link = await self._links.get(address, min(left, DIAL_SECONDS))
                was_sent = True
                status, answer = await self._ask(link, body, min(deadline - loop.time(), PATIENCE_SECONDS))
            except (Refused, ProtocolError):
                raise
            except AegisError as error:
                trouble = str(error)
            else:
                if status == wire.OK:
                    return answer
                error_ = final_error(status, answer)
                if error_ is not None:
                    raise error_
                trouble = (
                    f"{address}: {reply_text(answer)}" if status != wire.NOT_LEADER else f"{address} knows no leader"
                )
            self._part_with(address)
            attempts += 1
            pause = PAUSE_SECONDS * min(attempts, 8) * self._random.uniform(0.5, 1.0)
            await asyncio.sleep(min(pause, max(deadline - loop.time(), 0.0)))
        text = f"{what}: no replica could answer within {timeout:g} s; {trouble}"
        raise DeadlineExceeded(text) if was_sent else Unavailable(text)

    def _choose(self) -> str:
        if not self._chosen:
            self._chosen = self._random.choice(self._endpoints)
        return self._chosen

    def _part_with(self, address: str) -> None:
        """Ask another one from now on, if there is another."""
        if self._chosen == address:
            others = [each for each in self._endpoints if each != address]
            self._chosen = self._random.choice(others) if others else address

    async def _ask(self, link: Link, body: bytes, seconds: float) -> Answer:
        number = self._next_number
        self._next_number += 1
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (link, future)
        try:
            link.connection.send(wire.encode_request(wire.READ, self._group, number, body))
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            raise Unavailable(f"{link.address} gave no answer for {seconds:.1f} s") from None
        finally:
            del self._waiting[number]

    def _on_replies(self, link: Link, packets: Sequence[bytes]) -> None:
        for packet in packets:
            number, status, body = wire.decode_reply(packet)
            waiting = self._waiting.get(number)
            if waiting is not None and not waiting[1].done():
                waiting[1].set_result((status, body))

    def _on_lost(self, link: Link, reason: str) -> None:
        self._links.forget(link)
        for asked, future in self._waiting.values():
            if asked is link and not future.done():
                future.set_exception(Unavailable(reason))

    async def close(self) -> None:
        """End everything: reads that wait raise Unavailable."""
        self._is_closed = True
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(Unavailable("the client was closed"))
        await self._links.close()
