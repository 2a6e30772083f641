"""How is a write applied once, however often it is sent? Sessions, their sequences and their window (thesis §6.3)."""

import asyncio
import secrets
from collections import deque
from typing import Any

import msgspec

from aegis_replication import wire
from aegis_replication.client.calls import Call
from aegis_replication.client.router import Router
from aegis_replication.client.session import Session
from aegis_replication.errors import InvalidArgument, OutcomeUnknown, Unavailable
from aegis_replication.state_machine.commands import SESSION_BYTES, encode_command, encode_open


class Writer:
    """The writes of one client: each waits for its place in the session's window, then belongs to the router."""

    __slots__ = ("_opening", "_queue", "_router", "_session")

    def __init__(self, router: Router) -> None:
        self._router = router
        router.on_answered = self._pump
        router.on_expired = self._on_expired
        self._session = Session(b"")
        self._opening: Call | None = None
        # Writes without a place in the session yet, in the order they came. Bounded by the router's CALLS_MAX.
        self._queue: deque[Call] = deque()

    def write(self, command: Any, timeout: float) -> "asyncio.Future[bytes]":
        """Send a command; the future holds the body of its OK reply, or what final_error and the router make of it."""
        call = self._router.begin(wire.COMMAND, command, b"", timeout)
        session = self._session
        if session.is_open and session.has_room and not self._queue:
            self._place(call)
        else:
            self._queue.append(call)
            self._pump()
        return call.future

    def _place(self, call: Call) -> None:
        session = self._session
        sequence = session.next_sequence
        try:
            call.body = encode_command(session.id, sequence, session.floor, call.asked)
        except (TypeError, ValueError, OverflowError) as error:
            self._router.fail(call, InvalidArgument(f"{call.what}: {error}"))
            return
        call.session, call.sequence = session, session.take()
        self._router.send(call)

    def _pump(self) -> None:
        """Writes that wait go out as far as the window allows."""
        queue = self._queue
        while queue:
            if queue[0].future.done():  # its time is over, or nobody waits for it
                self._router.end(queue.popleft())
            elif not self._session.is_open:
                self._open()
                return
            elif self._session.has_room:
                self._place(queue.popleft())
            else:
                return

    # --- the session ---

    def _open(self) -> None:
        """Make a session known to the cluster, by a command like any other; writes wait for it."""
        if self._opening is not None:
            return
        session = Session(secrets.token_bytes(SESSION_BYTES))
        seconds = self._queue[0].deadline - self._router.loop.time()
        self._opening = call = self._router.begin(wire.COMMAND, "open session", encode_open(session.id), seconds)
        call.future.add_done_callback(lambda future: self._on_opened(session, future))
        self._router.send(call)

    def _on_opened(self, session: Session, future: "asyncio.Future[bytes]") -> None:
        self._opening = None
        try:
            session.open(msgspec.msgpack.decode(future.result(), type=int))
            self._session = session
        except (Unavailable, OutcomeUnknown):
            pass  # its time, which was that of the first write, is over; the next one tries again
        except Exception as error:
            queue, self._queue = self._queue, deque()
            for call in queue:
                self._router.fail(call, error)
        self._pump()

    def _on_expired(self, call: Call) -> None:
        """The cluster has forgotten the session of `call`: what was surely not applied goes on in a new one."""
        session = call.session
        assert session is not None, f"call {call.number} has no session that could expire"
        session.expire()
        if not call.is_unsure:
            session.on_answered(call.sequence)
            call.session = None
            self._queue.appendleft(call)
