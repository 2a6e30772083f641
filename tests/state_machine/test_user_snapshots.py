"""Does a user's own class come back from a snapshot as it was, with equal bytes everywhere?"""

# ruff: noqa: RUF012 - state in a class body is a beginning that every instance gets a copy of

import subprocess
import sys
from collections.abc import Callable, Iterable

import pytest
from stores import Colour, Node, Order, Store

from aegis_replication.errors import IncompatibleVersion, ProtocolError, WrongIdentity
from aegis_replication.state_machine.key_value import KeyValueMachine
from aegis_replication.state_machine.sessions import SessionMachine
from aegis_replication.state_machine.user import StateMachine, command
from aegis_replication.state_machine.user_machine import PIECE_BYTES

# --- snapshots ---


def test_sets_give_equal_bytes_whatever_their_order() -> None:
    class Sets(StateMachine):
        names: set[str] = set()
        by_key: dict[int, set[str]] = {}

        @command
        def add(self, names: list[str]) -> set[str]:
            self.names.update(names)
            self.by_key.setdefault(1, set()).update(names)
            return self.names

    names = [f"name {number}" for number in range(200)]
    one, other = Node(Sets), Node(Sets)

    assert one(Sets.add, names) == other(Sets.add, names[::-1]) == sorted(names)
    assert one.pieces() == other.pieces()


def test_a_dict_attribute_keeps_its_order_over_a_restart(node: Node) -> None:
    node(Store.run, "delete item")
    node(Store.add, "c", 1)
    node(Store.add, "Z", 1)

    assert list(node.restarted().user.stock) == list(node.user.stock) == ["a", "b", "c", "Z"]


def test_large_state_comes_in_bounded_pieces_that_do_not_see_later_commands() -> None:
    class Large(StateMachine):
        items: dict[int, str] = {}
        objects: dict[int, Order] = {}
        text: str = ""

        @command
        def fill(self, count: int, text: str) -> None:
            for number in range(count):
                self.items[number] = text
                self.objects[number] = Order(text, number)
            self.text = text * count

    node = Node(Large)
    node(Large.fill, 3000, "x" * 200)
    before = node.pieces()

    pulled = []
    for piece in node.machine.freeze():
        pulled.append(piece)
        node(Large.fill, 1000, "changed")

    assert pulled[1:] == before
    assert len(before) >= 7
    assert max(map(len, before)) <= PIECE_BYTES + 1000
    again = Node(Large)
    again.machine.restore(pulled)
    assert again.pieces() == before


def test_equal_commands_give_equal_bytes_under_every_hash_seed() -> None:
    program = """
import msgspec
from aegis_replication.log import make_entry
from aegis_replication.state_machine.commands import encode_command
from aegis_replication.state_machine.user import StateMachine, call, command
from aegis_replication.state_machine.user_machine import machine_for

class Tags(StateMachine):
    by_name: dict[str, set[str]] = {}
    seen: set[bytes] = set()
    order: dict[str, int] = {}

    @command
    def tag(self, name: str, tags: list[str]) -> frozenset[str]:
        self.by_name.setdefault(name, set()).update(tags)
        self.seen |= {tag.encode() for tag in tags}
        for tag in tags:
            self.order[tag] = len(self.order)
        return frozenset(self.by_name[name])

machine = machine_for(Tags)
body = encode_command(bytes(16), 1, 1, call(Tags.tag, "n", [f"t{i}" for i in range(50)]))
opened = encode_command(bytes(16), 0, 0, None)
results = machine.apply(make_entry(1, 1, 1, 1, machine.join([opened, body]), stamp=1 << 16))
print(machine.digest(), msgspec.msgpack.encode(results).hex())
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }

    assert len(outputs) == 1


def test_an_attribute_that_is_new_in_the_class_begins_as_written_there() -> None:
    def old() -> type[StateMachine]:
        class Growing(StateMachine):
            count: int = 0

            @command
            def up(self) -> int:
                self.count += 1
                return self.count

        return Growing

    class Growing(StateMachine):
        count: int = 0
        names: dict[str, int] = {"first": 1}
        colour: Colour = Colour.RED

        @command
        def up(self) -> int:
            self.count += 1
            return self.count

    before, after = Node(old()), Node(Growing)
    before(Growing.up)

    after.machine.restore(list(before.machine.freeze()))

    assert after(Growing.up) == 2
    assert after.machine.inner.machine.names == {"first": 1}  # type: ignore[attr-defined]
    with pytest.raises(IncompatibleVersion, match="colour, names"):
        before.machine.restore(list(after.machine.freeze()))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda pieces: [pieces[0]], ProtocolError),
        (lambda pieces: [*pieces[:-1], pieces[-1][:-1]], ProtocolError),
        (lambda pieces: [*pieces, b"\x92\xa4none\xc4\x00"], ProtocolError),
        (lambda pieces: [piece.replace(b"order 1", b"order \xff") for piece in pieces], ProtocolError),
        (lambda pieces: [piece.replace(b"Store", b"Other") for piece in pieces], WrongIdentity),
        (lambda pieces: [pieces[0], pieces[1].replace(b"Store\x01", b"Store\x02"), *pieces[2:]], IncompatibleVersion),
    ],
)
def test_a_snapshot_that_is_not_one_is_refused_and_the_state_stays(
    node: Node, change: Callable[[list[bytes]], Iterable[bytes]], error: type[Exception]
) -> None:
    pieces = list(node.machine.freeze())

    with pytest.raises(error):
        node.machine.restore(change(pieces))

    assert list(node.machine.freeze()) == pieces


def test_a_snapshot_of_a_user_machine_is_not_one_of_a_store_of_keys(node: Node) -> None:
    with pytest.raises(WrongIdentity, match="Store"):
        SessionMachine(KeyValueMachine()).restore(list(node.machine.freeze()))
