"""A company driven from outside: every answer comes from a process of the installed program."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from tests.support.cluster.residence import ClusterResidence
from tests.support.installed_server import Residence
from tests.support.postgres.company_database import CompanyDatabase
from tests.support.postgres.server import PostgresServer

Json = dict[str, Any]

PROGRAM = (sys.executable, "-m", "popug_cli")
PASSWORD = "seven-cages-under-9-moons"
PROCESS_LIMIT_SECONDS = 60
WORKERS_AT_ONCE = 2

_SHIFT_THE_CLOCK = """\
import os
from datetime import timedelta

import time_machine

offset = timedelta(seconds=float(os.environ["ACCEPTANCE_CLOCK_OFFSET_SECONDS"]))
time_machine.travel(offset, tick=True).start()
"""


@dataclass(frozen=True)
class Result:
    """The result of a process: its exit code and its two streams."""

    command: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Return the one JSON document on stdout."""
        return json.loads(self.stdout)

    @property
    def error(self) -> Json:
        """Return the error on stderr, as `--json` gives it."""
        error = json.loads(self.stderr)["error"]
        assert isinstance(error, dict)
        return error

    def ok(self) -> Any:
        """Return the JSON answer of a command that must have succeeded."""
        assert self.code == 0, self
        return self.json

    def refused(self, code: int, error: str) -> Json:
        """Return the error of a command that must have been refused with this exit code and code."""
        self.refused_with_exit(code)
        assert self.error["code"] == error, self
        return self.error

    def refused_with_exit(self, code: int) -> Json:
        """Return the error of a command that must have ended with this exit code and a complete error object."""
        assert "Traceback" not in self.stderr, self
        assert self.code == code, self
        assert self.stdout == "", self
        assert {"code", "message", "hint", "details"} <= set(self.error), self
        assert self.error["message"].strip(), self
        return self.error


def midday_zone() -> str:
    """Return a zone whose time is now between 12:00 and 13:00, so that no test passes midnight."""
    hours_east = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-hours_east:+d}" if hours_east else "Etc/UTC"


