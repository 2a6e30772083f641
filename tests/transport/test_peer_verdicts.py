"""Who is let in is for the node to say: does the transport ask it, in both directions, and do as it says?"""

from typing import Any

import pytest

from aegis_replication.wire import Hello, encode_hello


@pytest.fixture
def judge(sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> list[Hello]:
    """The node's word on each handshake: directory 13 is refused, everybody else is welcome."""
    asked: list[Hello] = []

    def why_not_peer(hello: Hello) -> str:
        asked.append(hello)
        return "a directory made anew" if hello.incarnation == 13 else ""

    monkeypatch.setattr(sandbox.heard, "why_not_peer", why_not_peer)
    return asked


async def test_a_caller_that_the_node_refuses_is_told_its_words(sandbox: Any, judge: list[Hello]) -> None:
    transport = await sandbox.peers_port()

    stranger = await sandbox.stranger(transport.address, encode_hello(sandbox.own("n2", target="n1", incarnation=13)))

    assert (await stranger.hello()).refusal == "a directory made anew"
    assert transport.statistics().refused == 1


async def test_a_node_that_is_called_and_refuses_the_answer_hangs_up(
    sandbox: Any, judge: list[Hello], until: Any
) -> None:
    async def serve(caller: Any) -> None:
        await caller.send(encode_hello(sandbox.own("n2", incarnation=13)))
        await caller.read_to_end()

    transport = await sandbox.peers_port({"n2": await sandbox.server(serve)})

    await until(lambda: judge)

    assert transport.connected() == set()
    assert sandbox.heard.up == []


async def test_a_guest_that_nobody_listed_is_let_in_if_the_node_says_so(
    sandbox: Any, judge: list[Hello], monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[Hello] = []
    monkeypatch.setattr(sandbox.heard, "on_peer_met", met.append)
    transport = await sandbox.peers_port()

    stranger = await sandbox.peer(
        transport.address, node="n9", peer_address="127.0.0.1:9", priority=3, configuration=40
    )

    assert [(hello.node, hello.peer_address, hello.priority, hello.configuration) for hello in met] == [
        ("n9", "127.0.0.1:9", 3, 40)
    ]
    assert set(transport.inbound) == {"n9"}
    stranger.close()


async def test_how_new_the_members_are_is_told_from_then_on(sandbox: Any) -> None:
    transport = await sandbox.peers_port()
    assert (await answered(sandbox, transport)).configuration == 0

    transport.set_peers({"n2": "127.0.0.1:1"}, configuration=17)

    assert (await answered(sandbox, transport)).configuration == 17


async def answered(sandbox: Any, transport: Any) -> Hello:
    stranger = await sandbox.stranger(transport.address, encode_hello(sandbox.own("n2", target="n1")))
    return await stranger.hello()


@pytest.mark.parametrize("address", ["nowhere", "h:0", "::1:7", "h:70000"])
async def test_an_address_that_makes_no_sense_ends_nobody(sandbox: Any, address: str) -> None:
    """What one member says of itself reaches all the others by the log."""
    transport = await sandbox.peers_port()

    transport.set_peers({"n2": "127.0.0.1:1", "n3": address})

    assert transport.statistics().sent.keys() == {"n2"}
    stranger = await sandbox.stranger(transport.address, encode_hello(sandbox.own("n3", target="n1")))
    assert not (await stranger.hello()).refusal


async def test_one_whose_address_is_not_known_may_call(sandbox: Any) -> None:
    transport = await sandbox.peers_port()

    transport.set_peers({"n3": ""})

    stranger = await sandbox.stranger(transport.address, encode_hello(sandbox.own("n3", target="n1")))
    assert not (await stranger.hello()).refusal
    assert transport.connected() == set()
