"""Analytics on a file: from events alone, in any order between subjects, and each event once."""

import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from popug_cli import bootstrap
from popug_cli.analytics.consumers import CONSUMER
from popug_cli.analytics.queries import SELECT_MOST_EXPENSIVE_BY_DAY, get_analytics
from popug_cli.bus.catch_up import catch_up
from popug_cli.kernel.home import Home
from popug_cli.messages.analytics import Analytics, GetAnalytics, MostExpensiveTask
from popug_cli.messages.base import Event, Role
from popug_cli.messages.billing import CloseDay, DayClosed, EntryKind, EntryPosted, PriceDraw, TaskPriced
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import AddTask, CompleteTask, Task, TaskCompleted, TaskCreated
from tests.support.company import InProcess, SeededChance, SetClock

MONDAY = date(2026, 3, 2)
TABLES = ("analytics_people", "analytics_balance_changes", "analytics_days", "analytics_tasks")


class Newsroom:
    """A company of published events only, in which analytics is the only consumer."""

    def __init__(self, folder: Path) -> None:
        self.clock = SetClock()
        home = Home(folder)
        bootstrap.found_company(home, "Europe/Berlin", clock=self.clock, randomness=SeededChance())
        self.runtime = bootstrap.open_runtime(home, clock=self.clock, randomness=SeededChance())

    def publish(self, *events: Event) -> None:
        with self.runtime.writing(OPERATOR) as context:
            for event in events:
                context.events.publish(event)
        report = catch_up(self.runtime, [CONSUMER])
        assert (report.failures, report.errors) == ({}, [])

    def ask(self, day: date | None = None) -> Analytics:
        with self.runtime.reading(OPERATOR) as context:
            return get_analytics(GetAnalytics(day=day), context)

    def tables(self) -> dict[str, list[Any]]:
        with self.runtime.reading(OPERATOR) as context:
            connection = context.connection
            return {t: sorted(map(tuple, connection.select(f"SELECT * FROM {t}"))) for t in TABLES}

    def forget_the_cursor(self) -> None:
        with self.runtime.writing(OPERATOR) as context:
            context.connection.execute("UPDATE bus_cursors SET position = 0")


@pytest.fixture
def newsroom(tmp_path: Path) -> Newsroom:
    return Newsroom(tmp_path / "home")


def registered(user: str) -> UserRegistered:
    return UserRegistered(user_id=user, username=user, email=f"{user}@example.com", role=Role.WORKER)


def entry(kind: EntryKind, dollars: int, day: date, *, user: str = "kesha", task: str | None = None) -> EntryPosted:
    return EntryPosted(
        entry_id=f"{kind}-{dollars}-{task}",
        user_id=user,
        kind=kind,
        amount_cents=dollars * 100,
        business_date=day,
        task_id=task,
    )


def closed(day: date, in_red: int) -> DayClosed:
    return DayClosed(
        business_date=day,
        fees_cents=0,
        rewards_cents=0,
        income_cents=0,
        payouts_cents=0,
        paid_count=0,
        in_red_count=in_red,
    )


def life_of(number: int, reward: int, day: date, *, hour: int = 12, user: str = "kesha") -> list[Event]:
    """Return the events of a task from its creation to its reward."""
    task = f"task-{number}"
    at = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
    draw = PriceDraw(seed="00", algorithm="sha256-v1")
    return [
        TaskCreated(task_id=task, number=number, title=f"Task {number}", creator_id="ada", assignee_id=user),
        TaskPriced(task_id=task, fee_cents=1000, reward_cents=reward * 100, draw=draw),
        entry(EntryKind.FEE, 10, day, user=user, task=task),
        TaskCompleted(task_id=task, assignee_id=user, completed_at=at),
        entry(EntryKind.REWARD, reward, day, user=user, task=task),
    ]


def number(task: MostExpensiveTask | None) -> int | None:
    return task.task.number if task else None


def test_company_in_which_nothing_happened_shows_nothing(newsroom: Newsroom) -> None:
    answer = newsroom.ask()
    assert (answer.business_date, answer.income_cents, answer.in_red_count) == (MONDAY, 0, 0)
    most_expensive = answer.most_expensive
    assert (
        most_expensive.day,
        most_expensive.week,
        most_expensive.month,
        most_expensive.month_to_date,
        most_expensive.by_day,
    ) == (None, None, None, None, [])


def test_income_is_fees_less_rewards_of_the_date(newsroom: Newsroom) -> None:
    newsroom.publish(*life_of(1, 28, MONDAY), entry(EntryKind.FEE, 7, MONDAY + timedelta(days=1)))
    newsroom.publish(entry(EntryKind.FEE_REVERSAL, 10, MONDAY), entry(EntryKind.PAYOUT, 18, MONDAY))
    assert newsroom.ask(MONDAY).income_cents == -2800
    assert newsroom.ask(MONDAY + timedelta(days=1)).income_cents == 700


def test_in_red_count_is_current_or_recorded_at_close(
    newsroom: Newsroom,
) -> None:
    tuesday = MONDAY + timedelta(days=1)
    newsroom.publish(registered("kesha"), registered("gosha"), entry(EntryKind.FEE, 10, MONDAY))
    newsroom.clock.advance(days=1)
    newsroom.publish(entry(EntryKind.REWARD, 20, tuesday), entry(EntryKind.FEE, 5, tuesday, user="gosha"))
    newsroom.publish(entry(EntryKind.FEE, 1, tuesday, user="nobody-registered"))
    assert newsroom.ask().in_red_count == 2
    assert newsroom.ask(MONDAY).in_red_count == 1
    newsroom.publish(closed(MONDAY, in_red=7))
    assert newsroom.ask(MONDAY).in_red_count == 7


