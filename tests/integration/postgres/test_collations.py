"""The collation of a database changes neither draws nor lists: text compares by its bytes."""

from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from popug_cli.app import LocalBackend
from popug_cli.kernel.home import Home
from popug_cli.messages.company import CheckHealth
from popug_cli.messages.identity import AddUser, ListUsers, LogIn, RegisterFirstAdmin
from popug_cli.messages.tasks import AddTask, ListTasks, ShuffleTasks, StatusFilter, TaskSort
from tests.support.postgres.server import PostgresServer

PASSWORD = "seven-cages-under-9-moons"
NAMES = ("b.b", "b-b", "b_b", "bb", "ba", "b0", "z1", "a9")  # letters before signs, or signs before letters
TITLES = ("ёж", "Ёлка", "еда", "Жук", "apple", "Zebra", "İstanbul", "Iss\u0131z", "straße", "STRASSE")
CHEAP_HASHES = "[identity]\nargon2_time_cost = 1\nargon2_memory_kib = 8192\nargon2_parallelism = 1\n"
COLLATIONS = {
    "english": "LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'en'",
    "russian": "LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'ru-RU'",
    "turkish": "LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'",
    "bytes": "LOCALE 'C' LOCALE_PROVIDER libc",
}


class StoppedClock:
    """The same instant in every company: ids contain the time, and draws depend on ids."""

    INSTANT = datetime.now(UTC)

    def now(self) -> datetime:
        """Return the instant."""
        return self.INSTANT


class CountedRandomness:
    """The same bytes in every company."""

    def __init__(self) -> None:
        self.count = 0

    def bytes(self, count: int) -> bytes:
        """Return as many bytes, which depend on how often they were asked for."""
        self.count += 1
        return (sha256(str(self.count).encode()).digest() * (count // 32 + 1))[:count]


def played(home: Home, url: str) -> dict[str, Any]:
    """Play a day in a company and return what its users see, without ids and times."""
    home.make()
    home.config.write_text(f'{CHEAP_HASHES}[database]\nurl = "{url}"\n')
    with closing(LocalBackend(home, clock=StoppedClock(), randomness=CountedRandomness())) as backend:
        backend.create_company("Etc/UTC")
        backend.perform(RegisterFirstAdmin(username="ada", email="ada@popug.example", password=PASSWORD))
        token = backend.perform(LogIn(username="ada", password=PASSWORD)).token
        for name in NAMES:
            backend.perform(AddUser(username=name, email=f"{name}@popug.example", role="worker"), token)
        drawn = [backend.perform(AddTask(title=title), token) for title in TITLES]
        first = [(task.title, task.assignee, task.fee_cents, task.reward_cents) for task in drawn]
        backend.perform(ShuffleTasks(), token)
        lists = {
            "drawn": first,
            "users": [user.username for user in backend.perform(ListUsers(), token).users],
        }
        for sort in (None, *TaskSort):
            message = ListTasks(status=StatusFilter.ALL, **({} if sort is None else {"sort": sort}))
            tasks = backend.perform(message, token).tasks
            lists[f"tasks by {sort}"] = [(task.number, task.title, task.assignee) for task in tasks]
        for word in ("ЁЛКА", "ё", "strasse", "ISTANBUL", "i"):
            found = backend.perform(ListTasks(status=StatusFilter.ALL, search=word), token).tasks
            lists[f"search {word}"] = [task.number for task in found]
        failed = [check.name for check in backend.perform(CheckHealth()).checks if not check.ok]
        assert failed == []
    return lists


def test_draws_and_lists_are_equal_in_every_collation(postgres: PostgresServer, tmp_path: Path) -> None:
    seen: dict[str, dict[str, Any]] = {}
    for name, options in COLLATIONS.items():
        database = postgres.create_database(options=options)
        try:
            seen[name] = played(Home(tmp_path / name), postgres.url(database))
        finally:
            postgres.drop_database(database)
    assert seen["bytes"]["users"] == sorted(["ada", *NAMES])
    for name in COLLATIONS:
        assert seen[name] == seen["bytes"], name
