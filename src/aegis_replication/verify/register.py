"""What do the clients of a verification do? Registers: a few keys that many clients read, set, compare and count up."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from random import Random
from typing import Final

from aegis_replication.client.client import Client
from aegis_replication.errors import DeadlineExceeded, OutcomeUnknown, Retryable, SessionExpired
from aegis_replication.verify.history import History, Kind, Outcome, Record, Result

TIMEOUT_SECONDS: Final = 10.0
"""After that a request has an unknown outcome. Long, since each of those makes a history harder to judge."""

PAUSE_SECONDS_MAX: Final = 0.02
_VALUES_APART: Final = 1_000  # every put and cas writes a number of its own, far enough from the next for increments


class RegisterClient:
    """One client: one request at a time, at random, over a connection and a session of its own."""

    def __init__(self, name: str, database: Client, keys: Sequence[str], history: History, random: Random) -> None:
        self.name = name
        self._database = database
        self._keys = keys
        self._history = history
        self._random = random
        # What each key held when this client last saw it: a cas that expects it has a chance.
        self._seen: dict[str, str | None] = {}
        self._written = 0
        self._is_ending = False

    def end(self) -> None:
        """Begin nothing new."""
        self._is_ending = True

    async def run(self) -> None:
        """Until `end`."""
        while not self._is_ending:
            await self.ask(self._random.choice(self._keys))
            await asyncio.sleep(self._random.uniform(0.0, PAUSE_SECONDS_MAX))

    async def ask(self, key: str) -> None:
        """One request."""
        chance = self._random.random()
        if chance < 0.4:
            await self.read(key)
        elif chance < 0.6:
            await self._put(key)
        elif chance < 0.85:
            await self._compare_and_set(key)
        else:
            await self._increment(key)

    async def read(self, key: str) -> None:
        """A linearizable read."""

        async def get() -> Result:
            found = await self._database.get(key)
            self._seen[key] = None if found is None else found.value.decode()
            return self._seen[key]

        await self._record(key, "get", get())

    async def _put(self, key: str) -> None:
        value = self._new_value()

        async def put() -> Result:
            await self._database.put(key, value)
            self._seen[key] = value
            return None

        await self._record(key, "put", put(), value=value)

    async def _compare_and_set(self, key: str) -> None:
        if key not in self._seen:
            await self.read(key)
            return
        value, expect = self._new_value(), self._seen.pop(key)

        async def compare_and_set() -> Result:
            if expect is None:
                swap = await self._database.cas(key, value, expect_version=0)
            else:
                swap = await self._database.cas(key, value, expect=expect)
            if swap:
                self._seen[key] = value
            return swap.succeeded

        await self._record(key, "cas", compare_and_set(), value=value, expect=expect)

    async def _increment(self, key: str) -> None:
        async def increment() -> Result:
            total = await self._database.increment(key)
            self._seen[key] = str(total)
            return total

        await self._record(key, "increment", increment(), by=1)

    def _new_value(self) -> str:
        """A number that no other write of any client writes."""
        self._written += 1
        return str((int(self.name[1:]) * 10_000_000 + self._written) * _VALUES_APART)

    async def _record(
        self,
        key: str,
        op: Kind,
        asking: Awaitable[Result],
        *,
        value: str | None = None,
        expect: str | None = None,
        by: int | None = None,
    ) -> None:
        called = time.monotonic_ns()
        result: Result = None
        outcome: Outcome
        try:
            result = await asking
            outcome = "ok"
        except (OutcomeUnknown, SessionExpired, DeadlineExceeded):
            outcome = "unknown"
        except Retryable:  # nobody could be reached, or took it: it had no effect
            outcome = "failed"
        returned = time.monotonic_ns() if outcome == "ok" else None
        self._history.records.append(Record(self.name, key, op, called, outcome, returned, value, expect, by, result))
