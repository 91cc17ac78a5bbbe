"""Clients of four roles that send random commands and queries to the gateway, each in a thread of its own."""

import random
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from popug_cli.client.address import parse
from popug_cli.client.remote_backend import RemoteBackend
from popug_cli.kernel.errors import NotAuthenticated, PopugError, Unavailable
from popug_cli.messages.base import DECLARATIONS, Message, Role
from popug_cli.messages.billing import CloseDay, CorrectEntry, GetBalance, GetIncome, GetStatement
from popug_cli.messages.identity import ActivateUser, AddUser, DeactivateUser, LogIn
from popug_cli.messages.tasks import AddTask, CompleteTask, ListTasks, ShuffleTasks
from tests.cluster.chaos.clock import ShiftedClock
from tests.cluster.chaos.history import History
from tests.cluster.chaos.stage import ADMIN, PASSWORD

USERS = {
    "ann": Role.WORKER, "bob": Role.WORKER, "dan": Role.WORKER,
    "mia": Role.MANAGER, "carl": Role.ACCOUNTANT, ADMIN: Role.ADMIN,
}  # fmt: skip
WEIGHTS: dict[Role, dict[str, float]] = {
    Role.WORKER: {"add": 3, "complete": 9, "balance": 5, "statement": 1},
    Role.MANAGER: {"add": 3, "complete": 4, "shuffle": 0.1, "balance": 3},
    Role.ACCOUNTANT: {"balance": 5, "statement": 2, "income": 1, "close": 1},
    Role.ADMIN: {"balance": 4, "correct": 1, "user": 1, "add": 2, "complete": 4, "shuffle": 0.1},
}
PAUSE_SECONDS = (0.02, 0.25)
REPEATS = 6
# These have steps in several transactions, so that an error after the first one does not say that nothing was done.
STEPWISE = (ShuffleTasks, CloseDay)


