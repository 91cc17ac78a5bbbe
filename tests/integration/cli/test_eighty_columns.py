"""Screens fit a terminal of eighty columns: spare columns go first, and ids and numbers stay whole."""

import re

import pytest
from rich.cells import cell_len

from popug_cli.cli.main import run
from popug_cli.kernel.clock import SystemClock
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.identity import IssueToken
from popug_cli.messages.tasks import AddTask, CompleteTask, ShuffleTasks
from tests.support.company import InProcess

LONG_NAME = "a-very-long-name.of_32-character"
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    """A company of users with long names, wide titles, and a closed day."""
    company = InProcess(tmp_path_factory.mktemp("company") / "home")
    company.hire(LONG_NAME)
    company.hire("asya", "accountant")
    for title in ("Feed the cage", "漢字" * 100, "🦜" * 200, "שלום עולם", "W" * 200):
        company.act("boss", AddTask(title=title, jira_id="LONGPROJECT-1234567"))
    for number in range(12):  # enough rewards for a payout, whatever the prices
        task = company.act("boss", AddTask(title=f"Polish perch {number}"))
        company.act(task.assignee, CompleteTask(number=task.number))
    company.act("boss", ShuffleTasks())
    company.act("boss", CloseDay())
    company.clock.instant = SystemClock().now()
    return company


@pytest.mark.parametrize(
    ("line", "ids"),
    [
        ("tasks list --all", 0),
        ("mail list", 1),
        ("events list", 1),
        ("events trace 2", 0),
        ("token list", 1),
        ("token keys", 0),
        ("permissions", 0),
        ("user list", 0),
        ("income", 0),
        ("statement asya --from 2026-03-01", 0),
    ],
)
def test_no_line_is_wider_than_the_terminal(
    line: str, ids: int, company: InProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("POPUG_HOME", str(company.root))
    token = company.act("boss", IssueToken(username="boss", ttl_seconds=86400)).token
    monkeypatch.setenv("POPUG_TOKEN", token)
    assert run(line.split()) == 0
    shown = capsys.readouterr().out
    wide = [each for each in shown.split("\n") if cell_len(each.rstrip()) > 80]
    assert not wide
    assert len(ID.findall(shown)) >= ids
