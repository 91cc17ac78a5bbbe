"""Big companies to measure in, made once through the bus in bulk and kept outside the checkout.

``python -m tests.benchmarks.homes entries|tasks [SIZE ...]`` makes those that are missing: 10, 1,000, 100,000 and
1,000,000 if no size is given. They are in ``POPUG_BENCH_HOMES``, else in /tmp/popug-bench-homes. A home of *entries*
is a month of imports, shuffles, completions and closed days, whose last day is open; a home of *tasks* is one day on
which all of them were imported. A kept home must not be changed: ``copy_of`` makes a copy.
"""

import os
import random
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from popug_cli.app import LocalBackend
from popug_cli.bus.context import Context
from popug_cli.kernel.home import Home
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.identity import IssueToken
from popug_cli.messages.principal import OPERATOR, Principal
from popug_cli.messages.tasks import CompleteTask, ImportTasks, NewTask, ShuffleTasks
from popug_cli.tasks.commands import complete_task
from tests.support.company import InProcess, SetClock

SIZES = (10, 1_000, 100_000, 1_000_000)
FIRST_DAY = date(2026, 3, 1)
DAYS = 30
PEOPLE = 50
SHUFFLES_A_DAY = 8
ENTRIES_A_NEW_TASK = 18  # a day: one when it is made, eight shuffles of it and one left over, one of two is completed
IMPORTED_AT_ONCE = 50_000
LONE_ROUNDS = 10
TOKEN_FILE = "boss.token"


def home_of(*, entries: int | None = None, tasks: int | None = None, people: int = PEOPLE) -> Path:
    """Return a home with about that many entries, or with exactly that many open tasks; make it if it is missing."""
    assert (entries is None) != (tasks is None)
    of = "" if people == PEOPLE else f"-of-{people}"
    if entries is not None:
        return _kept(f"entries-{entries}{of}", lambda root: _make_month(root, entries, people))
    return _kept(f"tasks-{tasks}{of}", lambda root: _make_day(root, tasks or 0, people))


def lone_home_of(entries: int) -> Path:
    """Return a home in which one user has about that many entries, all on the one open day."""
    return _kept(f"lone-{entries}", lambda root: _make_lone(root, entries))


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    kept = _shelf() / name
    if not kept.exists():
        _shelf().mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".making-", dir=_shelf()) as folder:
            make(Path(folder) / "home")
            (Path(folder) / "home").rename(kept)
    return kept


@contextmanager
def copy_of(home: Path) -> Iterator[Path]:
    """Yield a copy of a home to write into, and delete it afterwards."""
    with TemporaryDirectory(prefix=".copy-", dir=_shelf()) as folder:
        yield Path(shutil.copytree(home, Path(folder) / "home"))


def token_of(home: Path, username: str = "boss") -> str:
    """Return a token of a user of a home, valid by the clock of the machine."""
    with_token = home / (TOKEN_FILE if username == "boss" else f"{username}.token")
    if not with_token.exists():
        backend = LocalBackend(Home(home))
        issued = backend.perform_as(
            principal_of(backend, "boss"), IssueToken(username=username, ttl_seconds=31 * 86400)
        )
        backend.close()
        with_token.write_text(issued.token)
    return with_token.read_text()


def principal_of(backend: LocalBackend, username: str) -> Principal:
    """Return a user of a company, to perform messages as."""
    with backend.runtime.reading(OPERATOR) as context:
        statement = "SELECT username, user_id, role FROM identity_users WHERE username = ?"
        [(username, user_id, role)] = context.connection.select(statement, username)
    return Principal(username=username, user_id=user_id, role=role)


def _make_month(root: Path, entries: int, people: int) -> None:
    chance = random.Random(entries)
    company = _founded(root, people)

    def new_by(day: int) -> int:
        return -(-day * entries // (DAYS * ENTRIES_A_NEW_TASK))

    for day in range(DAYS):
        company.clock.instant = _morning(day)
        _import(company, f"Day {day}", new_by(day + 1) - new_by(day))
        for _ in range(SHUFFLES_A_DAY):
            company.clock.advance(minutes=30)
            company.act("boss", ShuffleTasks())
            _settle(company)
        company.clock.advance(minutes=30)
        _complete_half(company, chance)
        if day < DAYS - 1:
            company.clock.advance(hours=6)
            company.act("boss", CloseDay(send_mail=False))
        _say(f"entries-{entries}: day {day + 1} of {DAYS}")
    _finish(company)


def _make_day(root: Path, tasks: int, people: int) -> None:
    company = _founded(root, people)
    for start in range(0, tasks, IMPORTED_AT_ONCE):
        company.clock.advance(minutes=1)
        _import(company, f"Run {start}", min(IMPORTED_AT_ONCE, tasks - start))
        _say(f"tasks-{tasks}: {start:,}")
    _finish(company)


def _make_lone(root: Path, entries: int) -> None:
    company = _founded(root, 1)
    tasks = max(1, entries // LONE_ROUNDS)
    _import(company, "All", tasks)
    for number in range(LONE_ROUNDS - 1):
        company.clock.advance(minutes=1)
        company.act("boss", ShuffleTasks())
        _settle(company)
        _say(f"lone-{entries}: {number + 2} of {LONE_ROUNDS}")
    _finish(company)


def _founded(root: Path, people: int) -> InProcess:
    company = InProcess(root, clock=SetClock(_morning(0)))
    for number in range(people):
        company.hire(f"p{number:05}")
    return company


def _morning(day: int) -> datetime:
    return datetime.combine(FIRST_DAY, datetime.min.time(), UTC) + timedelta(days=day, hours=8)


def _import(company: InProcess, name: str, count: int) -> None:
    if count:
        company.act("boss", ImportTasks(lines=[NewTask(title=f"{name}, chore {n}") for n in range(count)]))
        _settle(company)


def _complete_half(company: InProcess, chance: random.Random) -> None:
    """Complete every other open task as its assignee, all tasks of one user in one transaction."""
    held: dict[str, list[int]] = defaultdict(list)
    for row in company.rows(
        "SELECT task.number, person.username FROM tasks_tasks task"
        " JOIN tasks_people person ON person.user_id = task.assignee_id WHERE task.status = 'open'"
    ):
        if chance.random() < 0.5:
            held[row["username"]].append(row["number"])
    for username, numbers in sorted(held.items()):
        first = CompleteTask(number=numbers[0])
        company.backend.write(first, company.people[username], partial(_complete, numbers))
    _settle(company)


def _complete(numbers: Sequence[int], context: Context) -> None:
    for number in numbers:
        complete_task(CompleteTask(number=number), context)


def _settle(company: InProcess) -> None:
    while not company.backend.catch_up().complete:
        pass


def _finish(company: InProcess) -> None:
    """Leave one file, with an empty write-ahead log."""
    _settle(company)
    odd = [warning for warning in company.warnings if not warning.startswith("More events wait to be processed")]
    assert odd == []
    company.backend.close()
    token_of(company.root)
    backend = LocalBackend(Home(company.root))
    with backend.runtime.database.connection(writes=True) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    backend.close()


def _shelf() -> Path:
    return Path(os.environ.get("POPUG_BENCH_HOMES") or Path(gettempdir()) / "popug-bench-homes")


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


def main(kind: str, sizes: Sequence[int]) -> None:
    """Make the missing homes."""
    for size in sizes or SIZES:
        sys.stdout.write(f"{home_of(entries=size) if kind == 'entries' else home_of(tasks=size)}\n")


if __name__ == "__main__":
    main(sys.argv[1], [int(each.replace(",", "")) for each in sys.argv[2:]])
