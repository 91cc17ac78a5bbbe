"""Data for shell completion: fast, and limited to what the user may see.

A database in the home is read with plain SQLite, read-only; its token's id is looked up, but its signature is not
verified: a user who can run this can read the file anyway. A server verifies the token as for any query. A company on
PostgreSQL is asked by queries.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from popug_cli.identity import shell_completion as people
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home
from popug_cli.kernel.settings import read_settings
from popug_cli.messages.base import Role
from popug_cli.storage.database_choice import chosen_url
from popug_cli.storage.read_only import ReadError, ReadOnlyDatabase, open_read_only
from popug_cli.tasks import shell_completion as tasks
from popug_cli.tasks.shell_completion import CompletionItems

if TYPE_CHECKING:
    from popug_cli.messages.backend import Backend

DATABASE_TIMEOUT_SECONDS = 0.2
SERVER_TIMEOUT_SECONDS = 1.5
MAX_TASKS = 200


class CompletionTimeout(LookupError):
    """The time limit of a completion is over. It is not an ``OSError``, so that the client does not retry."""


def from_database(home: Home, token: str, kind: str, start: str) -> CompletionItems:
    """Return the words of a kind that begin with `start`, each with a description; empty if it cannot find any."""
    if not home.database.exists() or is_on_server(home):
        return []
    try:
        with open_read_only(home.database, DATABASE_TIMEOUT_SECONDS) as database:
            viewer = people.find_viewer(database, token, to_rfc3339(datetime.now(UTC)))
            return _find(database, viewer, kind, start) if viewer else []
    except ReadError:
        return []


def is_on_server(home: Home) -> bool:
    """Return whether the company is on PostgreSQL, or may be: a file that is left in its home is out of date."""
    try:
        return bool(chosen_url(home, read_settings(home.config)))
    except (PopugError, OSError):
        return True


def _find(database: ReadOnlyDatabase, viewer: people.Viewer, kind: str, start: str) -> CompletionItems:
    if kind == "own-task":
        return tasks.open_tasks(database, viewer.user_id, start)
    if kind == "task":
        return tasks.all_tasks(database, start)
    if kind == "shuffle":
        return tasks.shuffles(database, start)
    if kind == "person" and viewer.role == Role.ADMIN:
        return people.users_with_prefix(database, start)
    if kind in {"person", "player"}:
        return tasks.assignable_users(database, start)
    return []


def from_server(backend: "Backend", token: str, kind: str, start: str) -> CompletionItems:
    """Return the same by queries; raise ``CompletionTimeout`` if it is too slow, or a ``PopugError``."""
    from popug_cli.messages.identity import WhoAmI
    from popug_cli.messages.tasks import ListTasks, StatusFilter

    with time_limit(SERVER_TIMEOUT_SECONDS):
        own_username = backend.perform(WhoAmI(), token).username if kind == "own-task" else None
        status = StatusFilter.OPEN if own_username else StatusFilter.ALL
        message = ListTasks(status=status, assignee=own_username, backwards=own_username is None, limit=MAX_TASKS)
        listed_tasks = backend.perform(message, token).tasks
    if kind in {"person", "player"}:
        names = {name for task in listed_tasks for name in (task.assignee, task.creator)}
        return [(name, "") for name in sorted(names) if name.startswith(start)]
    if kind in {"task", "own-task"}:
        return [(str(task.number), task.title) for task in listed_tasks if str(task.number).startswith(start)]
    return []


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise ``CompletionTimeout`` if the block takes longer than `seconds`."""

    def raise_timeout(number: int, frame: object) -> None:
        raise CompletionTimeout

    previous_handler = signal.signal(signal.SIGALRM, raise_timeout)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)
