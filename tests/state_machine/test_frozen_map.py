"""Is a copy that is made piece by piece the state of one moment, whatever is written meanwhile?"""

from random import Random

import pytest

from aegis_replication.state_machine import key_value
from aegis_replication.state_machine.commands import Batch, Delete, DeleteRange, Put, Take
from aegis_replication.state_machine.key_value import KeyValueMachine


def a_command(random: Random) -> object:
    key = b"%03d" % random.randrange(120)
    kind = random.randrange(6)
    if kind == 0:
        return Delete(key)
    if kind == 1:
        return Take(key)
    if kind == 2:
        return DeleteRange(key, b"%03d" % random.randrange(120), 5)
    if kind == 3:
        return Batch((Put(key, b"batch"), Delete(b"%03d" % random.randrange(120))))
    return Put(key, b"%d" % random.randrange(1000))


@pytest.mark.parametrize("seed", range(30))
def test_a_copy_under_writes_is_byte_for_byte_that_of_its_moment(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_value, "PIECE_BYTES", 150)
    random = Random(seed)
    machine = KeyValueMachine()
    for _ in range(200):
        command = a_command(random)
        machine.handlers[type(command)](command)
    expected = [list(machine.freeze()) for _ in range(2)]

    copies = [machine.freeze(), machine.freeze()]
    found: list[list[bytes]] = [[], []]
    for number, copy in enumerate(copies):
        for _ in range(3 * number):
            command = a_command(random)
            machine.handlers[type(command)](command)
        if number == 1:
            continue
        for piece in copy:
            found[0].append(piece)
            for _ in range(random.randrange(6)):
                command = a_command(random)
                machine.handlers[type(command)](command)

    assert expected[0] == expected[1] == found[0], f"seed {seed}"
    del copies, copy
    assert not machine._frozen, "a copy that nobody pulls any more costs nothing"


def test_a_restore_in_steps_shows_the_former_state_until_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_value, "PIECE_BYTES", 150)
    source, target = KeyValueMachine(), KeyValueMachine()
    for number in range(100):
        source.handlers[Put](Put(b"%03d" % number, b"new"))
    target.handlers[Put](Put(b"old", b"1"))

    seen = [(len(target), target.revision) for _ in target.restoring(source.freeze())]

    assert len(seen) > 5
    assert set(seen) == {(1, 1)}
    assert (len(target), target.revision) == (100, 100)
