"""What is a call while it waits, and which error does a refusal, or no answer at all, become?"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

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
    LimitExceeded,
    NotAnInteger,
    OutcomeUnknown,
    Overloaded,
    ProtocolError,
    Unavailable,
)
from aegis_replication.state_machine.commands import encode_command


class Call:
    """One request until its answer. One future, no task, no timer of its own."""

    # fmt: off
    __slots__ = ("asked", "body", "deadline", "future", "is_unsure", "kind", "link", "no_room", "number", "sequence",
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
        # By what it was refused last, if that was for want of room: a full disk, or too much that waits already.
        self.no_room: AegisError | None = None

    def renewed(self) -> "Call":
        """As it goes out once more: its session's floor says which answers have come since the last time."""
        if self.session is not None:
            self.body = encode_command(self.session.id, self.sequence, self.session.floor, self.asked)
        return self

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


_NO_ROOM: Final[Mapping[int, type[AegisError]]] = {wire.DISK_FULL: DiskFull, wire.OVERLOADED: Overloaded}


def _failed(detail: Any) -> AegisError:
    return CommandFailed(str(detail[0]), str(detail[1]))


def _too_large(detail: Any) -> AegisError:
    what, size, limit, unit = detail
    return LimitExceeded(str(what), int(size), int(limit), str(unit))


_ERRORS: dict[int, Callable[[Any], AegisError]] = {
    wire.INVALID: lambda detail: InvalidCommand(str(detail)),
    wire.FAILED: _failed,
    wire.CHANGE_REFUSED: lambda detail: refusal(str(detail[0]), str(detail[1])),
    wire.LIMIT_EXCEEDED: _too_large,
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
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
        return ProtocolError(f"malformed reply of status {status}: {error}")


def no_room(status: int, body: bytes) -> AegisError | None:
    """The error that a refusal for want of room becomes, if there is none until the call's time is over."""
    make = _NO_ROOM.get(status)
    return make(reply_text(body)) if make is not None else None


def unanswered(call: Call, why: str, trouble: str) -> AegisError:
    """The error that ends a call without an answer: is it known that it had no effect?"""
    if call.kind in CHANGING and (call.is_unsure or call.link is not None):
        return OutcomeUnknown(call.what, why)
    if call.link is not None:
        return DeadlineExceeded(f"{call.what}: {call.link.address} gave no answer: {why}")
    if call.no_room is not None:
        return type(call.no_room)(f"{call.what}: {why}; {call.no_room}")
    return Unavailable(f"{call.what}: {why}; {trouble}")


def reply_text(body: bytes) -> str:
    """What a refusal says, for people."""
    try:
        return str(msgspec.msgpack.decode(body))
    except msgspec.MsgspecError:
        return "a malformed reply"
