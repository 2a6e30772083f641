"""Which flags do many commands share, and where do their values come from when no flag is given?"""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Group, Parameter

COMMON = Group("Common options", sort_key=90)


@Parameter(name="*", group=COMMON)
@dataclass(frozen=True)
class Format:
    """How to print."""

    output: Annotated[
        Literal["table", "json", "jsonl"], Parameter(name=["--output", "-o"], env_var="AEGIS_OUTPUT", negative=())
    ] = "table"
    """How to print: for people, one JSON value, or one JSON object a line."""


# What a command takes when no such flag is given: environment and defaults decide.
FORMAT = Format()


def examples(*lines: str) -> str:
    """The end of a command's --help."""
    return "\n".join(["Examples:", "", *(f"  {line}" for line in lines)])
