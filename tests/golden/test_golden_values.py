"""Do clocks and replicated types still have the bytes that they had, and refuse those of a newer program?"""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aegis_replication.crdt import KINDS, Delta
from aegis_replication.errors import IncompatibleVersion, UndecodableBytes
from aegis_replication.vector_clock.codec import FORMAT_VERSION

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from make_values import MADE  # noqa: E402

GOLDEN: dict[str, str] = json.loads((HERE / f"values-{FORMAT_VERSION}.json").read_text())


def test_there_is_one_for_every_type() -> None:
    types = {type(make()).__name__ for make in MADE.values()}

    assert {kind.__name__ for kind in KINDS.values()} <= types
    assert GOLDEN.keys() == MADE.keys()


@pytest.mark.parametrize("name", MADE)
def test_golden_bytes_are_written_and_read_as_they_were(name: str) -> None:
    made, golden = MADE[name](), bytes.fromhex(GOLDEN[name])

    read = type(made).from_bytes(golden)

    assert made.to_bytes() == golden, "another format needs another version"
    assert read == made
    assert read.to_bytes() == golden
    assert read.to_json() == made.to_json()
    if type(made).__name__ in KINDS:
        assert Delta.from_bytes(golden) == made.delta()


@pytest.mark.parametrize("name", MADE)
def test_bytes_of_a_newer_version_are_refused_naming_both(name: str) -> None:
    _, kind, body = msgspec.msgpack.decode(bytes.fromhex(GOLDEN[name]))
    newer = msgspec.msgpack.encode([FORMAT_VERSION + 1, kind, {"laid out": "as nobody knows", "was": body}])

    with pytest.raises(IncompatibleVersion, match=f"version {FORMAT_VERSION + 1}, this program reads up to"):
        type(MADE[name]()).from_bytes(newer)


@pytest.mark.parametrize("name", MADE)
def test_bytes_of_another_type_are_refused_naming_it(name: str) -> None:
    other: Any = MADE["VectorClock" if name != "VectorClock" else "GCounter"]()

    with pytest.raises(UndecodableBytes, match=f"are a {type(other).__name__}"):
        type(MADE[name]()).from_bytes(other.to_bytes())
