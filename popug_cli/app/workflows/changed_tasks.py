"""Add and complete a task; the answer says for which date the money counts, if that is not today."""

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from popug_cli.billing.days import open_business_date
from popug_cli.messages.principal import Principal
from popug_cli.messages.tasks import AddTask, ChangedTask, CompleteTask, GetTask
from popug_cli.tasks import commands
from popug_cli.tasks.queries import get_task

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def add_task(backend: "LocalBackend", message: AddTask, principal: Principal) -> ChangedTask:
    """Create a task and charge its fee; raise the errors of ``tasks.commands.add_task``."""
    query = backend.write_and_catch_up(message, principal, partial(commands.add_task, message))
    return _answer(backend, query, principal)


def complete_task(backend: "LocalBackend", message: CompleteTask, principal: Principal) -> ChangedTask:
    """Complete a task and credit its reward; raise the errors of ``tasks.commands.complete_task``."""
    query = backend.write_and_catch_up(message, principal, partial(commands.complete_task, message))
    return _answer(backend, query, principal)


def _answer(backend: "LocalBackend", query: GetTask, principal: Principal) -> ChangedTask:
    with backend.runtime.reading(principal) as context:
        business_date = open_business_date(None, context)
        is_today = business_date == context.calendar.date_of(context.now)
        task = get_task(query, context)
    return ChangedTask(**msgspec.structs.asdict(task), counts_for=None if is_today else business_date)
