"""The homes of five services, made from one company: each runs its own consumers and performs its own messages."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from popug_cli import bootstrap
from popug_cli.app import LocalBackend
from popug_cli.app.asked_by_services import perform_for_service
from popug_cli.app.handlers import service_of
from popug_cli.bus.replicator import name_of
from popug_cli.cluster.service_homes import create_service_homes
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.messages.base import DECLARATIONS, Message
from popug_cli.messages.billing import CloseDay, GetBalance, GetIncome, ListTaskEntries
from popug_cli.messages.bus import ListEvents
from popug_cli.messages.company import ShowTask
from popug_cli.messages.internal.changed_task import GetChangedTask
from popug_cli.messages.internal.tasks import EndDay
from popug_cli.messages.principal import OPERATOR, Principal
from popug_cli.messages.services import SERVICES, receivers_of
from popug_cli.messages.tasks import AddTask, ListTasks
from tests.support.company import InProcess


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    company = InProcess(tmp_path / "company")
    company.hire("ann")
    company.act("boss", AddTask(title="Feed the cage"))
    return company


@pytest.fixture
def homes(company: InProcess, tmp_path: Path) -> dict[str, Home]:
    return create_service_homes(company.backend, tmp_path / "services")


@pytest.fixture
def services(company: InProcess, homes: dict[str, Home]) -> Iterator[dict[str, LocalBackend]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(closing(company.backend.for_home(home))) for name, home in homes.items()}


def log_of(backend: LocalBackend) -> list[tuple[Any, ...]]:
    with backend.runtime.reading(OPERATOR) as context:
        return context.connection.select("SELECT sequence, envelope FROM bus_log ORDER BY sequence")


def test_service_receives_all_events_of_its_consumers() -> None:
    for service, parts in SERVICES.items():
        for consumer in bootstrap.consumers(service):
            names = {name_of(type_) for type_ in consumer.types}
            origins = {name.split(".")[1] for name in names} - {service}
            subscribed = frozenset().union(*parts.subscriptions.values())
            assert {name for name in names if name.split(".")[1] in origins} <= subscribed


def test_each_consumer_runs_in_one_service() -> None:
    run = [consumer for parts in SERVICES.values() for consumer in parts.consumers]
    assert sorted(run) == sorted(bootstrap.CONSUMING_MODULES)
    assert receivers_of("identity") == ("tasks", "billing", "analytics", "mail")
    assert receivers_of("analytics") == ()


def test_each_message_has_a_service_or_none() -> None:
    assert {service_of(declaration) for declaration in DECLARATIONS.values()} == {"", *SERVICES}
    assert service_of(DECLARATIONS[GetChangedTask]) == "tasks"
    assert service_of(DECLARATIONS[CloseDay]) == "billing"
    assert service_of(DECLARATIONS[ListEvents]) == ""


def test_services_begin_with_the_log_of_the_company(company: InProcess, services: dict[str, LocalBackend]) -> None:
    before = log_of(company.backend)
    assert [log_of(service) for service in services.values()] == [before] * 5
    assert company.backend.runtime.service == ""
    company.act("boss", AddTask(title="Clean the cage"))
    assert len(log_of(company.backend)) > len(before)


def test_service_runs_its_own_consumers_only(services: dict[str, LocalBackend]) -> None:
    for name, backend in services.items():
        assert backend.runtime.service == name
        of_tokens = () if name == "identity" else ("tokens",)
        assert tuple(consumer.name for consumer in backend.consumers) == (*of_tokens, *SERVICES[name].consumers)
        with backend.runtime.reading(OPERATOR) as context:
            cursors = context.connection.select("SELECT consumer FROM bus_cursors")
        assert {consumer for (consumer,) in cursors} == {*of_tokens, *SERVICES[name].consumers}


def test_only_identity_has_signing_keys(homes: dict[str, Home]) -> None:
    assert [name for name, home in homes.items() if any(home.keys.iterdir())] == ["identity"]


def test_service_refuses_messages_of_others(company: InProcess, services: dict[str, LocalBackend]) -> None:
    boss = company.people["boss"]
    refused_there: list[tuple[Message[Any], str]] = [
        (GetBalance(), "tasks"),
        (ListTasks(), "billing"),
        (AddTask(title="x"), "mail"),
    ]
    for message, elsewhere in refused_there:
        with pytest.raises(PopugError) as refused:
            services[elsewhere].perform_as(boss, message)
        assert (refused.value.code, refused.value.exit_status) == ("other_service", 6)
    assert services["tasks"].perform_as(boss, ListTasks()).total == 1
    assert services["mail"].perform_as(boss, ListEvents(limit=1)).events


def test_composed_answer_asks_the_other_service(
    company: InProcess, homes: dict[str, Home], services: dict[str, LocalBackend]
) -> None:
    asked: list[tuple[str, str, Message[Any]]] = []

    def ask(service: str, principal: Principal, message: Message[Any]) -> Any:
        asked.append((service, principal.username, message))
        return perform_for_service(services[service], principal, message)

    with closing(LocalBackend(homes["tasks"], clock=company.clock, ask_service=ask)) as tasks:
        shown = tasks.perform_as(company.people["ann"], ShowTask(number=1))
    assert asked == [("billing", "ann", ListTaskEntries(task_id=shown.task.task_id))]
    assert shown == company.act("ann", ShowTask(number=1))
    assert shown.entries


def test_composed_answer_says_which_service_it_needs(company: InProcess, services: dict[str, LocalBackend]) -> None:
    with pytest.raises(PopugError) as refused:
        services["tasks"].perform_as(company.people["ann"], ShowTask(number=1))
    assert (refused.value.code, refused.value.details) == ("other_service", {"service": "billing"})


def test_command_of_tasks_asks_no_other_service(company: InProcess, services: dict[str, LocalBackend]) -> None:
    task = services["tasks"].perform_as(company.people["ann"], AddTask(title="Clean the cage"))
    assert (task.number, task.fee_cents, task.counts_for) == (2, None, None)


def test_close_at_billing_ends_the_day_at_tasks(company: InProcess, homes: dict[str, Home]) -> None:
    asked: list[Message[Any]] = []

    def ask(service: str, principal: Principal, message: Message[Any]) -> Any:
        asked.append(message)
        raise Unavailable("unreachable", "Tasks does not answer.", hint="Try again.")

    with closing(LocalBackend(homes["billing"], clock=company.clock, ask_service=ask)) as billing:
        with pytest.raises(Unavailable, match="Tasks does not answer"):
            billing.perform_as(company.people["boss"], CloseDay())
        assert asked == [EndDay(day=company.clock.instant.date())]
        (day,) = billing.perform_as(company.people["boss"], GetIncome()).days
        assert not day.closed
