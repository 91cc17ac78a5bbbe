"""The user's own day: open tasks, balance, and activity since the last look."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from popug_cli.messages.billing import CloseDay
from popug_cli.messages.identity import SetRole
from popug_cli.messages.tasks import AddTask, CompleteTask, ShuffleTasks
from popug_cli.messages.today import ActivityKind, ShowToday, Today
from tests.support.company import InProcess


@pytest.fixture
def company(tmp_path: Path) -> InProcess:
    """A boss and an assignable user."""
    company = InProcess(tmp_path / "home")
    company.hire("kesha")
    return company


def look(company: InProcess, name: str = "kesha", after: int | None = None, since: datetime | None = None) -> Today:
    return company.act(name, ShowToday(after=after, since=since))


def activities_of(day: Today) -> list[tuple[ActivityKind, int | None, int | None]]:
    return [(each.what, each.task.number if each.task else None, each.signed_cents) for each in day.happened]


def test_today_lists_open_tasks_by_reward_and_the_balance(company: InProcess) -> None:
    tasks = [company.act("boss", AddTask(title=f"Task {number}")) for number in range(3)]
    day = look(company)
    assert sorted((task.reward_cents or 0 for task in tasks), reverse=True) == [task.reward_cents for task in day.tasks]
    assert (day.open_count, day.rewards_cents) == (3, sum(task.reward_cents or 0 for task in tasks))
    assert day.balance_cents == -sum(task.fee_cents or 0 for task in tasks)
    assert str(day.business_date) == "2026-03-02"


def test_activity_seen_before_is_not_shown_again(company: InProcess) -> None:
    first = company.act("boss", AddTask(title="Feed the cage"))
    seen = look(company)
    assert activities_of(seen) == [(ActivityKind.GIVEN, 1, -(first.fee_cents or 0))]
    assert look(company, after=seen.last_sequence).happened == []
    done = company.act("kesha", CompleteTask(number=1))
    assert activities_of(look(company, after=seen.last_sequence)) == [(ActivityKind.COMPLETED, 1, done.reward_cents)]


def test_shuffle_shows_lost_and_received_tasks(company: InProcess) -> None:
    for number in range(8):
        company.act("boss", AddTask(title=f"Task {number}"))
    before = {name: look(company, name).last_sequence for name in ("kesha",)}
    company.hire("gosha")
    shuffle = company.act("boss", ShuffleTasks())
    kesha, gosha = look(company, after=before["kesha"]), look(company, "gosha")
    taken = {each.task.number: each for each in kesha.happened if each.what is ActivityKind.TAKEN and each.task}
    kept = [each for each in kesha.happened if each.what is ActivityKind.KEPT]
    given = {each.task.number for each in gosha.happened if each.what is ActivityKind.GIVEN and each.task}
    assert given == taken.keys()
    assert 0 < len(taken) < 8
    assert len(taken) + len(kept) == 8
    assert {(each.assignee, each.shuffle_id, each.actor) for each in taken.values()} == {
        ("gosha", shuffle.shuffle_id, "boss")
    }


def test_payout_and_another_role_are_news(company: InProcess) -> None:
    company.hire("asya", "accountant")
    company.act("boss", AddTask(title="Feed the cage"))
    holder = "kesha" if look(company).tasks else "asya"
    company.act(holder, CompleteTask(number=1))
    paid = company.act("boss", CloseDay()).days[0].payouts[0]
    seen = look(company, holder).last_sequence
    assert (ActivityKind.PAID, None, -paid.amount_cents) in activities_of(look(company, holder))
    company.act("boss", SetRole(username=holder, role="manager"))
    (happened,) = look(company, holder, after=seen).happened
    assert (happened.what, happened.role, happened.actor) == (ActivityKind.ROLE_CHANGED, "manager", "boss")


def test_first_look_shows_today_or_more_on_request(company: InProcess) -> None:
    company.act("boss", AddTask(title="Of Monday"))
    company.clock.advance(days=1)
    company.act("boss", AddTask(title="Of Tuesday"))
    assert [each.task and each.task.title for each in look(company).happened] == ["Of Tuesday"]
    sunday = datetime(2026, 3, 1, tzinfo=UTC)
    assert [each.task and each.task.title for each in look(company, since=sunday).happened] == [
        "Of Monday",
        "Of Tuesday",
    ]


def test_position_beyond_the_log_is_ignored(company: InProcess) -> None:
    company.act("boss", AddTask(title="Feed the cage"))
    assert len(look(company, after=10**9).happened) == 1


def test_today_suggests_closing_an_open_day(company: InProcess) -> None:
    company.hire("asya", "accountant")
    assert "popug close-day --date yesterday" not in look(company, "asya").waiting
    company.clock.advance(days=1)
    assert "popug close-day --date yesterday" in look(company, "asya").waiting
    assert "popug close-day --date yesterday" not in look(company, "kesha").waiting


def test_today_suggests_dry_run_close_once_a_reward_is_due(company: InProcess) -> None:
    company.hire("asya", "accountant")
    task = company.act("boss", AddTask(title="Feed the cage"))
    dry_run = "popug close-day --dry-run"
    assert dry_run not in look(company, "asya").waiting
    company.act(task.assignee, CompleteTask(number=task.number))
    assert dry_run in look(company, "asya").waiting
    assert dry_run not in look(company, "kesha").waiting
    company.act("asya", CloseDay())
    assert dry_run not in look(company, "asya").waiting
