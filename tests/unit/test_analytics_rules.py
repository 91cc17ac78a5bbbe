"""The effect of events on analytics, and the choice of the most expensive task."""

import random
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popug_cli.analytics.rules import Changes, accumulate
from popug_cli.messages.base import Event, Role
from popug_cli.messages.billing import DayClosed, EntryKind, EntryPosted, PriceDraw, TaskPriced
from popug_cli.messages.identity import UserDeactivated, UserRegistered
from popug_cli.messages.most_expensive import MostExpensiveCandidate, month_of, most_expensive, week_of
from popug_cli.messages.tasks import TaskCompleted, TaskCreated

DAY = date(2026, 3, 2)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def entry(kind: EntryKind, cents: int, *, user: str = "kesha", day: date = DAY, task: str | None = None) -> EntryPosted:
    return EntryPosted(
        entry_id=f"{kind}-{cents}", user_id=user, kind=kind, amount_cents=cents, business_date=day, task_id=task
    )


def candidate(reward_cents: int, completed_at: datetime, number: int = 1, day: date = DAY) -> MostExpensiveCandidate:
    return MostExpensiveCandidate(-reward_cents, completed_at, number, f"task {number}", day)


@pytest.mark.parametrize(
    ("kind", "balance", "fees", "rewards"),
    [
        (EntryKind.FEE, -700, 700, 0),
        (EntryKind.REWARD, 700, 0, 700),
        (EntryKind.PAYOUT, -700, 0, 0),
        (EntryKind.FEE_REVERSAL, 700, -700, 0),
        (EntryKind.REWARD_REVERSAL, -700, 0, -700),
    ],
)
def test_entry_kind_gives_its_direction(kind: EntryKind, balance: int, fees: int, rewards: int) -> None:
    changes = accumulate([entry(kind, 700)])
    assert dict(changes.balances) == {(DAY, "kesha"): balance}
    assert (changes.days[DAY].fees_cents, changes.days[DAY].rewards_cents) == (fees, rewards)


def test_only_a_reward_dates_a_task() -> None:
    kinds = [kind for kind in EntryKind if kind is not EntryKind.REWARD]
    assert not accumulate(entry(kind, 100, task="t1") for kind in kinds).tasks
    assert accumulate([entry(EntryKind.REWARD, 100, task="t1")]).tasks["t1"].business_date == DAY


def test_unsubscribed_event_raises() -> None:
    with pytest.raises(AssertionError, match=r"^analytics does not subscribe to user_deactivated$"):
        accumulate([UserDeactivated(user_id="kesha")])


def events_of_a_day() -> list[Event]:
    return [
        UserRegistered(user_id="kesha", username="kesha", email="kesha@example.com", role=Role.WORKER),
        TaskCreated(task_id="t1", number=1, title="Feed the cage", creator_id="ada", assignee_id="kesha"),
        TaskPriced(task_id="t1", fee_cents=1400, reward_cents=2800, draw=PriceDraw(seed="00", algorithm="sha256-v1")),
        entry(EntryKind.FEE, 1400, task="t1"),
        TaskCompleted(task_id="t1", assignee_id="kesha", completed_at=NOON),
        entry(EntryKind.REWARD, 2800, task="t1"),
        entry(EntryKind.PAYOUT, 1400),
        DayClosed(
            business_date=DAY,
            fees_cents=1400,
            rewards_cents=2800,
            income_cents=-1400,
            payouts_cents=1400,
            paid_count=1,
            in_red_count=0,
        ),
    ]


@given(st.randoms(use_true_random=False))
def test_order_of_events_does_not_matter(order: random.Random) -> None:
    events = events_of_a_day()
    order.shuffle(events)
    assert accumulate(events) == accumulate(events_of_a_day()) != Changes()


@given(st.dates())
def test_week_is_monday_to_sunday_around_its_date(day: date) -> None:
    first, last = week_of(day)
    assert first <= day <= last
    assert first.isoweekday() == 1
    assert last == date.max or (last.isoweekday() == 7 and last - first == timedelta(days=6))


@given(st.dates(max_value=date(9999, 11, 30)))
def test_month_is_its_whole_calendar_month(day: date) -> None:
    first, last = month_of(day)
    assert (first.year, first.month, first.day) == (day.year, day.month, 1)
    assert (last + timedelta(days=1)).day == 1
    assert last.month == day.month


def test_last_month_of_all_has_an_end() -> None:
    assert month_of(date.max) == (date(9999, 12, 1), date.max)


def test_most_expensive_task_has_the_highest_reward() -> None:
    best = candidate(3800, NOON, 9)
    assert most_expensive([candidate(2800, NOON - timedelta(hours=1), 17), best], (DAY, DAY)) is best


def test_tie_goes_to_earliest_completion_then_smallest_number() -> None:
    late, early = candidate(3800, NOON, 1), candidate(3800, NOON - timedelta(seconds=1), 2)
    assert most_expensive([late, early], (DAY, DAY)) is early
    assert most_expensive([candidate(3800, NOON, 3), late], (DAY, DAY)) is late


def test_most_expensive_task_ignores_other_periods() -> None:
    yesterday = DAY - timedelta(days=1)
    assert most_expensive([candidate(3800, NOON)], (yesterday, yesterday)) is None
    assert most_expensive([], (DAY, DAY)) is None
