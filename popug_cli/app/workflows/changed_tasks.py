"""Add and complete a task; the answer says for which date the money counts, if that is not today."""

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from popug_cli.app.asking import CompanySnapshot
from popug_cli.messages.internal.business_date import GetBusinessDate
from popug_cli.messages.principal import Principal
from popug_cli.messages.tasks import AddTask, ChangedTask, CompleteTask, GetTask

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def add_task(backend: "LocalBackend", message: AddTask, principal: Principal) -> ChangedTask:
    """Create a task and charge its fee; raise the errors of ``tasks.commands.add_task``."""
    return _change(backend, message, principal)


def complete_task(backend: "LocalBackend", message: CompleteTask, principal: Principal) -> ChangedTask:
    """Complete a task and credit its reward; raise the errors of ``tasks.commands.complete_task``."""
    return _change(backend, message, principal)


def _change(backend: "LocalBackend", message: AddTask | CompleteTask, principal: Principal) -> ChangedTask:
    query: GetTask = backend.write_and_catch_up(
        message, principal, lambda context: CompanySnapshot(context).perform(message)
    )
    return backend.rerun(partial(_read_answer, backend, query, principal))


def _read_answer(backend: "LocalBackend", query: GetTask, principal: Principal) -> ChangedTask:
    with backend.asking(principal, is_command=True) as company:
        date = company.ask(GetBusinessDate())
        task = company.ask(query)
    counts_for = None if date.business_date == date.today else date.business_date
    return ChangedTask(**msgspec.structs.asdict(task), counts_for=counts_for)
