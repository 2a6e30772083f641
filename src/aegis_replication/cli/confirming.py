"""Does somebody mean it? Asked before what can't be undone."""

import sys

from aegis_replication.cli.output import say
from aegis_replication.errors import InvalidArgument


def confirm(name: str, *, yes: bool) -> None:
    """Have `name` typed, unless `yes` says so already. Raises InvalidArgument when nobody does."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidArgument("nothing was changed: without a terminal to ask at, say --yes as well")
    say(f"Type {name} to go on:")
    if sys.stdin.readline().strip() != name:
        raise InvalidArgument("nothing was changed")
