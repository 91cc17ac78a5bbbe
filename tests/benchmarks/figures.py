"""A figure of a benchmark: ratios against a floor or a peer of the same run, and their goals."""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

Way = Callable[[], object]


class Figure(NamedTuple):
    """The ratio of each round; ``goal`` is an upper bound, or a lower one if more is better, or None for a peer."""

    name: str
    ratios: Sequence[float]
    goal: float | None
    more_is_better: bool = False
    note: str = ""

    @property
    def median(self) -> float:
        """Return the median of the rounds."""
        return statistics.median(self.ratios)

    @property
    def is_met(self) -> bool:
        """Return whether the median reaches the goal, if there is one."""
        if self.goal is None:
            return True
        return self.median >= self.goal if self.more_is_better else self.median <= self.goal


def machine() -> str:
    """Return the machine and the versions that the figures were taken with."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    return f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, commit {commit.strip()}"


def seconds(way: Way) -> float:
    """Return the elapsed seconds of a call."""
    since = time.perf_counter()
    way()
    return time.perf_counter() - since


def child_cpu_seconds(way: Way) -> float:
    """Return the processor seconds of the processes that a call runs and waits for."""
    since = resource.getrusage(resource.RUSAGE_CHILDREN)
    way()
    until = resource.getrusage(resource.RUSAGE_CHILDREN)
    return until.ru_utime + until.ru_stime - since.ru_utime - since.ru_stime


def ratios_in_turn(ours: Way, theirs: Way, rounds: int, *, spent: Callable[[Way], float] = seconds) -> list[float]:
    """Return the ratio of ours to theirs in each round after a warm-up; the order alternates."""
    ours(), theirs()
    ratios = []
    for number in range(rounds):
        if number % 2:
            one, other = spent(ours), spent(theirs)
        else:
            other, one = spent(theirs), spent(ours)
        ratios.append(one / other)
    return ratios


def process(*arguments: str, environment: dict[str, str] | None = None) -> Way:
    """Return a function that runs a whole process, which must succeed, and discards its output."""

    def run() -> None:
        whole = os.environ | {"PYTHONDONTWRITEBYTECODE": ""} | (environment or {})
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=whole)

    return run


def show(figures: Iterable[Figure]) -> Iterator[Figure]:
    """Print each figure as it comes, and yield it."""
    sys.stdout.write(f"{machine()}\n\n{'':<54}{'goal':>8}{'median':>8}{'lowest':>8}{'highest':>8}\n")
    for figure in figures:
        bound = "" if figure.goal is None else f"{'>=' if figure.more_is_better else '<='} {figure.goal:.2f}"
        verdict = "" if figure.goal is None else "  met" if figure.is_met else "  MISSED"
        low, high = min(figure.ratios), max(figure.ratios)
        sys.stdout.write(f"{figure.name:<54}{bound:>8}{figure.median:>8.2f}{low:>8.2f}{high:>8.2f}{verdict}\n")
        if figure.note:
            sys.stdout.write(f"    {figure.note}\n")
        sys.stdout.flush()
        yield figure


def write_json(figures: Sequence[Figure], path: Path, **tables: object) -> None:
    """Write the figures as JSON, each with all its rounds, and tables without a goal."""
    rows = [figure._asdict() | {"median": figure.median, "met": figure.is_met} for figure in figures]
    path.write_text(json.dumps({"machine": machine(), "figures": rows} | tables, indent=1) + "\n", encoding="utf-8")
