"""Close days in a cluster, at the service of billing: check them, let tasks end them, then close them.

In one process, ``close_day.py`` does all of this in one transaction. Between services a day is first ended and then
closed, and nothing is asked of tasks inside a transaction. A close that stops between the two is finished by the next.
"""

from collections.abc import Callable
from datetime import date
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING

from popug_cli.app.asking import CompanySnapshot
from popug_cli.app.workflows.close_day import check_next_day
from popug_cli.bus.context import Context
from popug_cli.bus.cursors import require_known_versions
from popug_cli.bus.inbox import Consumption, consumption_of
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.billing import CloseDay, ClosedDay
from popug_cli.messages.internal.billing import CloseNextDay
from popug_cli.messages.internal.tasks import EndDay, EndedDay
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend

MAX_WAIT_SECONDS = 30.0
POLL_SECONDS = 0.1

AskTasks = Callable[[EndDay], EndedDay]
"""Sends the message to the service of tasks on behalf of the sender of the close; returns its answer or raises."""


def close_ended_days(
    backend: "LocalBackend",
    message: CloseDay,
    principal: Principal,
    up_to: date,
    ask_tasks: AskTasks,
    pause: Callable[[float], None] | None = None,
) -> list[ClosedDay]:
    """Let tasks end the days up to a date, then close the open ones and return them, oldest first.

    If none is open, tasks is not asked. Raise ``changed_meanwhile`` and the errors of ``ask_tasks`` before any day has
    ended. An error after that has the detail ``ended``: ``changed_meanwhile`` again, or ``behind`` if billing does not
    consume the ``day_ended`` within ``MAX_WAIT_SECONDS``. ``pause`` waits for a number of seconds.
    """
    check = check_next_day(message, up_to, [])
    if backend.write(message, principal, lambda context: CompanySnapshot(context).ask(check)).day is None:
        return []
    ended = ask_tasks(EndDay(day=up_to, confirmed=message.confirmed))
    ended_by = ended.event_id
    try:
        if ended_by is not None:
            _wait_until_consumed(backend, principal, ended_by, pause or partial(_pause, backend))
        return _close_each(backend, message, principal, up_to, ended_by)
    except PopugError as error:
        _say_ended(error, up_to, max(backend.calendar.date_of(backend.now()), backend.calendar.next_day(ended.day)))
        raise


def _wait_until_consumed(
    backend: "LocalBackend", principal: Principal, event_id: str, pause: Callable[[float], None]
) -> None:
    """Wait until billing has consumed an event or set it aside, at most ``MAX_WAIT_SECONDS``.

    Raise ``behind`` at once if billing stops at an event which only a newer program knows.
    """
    began = monotonic()
    while True:
        backend.catch_up(completely=True)
        with backend.runtime.reading(principal) as context:
            consumption = consumption_of(context, "billing", event_id)
            if consumption is Consumption.PENDING:
                require_known_versions(context, backend.consumers)
        waited_seconds = monotonic() - began
        if consumption is not Consumption.PENDING or waited_seconds > MAX_WAIT_SECONDS:
            backend.reads.add_wait(backend, waited_seconds)
            return
        pause(POLL_SECONDS)


def _pause(backend: "LocalBackend", seconds: float) -> None:
    backend.while_waiting()
    sleep(seconds)


def _close_each(
    backend: "LocalBackend", message: CloseDay, principal: Principal, up_to: date, ended_by: str | None
) -> list[ClosedDay]:
    closed: list[ClosedDay] = []

    def close_next(context: Context) -> ClosedDay | None:
        company = CompanySnapshot(context)
        day = company.ask(check_next_day(message, up_to, closed)).day
        return company.ask(CloseNextDay(up_to=day, ended_by=ended_by)).day if day else None

    while (day := backend.write(message, principal, close_next)) is not None:
        closed.append(day)
    return closed


def _say_ended(error: PopugError, day: date, business_date: date) -> None:
    """Add to an error that the days up to a day have ended, and the date that what is done now counts for."""
    error.message += f" {day} has ended and is not closed yet: what is done from now on counts for {business_date}."
    error.details["ended"] = day.isoformat()
