"""What is a call while it waits, and which error does a refusal, or no answer at all, become?"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from aegis_replication import wire
from aegis_replication.admin import refusal
from aegis_replication.client.links import Link
from aegis_replication.client.session import Session
from aegis_replication.errors import (
    AegisError,
    CommandFailed,
    DeadlineExceeded,
    DiskFull,
    InvalidCommand,
    NotAnInteger,
    OutcomeUnknown,
    ProtocolError,
    Unavailable,
)


class Call:
    """One request until its answer. One future, no task, no timer of its own."""

    # fmt: off
    __slots__ = ("asked", "body", "deadline", "full", "future", "is_unsure", "kind", "link", "number", "sequence",
                 "session")
    # fmt: on

    def __init__(self, kind: int, asked: Any, body: bytes, deadline: float, future: "asyncio.Future[bytes]") -> None:
        self.kind = kind
        self.asked = asked  # the command or query as a value: for its encoding and for messages
        self.body = body
        self.deadline = deadline
        self.future = future
        self.number = 0
        self.session: Session | None = None  # of a write, once it has its place in one
        self.sequence = 0
        # The link that it was sent on and whose answer is awaited; None: it is not on its way.
        self.link: Link | None = None
        # An earlier attempt may have been, or still be, applied.
        self.is_unsure = False
        # Which full disk refused it last; "" if none did.
        self.full = ""

    @property
    def what(self) -> str:
        """For messages: which call this is."""
        return describe(self.asked)


def describe(asked: Any) -> str:
    """A command or query in a few words: its name and key."""
    if isinstance(asked, str):
        return asked
    name = type(asked).__name__
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
    key = getattr(asked, "key", None)
    if isinstance(key, bytes):
        return f"{words} {key[:60]!r}"
    return words


CHANGING = (wire.COMMAND, wire.ADMIN)
"""Requests of which a missing answer leaves open whether they had an effect."""

# What had no effect, or one that the session makes safe to ask for again.
_AGAIN = frozenset(
    (
        wire.NOT_LEADER,
        wire.OVERLOADED,
        wire.SESSION_EXPIRED,
        wire.DROPPED,
        wire.UNKNOWN,
        wire.REFUSED,
        wire.DISK_FULL,
    )
)


def _failed(detail: Any) -> AegisError:
    return CommandFailed(str(detail[0]), str(detail[1]))


_ERRORS: dict[int, Callable[[Any], AegisError]] = {
    wire.INVALID: lambda detail: InvalidCommand(str(detail)),
    wire.FAILED: _failed,
    wire.CHANGE_REFUSED: lambda detail: refusal(str(detail[0]), str(detail[1])),
    wire.NOT_AN_INTEGER: lambda detail: NotAnInteger(str(detail)),
}


def final_error(status: int, body: bytes) -> AegisError | None:
    """The error that ends a call answered with `status`; None when the call is to be sent again."""
    if status in _AGAIN:
        return None
    make = _ERRORS.get(status)
    try:
        detail = msgspec.msgpack.decode(body)
        return make(detail) if make is not None else ProtocolError(f"reply status {status} is unknown: {detail!r}")
    except (msgspec.MsgspecError, LookupError, TypeError) as error:
        return ProtocolError(f"malformed reply of status {status}: {error}")


def unanswered(call: Call, why: str, trouble: str) -> AegisError:
    """The error that ends a call without an answer: is it known that it had no effect?"""
    if call.kind in CHANGING and (call.is_unsure or call.link is not None):
        return OutcomeUnknown(call.what, why)
    if call.link is not None:
        return DeadlineExceeded(f"{call.what}: {call.link.address} gave no answer: {why}")
    if call.full:
        return DiskFull(f"{call.what}: {why}; {call.full}")
    return Unavailable(f"{call.what}: {why}; {trouble}")


def reply_text(body: bytes) -> str:
    """What a refusal says, for people."""
    try:
        return str(msgspec.msgpack.decode(body))
    except msgspec.MsgspecError:
        return "a malformed reply"
