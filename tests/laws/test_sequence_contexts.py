"""Is a remote client's edit of a list or a text made where the client saw it, whatever came to the server since?"""

from typing import Any

import pytest
from crdt_histories import LIVES, History, Step, drawn_steps, same, steps
from hypothesis import given
from hypothesis import strategies as st

from aegis_replication.crdt import ORMap, Text
from aegis_replication.crdt.sequence import Sequence
from aegis_replication.errors import ContextNotSeen, ContextTooOld, InvalidArgument
from aegis_replication.vector_clock import VersionVector


def edit(sequence: Any, at: int, is_delete: bool, context: VersionVector | None, length: int) -> None:
    """What the client does, who saw `length` elements."""
    if is_delete and length:
        sequence.delete(at % length, context=context)
    else:
        sequence.insert(at % (length + 1), "new", context=context)


def law_edit_as_read(name: str, before: list[Step], after: list[Step], at: int, is_delete: bool) -> None:
    """An edit with a read context is the edit made when it was read, and merged with all that came since."""
    history = History(LIVES[name], before)
    server = history.replicas[0]
    read = server.read()
    then = server.copy("a")  # the same replica, in a world where the client had been quicker
    # The others live on; the server only listens.
    history.go_on([(action, 1 + replica % 2, 1 + other % 2, a, b) for action, replica, other, a, b in after])
    for other in history.replicas[1:]:
        server.merge(other)

    edit(then, at, is_delete, None, len(read.value))
    for other in history.replicas[1:]:
        then.merge(other)
    edit(server, at, is_delete, read.context, len(read.value))

    assert same(server, then)
    assert server.value() == then.value()


@pytest.mark.parametrize("name", ["List", "Text"])
def test_an_edit_with_a_read_context_is_the_edit_made_when_it_was_read(name: str) -> None:
    @given(before=steps, after=steps, at=st.integers(0, 9), is_delete=st.booleans())
    def keeps(before: list[Step], after: list[Step], at: int, is_delete: bool) -> None:
        law_edit_as_read(name, before, after, at, is_delete)

    keeps()


def test_the_law_notices_an_edit_that_is_made_where_the_server_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sequence, "_as_read", lambda self, context: self)

    caught = 0
    for seed in range(100):
        try:
            law_edit_as_read("Text", drawn_steps(seed), drawn_steps(seed + 1_000), seed % 10, seed % 2 == 0)
        except (AssertionError, InvalidArgument):
            caught += 1

    assert caught >= 10


def test_a_client_inserts_and_deletes_by_the_positions_that_it_saw() -> None:
    server, peer = Text("a"), Text("b")
    server.append("one two")
    peer.merge(server)
    read = server.read()
    peer.insert(0, "zero ")
    peer.delete(5, 4)
    server.merge(peer)

    server.insert(7, "!", context=read.context)
    server.delete(4, 1, context=read.context)
    peer.merge(server.delta(peer.context()))

    assert (read.value, str(server), str(peer)) == ("one two", "zero wo!", "zero wo!")


def test_a_text_in_a_map_is_edited_by_what_the_client_read_of_the_map() -> None:
    server = ORMap("a")
    server.at("title", Text).append("ab")
    read = server.read()
    server.at("title", Text).insert(0, "> ")

    server.at("title", Text).insert(1, "-", context=read.context)

    assert server.value() == {"title": "> a-b"}


def test_contexts_that_the_server_cannot_judge_are_refused() -> None:
    server = Text("a")
    server.append("ab")
    early = server.read()
    server.append("c")
    server.delete(0)
    before = server.to_bytes()

    with pytest.raises(ContextNotSeen, match="merge first"):
        server.insert(0, "x", context=VersionVector({"z": 1}))
    with pytest.raises(InvalidArgument, match="from 0 to 2"):
        server.insert(3, "x", context=early.context)
    unchanged = server.to_bytes()
    server.collect(server.context())
    with pytest.raises(ContextTooOld, match="read again"):
        server.delete(0, context=early.context)

    assert unchanged == before
    assert str(server) == "bc"
