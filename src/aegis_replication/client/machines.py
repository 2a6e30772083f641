"""How are the methods of a user's own machine called from afar? By name, as if they were local, but awaited."""

from collections.abc import Awaitable, Callable
from inspect import getattr_static
from typing import Any

from aegis_replication.errors import InvalidArgument
from aegis_replication.state_machine.user import COMMAND_KIND, Method, StateMachine, method_of

Ask = Callable[..., Awaitable[Any]]


def marked(function: Any, *, kind: str) -> Method:
    """What kind of method `function` (as in `Inventory.reserve`) is. Raises InvalidArgument unless it is of `kind`."""
    function = getattr(function, "__func__", function)
    if not callable(function):
        raise InvalidArgument(f"{function!r} is no method: give one such as Inventory.reserve")
    method = method_of(function)
    if method.kind != kind:
        other = "call" if method.kind == COMMAND_KIND else "query"
        raise InvalidArgument(f"{function.__qualname__} is a @{method.kind}: use {other}()")
    return method


class MachineProxy:
    """A user's machine as its callers see it: each marked method of the class is one to await, `timeout=` included."""

    __slots__ = ("_call", "_class", "_query")

    def __init__(self, cls: Any, call: Ask, query: Ask) -> None:
        if not (isinstance(cls, type) and issubclass(cls, StateMachine)):
            raise InvalidArgument(f"{cls!r} is no StateMachine: give the class that the nodes run")
        self._class, self._call, self._query = cls, call, query

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        function = getattr_static(self._class, name, None)
        if not callable(function) or name.startswith("_"):
            raise AttributeError(f"{self._class.__qualname__} has no command or query {name!r}")
        method = method_of(function)
        ask = self._call if method.kind == COMMAND_KIND else self._query

        async def asked(*args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
            return await ask(function, *args, timeout=timeout, **kwargs)

        asked.__name__, asked.__doc__ = name, function.__doc__
        return asked

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._class) if hasattr(getattr_static(self._class, name), "__aegis_kind__")]
