"""How is a mistake built into code that has no switch for it? Patches from outside, taken off again at the end."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from inspect import Parameter, signature
from typing import Any, NamedTuple


class Patch(NamedTuple):
    """One attribute of a class or module, or one item of a table, and what takes its place, made from the original."""

    owner: Any
    name: Any
    make: Callable[[Any], Any]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """In force until the end of the block."""
        is_table = isinstance(self.owner, dict)
        original = self.owner[self.name] if is_table else self.owner.__dict__[self.name]
        self._put(self.make(original))
        try:
            yield
        finally:
            self._put(original)

    def _put(self, value: Any) -> None:
        if isinstance(self.owner, dict):
            self.owner[self.name] = value
        else:
            setattr(self.owner, self.name, value)


class Mutant(NamedTuple):
    """One known mistake, and what it leaves out, as a clause."""

    name: str
    leaves_out: str
    patches: tuple[Patch, ...]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """All code of this process makes the mistake until the end of the block."""
        with ExitStack() as stack:
            for patch in self.patches:
                stack.enter_context(patch.applied())
            yield


def instead(owner: Any, name: Any, replacement: Any) -> Patch:
    """`replacement` takes the place of a method or function."""

    def make(original: Any) -> Any:
        _check_fits(name, original, replacement)
        return replacement

    return Patch(owner, name, make)


def around(owner: Any, name: Any, wrapper: Callable[..., Any]) -> Patch:
    """`wrapper(original, ...)` takes the place of a method or function; it may call the original."""

    def make(original: Any) -> Any:
        _check_fits(name, original, wrapper, original)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            return wrapper(original, *arguments, **options)

        return wrapped

    return Patch(owner, name, make)


def _check_fits(name: Any, original: Any, replacement: Any, *first: Any) -> None:
    """A mutant that can't be called as what it replaces would be found by its own TypeError, and prove nothing."""
    if not callable(original) or not callable(replacement) or isinstance(original, type):
        return
    takes = signature(original).parameters.values()
    by_place = [each for each in takes if each.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    by_name = {each.name: None for each in takes if each.kind is Parameter.KEYWORD_ONLY}
    try:
        signature(replacement).bind(*first, *by_place, **by_name)
    except TypeError as error:
        raise AssertionError(f"a mutant of {name} can't be called as that is: {error}") from None
