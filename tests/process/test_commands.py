"""Do the commands do what they say, against a cluster of real processes?"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from aegis_replication.cli import endings
from aegis_replication.processes import LocalProcesses, free_ports

HUNG_SECONDS = 60.0

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalProcesses]:
    with LocalProcesses(tmp_path_factory.mktemp("commands")) as cluster:
        cluster.start()
        cluster.wait_leader()
        yield cluster


def run_aegis(*words: str | bytes, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "aegis_replication.cli.main", *words],
        input=stdin,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=2 * HUNG_SECONDS,
        check=False,
    )


@pytest.fixture
def aegis(cluster: LocalProcesses) -> Run:
    """Runs `aegis` with the cluster's endpoints."""

    def run(*words: str | bytes, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
        given = {"AEGIS_ENDPOINTS": cluster.endpoints, "AEGIS_TIMEOUT": str(HUNG_SECONDS), **environment}
        return run_aegis(*words, stdin=stdin, **given)

    return run


# --- keys and values ------------------------------------------------------------------------------------------------


def test_a_value_is_read_at_any_node_and_of_any_age(aegis):
    aegis("kv", "put", "anywhere", "here")

    current = aegis("kv", "get", "anywhere", "--replica", "any")
    young = aegis("kv", "get", "anywhere", "--max-staleness", "5")
    nonsense = aegis("kv", "get", "anywhere", "--max-staleness", "0")

    assert (current.returncode, current.stdout) == (0, b"here\n")
    assert (young.returncode, young.stdout) in ((0, b"here\n"), (endings.NOT_FOUND, b""))  # as of 5 s before
    assert nonsense.returncode == endings.USAGE
    assert b"give seconds, 0.001 to 86,400" in nonsense.stderr


def test_leases_are_switched_on_and_off_and_shown(aegis):
    before = aegis("cluster", "lease")
    on = json.loads(aegis("cluster", "lease", "on", "-o", "json").stdout)
    again = aegis("cluster", "lease", "on")
    read = aegis("kv", "put", "leased", "1"), aegis("kv", "get", "leased")
    shown = json.loads(aegis("status", "-o", "json").stdout)
    off = json.loads(aegis("cluster", "lease", "off", "-o", "json").stdout)

    assert (before.returncode, before.stderr) == (0, b"aegis: leases are off\n")
    assert on == {"lease": "on", "lease_ms": 150}
    assert (again.returncode, again.stderr) == (0, b"aegis: leases are on: 150 ms\n")
    assert read[1].stdout == b"1\n"
    assert {node["lease_ms"] for node in shown["nodes"]} == {150}
    assert off == {"lease": "off", "lease_ms": 0}


def test_a_value_goes_in_and_comes_out(aegis):
    put, got = aegis("kv", "put", "hello", "world"), aegis("kv", "get", "hello")

    assert (put.returncode, put.stdout, put.stderr) == (0, b"", b"")
    assert (got.returncode, got.stdout, got.stderr) == (0, b"world\n", b"")


def test_any_bytes_may_be_a_key_or_a_value(aegis, tmp_path):
    (tmp_path / "value").write_bytes(bytes(range(256)))

    aegis("kv", "put", b"key-\xff", "--file", str(tmp_path / "value"))

    assert aegis("kv", "get", b"key-\xff").stdout == bytes(range(256)) + b"\n"
    shown = json.loads(aegis("kv", "get", b"key-\xff", "-o", "json").stdout)
    assert shown["key_base64"] == "a2V5Lf8="
    assert set(shown) == {"key_base64", "value_base64", "version"}


def test_a_value_may_come_from_standard_input(aegis):
    aegis("kv", "put", "piped", "--file", "-", stdin=b"from a pipe")

    assert aegis("kv", "get", "piped").stdout == b"from a pipe\n"


def test_what_is_not_there_is_exit_code_4(aegis):
    for words in (("kv", "get", "absent"), ("kv", "del", "absent")):
        ran = aegis(*words)
        assert (ran.returncode, ran.stdout) == (endings.NOT_FOUND, b"")
        assert ran.stderr == b"aegis: key 'absent' is not there\n"


def test_a_deleted_key_is_gone(aegis):
    aegis("kv", "put", "short-lived", "1")

    assert aegis("kv", "del", "short-lived").returncode == 0
    assert aegis("kv", "get", "short-lived").returncode == endings.NOT_FOUND


def test_a_comparison_that_fails_is_exit_code_5_and_changes_nothing(aegis):
    created = json.loads(aegis("kv", "cas", "compared", "1", "--absent", "-o", "json").stdout)

    assert aegis("kv", "cas", "compared", "2", "--absent").returncode == endings.CONFLICT
    assert aegis("kv", "cas", "compared", "2", "--expect", "0").returncode == endings.CONFLICT
    assert aegis("kv", "get", "compared").stdout == b"1\n"
    assert aegis("kv", "cas", "compared", "2", "--expect", "1").returncode == 0
    assert (
        aegis("kv", "cas", "compared", "3", "--expect-version", str(created["version"])).returncode == endings.CONFLICT
    )
    assert aegis("kv", "get", "compared").stdout == b"2\n"


def test_a_number_is_counted_up_and_down(aegis):
    assert aegis("kv", "incr", "counter").stdout == b"1\n"
    assert aegis("kv", "incr", "counter", "--by", "-3").stdout == b"-2\n"
    aegis("kv", "put", "text", "not a number")

    ran = aegis("kv", "incr", "text")

    assert ran.returncode == endings.ERROR
    assert ran.stderr.startswith(b"aegis: ")
    assert ran.stderr.count(b"\n") == 1


def test_keys_are_listed_in_order_with_their_forms(aegis):
    for key in ("list/b", "list/a", "list/c", "lisu"):
        aegis("kv", "put", key, f"value of {key}")

    lines = [json.loads(line) for line in aegis("kv", "list", "list/", "-o", "jsonl").stdout.splitlines()]
    assert [line["key"] for line in lines] == ["list/a", "list/b", "list/c"]
    assert lines[0]["value"] == "value of list/a"
    limited = aegis("kv", "list", "list/", "--limit", "2", "--keys-only", "-o", "json")
    assert [set(line) for line in json.loads(limited.stdout)] == [{"key", "version"}] * 2
    assert b"--after 'list/b'" in limited.stderr
    rest = aegis("kv", "list", "list/", "--after", "list/b", "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line)["key"] for line in rest] == ["list/c"]
    ranged = json.loads(aegis("kv", "list", "--start", "list/b", "--end", "lisu", "-o", "json").stdout)
    assert [line["key"] for line in ranged] == ["list/b", "list/c"]
    assert b"list/b" in aegis("kv", "list", "list/").stdout


def test_too_large_a_key_or_value_is_a_usage_error_naming_the_limit(aegis, tmp_path):
    (tmp_path / "large").write_bytes(bytes(2 * 1024 * 1024))

    for ran in (aegis("kv", "put", "large", "--file", str(tmp_path / "large")), aegis("kv", "put", "k" * 70_000, "v")):
        assert ran.returncode == endings.USAGE, ran.stderr
        assert b"limit" in ran.stderr
        assert ran.stderr.count(b"\n") == 1


def test_a_missing_file_is_one_line(aegis):
    ran = aegis("kv", "put", "a", "--file", "no-such-file")

    assert ran.returncode == endings.ERROR
    assert b"no-such-file" in ran.stderr
    assert ran.stderr.count(b"\n") == 1


# --- who is there ---------------------------------------------------------------------------------------------------


def test_nobody_there_is_exit_code_3_for_a_request_and_7_for_status():
    (port,) = free_ports(1)
    nobody = {"AEGIS_ENDPOINTS": f"127.0.0.1:{port}", "AEGIS_TIMEOUT": "0.5"}

    asked, status = run_aegis("kv", "get", "a", **nobody), run_aegis("status", **nobody)

    assert asked.returncode == endings.UNAVAILABLE
    assert asked.stderr.count(b"\n") == 1
    assert status.returncode == endings.UNHEALTHY
    assert b"unreachable" in status.stdout


def test_a_cluster_of_another_name_is_refused(aegis):
    ran = aegis("kv", "get", "hello", "--cluster", "other", "--timeout", "2")

    assert ran.returncode in (endings.ERROR, endings.UNAVAILABLE)
    assert b"other" in ran.stderr
    assert ran.stderr.count(b"\n") == 1


def test_status_finds_all_nodes_from_one_of_them(aegis, cluster):
    one = cluster.nodes["n2"].client_address

    shown = json.loads(aegis("status", "--endpoints", one, "-o", "json").stdout)
    table = aegis("status", "--endpoints", one)

    assert [node["node"] for node in shown["nodes"]] == ["n1", "n2", "n3"]
    assert shown["leader"] in cluster.nodes
    assert (shown["healthy"], shown["troubles"]) == (True, [])
    assert table.returncode == 0
    assert b"leader" in table.stdout


def test_status_with_a_dead_node_is_exit_code_7_and_names_it(aegis, cluster):
    follower = next(name for name in cluster.nodes if name != cluster.leader())
    cluster.nodes[follower].kill()
    try:
        ran = aegis("status", "--endpoints", cluster.endpoints)
    finally:
        cluster.start()
        cluster.wait_caught_up()

    assert ran.returncode == endings.UNHEALTHY
    assert b"unreachable" in ran.stdout
    assert cluster.nodes[follower].client_address.encode() in ran.stderr


# --- files ----------------------------------------------------------------------------------------------------------


def test_what_is_exported_can_be_imported(aegis, tmp_path):
    source = tmp_path / "in.jsonl"
    lines = [{"key": f"file/{number:05}", "value": f"line {number} é"} for number in range(3000)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))

    imported = aegis("import", str(source))
    assert imported.returncode == 0, imported.stderr
    assert b"imported 3,000 keys" in imported.stderr
    aegis("kv", "put", b"file/zz\xff", "last")
    first = aegis("export", str(tmp_path / "out.jsonl"), "--prefix", "file/")
    assert b"exported 3,001 keys" in first.stderr
    assert aegis("export", str(tmp_path / "out.jsonl"), "--prefix", "file/").returncode == endings.USAGE
    assert aegis("import", str(tmp_path / "out.jsonl")).returncode == 0
    piped = aegis("export", "--prefix", "file/").stdout
    assert piped == (tmp_path / "out.jsonl").read_bytes()
    assert [json.loads(line) for line in piped.splitlines()[:3000]] == lines
    assert not list(tmp_path.glob("*.part"))


def test_lines_are_imported_from_standard_input(aegis):
    ran = aegis("import", "-", "--as", "jsonl", stdin=b'{"key": "stdin/1", "value": "x"}\n')

    assert ran.returncode == 0, ran.stderr
    assert aegis("kv", "get", "stdin/1").stdout == b"x\n"


def test_csv_is_imported_by_its_columns(aegis, tmp_path):
    (tmp_path / "people.csv").write_text('value,key\nAda,csv/1\n"Grace\nHopper",csv/2\n')

    assert aegis("import", str(tmp_path / "people.csv")).returncode == 0
    assert aegis("kv", "get", "csv/2").stdout == b"Grace\nHopper\n"


def test_an_import_stops_at_a_bad_line_and_says_where_to_go_on(aegis, tmp_path):
    lines = [json.dumps({"key": f"bad/{number}", "value": "x"}) for number in range(1, 5)]
    (tmp_path / "bad.jsonl").write_text("\n".join([*lines[:2], "{oops", *lines[2:]]))

    ran = aegis("import", str(tmp_path / "bad.jsonl"), "--in-flight", "1")

    assert ran.returncode == endings.ERROR
    assert f"{tmp_path}/bad.jsonl:3: not JSON".encode() in ran.stderr
    assert b"--from-line 3" in ran.stderr
    assert aegis("kv", "get", "bad/2").returncode == 0
    assert aegis("import", str(tmp_path / "bad.jsonl"), "--from-line", "4").returncode == 0
    assert aegis("kv", "get", "bad/4").returncode == 0


def test_a_value_over_the_limit_names_its_line(aegis, tmp_path):
    (tmp_path / "large.jsonl").write_text(json.dumps({"key": "a", "value": "x" * 2_000_000}))

    ran = aegis("import", str(tmp_path / "large.jsonl"))

    assert ran.returncode != 0
    assert b"line 1" in ran.stderr
    assert b"limit" in ran.stderr


def test_a_closed_pipe_ends_an_export_quietly(aegis, cluster):
    ran = subprocess.run(
        [
            "bash",
            "-c",
            f"{sys.executable} -m aegis_replication.cli.main export | head -c 10 > /dev/null; echo ${{PIPESTATUS[0]}}",
        ],
        env={**os.environ, "AEGIS_ENDPOINTS": cluster.endpoints},
        capture_output=True,
        timeout=HUNG_SECONDS,
        check=True,
    )

    assert ran.stdout.strip() in (b"141", b"0")  # 0: it had written everything before the reader left
    assert b"Traceback" not in ran.stderr


# --- the demo -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_proof_holds_and_its_keys_stand(tmp_path):
    ran = run_aegis("demo", "--check", "-o", "json", "--data", str(tmp_path / "data"))

    proof = json.loads(ran.stdout)
    assert ran.returncode == 0, ran.stderr
    assert proof["records"] == proof["acknowledged"] > 100_000
    assert (proof["lost"], proof["lost_after_restart"], proof["replicas_equal"]) == (0, 0, True)
    assert proof["elections"] >= 3
    assert {"write_stall_ms", "writes_per_second", "flushes", "filesystem", "live_bytes", "allocated_bytes"} <= set(
        proof
    )
    assert {"leaders", "loop", "nodes"} <= set(proof)
    assert (tmp_path / "data" / "n1").is_dir()


def test_the_proof_wants_an_empty_directory(tmp_path):
    (tmp_path / "something").touch()

    assert run_aegis("demo", "--check", "--data", str(tmp_path)).returncode == endings.USAGE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_proof_leaves_no_node_behind(tmp_path, number):
    proof = subprocess.Popen(
        [sys.executable, "-m", "aegis_replication.cli.main", "demo", "--check", "--data", str(tmp_path / "data")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with proof:
        lines = Lines(proof)
        lines.wait_for("leads in term")
        proof.send_signal(number)
        code = proof.wait(HUNG_SECONDS)
        lines.wait_for("interrupted")

    assert code == endings.INTERRUPTED
    for port in json.loads((tmp_path / "data" / "ports.json").read_text()):
        with socket.socket() as one:
            assert one.connect_ex(("127.0.0.1", port)) != 0, f"something still listens on {port}"


class Lines:
    """What a program says on stderr, line by line."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.seen: list[str] = []
        assert process.stderr is not None
        self._stream = process.stderr
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._stream:
            self.seen.append(line.decode())

    def wait_for(self, text: str) -> str:
        deadline = time.monotonic() + HUNG_SECONDS
        while True:
            for line in list(self.seen):
                if text in line:
                    return line
            assert time.monotonic() < deadline, f"hung: no {text!r} in {''.join(self.seen)}"
            time.sleep(0.05)


def test_a_demo_is_played_with_from_a_second_terminal(tmp_path):
    own = {"XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path)}
    none = run_aegis("demo", "kill", "n1", **own)
    demo = subprocess.Popen(
        [sys.executable, "-m", "aegis_replication.cli.main", "demo", "-o", "json"],
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        lines = Lines(demo)
        assert demo.stdout is not None
        listed = b""
        while not listed.strip().endswith(b"]"):
            listed += demo.stdout.readline()
        nodes = json.loads(listed)
        reach = {"AEGIS_ENDPOINTS": ",".join(node["clients"] for node in nodes), "AEGIS_TIMEOUT": str(HUNG_SECONDS)}
        leader = next(node["node"] for node in nodes if node["role"] == "leader")

        assert none.returncode == endings.UNAVAILABLE
        if nodes[0]["http"]:  # there is one where the extra is installed
            with urllib.request.urlopen(f"http://{nodes[0]['http']}/livez", timeout=HUNG_SECONDS) as page:
                assert json.load(page)["node"] == nodes[0]["node"]
        assert run_aegis("kv", "put", "hello", "world", **reach).returncode == 0
        assert run_aegis("demo", "kill", leader, **own).returncode == 0
        assert "0 acked writes lost" in lines.wait_for("elected leader term")
        assert run_aegis("kv", "get", "hello", **reach).stdout == b"world\n"
        assert run_aegis("demo", "kill", leader, **own).returncode == endings.ERROR
        assert run_aegis("demo", "kill", "n9", **own).returncode == endings.ERROR
        assert run_aegis("demo", "start", leader, **own).returncode == 0
        second = run_aegis("demo", **own)
        assert second.returncode == endings.USAGE
        assert str(demo.pid).encode() in second.stderr
    finally:
        demo.send_signal(signal.SIGINT)
        with demo:
            code = demo.wait(HUNG_SECONDS)

    assert code == 0
    assert not list(tmp_path.glob("aegis-demo-*"))
    assert run_aegis("status", **{**reach, "AEGIS_TIMEOUT": "1"}).returncode == endings.UNHEALTHY
