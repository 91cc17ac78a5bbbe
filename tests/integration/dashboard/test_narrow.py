"""The dashboard on narrow screens: numbers and dates are shown whole or not at all."""

import asyncio
import re
from pathlib import Path

import pytest
from textual.pilot import Pilot

from popug_cli.dashboard.fitted_table import Rows, fitted_widths
from popug_cli.kernel.money import format_cents
from popug_cli.messages.billing import CloseDay, GetBalance
from popug_cli.messages.tasks import AddTask, CompleteTask, ImportTasks, ListTasks, NewTask
from tests.integration.dashboard.test_dashboard import dashboard_of, seen
from tests.support.company import InProcess
from tests.support.tasks_company import company_at

WIDTHS = [40, 41, 45, 52, 57, 61, 62, 66, 72, 80, 100]
NUMBER = re.compile(r"-?\$?\d[\d,.:-]*…?")
LONG_NAME = "sir.percival-of-the-golden-perch"


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    """Many tasks of kesha and of an accountant with a long name, some completed; today is closed."""
    company = company_at(tmp_path / "home")
    company.hire(LONG_NAME, "accountant")
    lines = [NewTask(title=f"Polish the {'very ' * 12}long perch") for _ in range(150)]
    company.act("boss", ImportTasks(lines=lines))
    for task in company.act("boss", ListTasks(limit=60)).tasks:
        company.act(task.assignee, CompleteTask(number=task.number))
    company.act("boss", CloseDay())
    for _ in range(3):
        task = company.act("boss", AddTask(title="Feed the cage"))
        company.act(task.assignee, CompleteTask(number=task.number))
    return company


def numbers(shown: str) -> set[str]:
    return {found.rstrip(".,:-") for found in NUMBER.findall(shown)}


async def shown_at(pilot: Pilot[None], width: int, height: int, *texts: str) -> str:
    await pilot.resize_terminal(width, height)
    await pilot.pause(0.1)
    return await seen(pilot, *texts)


@pytest.mark.parametrize(("name", "height"), [("boss", 24), ("boss", 60), ("kesha", 24), (LONG_NAME, 24)])
def test_numbers_and_dates_are_whole_at_every_width(company: InProcess, name: str, height: int) -> None:
    balance = format_cents(company.act(name, GetBalance()).balance_cents)
    dashboard = dashboard_of(company, name)
    views = [("1", "All tasks"), ("2", "entries:")] + ([("3", "In the red")] if name == "boss" else [])

    async def steps(pilot: Pilot[None]) -> None:
        await seen(pilot, "My open tasks: ")
        await pilot.press("a", "o")
        await seen(pilot, "All tasks, open and completed")
        for key, text in views:
            await pilot.press(key)
            wide = numbers(await shown_at(pilot, 240, 200, text))
            for width in WIDTHS:
                shown = await shown_at(pilot, width, height, text, balance)
                assert numbers(shown) <= wide, (width, numbers(shown) - wide, shown)
                assert "2026-03-02" in shown, shown

    async def walked() -> None:
        async with dashboard.run_test(size=(240, 200)) as pilot:
            await steps(pilot)
            await pilot.press("q")

    asyncio.run(walked())


@pytest.mark.parametrize("width", range(24, 121))
def test_number_columns_fit_whole_or_are_left_out(width: int) -> None:
    rows = Rows(
        ("#", "task", "status", "assignee", "fee", "reward"),
        [("1234", "Feed the cage " * 9, "completed", LONG_NAME, "$20", "$1,234.50")],
        flexible_column=1,
        number_columns=frozenset({0, 4, 5}),
    )
    widths = fitted_widths(rows, width)
    assert sum(widths.values()) + 2 * len(widths) + 2 <= width
    assert [widths.get(index, natural) for index, natural in {0: 4, 4: 3, 5: 9}.items()] == [4, 3, 9]
    assert {0, 4, 5} <= widths.keys() or width < 26
    assert (1 in widths) == (width >= 34)
    assert widths.keys() == {*range(6)} or width < 78
