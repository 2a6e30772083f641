"""How does an answer become a packet? Results and refusals, one reply for each caller."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from aegis_replication import wire
from aegis_replication.errors import InvalidArgument, LimitExceeded
from aegis_replication.state_machine.base import Failure

Caller: TypeAlias = tuple[int, int]  # connection, request

_encode = msgspec.msgpack.Encoder().encode


def reply_error(caller: Caller, status: int, detail: Any) -> tuple[int, bytes]:
    """Whose connection, and the packet that tells it why not."""
    return caller[0], wire.encode_reply(caller[1], status, _encode(detail))


def reply_refused(caller: Caller, error: InvalidArgument) -> tuple[int, bytes]:
    """Whose connection, and the packet that says what is wrong with its request."""
    if isinstance(error, LimitExceeded):
        return reply_error(caller, wire.LIMIT_EXCEEDED, (error.what, error.size, error.limit, error.unit))
    return reply_error(caller, wire.INVALID, str(error))


def answer(callers: Sequence[Caller], results: Sequence[Any], replies: list[tuple[int, bytes]]) -> None:
    """One reply packet per caller; the loop that every acknowledged command passes."""
    pack, encode = wire.REPLY_HEAD.pack, _encode
    kind, ok = wire.REPLY, wire.OK
    assert len(callers) == len(results), f"{len(results)} results for {len(callers)} commands"
    for (connection, request), result in zip(callers, results, strict=True):
        if type(result) is Failure:
            replies.append((connection, wire.encode_reply(request, result.status, encode(result.detail))))
            continue
        body = encode(result)
        replies.append((connection, pack(10 + len(body), kind, request, ok) + body))
