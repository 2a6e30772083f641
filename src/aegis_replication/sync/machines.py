"""How does a blocking program call the methods of its own machine? By name, as if they were local."""

from collections.abc import Callable
from typing import Any, Self

from aegis_replication.client import machines
from aegis_replication.loop_thread import LoopThread


class MachineProxy:
    """A user's machine as its callers see it: each marked method of the class blocks, `timeout=` included."""

    def __init__(self, inner: machines.MachineProxy, thread: LoopThread) -> None:
        self._inner, self._thread = inner, thread

    @classmethod
    def around(cls, inner: machines.MachineProxy, thread: LoopThread) -> Self:
        """The twin of `inner`, which lives on the loop of `thread`."""
        return cls(inner, thread)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._inner, name)

        def asked(*args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
            return self._thread.call(method(*args, timeout=timeout, **kwargs))

        asked.__name__, asked.__doc__ = name, method.__doc__
        return asked

    def __dir__(self) -> list[str]:
        return dir(self._inner)
