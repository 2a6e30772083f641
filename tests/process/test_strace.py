"""Does the system itself say that a majority had flushed before each reply was sent? Read from what strace saw.

Each value carries a marker that can be seen in the leader's read from the client's socket and in every node's write to
its log. For each of them: when that write was covered by a flush on each node (it returned on a file opened with
O_DSYNC, or a flush of the file that began after it has returned), and when the leader began to send the reply.
"""

import asyncio
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import msgspec
import pytest

from aegis_replication import wire
from aegis_replication.processes import Connection
from aegis_replication.state_machine.commands import NO_SESSION, Put, encode_command

HUNG_SECONDS = 60.0
CONNECTIONS, WRITES = 4, 12
CALLS = "openat,pwritev,pwritev2,pwrite64,fdatasync,fsync,recvfrom,recvmsg,read,sendto,sendmsg,write,writev"
MARKER = re.compile(r"MARK-\d\d-\d\d\d")


class Call(msgspec.Struct, frozen=True):
    """One line of strace: a system call of one thread."""

    name: str
    descriptor: str  # number and what it stands for, such as 7</path> or 9<socket:[123]>
    arguments: str
    result: str
    began: float
    ended: float


LINE = re.compile(r"^(\d+\.\d+) (\w+)\((.*)\) += (-?\d+(?:<[^>]*>)?).*?(?: <(\d+\.\d+)>)?$")


def read_calls(directory: Path, node: str) -> list[Call]:
    """All calls of one node's threads and helpers, in the order in which they began."""
    calls = []
    for path in directory.glob(f"{node}.*"):
        for line in path.read_text(errors="replace").splitlines():
            found = LINE.match(line)
            if found and found[5]:
                began = float(found[1])
                first = found[3].split(", ", 1)[0]
                calls.append(Call(found[2], first, found[3], found[4], began, began + float(found[5])))
    return sorted(calls, key=lambda call: call.began)


def flushed_at(calls: list[Call]) -> dict[str, float]:
    """By marker: when a flush that covers it had ended."""
    durable: set[str] = set()  # descriptors opened with O_DSYNC, as "number<path>"
    waiting: dict[str, list[tuple[str, float]]] = {}  # by path: markers and when their write returned
    done: dict[str, float] = {}
    for call in calls:
        path = call.descriptor.partition("<")[2]
        if call.name == "openat":
            (durable.add if "O_DSYNC" in call.arguments else durable.discard)(call.result)
        elif call.name.startswith("pwrite"):
            markers = MARKER.findall(call.arguments)
            if call.descriptor in durable:
                for marker in markers:
                    done.setdefault(marker, call.ended)
            else:
                waiting.setdefault(path, []).extend((marker, call.ended) for marker in markers)
        elif call.name in ("fdatasync", "fsync"):
            path = path.rstrip(")")
            for marker, written in waiting.get(path, []):
                if written <= call.began:
                    done.setdefault(marker, call.ended)
    return done


def replied_at(calls: list[Call]) -> dict[str, float]:
    """By marker: when the leader began the next send on the socket from which it had read it."""
    waiting: dict[str, list[str]] = {}
    sent: dict[str, float] = {}
    for call in calls:
        if "socket" not in call.descriptor and "TCP" not in call.descriptor:
            continue
        if call.name in ("recvfrom", "recvmsg", "read"):
            waiting.setdefault(call.descriptor, []).extend(MARKER.findall(call.arguments))
        elif call.name in ("sendto", "sendmsg", "write", "writev") and not MARKER.search(call.arguments):
            for marker in waiting.pop(call.descriptor, []):
                sent.setdefault(marker, call.began)
    return sent


def traced(cluster, directory: Path) -> None:
    """Start each node under a strace of its own."""
    for name, node in cluster.nodes.items():
        # -D: strace is the grandchild, so that signals and exit codes are the node's own.
        strace = ["strace", "-D", "-f", "-ff", "-ttt", "-T", "-y", "-s", "20000", "-e", f"trace={CALLS}"]
        node.launcher = [*strace, "-o", str(directory / name), *node.launcher]


def wait_written(path: Path) -> None:
    """Until strace has written the process's end."""
    deadline = time.monotonic() + HUNG_SECONDS
    while "+++ exited" not in path.read_text(errors="replace"):
        assert time.monotonic() < deadline, f"hung: {path} has no end"
        time.sleep(0.05)


def write_markers(address: str) -> None:
    """Several connections, each with one write under way at a time."""

    def write(number: int) -> None:
        with Connection(address, timeout=60.0) as connection:
            for count in range(WRITES):
                value = b"MARK-%02d-%03d" % (number, count)
                body = encode_command(NO_SESSION, 0, 0, Put(b"key%d" % number, value))
                status, answer = connection.ask(wire.COMMAND, body)
                assert status == wire.OK, answer

    threads = [threading.Thread(target=write, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def replies_too_early(cluster, directory: Path) -> list[str]:
    """Run the writes and compare; the replies that left before two of three nodes had flushed."""
    traced(cluster, directory)
    cluster.start()
    leader = cluster.wait_leader()
    write_markers(cluster.nodes[leader].client_address)
    pids = {name: node.pid for name, node in cluster.nodes.items()}
    assert set(cluster.stop().values()) == {0}
    for name, pid in pids.items():
        wait_written(directory / f"{name}.{pid}")
    calls = {name: read_calls(directory, name) for name in cluster.nodes}
    replies = replied_at(calls[leader])
    flushes = {name: flushed_at(calls[name]) for name in cluster.nodes}
    assert len(replies) == CONNECTIONS * WRITES, f"only {len(replies)} replies were seen"
    early = []
    for marker, sent in sorted(replies.items()):
        held = [name for name in cluster.nodes if flushes[name].get(marker, float("inf")) <= sent]
        if 2 * len(held) <= len(cluster.nodes):
            early.append(f"{marker}: only {held} had flushed when its reply was sent")
    return early


@pytest.fixture(autouse=True)
def _strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if subprocess.run(["strace", "-f", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("strace may not trace here")


@pytest.mark.parametrize("changed", ["", "aside"])
async def test_a_majority_has_flushed_before_each_reply_is_sent(cluster_of, tmp_path, changed):
    cluster = cluster_of(changed=changed, options=("--loop", "asyncio"))

    assert await asyncio.to_thread(replies_too_early, cluster, tmp_path) == []


async def test_a_reply_before_the_flush_is_seen(cluster_of, tmp_path):
    """The proof that the test above can fail."""
    cluster = cluster_of(changed="reply-before-flush", options=("--loop", "asyncio"))

    early = await asyncio.to_thread(replies_too_early, cluster, tmp_path)

    assert len(early) > CONNECTIONS * WRITES // 2, os.linesep.join(early)
