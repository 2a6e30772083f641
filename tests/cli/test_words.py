"""Does `aegis` understand its words, and does it say clearly when it doesn't?"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from aegis_replication import __version__
from aegis_replication.cli import endings
from aegis_replication.cli.main import _COMMANDS, main
from aegis_replication.errors import (
    AegisError,
    ConfigError,
    CorruptRecord,
    DeadlineExceeded,
    DiskFailed,
    LimitExceeded,
    NotLeader,
    OutcomeUnknown,
    SessionExpired,
    Unavailable,
)

COMMANDS_WITH_EXAMPLES = [
    ["version"],
    ["completion"],
    ["config", "show"],
    ["config", "check"],
    ["config", "init"],
    ["status"],
    ["kv", "put"],
    ["kv", "get"],
    ["kv", "del"],
    ["kv", "cas"],
    ["kv", "incr"],
    ["kv", "list"],
    ["import"],
    ["export"],
    ["node", "start"],
    ["demo"],
    ["demo", "kill"],
    ["demo", "start"],
    ["bench", "kv"],
    ["simulate"],
    ["replay"],
    ["wal", "dump"],
    ["wal", "verify"],
    ["snapshot", "dump"],
]


@pytest.mark.parametrize("words", COMMANDS_WITH_EXAMPLES, ids=" ".join)
def test_help_of_each_command_ends_with_examples(aegis, words):
    ran = aegis(*words, "--help")

    assert ran.code == endings.OK, ran.err
    usage, _, shown = ran.out.partition("Examples:")
    assert " ".join(("aegis", *words)) in usage
    assert " ".join(("aegis", *words)) in shown


def test_every_command_is_in_the_list_of_help(aegis):
    listed = aegis("--help").out

    assert [name for name in _COMMANDS if f" {name} " not in listed and name != "ring"] == []


def test_no_words_print_help(aegis):
    ran = aegis()

    assert (ran.code, ran.err) == (endings.OK, "")
    assert "aegis kv put hello world" in ran.out


def test_version_names_the_formats_it_speaks(aegis):
    assert aegis("--version").out == f"{__version__}\n"
    assert __version__ in aegis("version").out
    assert aegis("version", "-o", "json").json["protocol_highest"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "unknown command 'nonsense'"),
        (["stat"], "did you mean status?"),
        (["kv", "nonsense"], "nonsense"),
        (["kv", "put", "key"], "give the value"),
        (["kv", "get"], "KEY"),
        (["kv", "get", "a", "b"], "'b'"),
        (["kv", "get", "a", "--output", "yaml"], '"yaml"'),
        (["kv", "get", "a", "--outptu", "json"], "--output"),
        (["kv", "get", "a", "--timeout", "soon"], '"soon"'),
        (["kv", "get", "a", "--timeout", "0"], "--timeout 0"),
        (["kv", "get", "a", "--endpoints", ","], "names 0 nodes"),
        (["kv", "get", "a", "--endpoints", "etcd://x"], "etcd://"),
        (["kv", "get", "a", "--endpoints", "host:port"], "host:port"),
        (["kv", "put", "a", "b", "--file", "c"], "either as VALUE or with --file"),
        (["kv", "cas", "a", "b"], "nothing is expected"),
        (["kv", "cas", "a", "b", "--absent", "--expect", "c"], "--absent goes with neither"),
        (["kv", "incr", "a", "--by", "much"], '"much"'),
        (["kv", "list", "--limit", "0"], "--limit 0"),
        (["kv", "list", "a", "--end", "b"], "PREFIX goes with neither"),
        (["import", "data.xlsx"], "is it jsonl or csv?"),
        (["import", "data.jsonl", "--from-line", "0"], "--from-line 0"),
        (["import", "data.jsonl", "--in-flight", "5000"], "--in-flight 5000"),
        (["demo", "--nodes", "4"], "--nodes 4"),
        (["demo", "--check", "--nodes", "1"], "--nodes 1"),
        (["demo", "--check", "--loop", "trio"], '"trio"'),
        (["bench", "kv", "--clients", "0"], "--clients 64"),
        (["bench", "kv", "--value-bytes", "3"], "value_bytes = 3"),
        (["node", "start", "--name", "a b"], "'a b'"),
        (["node", "start", "--listen", "nowhere"], "node.listen"),
        (["node", "start", "--listen", "0.0.0.0:7480"], "--insecure"),
        (["node", "start", "--peers", "n1=127.0.0.1:1"], "cluster.node_id is missing"),
        (["node", "start", "--config", "missing.toml"], "missing.toml"),
        (["completion", "tcsh"], '"tcsh"'),
        (["config", "check"], "no configuration file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_is_one_clear_line(aegis, words, said):
    ran = aegis(*words)

    assert ran.code == endings.USAGE
    assert said in ran.err
    assert ran.err.startswith("aegis: ")
    assert ran.err.count("\n") == 1
    assert ran.out == ""


def test_a_usage_error_says_where_to_read_on(aegis):
    assert "(see `aegis kv put --help`)" in aegis("kv", "put").err


def test_debug_shows_where_an_error_comes_from(aegis):
    plain, debugged = aegis("config", "check"), aegis("--debug", "config", "check")

    assert "Traceback" not in plain.err
    assert "Traceback" in debugged.err
    assert debugged.code == plain.code


def test_words_after_two_dashes_are_values(aegis):
    assert aegis("kv", "get", "--endpoints", "bad:port", "--", "--debug").err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AegisError("x"), endings.ERROR),
        (OSError("x"), endings.ERROR),
        (CorruptRecord("f", 1, "a", "b"), endings.ERROR),
        (DiskFailed("x"), endings.ERROR),
        (ConfigError("x"), endings.USAGE),
        (LimitExceeded("a key", 2, 1), endings.USAGE),
        (NotLeader(1), endings.UNAVAILABLE),
        (Unavailable("x"), endings.UNAVAILABLE),
        (DeadlineExceeded("x"), endings.UNAVAILABLE),
        (OutcomeUnknown("put", "silence"), endings.OUTCOME_UNKNOWN),
        (SessionExpired("x"), endings.OUTCOME_UNKNOWN),
        (AssertionError("x"), endings.ERROR),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_kind_of_error_has_its_exit_code(error, code):
    assert endings.ending_of(error) == code


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (BrokenPipeError(), 141, ""),
        (ExceptionGroup("x", [ExceptionGroup("y", [Unavailable("nobody leads")])]), 3, "aegis: nobody leads"),
        (AssertionError("3 > 2"), 1, "aegis: this is a bug of ours (AssertionError: 3 > 2); --debug shows where"),
        (FileNotFoundError(2, "No such file", "a.jsonl"), 1, "aegis: [Errno 2] No such file: 'a.jsonl'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_a_command_raises_becomes_one_line_and_a_code(monkeypatch, capsys, error, code, said):
    def app(_words):
        raise error

    monkeypatch.setattr("aegis_replication.cli.main.make_app", lambda: app)
    monkeypatch.setattr("aegis_replication.cli.main.os.dup2", lambda *_: None)

    assert main(["kv", "list"]) == code
    assert capsys.readouterr().err.strip() == said


def test_without_its_extra_the_command_says_what_to_install(tmp_path):
    (tmp_path / "cyclopts.py").write_text("raise ModuleNotFoundError('no', name='cyclopts')\n")

    ran = subprocess.run(
        [sys.executable, "-m", "aegis_replication.cli.main", "kv", "get", "a"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == endings.USAGE
    assert ran.stderr == (
        "aegis: the command line needs cyclopts: install it with  python -m pip install 'aegis-replication[cli]'\n"
    )


def test_help_loads_no_command():
    program = (
        "import sys; from aegis_replication.cli.main import main; main(['--help']); "
        "print(sorted(name for name in sys.modules if name.startswith('aegis_replication.')))"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    loaded = ran.stdout.splitlines()[-1]
    assert "aegis_replication.cli.main" in loaded
    for heavy in ("node", "client", "storage", "simulation", "cli.kv"):
        assert f"aegis_replication.{heavy}" not in loaded


def test_completion_scripts_are_accepted_by_their_shell(aegis, tmp_path: Path):
    script = tmp_path / "aegis.bash"
    script.write_text(aegis("completion", "bash").out)

    assert "aegis" in script.read_text()
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_the_operations_page_names_every_command_and_exit_code(aegis):
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()

    listed = {
        words for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for words in re.findall(r"`([^`]*)`", row)
    }
    assert [
        name for name in _COMMANDS if name != "ring" and not any(words.split()[0] == name for words in listed)
    ] == []
    for words in COMMANDS_WITH_EXAMPLES:
        assert words[0] in page
        assert words[-1] in page
    codes = set(map(int, re.findall(r"^\| (\d+) \|", page, re.MULTILINE)))
    assert codes == {value for name, value in vars(endings).items() if name.isupper() and isinstance(value, int)}
