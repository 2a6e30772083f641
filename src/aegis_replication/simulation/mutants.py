"""Which mistakes must a simulated run find? Mutants: known bugs, patched from outside into production code that has no switch."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from aegis_replication.errors import InvalidArgument


class Mutant(NamedTuple):
    """One mistake: its name, what it leaves out, and how to make it."""

    name: str
    leaves_out: str
    applied: Callable[[], AbstractContextManager[None]]


MUTANTS: list[Mutant] = []


def find(name: str) -> Mutant:
    """The mutant of that name. Raises InvalidArgument, naming them all."""
    for mutant in MUTANTS:
        if mutant.name == name:
            return mutant
    raise InvalidArgument(f"there is no mutant {name!r}: choose one of {', '.join(each.name for each in MUTANTS)}")


@contextmanager
def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """`owner.name` is what `make(original)` returns, until the end of the block."""
    original = owner.__dict__[name]
    setattr(owner, name, make(original))
    try:
        yield
    finally:
        setattr(owner, name, original)
