"""How much dearer a question is in a home of 1,000,000 entries than in one of 1,000.

``python -m tests.benchmarks.flat [LARGE] [ROUNDS]``, 1,000,000 and 15 if left out. Both are asked in turn, and
the ratio of each round is taken; the table shows the medians, in process (everything imported, the company open) and
as whole processes. The companies have the same people and days, so that the question is about as large in both; *one*
is somebody who has every entry of a company, all on one open day. A balance is explained by a hundred entries at most:
a person who has a thousand of 1,000 is compared with one of fifty who share 1,000,000.
"""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from popug_cli.app import Local
from popug_cli.kernel.home import Home
from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.base import Message
from popug_cli.messages.billing import GetBalance, GetStatement
from popug_cli.messages.company import ExplainBalance
from tests.benchmarks.homes import DAYS, FIRST_DAY, home_of, lone_home_of, principal_of, token_of

GOAL = 1.25
SMALL = 1_000
ASKED_AT_ONCE = 5
DAY = FIRST_DAY.replace(day=15)
INSTANT = datetime(2026, 3, 15, 12, tzinfo=UTC)
LONE_INSTANT = datetime(2026, 3, 1, 8, 40, tzinfo=UTC)
QUIET_DAY = date(2026, 4, 15)  # a day of nobody: what is measured is finding it, not showing it

Question = tuple[str, Message[Any], tuple[str, ...]]
NAME = "p00007"
QUESTIONS: tuple[Question, ...] = (
    ("balance", GetBalance(username=NAME), ("balance", NAME)),
    ("balance --as-of DATE", GetBalance(username=NAME, as_of_date=DAY), ("balance", NAME, "--as-of", str(DAY))),
    (
        "balance --as-of TIME",
        GetBalance(username=NAME, as_of_time=INSTANT),
        ("balance", NAME, "--as-of", "2026-03-15T12:00:00Z"),
    ),
    (
        "statement of a day",
        GetStatement(username=NAME, from_date=QUIET_DAY, to_date=QUIET_DAY),
        ("statement", NAME, "--from", str(QUIET_DAY), "--to", str(QUIET_DAY)),
    ),
    (
        "analytics of a month",
        GetAnalytics(day=FIRST_DAY.replace(day=DAYS)),
        ("analytics", "--date", str(FIRST_DAY.replace(day=DAYS))),
    ),
)
CROWD_QUESTION: Question = ("explain balance", ExplainBalance(username="p00000"), ("explain", "balance", "p00000"))
LONE_QUESTIONS: tuple[Question, ...] = (
    ("one: balance", GetBalance(username="p00000"), ("balance", "p00000")),
    (
        "one: balance --as-of TIME",
        GetBalance(username="p00000", as_of_time=LONE_INSTANT),
        ("balance", "p00000", "--as-of", "2026-03-01T08:40:00Z"),
    ),
    ("one: explain balance", ExplainBalance(username="p00000"), ("explain", "balance", "p00000")),
)


def in_process(homes: tuple[Path, Path], message: Message[Any], rounds: int) -> tuple[float, float, float]:
    """Medians of small and large in milliseconds, and of the ratio."""
    asked = [_asker(home, message) for home in homes]
    return _in_turn(asked[0], asked[1], rounds)


def as_processes(homes: tuple[Path, Path], command: tuple[str, ...], rounds: int) -> tuple[float, float, float]:
    """The same of whole processes."""

    def way(home: Path) -> Callable[[], object]:
        arguments = [sys.executable, "-m", "popug_cli", *command, "--home", str(home)]
        environment = {**os.environ, "POPUG_TOKEN": token_of(home)}
        return lambda: subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, env=environment)

    return _in_turn(way(homes[0]), way(homes[1]), rounds)


def _asker(home: Path, message: Message[Any]) -> Callable[[], object]:
    place = Local(Home(home))
    boss = principal_of(place, "boss")

    def ask() -> None:
        for _ in range(ASKED_AT_ONCE):
            place.perform_as(boss, message)

    return ask


def _in_turn(small: Callable[[], object], large: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    small(), large()
    pairs = []
    for number in range(rounds):
        first, second = (small, large) if number % 2 else (large, small)
        one, other = _milliseconds(first), _milliseconds(second)
        pairs.append((one, other) if number % 2 else (other, one))
    medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
    return medians[0], medians[1], statistics.median(other / one for one, other in pairs)


def _milliseconds(way: Callable[[], object]) -> float:
    since = time.perf_counter()
    way()
    return (time.perf_counter() - since) * 1000


def main(large: int, rounds: int) -> None:
    """Print the table."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    sys.stdout.write(
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, commit {commit.strip()}\n"
        f"{SMALL:,} against {large:,} entries, medians of {rounds} rounds in turn, goal {GOAL}\n\n"
        f"{'':<28}{'in process, ms':>24}{'ratio':>7}   {'as a process, ms':>20}{'ratio':>7}\n"
    )
    month, lone = (home_of(entries=SMALL), home_of(entries=large)), (lone_home_of(SMALL), lone_home_of(large))
    both_alike = (lone[0], month[1])
    for questions, homes in ((QUESTIONS, month), ((CROWD_QUESTION,), both_alike), (LONE_QUESTIONS, lone)):
        for name, message, command in questions:
            inside, whole = in_process(homes, message, rounds), as_processes(homes, command, rounds)
            good = "" if max(inside[2], whole[2]) <= GOAL else "  MISSED"
            sys.stdout.write(
                f"{name:<28}{inside[0] / ASKED_AT_ONCE:>12.2f}{inside[1] / ASKED_AT_ONCE:>12.2f}{inside[2]:>7.2f}"
                f"   {whole[0]:>10.0f}{whole[1]:>10.0f}{whole[2]:>7.2f}{good}\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    given = [int(argument.replace(",", "")) for argument in sys.argv[1:]]
    main(*(given + [1_000_000, 15][len(given) :]))
