"""Runs `aegis` inside the test's process and keeps what it printed."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import pytest

from aegis_replication.cli.main import main


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> object:
        return msgspec.json.decode(self.out)


Aegis = Callable[..., Ran]


@pytest.fixture
def aegis(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Aegis:
    for name in ("AEGIS_ENDPOINTS", "AEGIS_OUTPUT", "AEGIS_TIMEOUT", "AEGIS_CONFIG", "AEGIS_DEBUG"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str) -> Ran:
        capfdbinary.readouterr()
        code = main(words)
        out, err = capfdbinary.readouterr()
        return Ran(code, out.decode(), err.decode())

    return run
