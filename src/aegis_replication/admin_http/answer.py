"""What does a page answer, and how is an error told? Always JSON or text, never cached, never a page of HTML."""

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

JSON = "application/json"


class Answer(msgspec.Struct, frozen=True):
    """A response, whole."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


Page: TypeAlias = Callable[[str], Answer]
"""Takes the request's Accept header, "" without one."""


def as_json(value: Any, status: int = 200) -> Answer:
    """`value` for programs, indented for people."""
    return Answer(status, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def error(status: int, why: str, *headers: tuple[str, str]) -> Answer:
    """What was wrong and what now, in one sentence."""
    return Answer(status, msgspec.json.encode({"error": why}) + b"\n", headers=headers)