def test_most_expensive_task_covers_whole_day_week_and_month(newsroom: Newsroom) -> None:
    days = [date(2026, 2, 28), date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3), date(2026, 3, 31)]
    for index, (day, reward) in enumerate(zip(days, (40, 30, 38, 28, 39), strict=True), start=1):
        newsroom.publish(*life_of(index, reward, day))
    most_expensive = newsroom.ask(date(2026, 3, 3)).most_expensive
    assert [
        number(task)
        for task in (most_expensive.day, most_expensive.week, most_expensive.month, most_expensive.month_to_date)
    ] == [4, 3, 5, 3]
    assert most_expensive.week is not None
    assert (most_expensive.week.from_date, most_expensive.week.to_date) == (date(2026, 3, 2), date(2026, 3, 8))
    assert most_expensive.month is not None
    assert (most_expensive.month.from_date, most_expensive.month.to_date) == (date(2026, 3, 1), date(2026, 3, 31))
    assert [(task.from_date, task.to_date, number(task)) for task in most_expensive.by_day] == [
        (days[3], days[3], 4),
        (days[2], days[2], 3),
        (days[1], days[1], 2),
    ]
    assert number(newsroom.ask(date(2026, 3, 1)).most_expensive.week) == 1


def test_tie_goes_to_the_earliest_completion(newsroom: Newsroom) -> None:
    newsroom.publish(*life_of(1, 30, MONDAY, hour=15), *life_of(2, 30, MONDAY, hour=9), *life_of(3, 20, MONDAY, hour=8))
    assert number(newsroom.ask().most_expensive.day) == 2


def test_most_expensive_task_uses_business_date_of_reward(newsroom: Newsroom) -> None:
    events = life_of(1, 30, MONDAY)
    newsroom.publish(*events[:-1], entry(EntryKind.REWARD, 30, MONDAY + timedelta(days=1), task="task-1"))
    assert number(newsroom.ask(MONDAY).most_expensive.day) is None
    assert number(newsroom.ask(MONDAY + timedelta(days=1)).most_expensive.day) == 1


def test_day_on_which_nothing_was_completed_is_left_out(newsroom: Newsroom) -> None:
    newsroom.publish(entry(EntryKind.FEE, 10, MONDAY), closed(MONDAY, 1))
    assert newsroom.ask().most_expensive.by_day == []


def test_task_is_not_shown_before_all_its_events(newsroom: Newsroom) -> None:
    events = life_of(1, 30, MONDAY)
    for missing in range(5):
        if missing != 2:  # the fee
            other_newsroom = Newsroom(newsroom.runtime.home.root.parent / str(missing))
            other_newsroom.publish(*(event for place, event in enumerate(events) if place != missing))
            assert other_newsroom.ask(MONDAY).most_expensive.by_day == []


def test_last_and_first_date_are_answered(newsroom: Newsroom) -> None:
    assert newsroom.ask(date.max).income_cents == 0
    assert newsroom.ask(date.min).income_cents == 0


@pytest.mark.parametrize("seed", range(5))
def test_event_order_between_subjects_does_not_matter(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    events: list[Event] = [registered("kesha"), registered("gosha"), closed(MONDAY, 1)]
    for task in range(1, 7):
        day, user = MONDAY + timedelta(days=task % 3), chance.choice(["kesha", "gosha"])
        events += life_of(task, chance.randint(20, 40), day, user=user)
    straight, shuffled = Newsroom(tmp_path / "straight"), Newsroom(tmp_path / "shuffled")
    straight.publish(*events)
    chance.shuffle(events)
    while events:
        count = chance.randint(1, 4)
        shuffled.publish(*events[:count])
        del events[:count]
    assert shuffled.tables() == straight.tables()


def test_redelivery_changes_nothing(newsroom: Newsroom) -> None:
    newsroom.publish(registered("kesha"), *life_of(1, 30, MONDAY), closed(MONDAY, 0))
    before = newsroom.tables()
    newsroom.forget_the_cursor()
    newsroom.publish()
    assert newsroom.tables() == before


def test_month_is_found_by_its_days_alone(newsroom: Newsroom) -> None:
    with newsroom.runtime.reading(OPERATOR) as context:
        plan = context.connection.select(
            "EXPLAIN QUERY PLAN " + SELECT_MOST_EXPENSIVE_BY_DAY, first="2026-03-01", last="2026-03-31"
        )
        steps = " | ".join(str(row[-1]) for row in plan)
    assert "analytics_tasks_dearest (business_date=?" in steps
    assert "SCAN" not in steps.replace("CORRELATED SCALAR", "")
    assert "TEMP B-TREE" not in steps


def test_analytics_follows_the_company(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "home")
    company.hire("kesha")
    done: list[Task] = []
    for title in ("Feed the cage", "Polish the perch", "Sweep"):
        task = company.act("kesha", AddTask(title=title))
        company.clock.advance(minutes=5)
        done.append(company.act("kesha", CompleteTask(number=task.number)))
    answer = company.act("boss", GetAnalytics())
    dearest = min(done, key=lambda task: (-(task.reward_cents or 0), task.completed_at))
    assert number(answer.most_expensive.day) == dearest.number
    assert answer.income_cents == sum((task.fee_cents or 0) - (task.reward_cents or 0) for task in done)
    company.act("boss", CloseDay())
    assert company.act("boss", GetAnalytics()) == answer
    assert company.warnings == []
