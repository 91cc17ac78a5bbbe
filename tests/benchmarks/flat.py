"""The cost of a question in a home of 1,000,000 entries relative to one of 1,000.

``python -m tests.benchmarks.flat [--quick]``. Both homes are asked in turn, and each round gives a ratio: in process
(everything imported, the company open) and as whole processes. The companies have the same users and days, so that
the question is about as large in both. *One* is a user with every entry of a company, all on one open day. At most a
hundred entries explain a balance: a user with a thousand of 1,000 entries is compared with one of fifty users who
share 1,000,000.
"""

import sys
from collections import deque
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from popug_cli.app import LocalBackend
from popug_cli.kernel.home import Home
from popug_cli.messages.analytics import GetAnalytics
from popug_cli.messages.base import Message
from popug_cli.messages.billing import GetBalance, GetStatement
from popug_cli.messages.company import ExplainBalance
from tests.benchmarks.figures import Figure, Way, process, ratios_in_turn, show
from tests.benchmarks.homes import DAYS, FIRST_DAY, home_of, lone_home_of, principal_of, token_of

GOAL = 1.25
SMALL = 1_000
ASKED_AT_ONCE = 5
DAY = FIRST_DAY.replace(day=15)
INSTANT = datetime(2026, 3, 15, 12, tzinfo=UTC)
LONE_INSTANT = datetime(2026, 3, 1, 8, 40, tzinfo=UTC)
QUIET_DAY = date(2026, 4, 15)  # a day without this user: the search is measured, not the output

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


def figures(*, quick: bool) -> Iterator[Figure]:
    """Measure each question in process and as a whole process, large against small."""
    large, rounds, processes = (100_000, 5, 3) if quick else (1_000_000, 31, 9)
    month, lone = (home_of(entries=SMALL), home_of(entries=large)), (lone_home_of(SMALL), lone_home_of(large))
    both_alike = (lone[0], month[1])
    for questions, homes in ((QUESTIONS, month), ((CROWD_QUESTION,), both_alike), (LONE_QUESTIONS, lone)):
        for name, message, command in questions:
            small_way, large_way = (asker(home, message) for home in homes)
            yield Figure(f"{name}, {large:,} entries / {SMALL:,}", ratios_in_turn(large_way, small_way, rounds), GOAL)
            small_way, large_way = (whole(home, command) for home in homes)
            ratios = ratios_in_turn(large_way, small_way, processes)
            yield Figure(f"{name}, as whole processes", ratios, GOAL)


def whole(home: Path, command: tuple[str, ...]) -> Way:
    """Return the seconds of the question as a whole process."""
    who = {"POPUG_TOKEN": token_of(home), "POPUG_SERVER": ""}
    return process(sys.executable, "-m", "popug_cli", *command, "--home", str(home), environment=who)


def asker(home: Path, message: Message[Any]) -> Way:
    """Return the seconds of the question, asked a few times in this process with the company open."""
    backend = LocalBackend(Home(home))
    boss = principal_of(backend, "boss")

    def ask() -> None:
        for _ in range(ASKED_AT_ONCE):
            backend.perform_as(boss, message)

    return ask


if __name__ == "__main__":
    deque(show(figures(quick="--quick" in sys.argv)), maxlen=0)