class Client(threading.Thread):
    """One user's client; ``stop`` ends it after its present operation."""

    def __init__(self, username: str, url: str, seed: str, history: History, clock: ShiftedClock) -> None:
        super().__init__(name=f"client {username}", daemon=True)
        self.username, self.role = username, USERS[username]
        self._random = random.Random(f"{seed}/{username}")
        self._history, self._clock = history, clock
        self._warnings: list[str] = []
        self._backend = RemoteBackend(parse(url), warn=self._warnings.append)
        self._token: str | None = None
        self._stopping = threading.Event()
        self._helpers: list[str] = []
        self._count = 0
        self.bugs: list[str] = []

    def stop(self) -> None:
        """End after the present operation."""
        self._stopping.set()

    def run(self) -> None:
        """Send operations until ``stop``."""
        weights = WEIGHTS[self.role]
        while not self._stopping.is_set():
            operation = self._random.choices([*weights], [*weights.values()])[0]
            try:
                getattr(self, f"_{operation}")()
            except PopugError:  # of a query that only looks for something to do
                pass
            except Exception as error:
                self.bugs.append(f"{self.username} {operation}: {error!r}")
            time.sleep(self._random.uniform(*PAUSE_SECONDS))

    def ask(self, message: Message[Any]) -> Any:
        """Return an answer; log in before if that is needed."""
        try:
            return self._backend.perform(message, self._logged_in())
        except NotAuthenticated:
            self._token = None
            return self._backend.perform(message, self._logged_in())

    def _logged_in(self) -> str:
        if self._token is None:
            self._token = self._backend.perform(LogIn(username=self.username, password=PASSWORD)).token
        return self._token

    # Operations.

    def _add(self) -> None:
        self._count += 1
        title = f"{self.username} {self._count} {self._random.randrange(10**6)}"
        self._do("add", AddTask(title=title), title=title)

    def _complete(self) -> None:
        page = self.ask(ListTasks(assignee=self.username, limit=20))
        if page.tasks:
            number = self._random.choice(page.tasks).number
            self._do("complete", CompleteTask(number=number), number=number)

    def _shuffle(self) -> None:
        self._do("shuffle", ShuffleTasks())

    def _balance(self) -> None:
        username = self._subject()
        self._do("balance", GetBalance(username=username), username=username)

    def _statement(self) -> None:
        username = self._subject()
        today = self._clock.now().date()
        first, last = today - timedelta(days=300), today + timedelta(days=300)
        self._do("statement", GetStatement(username=username, from_date=first, to_date=last), username=username)

    def _income(self) -> None:
        self._do("income", GetIncome())

    def _close(self) -> None:
        day = self._clock.now().date() - timedelta(days=self._random.choice((0, 0, 1, 1, 2)))
        self._do("close", CloseDay(day=day, send_mail=self._random.random() < 0.5), day=day.isoformat())

    def _correct(self) -> None:
        today = self._clock.now().date()
        message = GetStatement(username=self._subject(), from_date=today - timedelta(days=3), to_date=today)
        entries = [entry for entry in self.ask(message).entries if entry.kind in ("fee", "reward")]
        if entries:
            entry_id = self._random.choice(entries).entry_id
            self._do("correct", CorrectEntry(entry_id=entry_id, reason="chaos"), entry_id=entry_id)

    def _user(self) -> None:
        if self._helpers and self._random.random() < 0.6:
            username = self._random.choice(self._helpers)
            leaves = self._random.random() < 0.6
            message = DeactivateUser(username=username) if leaves else ActivateUser(username=username)
            self._do("deactivate" if leaves else "activate", message, username=username)
            return
        self._count += 1
        username = f"extra{self._count}"
        self._helpers.append(username)
        email = f"{username}@popug.example"
        self._do("user_add", AddUser(username=username, email=email, role="worker"), username=username)

    def _subject(self) -> str:
        """Return whose money this client looks at."""
        if self.role in (Role.ACCOUNTANT, Role.ADMIN):
            return self._random.choice(("ann", "bob", "dan", "mia"))
        return self.username

    def _do(self, operation: str, message: Message[Any], **arguments: Any) -> None:
        """Send a message, and write what came of it. A command in doubt is repeated under its key for a while."""
        self._logged_in()
        number = self._history.invoke(self.username, operation, arguments)
        key = str(uuid.UUID(int=self._random.getrandbits(128), version=4)) if _has_key(message) else None
        self._warnings.clear()
        event, fields = self._send(message, key)
        repeats = 0
        while event == "doubt" and key and repeats < REPEATS and not self._stopping.wait(1.0):
            repeats += 1
            again, found = self._send(message, key)
            event, fields = (again, found) if again == "ok" else (event, fields)
        self._history.complete(number, event, warnings=list(self._warnings), repeats=repeats, **fields)

    def _send(self, message: Message[Any], key: str | None) -> tuple[str, dict[str, Any]]:
        try:
            body = self._backend.ask(message, self._logged_in(), key=key)
        except PopugError as error:
            if isinstance(error, NotAuthenticated):
                self._token = None
            is_partly_done = isinstance(error, Unavailable) or bool({"ended", "closed"} & error.details.keys())
            is_in_doubt = error.code == "in_doubt" or (isinstance(message, STEPWISE) and is_partly_done)
            fields = {"code": error.code, "sentence": error.message, "details": error.details}
            return "doubt" if is_in_doubt else "refused", fields
        return "ok", {"answer": msgspec.json.decode(body)}


def _has_key(message: Message[Any]) -> bool:
    declaration = DECLARATIONS[type(message)]
    return declaration.is_command and not declaration.is_secret


def make_clients(
    url: str, seed: str, history: History, clock: ShiftedClock, is_first: Callable[[], bool] = lambda: False
) -> list[Client]:
    """Return a client of each user; ``is_first`` says whether the users must be registered first."""
    clients = [Client(username, url, seed, history, clock) for username in USERS]
    if is_first():
        admin = next(client for client in clients if client.username == ADMIN)
        for username, role in USERS.items():
            if username != ADMIN:
                email = f"{username}@popug.example"
                admin.ask(AddUser(username=username, email=email, role=role.value, password=PASSWORD))
    return clients
