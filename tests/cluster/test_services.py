"""Five services in processes of their own do a day's work over Kafka, and go on while brokers are down."""

import signal
from collections.abc import Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from popug_cli.client.address import Address
from popug_cli.client.remote_backend import RemoteBackend
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.base import Message
from popug_cli.messages.billing import CloseDay, GetBalance
from popug_cli.messages.company import ShowTask
from popug_cli.messages.identity import IssueToken, Scope
from popug_cli.messages.internal.identity import GetLogHead
from popug_cli.messages.internal.tasks import EndDay
from popug_cli.messages.mail import ListMails
from popug_cli.messages.tasks import AddTask, CompleteTask
from popug_cli.messages.today import ShowToday
from tests.cluster.kafka_programs import require_kafka
from tests.cluster.running_cluster import wait_until
from tests.cluster.shared_brokers import RunningBrokers

require_kafka()

from tests.cluster.service_company import ServiceCompany  # noqa: E402


@pytest.fixture
def company(brokers: RunningBrokers, prefix: str, tmp_path: Path) -> Iterator[ServiceCompany]:
    company = ServiceCompany(tmp_path, brokers.address, prefix)
    yield company
    company.close()


def complete_tasks(company: ServiceCompany, count: int) -> dict[str, int]:
    """Add and complete tasks; return what each assignee has earned and paid, by the answers of `task show`."""
    balances: dict[str, int] = {}
    for number in range(1, count + 1):
        task = company.ask("ada", AddTask(title=f"Task {number}"))
        company.ask(task.assignee, CompleteTask(number=task.number))
        fee_cents, reward_cents = wait_until(partial(price_of, company, task.number))
        balances[task.assignee] = balances.get(task.assignee, 0) + reward_cents - fee_cents
    return balances


def price_of(company: ServiceCompany, number: int) -> tuple[int, int] | None:
    """Return the fee and the reward that tasks has received from billing, or None."""
    task = company.ask("ada", ShowTask(number=number), service="tasks").task
    return None if task.fee_cents is None or task.reward_cents is None else (task.fee_cents, task.reward_cents)


def test_day_is_worked_closed_and_paid(company: ServiceCompany) -> None:
    balances = complete_tasks(company, 6)
    for name, cents in balances.items():
        assert company.ask("ada", GetBalance(username=name)).balance_cents == cents
    assert company.ask("ada", ShowToday(), service="tasks").business_date is not None
    report = company.ask("ada", CloseDay())
    paid = {name: cents for name, cents in balances.items() if cents > 0}
    assert {payout.username: payout.amount_cents for payout in report.days[0].payouts} == paid
    assert report.mail.sent == len(paid)
    assert len(company.ask("ada", ListMails()).mails) == len(paid)
    assert company.warnings == []


def test_commands_go_on_without_brokers(breakable_brokers: RunningBrokers, prefix: str, tmp_path: Path) -> None:
    company = ServiceCompany(tmp_path, breakable_brokers.address, prefix)
    try:
        complete_tasks(company, 1)
        for number in (1, 2, 3):
            breakable_brokers.freeze(number)
        task = company.ask("ada", AddTask(title="While no broker answers"))
        with pytest.raises(PopugError) as caught:
            company.ask("ada", CloseDay())
        assert caught.value.code == "behind"
        for number in (1, 2, 3):
            breakable_brokers.resume(number)
        company.ask(task.assignee, CompleteTask(number=task.number))
        wait_until(lambda: company.ask("ada", GetBalance(username=task.assignee)).balance_cents != 0)
        assert company.ask("ada", CloseDay()).days
    finally:
        company.close()


def test_service_that_was_killed_goes_on(company: ServiceCompany) -> None:
    complete_tasks(company, 1)
    billing = company.cluster.processes["billing"]
    task = company.ask("ada", AddTask(title="While billing is dead"))
    billing.end(signal.SIGKILL)
    company.ask(task.assignee, CompleteTask(number=task.number))
    billing.begin()
    billing.wait()
    assert company.ask("ada", CloseDay()).days[0].fees_cents > 0
    assert not any("Traceback" in process.log_text() for process in company.cluster.processes.values())


def part(company: ServiceCompany, service: str, message: Message[Any], token: str | None) -> str:
    """Ask for a part as another service does; return the code of its refusal, or an empty text."""
    address = Address(path=str(company.homes[service].socket))
    try:
        RemoteBackend(address, are_parts=True).perform(message, token)
    except PopugError as error:
        return error.code
    return ""


def test_part_is_refused_as_a_message_of_its_sender_is(company: ServiceCompany) -> None:
    issued = company.ask("ada", IssueToken(username="asya", ttl_seconds=3600, scope=Scope.CLOSE_DAY))
    day = date(2026, 1, 1)
    assert part(company, "identity", GetLogHead(), issued.token) == ""
    wait_until(lambda: part(company, "tasks", EndDay(day=day), issued.token) == "")  # once identity's events are there
    assert part(company, "billing", GetBalance(), issued.token) == "forbidden"
    assert part(company, "tasks", EndDay(day=day), company.tokens["kesha"]) == "forbidden"
    assert part(company, "tasks", EndDay(day=day), None) == "not_logged_in"
    assert part(company, "tasks", AddTask(title="Not a part"), company.tokens["ada"]) == "route_not_found"
    assert part(company, "tasks", GetBalance(), company.tokens["ada"]) == "route_not_found"
