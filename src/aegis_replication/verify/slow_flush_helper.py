"""How is a flush beside the node made slow? As storage/flush_helper.py, which it loads, after a pause.

Run as that one is, isolated and without this package in reach, so the pause is found in the file by hand.
"""

import importlib.util
import json
import os
import socket
import sys
import time
from pathlib import Path

_path = Path(__file__).parents[1] / "storage" / "flush_helper.py"
_spec = importlib.util.spec_from_file_location("flush_helper", _path)
assert _spec is not None, f"{_path} can't be loaded"
assert _spec.loader is not None, f"{_path} can't be loaded"
helper = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(helper)
_flush_one = helper.flush_one


def flush_late(descriptor: int) -> None:
    """As flush_one, after the pause that the file names."""
    try:
        with open(os.environ["AEGIS_VERIFY_TROUBLE"], encoding="utf-8") as file:
            time.sleep(json.load(file)["flush_seconds"])
    except FileNotFoundError:
        pass
    _flush_one(descriptor)


if __name__ == "__main__":
    vars(helper)["flush_one"] = flush_late
    helper.ignore_signals()
    helper.serve(socket.socket(fileno=int(sys.argv[1])))
