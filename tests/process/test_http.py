"""Do a real node's pages tell the truth while it becomes ready, loses its cluster, and drains?"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from aegis_replication.cli import status as status_word
from aegis_replication.cli.options import Format
from aegis_replication.cli.target import Target
from aegis_replication.processes import NodeProcess

pytest.importorskip("h11", reason="the extra http is not installed")

HUNG_SECONDS = 60.0


def ask(node: NodeProcess, path: str) -> tuple[int, Any]:
    """Status and body; (0, why) when nobody answers. By the standard library's client: not ours."""
    try:
        with urllib.request.urlopen(f"http://{node.http_address}{path}", timeout=HUNG_SECONDS) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as answer:
        return answer.code, json.load(answer)
    except OSError as error:
        return 0, str(error)


def wait(node: NodeProcess, path: str, status: int) -> Any:
    """The body, once `path` has that status."""
    deadline, seen = time.monotonic() + HUNG_SECONDS, None
    while time.monotonic() < deadline:
        seen = ask(node, path)
        if seen[0] == status:
            return seen[1]
        time.sleep(0.02)
    raise AssertionError(f"{node.node}: {path} is {seen}, never {status}")


async def test_a_node_is_ready_until_its_cluster_is_lost_and_again_after_its_return(cluster_of):
    cluster = cluster_of(http=True)
    nodes = cluster.nodes
    nodes["n1"].start()

    alone = await asyncio.to_thread(wait, nodes["n1"], "/livez", 200)
    waiting = await asyncio.to_thread(wait, nodes["n1"], "/readyz", 503)
    cluster.start()
    ready = [await asyncio.to_thread(wait, node, "/readyz", 200) for node in nodes.values()]
    leader = await asyncio.to_thread(cluster.wait_leader)
    for name, node in nodes.items():
        if name != leader:
            node.kill()
    lost = await asyncio.to_thread(wait, nodes[leader], "/readyz", 503)
    alive = await asyncio.to_thread(ask, nodes[leader], "/livez")
    cluster.start()
    again = [await asyncio.to_thread(wait, node, "/readyz", 200) for node in nodes.values()]

    assert alone == {"node": "n1", "alive": True, "reasons": {}}
    assert (waiting["ready"], [*waiting["reasons"]]) == (False, ["leader"])
    assert {(each["node"], each["ready"]) for each in [*ready, *again]} == {(name, True) for name in nodes}
    assert "knows no leader of group 1" in lost["reasons"]["leader"]
    assert alive[0] == 200


async def test_a_leader_that_drains_says_so_before_it_is_gone(cluster_of):
    """It can't hand over: the others are paused. So it waits for them, and probes see that it is about to leave."""
    cluster = cluster_of(http=True, options=("--log-level", "debug"))
    cluster.start()
    leader = await asyncio.to_thread(cluster.wait_leader)
    await asyncio.to_thread(wait, cluster.nodes[leader], "/readyz", 200)
    others = [node for name, node in cluster.nodes.items() if name != leader]
    for other in others:
        os.kill(other.pid, signal.SIGSTOP)

    os.kill(cluster.nodes[leader].pid, signal.SIGTERM)
    draining: list[Any] = []
    while (answer := await asyncio.to_thread(ask, cluster.nodes[leader], "/readyz"))[0]:
        draining.append(answer)
    for other in others:
        os.kill(other.pid, signal.SIGCONT)

    assert any(status == 503 and "draining" in body["reasons"] for status, body in draining), draining
    assert cluster.nodes[leader].terminate() == 0


async def test_the_status_page_is_what_the_status_command_says(cluster_of, capsys):
    cluster = cluster_of(http=True)
    cluster.start()
    await asyncio.to_thread(cluster.wait_leader)
    for node in cluster.nodes.values():
        await asyncio.to_thread(wait, node, "/readyz", 200)

    target = Target(endpoints=cluster.endpoints, timeout=HUNG_SECONDS)
    await asyncio.to_thread(status_word.status, target=target, format=Format(output="json"))
    told = json.loads(capsys.readouterr().out)
    pages = {name: (await asyncio.to_thread(ask, node, "/v1/status"))[1] for name, node in cluster.nodes.items()}

    for row in told["nodes"]:
        page = pages[row["node"]]
        [own] = page["nodes"]
        assert page.keys() == told.keys()
        assert own.keys() == row.keys()
        assert (page["leader"], page["healthy"], page["troubles"]) == (told["leader"], True, [])
        for key in ("node", "role", "term", "address", "filesystem", "version", "loop"):
            assert own[key] == row[key], key


async def test_the_ready_line_names_the_door_and_a_taken_address_is_refused(cluster_of):
    cluster = cluster_of(http=True, count=1)
    cluster.start()
    await asyncio.to_thread(cluster.wait_leader)
    node = cluster.nodes["n1"]

    status, versions = await asyncio.to_thread(ask, node, "/version")
    second = NodeProcess(
        "n2",
        node.directory.with_name("n2"),
        client_address="127.0.0.1:0",
        peer_address="127.0.0.1:0",
        peers={},
        http_address=node.http_address,
    )
    second.start()
    code = second.process.wait(HUNG_SECONDS)

    assert status == 200
    assert versions["aegis"]
    assert f", http {node.http_address}, " in node.log_path.read_text()
    assert code == 2
    assert f"node.http = '{node.http_address}': cannot listen there" in second.last_words()


def answer_to(sent: bytes, node: NodeProcess) -> bytes:
    """All that comes back, until the node hangs up."""
    host, _, port = node.http_address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=HUNG_SECONDS) as caller:
        caller.sendall(sent)
        answered = b""
        while part := caller.recv(65536):
            answered += part
    return answered


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_hostile_callers_are_told_so_and_cost_a_node_nothing(cluster_of, loop):
    """On real sockets: what the loops' own transports do with half-read requests and ended connections."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    cluster = cluster_of(http=True, count=1, options=("--loop", loop))
    cluster.start()
    node = cluster.nodes["n1"]
    await asyncio.to_thread(wait, node, "/readyz", 200)
    term = cluster.status()["n1"]["groups"]["1"]["term"]

    asked = {
        b"HTTP/1.1 400": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"HTTP/1.1 431": b"GET /livez HTTP/1.1\r\nX: " + b"y" * 40_000,
        b"HTTP/1.1 405": b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + b"z" * 50_000,
        b"HTTP/1.1 408": b"GET /livez HTTP/1.1\r\nHost:",
        b"HTTP/1.1 421": b"GET /livez HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    }
    answers = {start: await asyncio.to_thread(answer_to, sent, node) for start, sent in asked.items()}
    pipelined = await asyncio.to_thread(
        answer_to,
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 99
        + b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        node,
    )
    host, _, port = node.http_address.rpartition(":")
    with contextlib.ExitStack() as held:
        for _ in range(64):
            held.enter_context(socket.create_connection((host, int(port)), timeout=HUNG_SECONDS))
        surplus = await asyncio.to_thread(answer_to, b"", node)

    for start, answer in answers.items():
        assert answer.startswith(start + b" "), answer[:200]
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert pipelined.count(b"HTTP/1.1 200 ") == 100
    assert surplus.startswith(b"HTTP/1.1 503 ")
    await asyncio.to_thread(wait, node, "/readyz", 200)
    assert cluster.status()["n1"]["groups"]["1"]["term"] == term
    assert node.terminate() == 0
