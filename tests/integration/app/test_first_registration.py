"""A failed first registration: tasks then knows no first day, or a later one than billing, and days still close."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from popug_cli.messages.billing import CloseDay
from popug_cli.messages.company import CheckHealth
from popug_cli.messages.principal import OPERATOR
from popug_cli.tasks import days
from tests.support.company import InProcess

FIRST, SECOND = date(2026, 3, 2), date(2026, 3, 3)


def fail(*_: Any) -> None:
    raise ValueError("planted failure")


def violations(company: InProcess) -> list[str]:
    return [check.name for check in company.backend.perform(CheckHealth()).checks if not check.ok]


def closed_days(company: InProcess) -> list[date]:
    return [day.business_date for day in company.act("boss", CloseDay()).days]


def test_day_closes_if_tasks_knows_no_first_day(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "home")
    with company.backend.runtime.writing(OPERATOR) as context:  # as after 0017, if billing had parked the registration
        context.connection.execute("DELETE FROM tasks_company")
    assert closed_days(company) == [FIRST]
    with company.backend.runtime.reading(OPERATOR) as context:
        assert days.date_of_money(context) == SECOND
    assert violations(company) == []


def test_day_closes_if_tasks_knows_a_later_first_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(days, "record_first_day", fail)
        company = InProcess(tmp_path / "home")
    company.clock.advance(days=1)
    company.hire("kesha")
    (stored,) = company.rows("SELECT first_day FROM tasks_company")
    assert stored == {"first_day": "2026-03-03"}
    assert violations(company) == []
    assert closed_days(company) == [FIRST, SECOND]
    assert violations(company) == []
