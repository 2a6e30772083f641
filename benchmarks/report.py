"""What do the benchmarks beside other packages have in common? Their options, what they ran on, and how they print."""

import argparse
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from growth_plot import Series, draw


def options(description: str, *, keys: int, rounds: int) -> argparse.Namespace:
    """What the command line asks for; `keys` and `rounds` unless it says otherwise."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    parser.add_argument("--keys", type=int, default=keys, help="keys per round")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--plot", type=Path, help="measure growth too, and draw it into this SVG file")
    return parser.parse_args()


def report(
    asked: argparse.Namespace,
    figures: dict[str, Any],
    rows: Callable[[dict[str, Any]], list[str]],
    growth: Callable[[], Series],
    labels: tuple[str, str, str],
) -> None:
    """Print `figures`, as JSON or as `rows` with the ratios below; with `--plot` draw `growth()` under its labels."""
    figures["python"] = platform.python_version()
    figures["machine"] = {"processor": platform.machine(), "cores": os.cpu_count()}
    if asked.plot:
        figures["growth_ns"] = growth()
        asked.plot.write_text(draw(*labels, figures["growth_ns"]))
    if asked.output == "json":
        print(msgspec.json.format(msgspec.json.encode(figures), indent=2).decode())
        return
    print(*rows(figures), sep="\n")
    for name, value in figures["ratios"].items():
        print(f"{name:40}{value:10.2f} times")
    if figures["left_out"]:
        print(f"not installed, so left out: {', '.join(figures['left_out'])}")


def ratio_of(nanoseconds: dict[str, float], pairs: dict[str, tuple[str, str]]) -> dict[str, float]:
    """By name (peer, ours): how many times faster than the peer we are, of those that were measured."""
    return {
        name: round(nanoseconds[peer] / nanoseconds[ours], 2)
        for name, (peer, ours) in pairs.items()
        if peer in nanoseconds and ours in nanoseconds
    }
