"""The doctor of a service checks its module, its log and its streams, and nothing that needs another module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from popug_cli.audit.checks_of_services import CHECKED_BY, COMPARES_MODULES, is_run_by
from popug_cli.messages.billing import CorrectEntry
from popug_cli.messages.company import CheckHealth
from popug_cli.messages.identity import AddUser, DeactivateUser, SetRole
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.services import SERVICES
from popug_cli.messages.tasks import AddTask, CompleteTask, ShuffleTasks
from tests.integration.cluster.linked_company import LinkedCompany
from tests.support.company import InProcess


@pytest.fixture
def linked(tmp_path: Path) -> Iterator[LinkedCompany]:
    linked = LinkedCompany(tmp_path)
    yield linked
    linked.close()


def checks_of(linked: LinkedCompany, service: str) -> dict[str, bool]:
    health = linked.services[service].perform(CheckHealth(), actor=OPERATOR)
    return {check.name: check.ok for check in health.checks}


def live(linked: LinkedCompany) -> None:
    for number in range(1, 4):
        task = linked.act("ann", AddTask(title=f"Task {number}"))
        linked.act(task.assignee, CompleteTask(number=number))
    linked.act("boss", AddUser(username="kim", email="kim@example.com", role="worker"))
    linked.settle()
    linked.act("ann", AddTask(title="Feed the cage"))
    linked.act("boss", SetRole(username="bob", role="manager"))
    linked.settle()
    linked.act("boss", ShuffleTasks())
    linked.settle()
    with linked.services["billing"].runtime.reading(OPERATOR) as context:
        entry_id = context.connection.scalar("SELECT min(entry_id) FROM billing_entries WHERE kind = 'reward'")
    linked.act("boss", CorrectEntry(entry_id=entry_id, reason="not done"))
    linked.act("boss", DeactivateUser(username="bob"))
    linked.settle()


def test_each_service_is_healthy_after_a_day(linked: LinkedCompany) -> None:
    live(linked)
    for service in SERVICES:
        checks = checks_of(linked, service)
        assert [name for name, ok in checks.items() if not ok] == []
        assert not COMPARES_MODULES & set(checks)
        assert set(CHECKED_BY.get(service, ())) <= set(checks)
        assert {"hash_chain", "streams_match_log", "schema"} <= set(checks)


def test_damage_is_found_in_the_service_that_has_it(linked: LinkedCompany) -> None:
    live(linked)
    with linked.services["tasks"].runtime.writing(OPERATOR) as context:
        context.connection.execute("UPDATE tasks_tasks SET title = 'another' WHERE number = 1")
    assert not checks_of(linked, "tasks")["tasks_match_events"]
    with linked.services["billing"].runtime.writing(OPERATOR) as context:
        context.connection.execute("UPDATE billing_accounts SET balance_cents = 7 WHERE username = 'ann'")
    assert not checks_of(linked, "billing")["balances_equal_entries"]
    assert "balances_equal_entries" not in checks_of(linked, "mail")


def test_whole_company_runs_every_check(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "company")
    checks = {check.name for check in company.backend.perform(CheckHealth(), actor=OPERATOR).checks}
    assert checks >= COMPARES_MODULES
    for names in CHECKED_BY.values():
        assert set(names) <= checks
    assert all(is_run_by("", name) for name in checks)
