"""A close between two services: tasks ends the days first, then billing closes them."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from random import Random

import pytest

from popug_cli.app.workflows import close_between_services
from popug_cli.billing import consumers as billing_consumers
from popug_cli.bus.inbox import Consumption
from popug_cli.kernel.errors import Conflict, InvalidInput, NotAllowed, PopugError, Unavailable
from popug_cli.messages.billing import CorrectEntry, GetBalance
from popug_cli.messages.bus import RetryDeadLetters
from popug_cli.messages.identity import Scope
from popug_cli.messages.internal.tasks import EndDay
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import AddTask, CompleteTask
from tests.integration.app.two_services import TwoServices, two_services
from tests.support.billing_company import check_books

MONDAY, TUESDAY, WEDNESDAY = date(2026, 3, 2), date(2026, 3, 3), date(2026, 3, 4)


@pytest.fixture
def services(tmp_path: Path) -> TwoServices:
    return two_services(tmp_path)


def add_and_complete(services: TwoServices) -> None:
    task = services.act("boss", AddTask(title="Feed the cage"))
    services.act(task.assignee, CompleteTask(number=task.number))


def entry_dates(services: TwoServices) -> list[str]:
    statement = "SELECT business_date FROM billing_entries WHERE kind <> 'payout' ORDER BY position"
    return [row["business_date"] for row in services.rows(statement)]


def closed_dates(services: TwoServices) -> list[str]:
    return [row["business_date"] for row in services.rows("SELECT business_date FROM billing_days ORDER BY 1")]


def ended_events(services: TwoServices) -> list[str]:
    return [
        row["subject"] for row in services.rows("SELECT subject FROM bus_log WHERE type LIKE '%day_ended%'", "tasks")
    ]


def refusal(act: Callable[[], object], kind: type[PopugError]) -> PopugError:
    with pytest.raises(kind) as caught:
        act()
    return caught.value


def test_close_counts_what_tasks_did_before_the_end(services: TwoServices) -> None:
    add_and_complete(services)
    (day,) = services.close(MONDAY)
    assert (day.business_date, day.paid_count, len(day.payouts)) == (MONDAY, 1, 1)
    assert entry_dates(services) == ["2026-03-02"] * 2
    assert [message.day for message in services.asked] == [MONDAY]
    assert services.heads_asked == 1
    check_books(services.rows)


def test_task_after_the_end_counts_for_the_next_day(services: TwoServices) -> None:
    services.end(EndDay(day=MONDAY))
    answer = services.act("boss", AddTask(title="Late"))
    assert answer.counts_for == TUESDAY
    services.replicate()
    services.billing.catch_up()
    assert (closed_dates(services), entry_dates(services)) == ([], ["2026-03-03"])
    (day,) = services.close(MONDAY)
    assert (day.fees_cents, closed_dates(services)) == (0, ["2026-03-02"])


def test_missed_days_are_ended_at_once_and_closed_each(services: TwoServices) -> None:
    add_and_complete(services)
    services.company.clock.advance(days=2)
    add_and_complete(services)
    days = services.close(WEDNESDAY)
    assert [day.business_date for day in days] == [MONDAY, TUESDAY, WEDNESDAY]
    assert [day.paid_count for day in days] == [1, 0, 1]
    assert ended_events(services) == ["2026-03-04"]


def test_close_of_closed_days_asks_no_service(services: TwoServices) -> None:
    services.close(MONDAY)
    services.asked.clear()
    assert services.close(MONDAY) == []
    assert services.asked == []


def test_event_that_does_not_arrive_leaves_the_day_ended(
    services: TwoServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(close_between_services, "MAX_WAIT_SECONDS", 0.0)
    add_and_complete(services)
    services.arrives = False
    error = refusal(lambda: services.close(MONDAY), Unavailable)
    assert (error.code, error.exit_status, error.details["ended"]) == ("behind", 8, "2026-03-02")
    assert "2026-03-02 has ended and is not closed yet" in error.message
    assert "counts for 2026-03-03" in error.message
    assert "popug close-day" in error.hint
    assert closed_dates(services) == []
    services.arrives = True
    monkeypatch.undo()
    (day,) = services.close(MONDAY)
    assert (day.paid_count, ended_events(services), services.heads_asked) == (1, ["2026-03-02"], 1)


def test_other_total_after_the_end_is_refused_and_says_so(services: TwoServices) -> None:
    add_and_complete(services)
    error = refusal(lambda: services.close(MONDAY, expected_payouts_cents=0), Conflict)
    assert (error.code, error.details["ended"]) == ("changed_meanwhile", "2026-03-02")
    assert error.details["payouts_cents"] > 0
    assert "Nothing was closed. 2026-03-02 has ended" in error.message
    (day,) = services.close(MONDAY, expected_payouts_cents=error.details["payouts_cents"])
    assert day.payouts_cents == error.details["payouts_cents"]


def test_other_total_that_billing_knows_ends_nothing(services: TwoServices) -> None:
    add_and_complete(services)
    services.replicate()
    services.billing.catch_up()
    error = refusal(lambda: services.close(MONDAY, expected_payouts_cents=0), Conflict)
    assert (error.code, "ended" in error.details) == ("changed_meanwhile", False)
    assert (services.asked, ended_events(services)) == ([], [])


def test_end_that_billing_sets_aside_is_behind_at_once(services: TwoServices, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no room")

    add_and_complete(services)
    with monkeypatch.context() as broken:
        broken.setattr(billing_consumers, "record_ended_days", lambda ended, context: fail() if ended else None)
        error = refusal(lambda: services.close(MONDAY), Unavailable)
    assert (error.code, error.details["ended"]) == ("behind", "2026-03-02")
    assert services.has_consumed(error.details["event_id"]) is Consumption.SET_ASIDE
    assert "popug events dead" in error.hint
    assert closed_dates(services) == []
    services.act("boss", RetryDeadLetters(), "billing")
    assert len(services.close(MONDAY)) == 1


def test_event_of_a_newer_program_is_behind_at_once(services: TwoServices) -> None:
    def receive_newer_version() -> None:
        with services.billing.runtime.writing(OPERATOR) as context:
            envelope: dict[str, object] = {
                "id": "n",
                "source": "/popug/tasks",
                "type": "popug.tasks.task_assigned.v9",
                "subject": "t",
            }
            envelope |= {"time": "2026-03-02T09:00:00Z", "data": {}, "specversion": "1.0"}
            context.events.append_received("tasks", [(9_999, json.dumps(envelope))])

    services.before_end = receive_newer_version
    error = refusal(lambda: services.close(MONDAY), Unavailable)
    assert (error.code, error.details["ended"]) == ("behind", "2026-03-02")
    assert "task_assigned.v9" in error.message
    assert "2026-03-02 has ended and is not closed yet" in error.message
    assert "Upgrade popug" in error.hint
    assert closed_dates(services) == []


def test_refusal_of_tasks_ends_nothing(services: TwoServices) -> None:
    fast_clock = replace(services.company.clock)
    fast_clock.advance(days=1)
    services.billing.runtime.clock  # noqa: B018 - it is opened with the clock of all, and gets another one
    services.billing.__dict__["runtime"] = replace(services.billing.runtime, clock=fast_clock)
    error = refusal(lambda: services.close(TUESDAY), InvalidInput)
    assert (error.code, "ended" in error.details) == ("future_date", False)
    assert (services.heads_asked, ended_events(services)) == (0, [])


def test_more_than_a_month_after_the_last_end_needs_yes(services: TwoServices) -> None:
    services.company.clock.advance(days=40)
    error = refusal(lambda: services.end(EndDay(day=date(2026, 4, 10))), InvalidInput)
    assert (error.code, error.details) == ("needs_yes", {"days": 40})
    services.end(EndDay(day=date(2026, 4, 1)))
    services.end(EndDay(day=date(2026, 4, 10)))
    services.company.clock.advance(days=40)
    assert refusal(lambda: services.end(EndDay(day=date(2026, 5, 12))), InvalidInput).code == "needs_yes"
    services.end(EndDay(day=date(2026, 5, 12), confirmed=True))
    assert ended_events(services) == ["2026-04-01", "2026-04-10", "2026-05-12"]


def test_ended_day_answers_the_first_end_at_or_after_it(services: TwoServices) -> None:
    services.company.clock.advance(days=3)
    first = services.end(EndDay(day=TUESDAY))
    later = services.end(EndDay(day=WEDNESDAY))
    asked = services.heads_asked
    assert services.end(EndDay(day=MONDAY)) == services.end(EndDay(day=TUESDAY)) == first
    assert services.end(EndDay(day=WEDNESDAY)) == later != first
    assert services.heads_asked == asked
    assert ended_events(services) == ["2026-03-03", "2026-03-04"]


def test_day_that_ends_during_the_wait_for_identity_is_found(services: TwoServices) -> None:
    won = []

    def win() -> None:
        services.before_end = lambda: None
        won.append(services.end(EndDay(day=MONDAY)))

    services.before_end = win
    assert services.end(EndDay(day=MONDAY)) == won[0]
    assert ended_events(services) == ["2026-03-02"]


def test_silent_identity_ends_nothing(services: TwoServices) -> None:
    def silent() -> None:
        raise Unavailable("behind", "identity does not answer.")

    services.before_end = silent
    error = refusal(lambda: services.close(MONDAY), Unavailable)
    assert (error.code, "ended" in error.details, ended_events(services)) == ("behind", False, [])


def test_correction_after_the_end_counts_for_the_next_day(services: TwoServices) -> None:
    add_and_complete(services)
    services.end(EndDay(day=MONDAY))
    services.replicate()
    services.billing.catch_up()
    entry_id = services.rows("SELECT entry_id FROM billing_entries ORDER BY position LIMIT 1")[0]["entry_id"]
    reversal = services.act("boss", CorrectEntry(entry_id=entry_id, reason="a mistake"), "billing")
    assert reversal.business_date == TUESDAY
    assert services.act("boss", GetBalance(), "billing").business_date == TUESDAY
    (day,) = services.close(MONDAY)
    assert day.fees_cents > 0


def test_scope_of_closing_reaches_the_end_of_a_day(services: TwoServices) -> None:
    boss = services.company.people["boss"]
    services.company.people["cron"] = replace(boss, scope=Scope.CLOSE_DAY)
    services.end(EndDay(day=MONDAY), "cron")
    assert ended_events(services) == ["2026-03-02"]
    services.company.clock.advance(days=1)
    refused = refusal(lambda: services.end(EndDay(day=TUESDAY), "kesha"), NotAllowed)
    assert (refused.code, ended_events(services)) == ("forbidden", ["2026-03-02"])


@pytest.mark.parametrize("seed", range(6))
def test_closed_days_hold_a_prefix_of_the_log_of_tasks(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    services = two_services(tmp_path, seed=seed)
    for _ in range(60):
        step = random.randrange(10)
        if step < 4:
            add_and_complete(services)
        elif step < 6:
            services.replicate(random.randrange(1, 6))
            services.billing.catch_up()
        elif step < 7:
            services.company.clock.advance(hours=random.choice((-20, 5, 11, 24)))
        else:
            today = services.company.backend.calendar.date_of(services.company.clock.now())
            if step == 7:
                services.end(EndDay(day=today))
            else:
                services.close(today)
    services.replicate()
    services.billing.catch_up()
    ends = services.rows("SELECT sequence, subject FROM bus_log WHERE type LIKE '%day_ended%' ORDER BY 1", "tasks")
    causes = {
        row["id"]: row
        for row in services.rows(
            "SELECT id, sequence, json_extract(envelope, '$.businessdate') AS business_date FROM bus_log", "tasks"
        )
    }
    entries = services.rows("SELECT event_id, business_date FROM billing_entries WHERE kind <> 'payout'")
    assert ends
    assert entries
    for entry in entries:
        cause = causes[entry["event_id"]]
        assert entry["business_date"] == cause["business_date"], "billing never has to move an entry to a later day"
        assert all(cause["sequence"] < end["sequence"] or entry["business_date"] > end["subject"] for end in ends)
    check_books(services.rows)
