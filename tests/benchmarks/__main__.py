"""Every benchmark: ``python -m tests.benchmarks [NAME ...] [--quick] [--json FILE]``."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from tests.benchmarks.figures import Figure, show, write_json

NAMES = ("startup", "growth", "shuffle", "close_day", "flat", "hledger", "writers", "postgres")
PEERS = {"sqlite3": "sqlite3", "hledger": "hledger", "task": "taskwarrior", "gh": "gh"}
NEEDS = {"shuffle": "sqlite3", "close_day": "sqlite3", "hledger": "hledger"}


def main(arguments: list[str] | None = None) -> int:
    """Measure the named benchmarks. Return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure speed.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="few rounds in small homes, to see that all of it works")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), metavar="FILE")
    chosen = parser.parse_args(arguments)
    names = chosen.names or NAMES
    if unknown := sorted({*names} - {*NAMES}):
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if not chosen.json.parent.is_dir():
        parser.error(f"there is no directory {chosen.json.parent}")
    find_peers()
    shown: list[Figure] = []
    growth: dict[str, dict[int, float]] = {}
    try:
        for figure in show(_figures(names, quick=chosen.quick)):
            shown.append(figure)
        if "growth" in names:
            growth = import_module("tests.benchmarks.growth").table(quick=chosen.quick)
    finally:
        write_json(shown, chosen.json, milliseconds_by_tasks=growth)
    goals = [figure.is_met for figure in shown if figure.goal is not None]
    sys.stdout.write(f"\n{sum(goals)} of {len(goals)} goals are met; {chosen.json} has every round.\n")
    return 0 if all(goals) else 1


def find_peers() -> None:
    """Install the programs for comparison if possible, and report the missing ones."""
    missing = [package for program, package in PEERS.items() if shutil.which(program) is None]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-q", *missing], check=False, stdout=subprocess.DEVNULL)
    for program, package in PEERS.items():
        if shutil.which(program) is None:
            sys.stdout.write(f"{program} is missing (apt-get install {package}): what needs it is left out\n")


def _figures(names: tuple[str, ...], *, quick: bool) -> Iterator[Figure]:
    for name in names:
        if name in NEEDS and shutil.which(NEEDS[name]) is None:
            sys.stdout.write(f"{name} is left out, for {NEEDS[name]} is missing\n")
            continue
        figures: Callable[..., Iterator[Figure]] = import_module(f"tests.benchmarks.{name}").figures
        yield from figures(quick=quick)


if __name__ == "__main__":
    sys.exit(main())
