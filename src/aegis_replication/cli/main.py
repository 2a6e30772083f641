"""What does `aegis` do with its words, and what does it tell the shell when it ends?"""

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

from aegis_replication import __version__
from aegis_replication.cli import endings
from aegis_replication.errors import AegisError

EPILOGUE = """\
Examples:

  aegis demo                 three nodes on this machine, to play with
  aegis demo --check         kill the leader under load: nothing is lost
  aegis kv put hello world   (where: --endpoints or AEGIS_ENDPOINTS)
  aegis status

--help after a command shows its examples, --debug where an error comes from.
Exit codes: 0 ok, 1 error, 2 usage, 3 unavailable, 4 not found, 5 conflict,
6 outcome unknown, 7 unhealthy, 130 interrupted."""

_DEBUG = "--debug"

# Read only when its command is used: `aegis --help` and `aegis version` stay quick.
_COMMANDS = {
    "demo": ("demo:app", "A cluster on this machine, to play with or as a proof (--check)."),
    "node": ("node:app", "Run a node; see and change who the members are."),
    "cluster": ("cluster:app", "Let another node lead; reads by lease; recover from a lost majority."),
    "kv": ("kv:app", "Read and write keys."),
    "import": ("transfer:import_app", "Load keys and values from a .jsonl or .csv file."),
    "export": ("transfer:export_app", "Write keys and values to a .jsonl file."),
    "backup": ("backup:backup_app", "Write the state of a running cluster to a file."),
    "status": ("status:app", "Who leads, who lags, how fast the disks are."),
    "bench": ("bench:app", "Measure durable writes and linearizable reads."),
    "verify": ("verify:app", "Judge real nodes under real faults, or a recorded history."),
    "simulate": ("simulate:app", "Run the replicas on simulated time, network and disks, with faults."),
    "replay": ("simulate:replay_app", "Run a recorded simulation again."),
    "snapshot": ("snapshot:app", "Look into snapshots and backups; restore a backup."),
    "wal": ("wal:app", "Look into the log of a stopped node."),
    "ring": ("ring:app", "Plan where keys live, without a cluster."),
    "config": ("config:app", "Show, check or begin a configuration file."),
    "completion": ("completion:app", "Print the script that completes words in a shell."),
    "version": ("version:app", "Versions of this program and of what it runs on."),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code (docs/operations.md lists them). `arguments`: without the program's name."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = _take_debug(words)
    _end_on_sigterm()
    _make_printable()
    try:
        result = make_app()(words)
        sys.stdout.flush()
        return int(result or 0)
    except ModuleNotFoundError as missing:
        if missing.name not in ("cyclopts", "rich"):
            return _failed(missing, debug)
        return _say(
            f"aegis: the command line needs {missing.name}: install it with  python -m pip install "
            "'aegis-replication[cli]'",
            endings.USAGE,
        )
    except BrokenPipeError:  # whoever read our output has seen enough, as in `aegis kv list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return endings.BROKEN_PIPE
    except KeyboardInterrupt:
        return _say("interrupted", endings.INTERRUPTED)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else endings.ERROR
    except BaseException as error:
        return _failed(error, debug)


def make_app() -> Any:
    """The tree of commands."""
    from cyclopts import App

    app = App(
        name="aegis",
        help="Raft, durable logs and a replicated key-value store.",
        help_format="plaintext",
        help_epilogue=EPILOGUE,
        version=__version__,
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for name, (target, text) in _COMMANDS.items():
        module, _, attribute = target.partition(":")
        if find_spec(f"aegis_replication.cli.{module}") is not None:
            app.command(f"aegis_replication.cli.{module}:{attribute}", name=name, help=text)
    return app


def _end_on_sigterm() -> None:
    """SIGTERM ends a command as Ctrl-C does, so that the nodes it started don't outlive it."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(_number: int, _frame: object) -> None:
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def _make_printable() -> None:
    """Any text may be printed anywhere: escaped where the terminal's encoding lacks it, nowhere when it was closed."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for the rest of the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _take_debug(words: list[str]) -> bool:
    end = words.index("--") if "--" in words else len(words)
    if _DEBUG in words[:end]:
        words.remove(_DEBUG)
        return True
    return bool(os.environ.get("AEGIS_DEBUG"))


def _failed(error: BaseException, debug: bool) -> int:
    """One clear line; what we did not foresee says that it is our bug."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    while isinstance(error, BaseExceptionGroup):  # several tasks failed: the first tells what happened
        error = error.exceptions[0]
    if type(error).__module__.startswith("cyclopts"):
        return _say(f"aegis: {_usage_text(error)}", endings.USAGE)
    if isinstance(error, AegisError | OSError | UnicodeError):
        return _say(f"aegis: {error}", endings.ending_of(error))
    return _say(
        f"aegis: this is a bug of ours ({type(error).__name__}: {error}); --debug shows where", endings.ending_of(error)
    )


def _usage_text(error: Any) -> str:
    """cyclopts' own sentence on one line, and where to read on."""
    if type(error).__name__ == "UnknownCommandError" and not getattr(error, "command_chain", None):
        word = error.unused_tokens[0]
        near = get_close_matches(word, _COMMANDS, n=1)
        return f"unknown command {word!r}{f'; did you mean {near[0]}?' if near else ''} (see `aegis --help`)"
    text = " ".join(str(error).split())
    chain = " ".join(getattr(error, "command_chain", None) or ())
    return f"{text} (see `aegis {chain} --help`)" if chain else f"{text} (see `aegis --help`)"


def _say(line: str, code: int) -> int:
    try:
        print(line, file=sys.stderr)
    except OSError:  # stderr is closed: the exit code still tells
        pass
    return code


if __name__ == "__main__":
    sys.exit(main())
