"""Does a node refuse, in one clear line, what would put data at risk, and live on when strangers talk nonsense?"""

import os
import signal
import socket
import subprocess
import sys

import pytest

from aegis_replication.errors import Refused
from aegis_replication.log import SnapshotMeta
from aegis_replication.processes import Connection, LocalProcesses, ask_status, free_ports
from aegis_replication.storage.files import RealFiles
from aegis_replication.storage.snapshots import FileSnapshots

HUNG_SECONDS = 60.0


def aegis(*words: str, python: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *python, "-m", "aegis_replication.cli.main", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=HUNG_SECONDS,
        check=False,
    )


@pytest.fixture
def single(tmp_path):
    """A cluster of one."""
    with LocalProcesses(tmp_path, count=1) as cluster:
        cluster.start()
        cluster.wait_leader()
        yield cluster.nodes["n1"]


def test_a_second_process_on_a_data_directory_is_refused(single):
    client, peer = free_ports(2)

    ran = aegis(
        *("node", "start", "--name", "n1", "--data", str(single.directory)),
        *("--listen", f"127.0.0.1:{client}", "--peer-listen", f"127.0.0.1:{peer}"),
    )

    assert ran.returncode == 1
    assert f"process {single.pid}" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert ask_status(single.client_address)["node"] == "n1"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--name", "n1", "--cluster", "other"], ("other", "aegis")),
        (["--name", "n2"], ("n2", "n1")),
    ],
)
def test_a_directory_of_another_cluster_or_node_is_refused(single, words, names):
    single.terminate()

    ran = aegis("node", "start", "--data", str(single.directory), *words)

    assert ran.returncode == 1
    assert all(name in ran.stderr for name in names)
    assert ran.stderr.count("\n") == 1


def test_a_snapshot_of_another_cluster_is_refused(tmp_path):
    with LocalProcesses(tmp_path, count=1) as cluster:
        cluster.start()
        cluster.wait_leader()
        node = cluster.nodes["n1"]
        node.terminate()
        snapshots = FileSnapshots(RealFiles(), str(node.directory / "snapshots"), cluster="elsewhere")
        writer = snapshots.create(1, SnapshotMeta(1, 99, 0, b"", 0))
        writer.write(b"state")
        writer.finish()

        ran = aegis("node", "start", "--name", "n1", "--data", str(node.directory))
        (node.directory / "snapshots" / "1-1-99.snap").unlink()
        cluster.start()

        assert ran.returncode == 1
        assert "is of cluster 'elsewhere', this directory of cluster 'aegis': nothing was taken from it" in ran.stderr
        assert ran.stderr.count("\n") == 1
        assert cluster.wait_leader() == "n1", "without the strange file it goes on"


def test_another_list_of_peers_than_on_disk_is_refused(single):
    single.terminate()

    ran = aegis(
        *("node", "start", "--name", "n1", "--data", str(single.directory)),
        *("--peers", "n1=127.0.0.1:7481,n2=127.0.0.1:7491,n3=127.0.0.1:7501"),
    )

    assert ran.returncode == 1
    assert "n2" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_client_of_another_cluster_is_refused(single):
    with pytest.raises(Refused, match="other"):
        Connection(single.client_address, cluster="other")


def test_a_port_in_use_is_one_clear_line(single, tmp_path):
    ran = aegis("node", "start", "--name", "n1", "--data", str(tmp_path / "new"), "--listen", single.client_address)

    assert ran.returncode == 2
    assert single.client_address in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_python_without_assertions_is_refused(tmp_path):
    ran = aegis("node", "start", "--name", "n1", "--data", str(tmp_path / "n1"), python=("-O",))

    assert ran.returncode == 2
    assert "-O" in ran.stderr
    assert not (tmp_path / "n1").exists()


def test_a_directory_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a directory")

    ran = aegis("node", "start", "--name", "n1", "--data", str(tmp_path / "file"))

    assert ran.returncode == 1
    assert str(tmp_path / "file") in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_sigterm_stops_a_node_with_exit_code_0_and_a_last_word(single):
    assert single.terminate() == 0
    assert "stopped; everything acknowledged is on disk" in single.last_words()


def test_ctrl_c_stops_a_node_with_exit_code_0(single):
    assert single.process is not None
    single.process.send_signal(signal.SIGINT)

    assert single.process.wait(HUNG_SECONDS) == 0


def test_a_damaged_log_is_named_and_kept(single):
    marker = "a value that is easy to find"
    assert aegis("kv", "put", "key", marker, AEGIS_ENDPOINTS=single.client_address).returncode == 0
    single.terminate()
    segment = next(path for path in (single.directory / "log").iterdir() if marker.encode() in path.read_bytes())
    data = bytearray(segment.read_bytes())
    at = data.index(marker.encode())
    data[at - 120 : at] = bytes(120)  # with the entry's head, so that nobody can say which one it was
    segment.write_bytes(data)
    damaged = segment.read_bytes()

    ran = aegis("node", "start", "--name", "n1", "--data", str(single.directory))

    assert ran.returncode == 1
    assert f"{segment}: damaged at byte" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert segment.read_bytes() == damaged


def test_a_node_lives_on_when_strangers_talk_nonsense_to_its_ports(single):
    for address in (single.client_address, single.peer_address):
        host, _, port = address.rpartition(":")
        for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\0" * 64, os.urandom(64)):
            with socket.create_connection((host, int(port)), timeout=HUNG_SECONDS) as stranger:
                stranger.sendall(nonsense)
                stranger.settimeout(HUNG_SECONDS)
                try:
                    while stranger.recv(4096):
                        pass
                except ConnectionResetError:
                    pass

    assert ask_status(single.client_address)["groups"]["1"]["role"] == "leader"


def test_a_disk_without_room_is_one_clear_line(tmp_path):
    """The system's limit on the size of files stands in for a full disk."""
    start = f"exec {sys.executable} -m aegis_replication.cli.main node start --name n1 --data {tmp_path}/n1"

    ran = subprocess.run(
        ["bash", "-c", f"ulimit -f 1024; {start}"], capture_output=True, text=True, timeout=HUNG_SECONDS, check=False
    )

    assert ran.returncode == 1
    assert f"{tmp_path}/n1" in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("changed", ["failing-disk", "failing-disk,aside"])
def test_a_node_whose_disk_fails_ends_with_one_clear_line_and_the_others_go_on(cluster_of, changed):
    cluster = cluster_of(changed=changed)
    cluster.start()
    leader = cluster.nodes[cluster.wait_leader()]
    endpoints = {"AEGIS_ENDPOINTS": cluster.endpoints, "AEGIS_TIMEOUT": str(HUNG_SECONDS)}
    assert aegis("kv", "put", "before", "1", **endpoints).returncode == 0

    leader.directory.with_name(f"fail-{leader.node}").touch()
    during = aegis("kv", "put", "during", "2", **endpoints)
    assert leader.process is not None
    code = leader.process.wait(HUNG_SECONDS)

    assert code == 1
    assert f"aegis: {leader.node} stopped by itself (DiskFailed)" in leader.last_words()
    assert "Traceback" not in leader.log_path.read_text()
    assert during.returncode == 0, during.stderr
    assert aegis("kv", "get", "before", **endpoints).stdout == "1\n"
    assert aegis("kv", "get", "during", **endpoints).stdout == "2\n"