class Company:
    """A home in a temporary folder, its users, and their sessions.

    If ``is_served``, a server holds the home of each company, with the company's clock. If ``is_clustered``, each
    company becomes a cluster after `popug init`, unless it is a template. If there is a ``database_server``, each
    company has a database on it, and its home holds the other files.
    """

    is_served: ClassVar[bool] = False
    is_clustered: ClassVar[bool] = False
    database_server: ClassVar[PostgresServer | None] = None
    served: ClassVar[list["Company"]] = []

    def __init__(self, folder: Path, zone: str | None = None, *, is_template: bool = False) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.session = folder / "session.json"
        self.zone = zone or midday_zone()
        self.store = CompanyDatabase(self.home, self.database_server)
        self.residence: Residence | ClusterResidence = Residence(self.home, folder / "server.log")
        if self.is_clustered:
            self.residence = ClusterResidence(self.home, folder / "s", self.session, is_template=is_template)
            self.store.file_of_module = self.residence.database_of
        self.served.append(self)
        self.people: list[str] = []
        self.answer_of_init: Json = {}
        self._clock_offset = timedelta(0)
        self._tokens: dict[str, str] = {}
        self._lock = threading.RLock()
        (folder / "someone").mkdir(parents=True, exist_ok=True)

    # --- time ---------------------------------------------------------------------------------

    @property
    def clock_offset(self) -> timedelta:
        """Return how far the program's clock is ahead of the machine's."""
        return self._clock_offset

    @clock_offset.setter
    def clock_offset(self, offset: timedelta) -> None:
        self._clock_offset = offset
        self._tokens.clear()  # a session of another day may have expired

    def it_is(self, local: str) -> None:
        """Move the program's clock to a local time of the company, such as `2031-03-03 10:00`."""
        then = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(self.zone))
        self.clock_offset = then.astimezone(UTC) - datetime.now(UTC)

    def now(self) -> datetime:
        """Return the program's time, in the company's zone."""
        return (datetime.now(UTC) + self._clock_offset).astimezone(ZoneInfo(self.zone))

    def today(self, plus_days: int = 0) -> str:
        """Return the company's date as ISO text."""
        return (self.now().date() + timedelta(days=plus_days)).isoformat()

    # --- processes ----------------------------------------------------------------------------

    def environment(self, as_user: str | None = None, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a process; only coverage is inherited."""
        built = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        built |= {
            "POPUG_HOME": str(self.home),
            "POPUG_SESSION": str(self.session),
            "HOME": str(self.folder / "someone"),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
            "LANG": "C.UTF-8",
            "POPUG_IDENTITY_ARGON2_TIME_COST": "1",
            "POPUG_IDENTITY_ARGON2_MEMORY_KIB": "8192",
        }
        built |= self.store.environment(self._clock_offset) | self.residence.variables
        if self._clock_offset:
            built["PYTHONPATH"] = str(self._clock_folder())
            built["ACCEPTANCE_CLOCK_OFFSET_SECONDS"] = str(self._clock_offset.total_seconds())
        if as_user is not None:
            built["POPUG_TOKEN"] = self.token(as_user)
        return built | dict(env or {})

    @property
    def database(self) -> str:
        """Return the name of the company's database on the server, or an empty text."""
        return self.store.name

    def database_url(self) -> str:
        """Return the URL of the company's database on the server."""
        return self.store.url()

    def run(
        self,
        *args: str,
        as_user: str | None = None,
        input: str | None = None,  # noqa: A002  (named as in subprocess.run)
        env: Mapping[str, str] | None = None,
        as_json: bool = True,
    ) -> Result:
        """Run one command in its own process; without a user it has only the session file."""
        asked = (*args, "--json") if as_json else args
        self.be_served()
        if args[:1] == ("doctor",) and isinstance(self.residence, ClusterResidence) and self.residence.is_cluster:
            return self._examine_services(asked, self.residence)
        done = subprocess.run(
            [*PROGRAM, *asked],
            env=self.environment(as_user, env),
            cwd=self.folder,
            capture_output=True,
            timeout=PROCESS_LIMIT_SECONDS,
            check=False,
            input=(input or "").encode(),
        )
        return Result(asked, done.returncode, done.stdout.decode(), done.stderr.decode())

    def _examine_services(self, asked: tuple[str, ...], residence: ClusterResidence) -> Result:
        """Run the doctor on each service; return the checks of all, those that failed last."""
        results = []
        for home in residence.homes.values():
            done = subprocess.run(
                [*PROGRAM, *asked],
                env={**self.environment(), "POPUG_HOME": str(home.root)},
                capture_output=True,
                timeout=PROCESS_LIMIT_SECONDS,
                check=False,
            )
            results.append(Result(asked, done.returncode, done.stdout.decode(), done.stderr.decode()))
        worst = max(results, key=lambda result: result.code)
        if "--json" not in asked or not all(result.stdout for result in results):
            return worst
        checks = [check for result in results for check in result.json["checks"]]
        report = worst.json | {"checks": sorted(checks, key=lambda check: not check["ok"])}
        return replace(worst, stdout=json.dumps(report))

    def be_served(self) -> None:
        """Have the home served as it is now, if that was asked for."""
        if self.is_served or self.is_clustered:
            with self._lock:
                self.residence.ensure(PROGRAM, self.environment())

    def run_all(self, asked: Iterable[tuple[str | None, Sequence[str]]]) -> list[Result]:
        """Run several commands in parallel, each `(user, arguments)`. Return the results in their order."""
        commands = list(asked)
        self.log_in_all(user for user, _ in commands if user is not None)
        with ThreadPoolExecutor(WORKERS_AT_ONCE) as pool:
            return list(pool.map(lambda command: self.run(*command[1], as_user=command[0]), commands))

    def ask(self, as_user: str, *args: str) -> Any:
        """Return the JSON answer to a command that must succeed."""
        return self.run(*args, as_user=as_user).ok()

    def ask_all(self, asked: Iterable[tuple[str | None, Sequence[str]]]) -> list[Any]:
        """Run commands in parallel that must all succeed. Return their JSON answers."""
        return [result.ok() for result in self.run_all(asked)]

    # --- people -------------------------------------------------------------------------------

    def init(self, admin: str = "ada") -> Json:
        """Create the company, which logs the admin in."""
        self.answer_of_init = self.run(
            "init", "--admin", admin, "--email", email_of(admin), "--time-zone", self.zone,
            "--password-stdin", input=PASSWORD + "\n",
        ).ok()  # fmt: skip
        self.people.append(admin)
        return self.answer_of_init

    def hire(self, name: str, role: str, by: str = "ada") -> Json:
        """Register a user with the password that all users have here."""
        user: Json = self.run(
            "user", "add", name, "--email", email_of(name), "--role", role, "--password-stdin",
            as_user=by, input=PASSWORD + "\n",
        ).ok()  # fmt: skip
        self.people.append(name)
        return user

    def hire_all(self, roles: Mapping[str, str]) -> None:
        """Add several users, given as `{name: role}`."""
        for name, role in roles.items():
            self.hire(name, role)

    def token(self, name: str) -> str:
        """Return a token of this user; log in once for each setting of the clock."""
        with self._lock:
            token = self._tokens.get(name)
        if token is None:
            token = self.log_in(name)
            with self._lock:
                self._tokens[name] = token
        return token

    def log_in(self, name: str, password: str = PASSWORD) -> str:
        """Return a new token of this user without storing it."""
        result = self.run("login", name, "--password-stdin", "--print-token", input=password + "\n", as_json=False)
        assert result.code == 0, result
        return result.stdout.strip()

    def log_in_again(self, name: str) -> None:
        """Take a new token for this user, since the old one is revoked."""
        with self._lock:
            self._tokens.pop(name, None)
        self.token(name)

    def log_in_all(self, names: Iterable[str]) -> None:
        """Log several users in, in parallel."""
        with ThreadPoolExecutor(WORKERS_AT_ONCE) as pool:
            list(pool.map(self.token, sorted(set(names))))

    # --- what many tests ask ------------------------------------------------------------------

    def add_task(self, as_user: str, title: str) -> Json:
        """Create a task."""
        task: Json = self.ask(as_user, "task", "add", title)
        if self.residence.variables:  # on a cluster, the price comes from billing a moment later
            task |= self.priced(as_user, task["number"])
        return task

    def priced(self, as_user: str, number: int) -> Json:
        """Return the fee and the reward of a task as soon as it has them."""
        until = time.monotonic() + PROCESS_LIMIT_SECONDS
        while (task := self.ask(as_user, "task", "show", str(number))["task"])["fee_cents"] is None:
            assert time.monotonic() < until, task
        return {name: task[name] for name in ("fee_cents", "reward_cents")}

    def complete(self, as_user: str, number: int) -> Json:
        """Complete a task."""
        task: Json = self.ask(as_user, "task", "complete", str(number))
        return task

    def tasks(self, as_user: str = "ada") -> list[Json]:
        """Return all tasks of the company, by number."""
        answer = self.ask(as_user, "tasks", "list", "--all", "--limit", "1000")
        assert answer["total"] == len(answer["tasks"])
        tasks: list[Json] = answer["tasks"]
        return tasks

    def statement(self, as_user: str, name: str, *args: str) -> Json:
        """Return the statement of a user, of today unless the arguments say more."""
        answer: Json = self.ask(as_user, "statement", name, *args)
        return answer

    def balance_cents(self, as_user: str, name: str, *args: str) -> int:
        """Return the balance of a user."""
        balance = self.ask(as_user, "balance", name, *args)["balance_cents"]
        assert type(balance) is int
        return balance

    def import_tasks(self, as_user: str, titles: Iterable[str]) -> Json:
        """Create many tasks with one process."""
        file = self.write_lines(({"title": title} for title in titles), name="tasks.jsonl")
        answer: Json = self.ask(as_user, "tasks", "import", str(file))
        return answer

    def write_lines(self, lines: Iterable[Json | str], name: str) -> Path:
        """Write a file of JSON lines next to the home; a text is written as it is."""
        file = self.folder / name
        texts = (line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
        file.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
        return file

    def mails(self) -> list[EmailMessage]:
        """Return the mails that were delivered to the Maildir of the home."""
        home = self.residence.homes["mail"].root if isinstance(self.residence, ClusterResidence) else self.home
        files = sorted([*home.glob("mail/new/*"), *home.glob("mail/cur/*")])
        return [read_mail(file) for file in files]

    # --- copies -------------------------------------------------------------------------------

    def copy_to(self, folder: Path, *, is_template: bool = False) -> "Company":
        """Copy the company into another folder: home, keys and tokens, but no session file."""
        copy = type(self)(folder, self.zone, is_template=is_template)
        self.residence.end()
        shutil.copytree(self.home, copy.home)
        copy.store.copy_from(self.store)
        copy.people = list(self.people)
        copy.answer_of_init = self.answer_of_init
        copy._clock_offset = self._clock_offset
        copy._tokens = dict(self._tokens)
        return copy

    def end(self) -> None:
        """End the server of the home, and drop the database."""
        self.residence.end()
        self.store.drop()

    def _clock_folder(self) -> Path:
        """Write the folder whose `sitecustomize` shifts the clock of a Python process that starts with it."""
        folder = self.folder / "clock"
        folder.mkdir(exist_ok=True)
        file = folder / "sitecustomize.py"
        if not file.exists():
            file.write_text(_SHIFT_THE_CLOCK, encoding="utf-8")
        return folder


def email_of(name: str) -> str:
    """Return the address of a user."""
    return f"{name}@popug.example"


def read_mail(file: Path) -> EmailMessage:
    """Return a message of the Maildir, parsed."""
    message = BytesParser(policy=policy.default).parsebytes(file.read_bytes())
    assert isinstance(message, EmailMessage)
    return message


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Return every path below a folder with its content, for the comparison with a later state."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
