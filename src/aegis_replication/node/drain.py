"""How does a node give away what it leads before it stops?"""

import asyncio
from collections.abc import Callable, Iterable

from aegis_replication.engine.events import Event, LeavingSoon
from aegis_replication.engine.replica import Replica


class Drain:
    """Asks for hand-overs, and waits until none is under way any more."""

    def __init__(self, replicas: Callable[[], Iterable[Replica]], tell: Callable[[Event], None]) -> None:
        self._replicas, self._tell = replicas, tell
        self._over: asyncio.Future[None] | None = None
        self.has_begun = False

    @property
    def is_leading(self) -> bool:
        return any(replica.raft.is_leader for replica in self._replicas())

    async def run(self, seconds: float) -> bool:
        """Does this node lead nothing any more, at the latest after so many seconds?"""
        self.has_begun = True
        if not self.is_leading:
            return True
        self._over = asyncio.get_running_loop().create_future()
        self._tell(LeavingSoon())
        try:
            async with asyncio.timeout(seconds):
                await self._over
        except TimeoutError:
            pass
        return not self.is_leading

    def look(self) -> None:
        """Called after each turn."""
        if self._over is None or self._over.done():
            return
        if not any(replica.raft.handover is not None for replica in self._replicas()):
            self._over.set_result(None)
